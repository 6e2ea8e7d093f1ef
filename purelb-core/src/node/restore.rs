//! Putting back what something else takes off, without fighting for ever.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::host::{Address, AddressKey, Link};
use crate::time::Tick;

use super::NodeAgent;
use super::agenda::Agenda;
use super::notice::{NodeNotice, Restoring};
use super::verdict::Verdict;

/// How often in a row an address is put back at once.
const AT_ONCE: u32 = 3;

/// The first pause after that; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// After so long in peace, a loss is the first again.
const PEACE: Duration = Duration::from_secs(60);

/// The addresses that something else took off their interfaces.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default)]
pub(super) struct Losses {
    of: BTreeMap<IpAddr, Loss>,
    /// Those that are not to be put back before some moment.
    pauses: Agenda<IpAddr>,
    /// When those that have been in peace were last forgotten.
    swept: Tick,
}

#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug)]
struct Loss {
    times: u32,
    last: Tick,
}

impl Losses {
    /// An address was lost; tells what people have to know of it.
    fn add(&mut self, ip: IpAddr, now: Tick) -> Option<Restoring> {
        if now.since(self.swept) >= PEACE {
            self.of.retain(|_, loss| now.since(loss.last) < PEACE);
            self.swept = now;
        }
        let before = self.of.get(&ip).filter(|loss| now.since(loss.last) < PEACE);
        let times = before.map_or(1, |loss| loss.times.saturating_add(1));
        self.of.insert(ip, Loss { times, last: now });
        if times > AT_ONCE {
            let doublings = (times - AT_ONCE - 1).min(16);
            let pause = (FIRST_PAUSE * (1 << doublings)).min(LAST_PAUSE);
            self.pauses.put(ip, now + pause);
        }
        match times {
            1 => Some(Restoring::AtOnce),
            times if times == AT_ONCE + 1 => Some(Restoring::WithPauses),
            _ => None,
        }
    }

    /// Whether an address is not to be put back yet.
    pub(super) fn must_wait(&self, ip: IpAddr) -> bool {
        self.pauses.contains(&ip)
    }

    pub(super) fn deadline(&self) -> Option<(Tick, &'static str)> {
        self.pauses.first().map(|at| (at, "put back"))
    }
}

impl NodeAgent {
    /// An address is gone: if nobody here asked for that, people are told.
    pub(super) fn judge_loss(&mut self, key: &AddressKey, before: Option<&Address>) {
        let ip = key.net.addr();
        let is_wanted = match self.verdict(ip) {
            Some(Verdict::Local { link, net, .. }) => (*link, *net) == (key.link, key.net),
            Some(Verdict::Virtual { net, .. }) => *net == key.net,
            Some(Verdict::Withheld(_)) | None => false,
        };
        let is_over = self.hold.granted.get(key).is_some_and(|until| *until <= self.now);
        // A link that goes, or goes down, takes addresses along.
        let has_link = self.links.get(&key.link).is_some_and(Link::is_operational);
        // A lifetime that ended while it was to be prolonged was not ended by others.
        let is_own_doing =
            is_over || self.hold.removing.contains(key) || self.hold.pending.contains(key);
        if !before.is_some_and(Address::is_ours) || !is_wanted || !has_link || is_own_doing {
            return;
        }
        self.awaited.lost(ip, self.now);
        let Some(how) = self.losses.add(ip, self.now) else { return };
        let Some(want) = self.wants.get(&ip) else { return };
        let interface = self.link_name(key.link);
        for service in self.refs(want) {
            self.tell(NodeNotice::Restored { ip, service, interface: interface.clone(), how });
        }
    }

    /// Lets those be put back whose pause is over.
    pub(super) fn end_pauses(&mut self) {
        while let Some(ip) = self.losses.pauses.take_due(self.now) {
            self.dirty.ips.insert(ip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_again_and_again_is_put_back_later_and_later() {
        let ip = "192.0.2.9".parse().unwrap();
        let mut losses = Losses::default();
        let mut now = Tick::START;
        assert_eq!(losses.add(ip, now), Some(Restoring::AtOnce));
        for _ in 1..AT_ONCE {
            assert_eq!(losses.add(ip, now), None);
            assert!(!losses.must_wait(ip));
        }
        assert_eq!(losses.add(ip, now), Some(Restoring::WithPauses), "told once");
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let (until, _) = losses.deadline().unwrap();
            pauses.push(until.since(now).as_millis());
            now = until;
            assert_eq!(losses.pauses.take_due(now), Some(ip));
            assert!(!losses.must_wait(ip) && losses.deadline().is_none());
            assert_eq!(losses.add(ip, now), None);
        }
        assert_eq!(pauses[..4], [200, 400, 800, 1600]);
        assert_eq!(pauses[9], LAST_PAUSE.as_millis());
        assert_eq!(losses.add(ip, now + PEACE), Some(Restoring::AtOnce), "after peace");
    }
}
