//! The Ethernet segment that all nodes share, and a client on it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::clock::Nanos;

/// Who would answer for which address, and where a client thinks it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Segment {
    of: BTreeMap<IpAddr, Presence>,
}

/// One address on the segment.
#[derive(Clone, Debug, Default)]
pub(super) struct Presence {
    /// The hosts that have it on their Ethernet interface.
    pub(super) holders: Vec<u16>,
    /// The one that had it last.
    last: Option<u16>,
    /// Since when nobody has had it.
    vacant: Option<Nanos>,
    /// How often it has gone from one host to another.
    pub(super) moves: u64,
    /// Where the client sends packets for it.
    pub(super) cached: Option<u16>,
}

/// What became of an address by appearing somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Appearance {
    /// Another host has it too.
    Double(u16),
    /// It came from another host, after nobody had had it for this long.
    Moved(Nanos),
    /// It came back to where it was, or was never anywhere.
    Quiet,
}

impl Segment {
    pub(super) fn appears(&mut self, ip: IpAddr, host: u16, now: Nanos) -> Appearance {
        let presence = self.of.entry(ip).or_default();
        let vacant = presence.vacant.take();
        let came_from = presence.last.replace(host);
        let other = presence.holders.first().copied();
        presence.holders.push(host);
        match (other, came_from) {
            (Some(other), _) => Appearance::Double(other),
            (None, Some(last)) if last != host => {
                presence.moves += 1;
                Appearance::Moved(now - vacant.unwrap_or(now))
            }
            (None, Some(_) | None) => Appearance::Quiet,
        }
    }

    pub(super) fn disappears(&mut self, ip: IpAddr, host: u16, now: Nanos) {
        if let Some(presence) = self.of.get_mut(&ip) {
            presence.holders.retain(|holder| *holder != host);
            if presence.holders.is_empty() {
                presence.vacant = Some(now);
            }
        }
    }

    /// The client hears that `ip` is at `host`.
    pub(super) fn hears(&mut self, ip: IpAddr, host: u16) {
        let presence = self.of.entry(ip).or_default();
        presence.cached = Some(host);
    }

    /// The client heard nothing usable: it will ask when it next needs `ip`.
    pub(super) fn forgets(&mut self, ip: IpAddr) {
        if let Some(presence) = self.of.get_mut(&ip) {
            presence.cached = None;
        }
    }

    pub(super) fn get(&self, ip: IpAddr) -> Option<&Presence> {
        self.of.get(&ip)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (IpAddr, &Presence)> {
        self.of.iter().map(|(ip, presence)| (*ip, presence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_at_once_are_a_double_and_one_after_the_other_a_move() {
        let mut segment = Segment::default();
        let ip = IpAddr::from([192, 0, 2, 1]);
        assert_eq!(segment.appears(ip, 1, 10), Appearance::Quiet);
        segment.disappears(ip, 1, 20);
        assert_eq!(segment.appears(ip, 1, 25), Appearance::Quiet);
        segment.disappears(ip, 1, 30);
        assert_eq!(segment.appears(ip, 2, 50), Appearance::Moved(20));
        assert_eq!(segment.appears(ip, 3, 60), Appearance::Double(2));
    }
}
