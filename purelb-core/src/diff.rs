//! What to do so that the kernel shows what is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::host::{Address, AddressKey, LinkIndex};
use crate::kernel::{KernelAction, Lifetime, NewAddress};
use crate::store::Object;

/// The actions that turn the addresses that are `observed` into those that are `wanted`: removals
/// first, then additions.
///
/// Only addresses with our mark are ever removed or changed. One without it that equals a wanted one
/// is left alone, and so the wanted one is not added to that link: the kernel would take the request
/// as a change of the one that is there (IPv6 even under another prefix length). Remaining lifetimes are not compared, only
/// whether there is an end: prolonging is a matter of time, not of difference.
pub fn changes<'a>(
    wanted: impl IntoIterator<Item = &'a NewAddress>,
    observed: impl IntoIterator<Item = &'a Address>,
) -> Vec<KernelAction> {
    let wanted: BTreeMap<AddressKey, &NewAddress> =
        wanted.into_iter().map(|address| (address.key(), address)).collect();
    let mut present: BTreeSet<AddressKey> = BTreeSet::new();
    let mut foreign: BTreeSet<(LinkIndex, IpAddr)> = BTreeSet::new();
    let mut actions = Vec::new();
    for address in observed {
        let key = address.key();
        if !address.is_ours() {
            foreign.insert((address.link, address.ip()));
        }
        let fit = match wanted.get(&key) {
            None if address.is_ours() => Fit::Unwanted,
            Some(wanted) if address.is_ours() => fit(wanted, address),
            None | Some(_) => Fit::Good,
        };
        match fit {
            Fit::Good => {
                present.insert(key);
            }
            Fit::Replaceable => {}
            Fit::Unwanted => actions.push(KernelAction::RemoveAddress(key)),
        }
    }
    let missing = wanted.iter().filter(|(key, _)| {
        !present.contains(key) && !foreign.contains(&(key.link, key.net.addr()))
    });
    actions.extend(missing.map(|(_, address)| KernelAction::AddAddress(**address)));
    actions
}

/// How an address of ours on a link compares with what is wanted under the same key.
enum Fit {
    /// As wanted.
    Good,
    /// Adding it again makes it as wanted.
    Replaceable,
    /// To be removed; if wanted, added anew after that.
    Unwanted,
}

fn fit(wanted: &NewAddress, observed: &Address) -> Fit {
    // The kernel keeps the flag of an IPv4 address that is replaced.
    if wanted.no_prefix_route != observed.flags.no_prefix_route {
        return Fit::Unwanted;
    }
    let lasts = wanted.lifetime == Lifetime::Forever;
    // A tentative or expired-preferred state is the kernel's business; only what we set counts.
    if lasts != observed.valid.is_none() || (wanted.deprecated && !observed.flags.deprecated) {
        return Fit::Replaceable;
    }
    Fit::Good
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{AddressFlags, OUR_MARK, Scope};

    fn wanted(net: &str, lifetime: Lifetime) -> NewAddress {
        NewAddress {
            link: LinkIndex(2),
            net: net.parse().unwrap(),
            lifetime,
            deprecated: false,
            no_prefix_route: true,
        }
    }

    fn observed(net: &str, mark: u8, valid: Option<u32>) -> Address {
        Address {
            link: LinkIndex(2),
            net: net.parse().unwrap(),
            broadcast: None,
            flags: AddressFlags { no_prefix_route: true, ..AddressFlags::default() },
            scope: Scope::Global,
            mark,
            valid,
        }
    }

    #[test]
    fn what_is_there_as_wanted_needs_nothing() {
        let wanted = wanted("192.0.2.9/24", Lifetime::Seconds(9));
        let there = observed("192.0.2.9/24", OUR_MARK, Some(5));
        assert_eq!(changes([&wanted], [&there]), []);
    }

    #[test]
    fn what_is_ours_and_unwanted_goes_before_anything_comes() {
        let wanted = wanted("192.0.2.9/24", Lifetime::Forever);
        let old = observed("192.0.2.9/32", OUR_MARK, None);
        assert_eq!(
            changes([&wanted], [&old]),
            [
                KernelAction::RemoveAddress(AddressKey { link: old.link, net: old.net }),
                KernelAction::AddAddress(wanted)
            ]
        );
    }

    #[test]
    fn what_is_not_ours_is_never_touched() {
        let wanted = wanted("192.0.2.9/24", Lifetime::Forever);
        let foreign = [observed("192.0.2.9/24", 0, Some(1)), observed("192.0.2.8/24", 3, None)];
        assert_eq!(changes([&wanted], &foreign), []);
        assert_eq!(changes([], &foreign), []);
        let other_prefix = observed("192.0.2.9/32", 0, None);
        assert_eq!(changes([&wanted], [&other_prefix]), []);
    }

    #[test]
    fn an_end_is_given_or_taken_by_adding_again() {
        let forever = wanted("192.0.2.9/24", Lifetime::Forever);
        let ends = observed("192.0.2.9/24", OUR_MARK, Some(5));
        assert_eq!(changes([&forever], [&ends]), [KernelAction::AddAddress(forever)]);
    }

    #[test]
    fn a_prefix_route_is_given_or_taken_by_removing_first() {
        let mut plain = wanted("192.0.2.9/24", Lifetime::Forever);
        plain.no_prefix_route = false;
        let there = observed("192.0.2.9/24", OUR_MARK, None);
        assert_eq!(
            changes([&plain], [&there]),
            [KernelAction::RemoveAddress(there.key()), KernelAction::AddAddress(plain)]
        );
    }
}
