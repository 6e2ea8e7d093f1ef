//! Whose an address is, where the kernel keeps no mark.

use crate::host::{Address, Family, OUR_MARK, Ownership};
use crate::store::{Change, Object};

use super::{Event, NodeAgent};

impl NodeAgent {
    /// A change of addresses whose marks say whose they are.
    pub(super) fn attributed(&self, change: Change<Address>) -> Change<Address> {
        match self.ownership {
            Ownership::Mark => change,
            Ownership::PoolAndLink => match change {
                Change::Deleted(key) => Change::Deleted(key),
                Change::Listed(all) => {
                    Change::Listed(all.into_iter().map(|address| self.marked(address)).collect())
                }
                Change::Updated(address) => Change::Updated(self.marked(address)),
            },
        }
    }

    /// Looks again at whose the addresses are, since pools or local interfaces have changed.
    pub(super) fn refresh_ownership(&mut self) {
        if !std::mem::take(&mut self.dirty.ownership) {
            return;
        }
        match self.ownership {
            Ownership::Mark => {}
            Ownership::PoolAndLink => {
                let marked =
                    self.addresses.iter().map(|address| (address, self.marked(address.clone())));
                let changed = marked.filter(|(before, after)| *before != after);
                let changed: Vec<Address> = changed.map(|(_, after)| after).collect();
                for address in changed {
                    self.take_in(Event::Addresses(Change::Updated(address)));
                }
                // What turned out to be ours is no subnet of the host's.
                self.refresh_local();
            }
        }
    }

    fn marked(&self, mut address: Address) -> Address {
        address.mark = if self.looks_like_ours(&address) { OUR_MARK } else { 0 };
        address
    }

    /// See [`Ownership::PoolAndLink`].
    fn looks_like_ours(&self, address: &Address) -> bool {
        let key = address.key();
        if self.hold.made.contains(&key) {
            return true;
        }
        if self.pools.find(address.ip()).is_none() {
            return false;
        }
        if Some(address.link) == self.virtual_index {
            return true;
        }
        let family = Family::of(address.ip());
        let is_local =
            self.local[&family].net().links.iter().any(|(link, _)| *link == address.link);
        is_local
            && match family {
                Family::V4 => address.flags.secondary,
                Family::V6 => address.flags.no_dad,
            }
    }
}
