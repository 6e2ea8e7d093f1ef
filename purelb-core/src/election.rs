//! Which node an address belongs to: rendezvous hashing, compatible with the Go PureLB to the byte.

mod field;
mod winners;

use std::net::IpAddr;

use sha2::{Digest, Sha256};

use crate::lease::LeaseContent;
use crate::name::NodeName;

pub use winners::Winners;

/// The node that `ip` belongs to: of all candidates the one with the lowest SHA-256 of
/// `<node>#<ip>`.
///
/// Every node that knows the same candidates names the same winner, and a candidate that goes moves
/// only the addresses that it had. The address is hashed in its canonical text: dotted quad, or
/// RFC 5952 in lower case; an IPv4-mapped IPv6 address counts as IPv4.
pub fn winner<'a>(
    ip: IpAddr,
    candidates: impl IntoIterator<Item = &'a NodeName>,
) -> Option<&'a NodeName> {
    winner_of_key(&ip.to_canonical().to_string(), candidates)
}

/// Like [`winner`], for any key.
pub fn winner_of_key<'a>(
    key: &str,
    candidates: impl IntoIterator<Item = &'a NodeName>,
) -> Option<&'a NodeName> {
    candidates.into_iter().min_by_key(|node| (digest(node, key), *node))
}

/// What a candidate is ranked by; the lowest wins.
pub fn digest(node: &NodeName, key: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(node.as_str());
    hash.update(b"#");
    hash.update(key);
    hash.finalize().into()
}

/// The nodes among which `ip` is elected, and whether they are those that list it: of all live leases
/// with a subnet that holds it those that list it beyond others, or all if none does. A `narrowed`
/// address is for nodes that list it alone.
pub fn electorate<'a>(
    ip: IpAddr,
    narrowed: bool,
    live: impl IntoIterator<Item = (&'a NodeName, &'a LeaseContent)>,
) -> (Vec<&'a NodeName>, bool) {
    let (mut listing, mut others) = (Vec::new(), Vec::new());
    for (node, content) in live {
        if !content.subnets.iter().any(|net| net.contains(&ip)) {
            continue;
        }
        if content.lists.contains(&ip) {
            listing.push(node);
        } else {
            others.push(node);
        }
    }
    match (listing.is_empty(), narrowed) {
        (true, true) => (Vec::new(), false),
        (true, false) => (others, false),
        (false, _) => (listing, true),
    }
}

/// Candidates in the order in which they win.
pub fn ranking<'a>(
    ip: IpAddr,
    candidates: impl IntoIterator<Item = &'a NodeName>,
) -> Vec<&'a NodeName> {
    let key = ip.to_canonical().to_string();
    let mut nodes: Vec<&NodeName> = candidates.into_iter().collect();
    nodes.sort_by_cached_key(|node| (digest(node, &key), *node));
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_wins_among_nobody() {
        assert_eq!(winner("192.0.2.1".parse().unwrap(), []), None);
    }

    #[test]
    fn a_mapped_address_counts_as_ipv4() {
        let nodes: Vec<NodeName> = ('a'..='p').map(|c| format!("node-{c}").into()).collect();
        for n in 0..64 {
            let v4: IpAddr = format!("192.0.2.{n}").parse().unwrap();
            let mapped: IpAddr = format!("::ffff:192.0.2.{n}").parse().unwrap();
            assert_eq!(winner(v4, &nodes), winner(mapped, &nodes));
        }
    }
}
