//! How long addresses take onto their interfaces.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::host::{Address, LinkIndex};
use crate::membership::NotYet;
use crate::time::Tick;

use super::notice::{NodeNotice, Since};
use super::verdict::{Verdict, Withheld};
use super::{NodeAgent, Want};

/// The addresses that are to be here and are not, and since when and why.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default)]
pub(super) struct Awaited(BTreeMap<IpAddr, (Since, Tick)>);

impl Awaited {
    /// An address was found missing that is to be here.
    pub(super) fn lost(&mut self, ip: IpAddr, now: Tick) {
        self.0.insert(ip, (Since::Lost, now));
    }

    /// It is not to be here, or nobody asks for it.
    pub(super) fn forget(&mut self, ip: IpAddr) {
        self.0.remove(&ip);
    }
}

impl NodeAgent {
    /// Notes since when an address is awaited on a local interface: since this node won it, also while
    /// it has to wait for others to confirm that it may hold it.
    pub(super) fn await_arrival(
        &mut self,
        ip: IpAddr,
        want: Option<&Want>,
        verdict: Option<&Verdict>,
        observed: &[Address],
    ) {
        let is_won = match verdict {
            Some(
                Verdict::Local { .. } | Verdict::Withheld(Withheld::NotYet(NotYet::Joining { .. })),
            ) => true,
            // On every node: nobody wins it, but it can be found missing.
            Some(Verdict::Virtual { .. }) => {
                if self.awaited.0.get(&ip).is_some_and(|(since, _)| *since != Since::Lost) {
                    self.awaited.forget(ip);
                }
                return;
            }
            Some(Verdict::Withheld(_)) | None => false,
        };
        let Some(want) = want.filter(|_| is_won) else { return self.awaited.forget(ip) };
        if !observed.iter().any(Address::is_ours) && !self.awaited.0.contains_key(&ip) {
            let was_lost = matches!(want.verdict, Some(Verdict::Withheld(Withheld::LostTo(_))));
            let is_from_peer = was_lost || !self.is_fresh(ip, want);
            let since = if is_from_peer { Since::WonFromPeer } else { Since::WonNew };
            self.awaited.0.insert(ip, (since, self.now));
        }
    }

    /// An address that was awaited is there.
    pub(super) fn tell_arrival(&mut self, ip: IpAddr, link: LinkIndex) {
        if let Some((since, from)) = self.awaited.0.remove(&ip) {
            let (interface, took) = (self.link_name(link), self.now.since(from));
            self.tell(NodeNotice::Arrived { ip, interface, since, took });
        }
    }
}
