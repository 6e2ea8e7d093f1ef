//! What is asked of a host's kernel, and its answers.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::host::{AddressKey, LinkIndex};
use crate::time::Tick;

/// Something to do on this host, carried out by a netlink adapter.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelAction {
    /// Put an address on a link with our mark, or extend the lifetime of the one that is there.
    AddAddress(NewAddress),
    /// Tell the neighbours where an address is: gratuitous ARP as request and as reply, or an
    /// unsolicited neighbour advertisement; with a gateway, also one ARP request directed at it.
    Advertise {
        /// The address.
        ip: IpAddr,
        /// The link that it is on.
        link: LinkIndex,
        /// The default gateway on that link, if there is one of this family.
        gateway: Option<IpAddr>,
        /// Nothing may be sent past this moment.
        until: Option<Tick>,
    },
    /// Make the virtual interface: a `dummy` link, or a port-less `bridge` with NOARP where the
    /// kernel has no such driver, up, with this alias.
    CreateVirtual {
        /// Its name.
        name: String,
        /// Its alias.
        alias: String,
    },
    /// Begin to tell of other stations that say they have an address: each is an
    /// [`Event::Sighted`](crate::node::Event::Sighted). What was said before is not told.
    Heed {
        /// The address, on this host or not.
        ip: IpAddr,
        /// The link to listen on.
        link: LinkIndex,
    },
    /// Ask on a link whether another station has an address: an ARP probe (RFC 5227 §2.1.1) or a
    /// neighbour solicitation from nobody (RFC 4862 §5.4.2). An answer is told if it is heeded.
    Probe {
        /// The address.
        ip: IpAddr,
        /// The link.
        link: LinkIndex,
    },
    /// Take an address off a link.
    RemoveAddress(AddressKey),
    /// Delete the virtual interface, if it is still the one with this name.
    DeleteVirtual {
        /// The link.
        link: LinkIndex,
    },
    /// Change a link's alias.
    SetAlias {
        /// The link.
        link: LinkIndex,
        /// The new alias; empty for none.
        alias: String,
    },
    /// Change per-link IPv4 sysctls.
    SetConf {
        /// The link.
        link: LinkIndex,
        /// The settings to change.
        settings: Vec<(ConfKey, i32)>,
    },
    /// No longer tell of other stations that say they have an address.
    Unheed {
        /// The address.
        ip: IpAddr,
        /// The link.
        link: LinkIndex,
    },
}

impl KernelAction {
    /// The address that it is about, if it is about one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::AddAddress(new) => Some(new.net.addr()),
            Self::Advertise { ip, .. }
            | Self::Heed { ip, .. }
            | Self::Probe { ip, .. }
            | Self::Unheed { ip, .. } => Some(*ip),
            Self::RemoveAddress(key) => Some(key.net.addr()),
            Self::CreateVirtual { .. }
            | Self::DeleteVirtual { .. }
            | Self::SetAlias { .. }
            | Self::SetConf { .. } => None,
        }
    }
}

/// A per-link IPv4 sysctl.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfKey {
    /// `arp_announce`
    ArpAnnounce,
    /// `arp_ignore`
    ArpIgnore,
    /// `promote_secondaries`
    PromoteSecondaries,
}

/// An address to put on a link.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewAddress {
    /// The link.
    pub link: LinkIndex,
    /// The address, with its own host bits, and its prefix length. An IPv4 one of less than 31 bits
    /// gets its prefix's broadcast address.
    pub net: IpNet,
    /// How long the kernel keeps it.
    pub lifetime: Lifetime,
    /// Whether it is never to be used as a source (preferred lifetime 0).
    pub deprecated: bool,
    /// Whether to add it without a connected route.
    pub no_prefix_route: bool,
}

impl NewAddress {
    /// Its key once it is there.
    pub fn key(&self) -> AddressKey {
        AddressKey { link: self.link, net: self.net }
    }
}

/// How long the kernel keeps an address.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lifetime {
    /// For ever.
    Forever,
    /// This many seconds from the system call on.
    Seconds(u32),
    /// At most until this moment, in whole seconds counted down from the system call. If less than
    /// one second is left nothing is added. The adapter reads the clock again after the answer and
    /// removes the address if the moment is past.
    Until(Tick),
}

/// The kernel's answer to an action.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelOutcome {
    /// What was asked.
    pub action: KernelAction,
    /// Whether the kernel did it.
    pub result: Result<(), KernelError>,
}

/// Why the kernel, or the adapter before it, did not do what was asked.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// The moment until which it made sense has passed.
    #[error("its deadline had passed")]
    PastDeadline,
    /// The kernel refused.
    #[error("the kernel refused: {text} (errno {errno})")]
    Refused {
        /// The error number, positive.
        errno: i32,
        /// The kernel's own words if it gave any, else the error number's.
        text: String,
    },
    /// The request did not get to the kernel, or its answer not to us.
    #[error("no answer from the kernel: {text}")]
    Transport {
        /// What happened.
        text: String,
    },
}
