//! What is said and asked on the wire.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use purelb_core::host::{Family, LinkIndex, Scope};
use purelb_core::kernel::{KernelAction, KernelError};
use purelb_core::time::Tick;

use crate::advertise::{self, Announcement, Gateway};
use crate::frame::Frame;
use crate::packet::PacketSocket;

use super::{Kernel, Outcomes, failed, refused};

/// What all announcements by a link have in common. With a thousand of them it is found once.
#[derive(Clone, Copy, Debug)]
struct Voice {
    mac: [u8; 6],
    link_local: Option<Ipv6Addr>,
}

/// What was found for the announcements of one call.
#[derive(Debug, Default)]
struct Known {
    voices: BTreeMap<LinkIndex, Voice>,
    gateways: BTreeMap<(LinkIndex, IpAddr), Gateway>,
}

impl Kernel {
    /// Says and asks on the wire what is waiting to be.
    pub(super) fn send_all(
        &mut self,
        frames: &mut Vec<(usize, &KernelAction)>,
        outcomes: &mut Outcomes,
    ) {
        let mut known = Known::default();
        for (slot, action) in frames.drain(..) {
            if let KernelAction::Probe { ip, link } = action {
                outcomes[slot] = Some(self.probe(*ip, *link));
            }
            if let KernelAction::Advertise { ip, link, gateway, until } = action {
                let announced = self.announcement(*ip, *link, *gateway, &mut known);
                outcomes[slot] =
                    Some(announced.and_then(|announced| self.announce(*link, &announced, *until)));
            }
        }
    }

    /// Asks whether another station has an address. Where there is no Ethernet there is none.
    fn probe(&mut self, ip: IpAddr, link: LinkIndex) -> Result<(), KernelError> {
        let found = self.mirror().link(link).ok_or_else(|| refused(libc::ENODEV))?;
        match found.mac {
            Some(mac) => self.send(link, &advertise::probe(ip, mac)),
            None => Ok(()),
        }
    }

    fn announcement(
        &mut self,
        ip: IpAddr,
        link: LinkIndex,
        gateway: Option<IpAddr>,
        known: &mut Known,
    ) -> Result<Announcement, KernelError> {
        let Voice { mac, link_local } = match known.voices.get(&link) {
            Some(voice) => *voice,
            None => *known.voices.entry(link).or_insert(self.voice(link)?),
        };
        let gateway = gateway.filter(|gateway| Family::of(*gateway) == Family::of(ip));
        let gateway = gateway.map(|ip| {
            let found = known.gateways.entry((link, ip));
            *found.or_insert_with(|| Gateway { ip, mac: self.requests.neighbour(link, ip) })
        });
        Ok(Announcement { ip, mac, link_local, gateway })
    }

    fn voice(&self, link: LinkIndex) -> Result<Voice, KernelError> {
        let found = self.mirror().link(link).ok_or_else(|| refused(libc::ENODEV))?;
        let mac = found.mac.ok_or_else(|| KernelError::Refused {
            errno: libc::EPFNOSUPPORT,
            text: "the link has no Ethernet address".to_owned(),
        })?;
        let of_link = self.mirror().addresses_of(link);
        let link_local = of_link
            .filter(|address| address.scope == Scope::Link && !address.flags.tentative)
            .find_map(|address| match address.ip() {
                IpAddr::V6(ip) if ip.is_unicast_link_local() => Some(ip),
                IpAddr::V4(_) | IpAddr::V6(_) => None,
            });
        Ok(Voice { mac, link_local })
    }

    /// Sends the frames of an announcement as long as the address may be held.
    fn announce(
        &mut self,
        link: LinkIndex,
        announcement: &Announcement,
        until: Option<Tick>,
    ) -> Result<(), KernelError> {
        for frame in announcement.frames() {
            if until.is_some_and(|until| self.clock.now() >= until) {
                return Err(KernelError::PastDeadline);
            }
            self.send(link, &frame)?;
        }
        Ok(())
    }

    fn send(&mut self, link: LinkIndex, frame: &Frame) -> Result<(), KernelError> {
        let packets = match &mut self.packets {
            Some(packets) => packets,
            none => none.insert(PacketSocket::open().map_err(|error| failed(&error))?),
        };
        packets.send(link, frame).map_err(|error| failed(&error))
    }
}
