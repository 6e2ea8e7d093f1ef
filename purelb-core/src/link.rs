//! Interface election: which interface of this node is the local one.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{LocalInterface, LocalSpec, MultipleDefaultRoutes, Pattern};
use crate::host::{Address, Family, Link, LinkIndex, Route, RouteKind, Scope};

/// How the local interface is chosen: the part of an LBNodeAgent that interface election reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `localInterface`.
    pub local_interface: LocalInterface,
    /// `interfaces`: exact names, in order of preference.
    pub interfaces: Vec<String>,
    /// The virtual interface, which never counts.
    pub virtual_interface: String,
    /// What more than one default route means.
    pub multiple_default_routes: MultipleDefaultRoutes,
}

impl Policy {
    /// By what an interface is found, for people.
    pub fn describe(&self) -> String {
        match &self.local_interface {
            LocalInterface::DefaultRoute => "the default route leaves by it".to_owned(),
            LocalInterface::Matching(pattern) => {
                format!("it matches localInterface {:?}", pattern.as_str())
            }
        }
    }
}

impl From<&LocalSpec> for Policy {
    fn from(spec: &LocalSpec) -> Self {
        Self {
            local_interface: spec.local_interface.clone(),
            interfaces: spec.interfaces.clone(),
            virtual_interface: spec.virtual_interface.clone(),
            multiple_default_routes: spec.multiple_default_routes,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        (&LocalSpec::default()).into()
    }
}

/// Elects the local interface of one address family.
///
/// 1. An override wins: the first interface, by name, that `localInterface` matches.
/// 2. Otherwise it is the interface that the family's default route leaves by.
/// 3. More than one default route means that it cannot be identified, unless the policy says
///    otherwise. Two routes with different metrics, two over one interface and one multipath route
///    are all "more than one". Routes that carry no packets (`unreachable` and its like) and routes
///    over the virtual interface do not count.
///
/// The order of `links` and `routes` does not matter.
///
/// # Errors
///
/// With the reason why no interface, or not exactly one, could be identified.
pub fn elect<'a>(
    family: Family,
    links: impl IntoIterator<Item = &'a Link>,
    routes: impl IntoIterator<Item = &'a Route>,
    policy: &Policy,
) -> Result<LinkIndex, Unidentified> {
    let links: Vec<&Link> = links.into_iter().collect();
    match &policy.local_interface {
        LocalInterface::DefaultRoute => elect_by_default_route(family, &links, routes, policy),
        LocalInterface::Matching(pattern) => matching(&links, pattern, policy)
            .first()
            .copied()
            .ok_or_else(|| Unidentified::NothingMatches { pattern: pattern.clone() }),
    }
}

/// The interfaces that may carry local addresses of one family, in order of preference: what
/// [`elect`] yields (with a pattern, every interface that matches, by name), then those that
/// `interfaces` lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalLinks {
    /// The interfaces, the preferred one first.
    pub links: Vec<LinkIndex>,
    /// Why the local interface could not be identified, if so; listed ones still serve.
    pub unidentified: Option<Unidentified>,
}

/// Finds the [`LocalLinks`] of one family.
pub fn local_links<'a>(
    family: Family,
    links: impl IntoIterator<Item = &'a Link>,
    routes: impl IntoIterator<Item = &'a Route>,
    policy: &Policy,
) -> LocalLinks {
    let links: Vec<&Link> = links.into_iter().collect();
    let elected = elect(family, links.iter().copied(), routes, policy);
    let mut found: Vec<LinkIndex> = match &policy.local_interface {
        LocalInterface::DefaultRoute => elected.iter().copied().collect(),
        LocalInterface::Matching(pattern) => matching(&links, pattern, policy),
    };
    for name in policy.interfaces.iter().filter(|name| **name != policy.virtual_interface) {
        let named = links.iter().filter(|link| link.name == *name).map(|link| link.index);
        found.extend(named);
    }
    let mut known = BTreeSet::new();
    found.retain(|link| known.insert(*link));
    LocalLinks { links: found, unidentified: elected.err() }
}

/// The subnets that addresses of `link` put it in: those that can be served by it.
///
/// Addresses of ours never count, nor do link-local, tentative, deprecated or failed ones. An
/// address with a host prefix (as DHCPv6 gives) takes its subnet from the route to a directly
/// connected prefix of the same link; without one it is in no subnet.
pub fn subnets<'a>(
    family: Family,
    link: LinkIndex,
    addresses: impl IntoIterator<Item = &'a Address>,
    routes: impl IntoIterator<Item = &'a Route>,
) -> BTreeSet<IpNet> {
    let on_link: Vec<IpNet> = routes
        .into_iter()
        .filter(|route| {
            route.kind == RouteKind::Unicast
                && route.link == Some(link)
                && route.gateway.is_none()
                && (1..family.bits()).contains(&route.destination.prefix_len())
        })
        .map(|route| route.destination)
        .collect();
    addresses
        .into_iter()
        .filter(|address| address.link == link && is_of_the_host(address, family))
        .filter_map(|address| {
            if address.net.prefix_len() < family.bits() {
                return Some(address.net.trunc());
            }
            let holding = on_link.iter().filter(|net| net.contains(&address.ip()));
            holding.max_by_key(|net| net.prefix_len()).map(IpNet::trunc)
        })
        .collect()
}

/// Whether an address says something about where its host is.
fn is_of_the_host(address: &Address, family: Family) -> bool {
    let flags = address.flags;
    Family::of(address.ip()) == family
        && !address.is_ours()
        && address.scope == Scope::Global
        && !flags.tentative
        && !flags.dad_failed
        && !flags.deprecated
        && !is_link_local(address.ip())
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn matching(links: &[&Link], pattern: &Pattern, policy: &Policy) -> Vec<LinkIndex> {
    let mut found: Vec<_> = links
        .iter()
        .filter(|link| !link.loopback && link.name != policy.virtual_interface)
        .filter(|link| pattern.matches(&link.name))
        .map(|link| (&link.name, link.index))
        .collect();
    found.sort();
    found.into_iter().map(|(_, index)| index).collect()
}

fn elect_by_default_route<'a>(
    family: Family,
    links: &[&Link],
    routes: impl IntoIterator<Item = &'a Route>,
    policy: &Policy,
) -> Result<LinkIndex, Unidentified> {
    let is_virtual = |index: LinkIndex| {
        links.iter().any(|link| link.index == index && link.name == policy.virtual_interface)
    };
    let mut defaults: Vec<&Route> = routes
        .into_iter()
        .filter(|route| route.family() == family && route.is_default())
        .filter(|route| !route.link.is_some_and(is_virtual))
        .collect();
    defaults.sort();
    let one = match (policy.multiple_default_routes, defaults.as_slice()) {
        (_, []) => return Err(Unidentified::NoDefaultRoute { family }),
        (_, [one]) => *one,
        (MultipleDefaultRoutes::SameInterface, [first, rest @ ..])
            if rest.iter().all(|route| route.link == first.link) =>
        {
            *first
        }
        (MultipleDefaultRoutes::LowestMetric, all) => {
            let lowest = all.iter().map(|route| route.metric).min();
            let mut best = all.iter().filter(|route| Some(route.metric) == lowest);
            match (best.next(), best.next()) {
                (Some(one), None) => *one,
                _ => return Err(Unidentified::many(family, all)),
            }
        }
        (_, all) => return Err(Unidentified::many(family, all)),
    };
    one.link
        .filter(|index| links.iter().any(|link| link.index == *index))
        .ok_or_else(|| Unidentified::NoLink { route: one.clone() })
}

/// Why the local interface of a family could not be identified.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unidentified {
    /// There is more than one default route.
    ManyDefaultRoutes {
        /// The family.
        family: Family,
        /// Every one of them, in order.
        routes: Vec<Route>,
    },
    /// There is no default route.
    NoDefaultRoute {
        /// The family.
        family: Family,
    },
    /// The default route leaves by an interface that is not there.
    NoLink {
        /// The route.
        route: Route,
    },
    /// `localInterface` matches no interface.
    NothingMatches {
        /// The pattern.
        pattern: Pattern,
    },
}

impl Unidentified {
    fn many(family: Family, routes: &[&Route]) -> Self {
        Self::ManyDefaultRoutes { family, routes: routes.iter().copied().cloned().collect() }
    }

    /// Whether there is too much to choose from, so that the virtual interface is used instead.
    pub fn is_ambiguous(&self) -> bool {
        matches!(self, Self::ManyDefaultRoutes { .. })
    }

    /// Describes it with interface names from `links`.
    pub fn describe<'a>(&self, links: impl IntoIterator<Item = &'a Link>) -> String {
        let links: Vec<&Link> = links.into_iter().collect();
        let name = |index: Option<LinkIndex>| match index {
            None => "no interface".to_owned(),
            Some(index) => links
                .iter()
                .find(|link| link.index == index)
                .map_or_else(|| index.to_string(), |link| format!("dev {}", link.name)),
        };
        match self {
            Self::ManyDefaultRoutes { routes, .. } => {
                let routes: Vec<String> = routes
                    .iter()
                    .map(|route| {
                        let via = route.gateway.map(|ip| format!("via {ip} ")).unwrap_or_default();
                        format!("default {via}{} metric {}", name(route.link), route.metric)
                    })
                    .collect();
                format!("{self}: {}", routes.join("; "))
            }
            Self::NoDefaultRoute { .. } | Self::NoLink { .. } | Self::NothingMatches { .. } => {
                self.to_string()
            }
        }
    }
}

impl fmt::Display for Unidentified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ManyDefaultRoutes { family, .. } => {
                write!(f, "more than one {family} default route")
            }
            Self::NoDefaultRoute { family } => write!(f, "no {family} default route"),
            Self::NoLink { route } => {
                write!(f, "the {} default route leaves by no known interface", route.family())
            }
            Self::NothingMatches { pattern } => {
                write!(f, "no interface matches localInterface {:?}", pattern.as_str())
            }
        }
    }
}
