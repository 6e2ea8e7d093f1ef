//! ServiceGroups: which addresses there are to give out, and how they reach the world.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::host::Family;
use crate::name::{GroupName, Namespace, Uid};
use crate::range::{AddressRange, RangeError};
use crate::store::Object;
use crate::usage::GroupStatus;

/// A ServiceGroup as its owner wrote it. [`Group::parse`] makes sense of it.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceGroup {
    /// Its name.
    pub name: GroupName,
    /// One for its whole life.
    pub uid: Uid,
    /// `metadata.generation`.
    pub generation: i64,
    /// What kind of group it is, with its pools.
    pub kind: GroupSpec,
    /// `spec.namespaces`, as written.
    pub namespaces: Vec<Namespace>,
    /// `spec.enforceNamespaces`.
    pub enforce_namespaces: bool,
    /// `spec.namespaceDefault`.
    pub namespace_default: bool,
    /// `status`, as it was observed.
    pub status: Option<GroupStatus>,
}

impl ServiceGroup {
    /// A group of this kind, open to every namespace, of generation 1 and without a status.
    pub fn new(name: impl Into<GroupName>, uid: impl Into<Uid>, kind: GroupSpec) -> Self {
        Self {
            name: name.into(),
            uid: uid.into(),
            generation: 1,
            kind,
            namespaces: Vec::new(),
            enforce_namespaces: false,
            namespace_default: false,
            status: None,
        }
    }

    /// Whether a Service that has addresses of it may be given more of them later: with `multiPool`, and
    /// for all that is known of a group that cannot be read.
    pub fn may_grow(&self) -> bool {
        match &self.kind {
            GroupSpec::External { .. } => false,
            GroupSpec::Local { pools, .. } | GroupSpec::Remote { pools, .. } => pools.multi_pool,
            GroupSpec::Malformed { .. } => true,
        }
    }
}

impl Object for ServiceGroup {
    type Key = GroupName;

    fn key(&self) -> GroupName {
        self.name.clone()
    }
}

/// `spec.local`, `spec.remote` or `spec.external`, as written.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupSpec {
    /// `spec.external`: a sidecar gives out the addresses.
    External {
        /// `local` or `remote`.
        announce: String,
        /// A name for people.
        provider: String,
        /// The path of the sidecar's Unix socket.
        socket: String,
    },
    /// `spec.local`.
    Local {
        /// Its ranges.
        pools: PoolsSpec,
        /// `skipIPv6DAD`.
        skip_ipv6_dad: bool,
    },
    /// None of the three, or more than one, or an object that could not be read at all.
    Malformed {
        /// What is wrong with it.
        error: String,
    },
    /// `spec.remote`.
    Remote {
        /// Its ranges.
        pools: PoolsSpec,
    },
}

/// The ranges of a local or remote group, as written.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolsSpec {
    /// `v4pools`, then `v4pool`.
    pub v4: Vec<PoolSpec>,
    /// `v6pools`, then `v6pool`.
    pub v6: Vec<PoolSpec>,
    /// `multiPool`.
    pub multi_pool: bool,
    /// `balancePools`.
    pub balance_pools: bool,
}

/// One range of a group, as written.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolSpec {
    /// The field that it stands in, such as `v4pools[0]`.
    pub field: String,
    /// `pool`.
    pub pool: String,
    /// `subnet`.
    pub subnet: String,
    /// `aggregation`.
    pub aggregation: Option<String>,
}

/// A ServiceGroup that makes sense.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// One for its whole life.
    pub uid: Uid,
    /// Where its addresses come from.
    pub source: Source,
    /// How its addresses reach the world.
    pub announce: Announce,
    /// `spec.namespaces` without repeats, in order.
    pub namespaces: Vec<Namespace>,
    /// `spec.enforceNamespaces`.
    pub enforce_namespaces: bool,
    /// `spec.namespaceDefault`.
    pub namespace_default: bool,
    /// `skipIPv6DAD`.
    pub skip_ipv6_dad: bool,
}

/// Where a group's addresses come from.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A sidecar.
    External {
        /// A name for people.
        provider: String,
        /// The path of its Unix socket.
        socket: String,
    },
    /// Ranges of our own.
    Pools {
        /// In the order in which they are used; IPv4 and IPv6 are filtered by family.
        pools: Vec<Pool>,
        /// How a Service's addresses are spread over the ranges.
        spread: Spread,
    },
}

/// How a Service's addresses are spread over the ranges of a group.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Spread {
    /// `balancePools`: from the range with the fewest addresses in use.
    Balanced,
    /// From the first range that has one free.
    #[default]
    InOrder,
    /// `multiPool`: one from each range.
    Multi,
}

/// How an address reaches the world when it is in no subnet of a node.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Announce {
    /// By one node answering ARP and NDP for it.
    Local,
    /// By every node's routing software, from kube-lb0.
    Remote,
}

impl Announce {
    /// As the annotation `purelb.io/pool-type` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
        }
    }
}

impl fmt::Display for Announce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One range of a group.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The addresses.
    pub range: AddressRange,
    /// As written, for status.
    pub text: String,
    /// The subnet they belong to, with host bits cleared.
    pub subnet: IpNet,
    /// With which prefix an address goes onto kube-lb0.
    pub aggregation: Aggregation,
}

impl Pool {
    /// The prefix length that an address of this range has on kube-lb0.
    pub fn prefix_len(&self) -> u8 {
        match self.aggregation {
            Aggregation::Prefix(len) => len,
            Aggregation::Subnet => self.subnet.prefix_len(),
        }
    }
}

/// `aggregation`: with which prefix an address goes onto kube-lb0.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aggregation {
    /// This prefix length.
    Prefix(u8),
    /// The prefix length of the pool's subnet (`default`, or nothing).
    Subnet,
}

impl Group {
    /// Makes sense of a ServiceGroup.
    ///
    /// # Errors
    ///
    /// With the first thing that is wrong, naming its field.
    pub fn parse(group: &ServiceGroup) -> Result<Self, GroupError> {
        let (source, announce, skip_ipv6_dad) = match &group.kind {
            GroupSpec::External { announce, provider, socket } => {
                let announce = match announce.as_str() {
                    "local" => Announce::Local,
                    "remote" => Announce::Remote,
                    other => return Err(GroupError::Announce { text: other.to_owned() }),
                };
                let source =
                    Source::External { provider: provider.clone(), socket: socket.clone() };
                (source, announce, false)
            }
            GroupSpec::Local { pools, skip_ipv6_dad } => {
                (parse_pools("spec.local", pools)?, Announce::Local, *skip_ipv6_dad)
            }
            GroupSpec::Malformed { error } => {
                return Err(GroupError::Malformed { error: error.clone() });
            }
            GroupSpec::Remote { pools } => {
                (parse_pools("spec.remote", pools)?, Announce::Remote, false)
            }
        };
        let mut namespaces = group.namespaces.clone();
        namespaces.sort();
        namespaces.dedup();
        Ok(Self {
            name: group.name.clone(),
            uid: group.uid.clone(),
            source,
            announce,
            namespaces,
            enforce_namespaces: group.enforce_namespaces,
            namespace_default: group.namespace_default,
            skip_ipv6_dad,
        })
    }

    /// Its own ranges, none for an external group.
    pub fn pools(&self) -> &[Pool] {
        match &self.source {
            Source::External { .. } => &[],
            Source::Pools { pools, .. } => pools,
        }
    }

    /// Its own ranges of one family, in the order in which they are used.
    pub fn pools_of(&self, family: Family) -> impl Iterator<Item = &Pool> {
        self.pools().iter().filter(move |pool| pool.range.family() == family)
    }

    /// The range that holds `ip`.
    pub fn pool_of(&self, ip: IpAddr) -> Option<&Pool> {
        self.pools().iter().find(|pool| pool.range.contains(ip))
    }
}

fn parse_pools(spec: &'static str, pools: &PoolsSpec) -> Result<Source, GroupError> {
    let spread = match (pools.multi_pool, pools.balance_pools) {
        (true, true) => return Err(GroupError::Exclusive),
        (true, false) => Spread::Multi,
        (false, true) => Spread::Balanced,
        (false, false) => Spread::InOrder,
    };
    let mut parsed: Vec<(String, Pool)> = Vec::new();
    for (family, list) in [(Family::V4, &pools.v4), (Family::V6, &pools.v6)] {
        for pool in list {
            let field = format!("{spec}.{}", pool.field);
            let pool = parse_pool(&field, family, pool)?;
            if let Some((other, _)) =
                parsed.iter().find(|(_, other)| other.range.overlaps(&pool.range))
            {
                return Err(GroupError::Overlap { field, other: other.clone() });
            }
            parsed.push((field, pool));
        }
    }
    if parsed.is_empty() {
        return Err(GroupError::Empty { spec: spec.to_owned() });
    }
    Ok(Source::Pools { pools: parsed.into_iter().map(|(_, pool)| pool).collect(), spread })
}

fn parse_pool(field: &str, family: Family, pool: &PoolSpec) -> Result<Pool, GroupError> {
    let field = || field.to_owned();
    let range: AddressRange =
        pool.pool.parse().map_err(|error| GroupError::Range { field: field(), error })?;
    if range.family() != family {
        return Err(GroupError::Family { field: field(), family, found: range.family() });
    }
    let subnet: IpNet = pool
        .subnet
        .trim()
        .parse()
        .map_err(|_| GroupError::Subnet { field: field(), text: pool.subnet.clone() })?;
    let subnet = subnet.trunc();
    if !subnet.contains(&range.first()) || !subnet.contains(&range.last()) {
        return Err(GroupError::OutsideSubnet { field: field(), range, subnet });
    }
    let aggregation = match pool.aggregation.as_deref() {
        None | Some("" | "default") => Aggregation::Subnet,
        Some(text) => text
            .strip_prefix('/')
            .and_then(|len| len.parse().ok())
            .filter(|len| (8..=family.bits()).contains(len))
            .map(Aggregation::Prefix)
            .ok_or_else(|| GroupError::Aggregation { field: field(), text: text.to_owned() })?,
    };
    Ok(Pool { range, text: pool.pool.clone(), subnet, aggregation })
}

/// Why a ServiceGroup makes no sense; each says what to change.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// `aggregation` is no prefix length of the family.
    #[error(
        "{field}.aggregation {text:?} is neither \"default\" nor a prefix length from \"/8\" to the family's last"
    )]
    Aggregation {
        /// The pool's field.
        field: String,
        /// The value as written.
        text: String,
    },
    /// `announce` of an external group is neither of its two words.
    #[error("spec.external.announce is {text:?}: write \"local\" or \"remote\"")]
    Announce {
        /// The value as written.
        text: String,
    },
    /// There is no range at all.
    #[error("{spec} has no pool: give it a v4pool, v6pool, v4pools or v6pools")]
    Empty {
        /// `spec.local` or `spec.remote`.
        spec: String,
    },
    /// `multiPool` and `balancePools` are both set.
    #[error("multiPool and balancePools are mutually exclusive: choose one")]
    Exclusive,
    /// A range of the one family stands in a field of the other.
    #[error("{field}.pool holds {found} addresses, but the field is for {family}")]
    Family {
        /// The pool's field.
        field: String,
        /// What the field is for.
        family: Family,
        /// What it holds.
        found: Family,
    },
    /// The object as a whole could not be read.
    #[error("{error}")]
    Malformed {
        /// What is wrong with it.
        error: String,
    },
    /// The range leaves its subnet.
    #[error("{field}.pool {range} is not inside its subnet {subnet}")]
    OutsideSubnet {
        /// The pool's field.
        field: String,
        /// The range.
        range: AddressRange,
        /// The subnet.
        subnet: IpNet,
    },
    /// Two ranges of the group share addresses.
    #[error("{field}.pool overlaps {other}.pool")]
    Overlap {
        /// The later field.
        field: String,
        /// The earlier field.
        other: String,
    },
    /// The range could not be read.
    #[error("{field}.pool: {error}")]
    Range {
        /// The pool's field.
        field: String,
        /// Why not.
        error: RangeError,
    },
    /// The subnet could not be read.
    #[error("{field}.subnet {text:?} is no network: write one such as 192.0.2.0/24")]
    Subnet {
        /// The pool's field.
        field: String,
        /// The value as written.
        text: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(field: &str, pool: &str, subnet: &str) -> PoolSpec {
        PoolSpec {
            field: field.into(),
            pool: pool.into(),
            subnet: subnet.into(),
            aggregation: None,
        }
    }

    fn local(v4: Vec<PoolSpec>, v6: Vec<PoolSpec>) -> ServiceGroup {
        ServiceGroup {
            name: "g".into(),
            uid: "u".into(),
            generation: 1,
            kind: GroupSpec::Local {
                pools: PoolsSpec { v4, v6, ..PoolsSpec::default() },
                skip_ipv6_dad: false,
            },
            namespaces: vec![],
            enforce_namespaces: false,
            namespace_default: false,
            status: None,
        }
    }

    fn refusal(group: &ServiceGroup) -> String {
        Group::parse(group).unwrap_err().to_string()
    }

    #[test]
    fn ranges_keep_their_order_and_text() {
        let group = local(
            vec![
                pool("v4pools[0]", "192.0.2.9-192.0.2.12", "192.0.2.7/24"),
                pool("v4pool", "192.0.2.0/30", "192.0.2.0/24"),
            ],
            vec![pool("v6pool", "2001:db8::/64", "2001:db8::/64")],
        );
        let group = Group::parse(&group).unwrap();
        let texts: Vec<_> = group.pools_of(Family::V4).map(|pool| pool.text.as_str()).collect();
        assert_eq!(texts, ["192.0.2.9-192.0.2.12", "192.0.2.0/30"]);
        assert_eq!(group.pools()[0].subnet, "192.0.2.0/24".parse().unwrap());
        assert_eq!(group.pools()[0].prefix_len(), 24);
        assert!(group.pool_of("2001:db8::1".parse().unwrap()).is_some());
    }

    #[test]
    fn the_wrong_family_in_a_field_is_named() {
        let group = local(vec![pool("v4pools[0]", "2001:db8::/64", "2001:db8::/64")], vec![]);
        assert_eq!(
            refusal(&group),
            "spec.local.v4pools[0].pool holds IPv6 addresses, but the field is for IPv4"
        );
    }

    #[test]
    fn nested_ranges_of_one_group_are_refused() {
        let group = local(
            vec![
                pool("v4pools[0]", "192.0.2.0/24", "192.0.2.0/24"),
                pool("v4pools[1]", "192.0.2.10-192.0.2.20", "192.0.2.0/24"),
            ],
            vec![],
        );
        assert_eq!(
            refusal(&group),
            "spec.local.v4pools[1].pool overlaps spec.local.v4pools[0].pool"
        );
    }

    #[test]
    fn aggregation_must_fit_the_family() {
        let mut bad = pool("v4pool", "192.0.2.0/24", "192.0.2.0/24");
        for text in ["/33", "24", "/7", "/x", "Default"] {
            bad.aggregation = Some(text.into());
            assert!(refusal(&local(vec![bad.clone()], vec![])).contains("aggregation"), "{text}");
        }
        bad.aggregation = Some("/32".into());
        let group = Group::parse(&local(vec![bad], vec![])).unwrap();
        assert_eq!(group.pools()[0].prefix_len(), 32);
    }

    #[test]
    fn a_range_must_stay_in_its_subnet() {
        let group = local(vec![pool("v4pool", "192.0.2.0-192.0.3.0", "192.0.2.0/24")], vec![]);
        assert!(refusal(&group).contains("not inside its subnet 192.0.2.0/24"));
        assert!(refusal(&local(vec![], vec![])).contains("has no pool"));
    }

    #[test]
    fn announce_of_an_external_group_is_one_of_two_words() {
        for (text, fine) in
            [("local", true), ("remote", true), ("", false), ("Local", false), ("bgp", false)]
        {
            let mut group = local(vec![], vec![]);
            group.kind = GroupSpec::External {
                announce: text.into(),
                provider: "p".into(),
                socket: "/s".into(),
            };
            assert_eq!(Group::parse(&group).is_ok(), fine, "{text}");
        }
    }
}
