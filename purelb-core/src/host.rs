//! What a host's kernel shows: links, addresses and routes, as far as a decision needs them.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::store::Object;

/// The mark that every address of ours carries in `IFA_PROTO` (kernel 5.18 and later).
pub const OUR_MARK: u8 = 0xB7;

/// How an agent tells its own addresses from those of others.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ownership {
    /// By their mark, [`OUR_MARK`].
    #[default]
    Mark,
    /// By where they are, for kernels that keep no mark (before 5.18): inside a known pool and on an
    /// interface that this node's addresses go to, and looking as the agent puts them there; or put
    /// there by this very process.
    ///
    /// On a local interface an IPv4 address so has to be a `secondary` one of its subnet, and an IPv6
    /// one to have been added without duplicate address detection: an address of the host itself
    /// stays even where a pool overlaps it. Of the virtual interface everything within a pool counts.
    PoolAndLink,
}

/// An address family.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    #[cfg_attr(feature = "serde", serde(rename = "IPv4"))]
    V4,
    /// IPv6.
    #[cfg_attr(feature = "serde", serde(rename = "IPv6"))]
    V6,
}

impl Family {
    /// Both, IPv4 first.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of `ip`.
    pub fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Bits in an address of this family: 32 or 128.
    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The prefix that holds every address: `0.0.0.0/0` or `::/0`.
    pub fn everything(self) -> IpNet {
        match self {
            Self::V4 => IpNet::V4(Ipv4Net::default()),
            Self::V6 => IpNet::V6(Ipv6Net::default()),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A network interface, by the kernel's number for it. A removed and re-created link has another.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkIndex(pub u32);

impl fmt::Display for LinkIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link {}", self.0)
    }
}

/// A network interface.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it.
    pub index: LinkIndex,
    /// Its name, such as `eth0`.
    pub name: String,
    /// Its Ethernet address, if it has one of six bytes.
    pub mac: Option<[u8; 6]>,
    /// What kind of device it is.
    pub kind: LinkKind,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// Has carrier (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// Is a loopback device (`IFF_LOOPBACK`).
    pub loopback: bool,
    /// Its alias (`ip link set … alias …`), empty if none.
    pub alias: String,
    /// The IPv4 settings of this link that we may have to change.
    pub conf: LinkConf,
}

impl Link {
    /// Whether packets can leave and arrive: up, and carrier present.
    pub fn is_operational(&self) -> bool {
        self.up && self.carrier
    }
}

impl Object for Link {
    type Key = LinkIndex;

    fn key(&self) -> LinkIndex {
        self.index
    }
}

/// The kinds of device that a decision tells apart.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkKind {
    /// A bridge; without ports it serves as kube-lb0 where `dummy` is missing.
    Bridge,
    /// A `dummy` device, what kube-lb0 is made as.
    Dummy,
    /// Anything else.
    Other,
}

/// Per-link IPv4 sysctls (`net.ipv4.conf.LINK.*`), as `IFLA_INET_CONF` reports them.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkConf {
    /// `arp_ignore`: 0 answers for any address of the host, 1 only for those of the link.
    pub arp_ignore: i32,
    /// `arp_announce`: 0 uses any source address, 2 the best one for the target.
    pub arp_announce: i32,
    /// `promote_secondaries`: 1 keeps the secondaries when a primary address is removed.
    pub promote_secondaries: i32,
}

/// An address on a link: the link, the address and its prefix length.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressKey {
    /// The link that it is on.
    pub link: LinkIndex,
    /// The address, with its own host bits, and its prefix length.
    pub net: IpNet,
}

impl fmt::Display for AddressKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.net, self.link)
    }
}

/// An address on a link, as the kernel shows it.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The link that it is on.
    pub link: LinkIndex,
    /// The address, with its own host bits, and its prefix length.
    pub net: IpNet,
    /// Its IPv4 broadcast address, if one is set.
    pub broadcast: Option<IpAddr>,
    /// The state and behaviour bits that matter.
    pub flags: AddressFlags,
    /// How far it is valid: `Global` for everything routable.
    pub scope: Scope,
    /// Who added it (`IFA_PROTO`), 0 if nobody said or the kernel is older than 5.18.
    pub mark: u8,
    /// Whole seconds of validity left when the kernel last reported it; `None` is forever.
    pub valid: Option<u32>,
}

impl Address {
    /// The address itself.
    pub fn ip(&self) -> IpAddr {
        self.net.addr()
    }

    /// Whether it carries our mark.
    pub fn is_ours(&self) -> bool {
        self.mark == OUR_MARK
    }
}

impl Object for Address {
    type Key = AddressKey;

    fn key(&self) -> AddressKey {
        AddressKey { link: self.link, net: self.net }
    }
}

/// Bits of `IFA_FLAGS`.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressFlags {
    /// IPv6 duplicate address detection failed.
    pub dad_failed: bool,
    /// Not to be used as a source (IPv6 with preferred lifetime over).
    pub deprecated: bool,
    /// Added without duplicate address detection.
    pub no_dad: bool,
    /// Added without a connected route for its prefix.
    pub no_prefix_route: bool,
    /// IPv4: not the first of its subnet on the link.
    pub secondary: bool,
    /// IPv6 duplicate address detection is still running.
    pub tentative: bool,
}

/// Another station said that it has an address: by an ARP packet (RFC 5227 §2.4), or by neighbour
/// discovery (RFC 4861 §4.3, §4.4).
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sighting {
    /// The address.
    pub ip: IpAddr,
    /// The link that it was heard on.
    pub link: LinkIndex,
    /// The Ethernet address that it is said to be at.
    pub mac: Mac,
}

/// An Ethernet address, printed as `02:00:00:00:00:01`.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// How far an address is valid (`ifa_scope`).
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everywhere.
    Global,
    /// On this host.
    Host,
    /// On this link.
    Link,
    /// Some other scope, by its number.
    Other(u8),
}

/// One next hop of one route of the main table.
///
/// A multipath route, and one over a nexthop group, is several of these. Adapters report the routes
/// that decisions rest on: default routes, and routes to a directly connected prefix.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// Where to; `0.0.0.0/0` or `::/0` is the default route.
    pub destination: IpNet,
    /// What happens to a packet that matches.
    pub kind: RouteKind,
    /// The link that packets leave by, if any.
    pub link: Option<LinkIndex>,
    /// The next router, if the destination is not directly connected.
    pub gateway: Option<IpAddr>,
    /// The preferred source address, if one is set.
    pub source: Option<IpAddr>,
    /// The metric (priority); lower is preferred.
    pub metric: u32,
    /// The type of service that it is for; 0 is any.
    pub tos: u8,
    /// Who added it (`rtm_protocol`).
    pub protocol: u8,
}

impl Route {
    /// The family that it routes.
    pub fn family(&self) -> Family {
        Family::of(self.destination.addr())
    }

    /// Whether it is a default route that carries packets (`unreachable` and its like do not).
    pub fn is_default(&self) -> bool {
        self.destination.prefix_len() == 0 && self.kind == RouteKind::Unicast
    }
}

impl Object for Route {
    type Key = Self;

    fn key(&self) -> Self {
        self.clone()
    }
}

/// What a route does with a packet.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    /// Refuses or swallows it: `unreachable`, `blackhole`, `prohibit`, `throw`.
    Reject,
    /// Sends it on.
    Unicast,
}
