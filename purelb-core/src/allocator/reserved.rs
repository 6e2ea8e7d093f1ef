//! Addresses that have a meaning of their own in their subnet and are not given out.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::group::{Announce, Pool};

/// What an address means in its subnet.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reserved {
    /// The highest address of an IPv4 subnet.
    Broadcast,
    /// The lowest address of an IPv4 subnet.
    Network,
    /// The lowest address of an IPv6 subnet (RFC 4291 §2.6.1): every router there answers for it.
    RouterAnycast,
}

impl fmt::Display for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broadcast => "broadcast address",
            Self::Network => "network address",
            Self::RouterAnycast => "subnet-router anycast address",
        })
    }
}

/// The addresses of `pool` that are not given out, in ascending order: those with a meaning in its
/// subnet, where a node would put them under that prefix. That is so in a local group, and in a
/// remote one unless `aggregation` makes each a host prefix.
///
/// Two addresses have none to spare: IPv4 /31 (RFC 3021) and IPv6 /127 (RFC 6164) reserve nothing.
pub fn reserved(
    pool: &Pool,
    announce: Announce,
) -> impl Iterator<Item = (IpAddr, Reserved)> + use<> {
    let host_prefix = pool.prefix_len() == pool.subnet.max_prefix_len();
    let under_prefix = match announce {
        Announce::Local => true,
        Announce::Remote => !host_prefix,
    };
    let roomy = pool.subnet.prefix_len() + 2 <= pool.subnet.max_prefix_len();
    let (low, high) = match pool.subnet {
        IpNet::V4(net) => (
            (IpAddr::V4(net.network()), Reserved::Network),
            Some((IpAddr::V4(net.broadcast()), Reserved::Broadcast)),
        ),
        IpNet::V6(net) => ((IpAddr::V6(net.network()), Reserved::RouterAnycast), None),
    };
    let range = pool.range;
    [Some(low), high]
        .into_iter()
        .flatten()
        .filter(move |(ip, _)| under_prefix && roomy && range.contains(*ip))
}

/// What `ip` means in the subnet of `pool`, if that keeps it from being given out.
pub(crate) fn role_of(ip: IpAddr, pool: &Pool, announce: Announce) -> Option<Reserved> {
    reserved(pool, announce).find(|(reserved, _)| *reserved == ip).map(|(_, role)| role)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::Aggregation;

    fn texts(
        range: &str,
        subnet: &str,
        aggregation: Aggregation,
        announce: Announce,
    ) -> Vec<String> {
        let pool = Pool {
            range: range.parse().unwrap(),
            text: range.into(),
            subnet: subnet.parse().unwrap(),
            aggregation,
        };
        reserved(&pool, announce).map(|(ip, _)| ip.to_string()).collect()
    }

    #[test]
    fn a_local_pool_keeps_network_and_broadcast() {
        let local = |range, subnet| texts(range, subnet, Aggregation::Subnet, Announce::Local);
        assert_eq!(local("192.0.2.0/24", "192.0.2.0/24"), ["192.0.2.0", "192.0.2.255"]);
        assert_eq!(local("192.0.2.0/25", "192.0.2.0/24"), ["192.0.2.0"]);
        assert_eq!(local("192.0.2.0/30", "192.0.2.0/30"), ["192.0.2.0", "192.0.2.3"]);
        assert!(local("192.0.2.0/31", "192.0.2.0/31").is_empty());
        assert!(local("192.0.2.0/32", "192.0.2.0/32").is_empty());
        assert!(local("192.0.2.9-192.0.2.20", "192.0.2.0/24").is_empty());
        assert_eq!(local("2001:db8::/120", "2001:db8::/64"), ["2001:db8::"]);
        assert!(local("2001:db8::/127", "2001:db8::/127").is_empty());
    }

    #[test]
    fn a_remote_pool_of_host_prefixes_keeps_nothing() {
        let remote =
            |aggregation, range, subnet| texts(range, subnet, aggregation, Announce::Remote);
        assert_eq!(remote(Aggregation::Subnet, "192.0.2.0/24", "192.0.2.0/24").len(), 2);
        assert!(remote(Aggregation::Prefix(32), "192.0.2.0/24", "192.0.2.0/24").is_empty());
        assert!(remote(Aggregation::Prefix(128), "2001:db8::/64", "2001:db8::/64").is_empty());
    }
}
