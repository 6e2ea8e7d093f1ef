//! The annotations `purelb.io/…`, which programs outside this project read and write too.
//!
//! `docs/reference.md` lists them by what is said here.

pub use purelb_core::allocator::{
    ALLOCATED_BY, ALLOCATED_FROM, POOL_TYPE, RE_EVALUATE, SKIP_IPV6_DAD,
};

/// The prefix of all our annotations.
pub const PREFIX: &str = "purelb.io/";

/// `purelb.io/addresses` (Service, by users): the addresses wanted, separated by commas, such as
/// `192.0.2.7,2001:db8::7`. They decide over `purelb.io/service-group`.
pub const ADDRESSES: &str = "purelb.io/addresses";
/// `purelb.io/allow-shared-ip` (Service, by users): a key; Services with equal keys may have one address if
/// their ports differ.
pub const ALLOW_SHARED_IP: &str = "purelb.io/allow-shared-ip";
/// `purelb.io/announcing-IPv4` (Service, by agents): who has which IPv4 address of it on which interface, as
/// `node,interface,address`, separated by blanks.
pub const ANNOUNCING_V4: &str = "purelb.io/announcing-IPv4";
/// `purelb.io/announcing-IPv6` (Service, by agents): the same of IPv6.
pub const ANNOUNCING_V6: &str = "purelb.io/announcing-IPv6";
/// `purelb.io/multi-pool` (Service, by users): `true` for one address from each range of the group, any other
/// value for one only, whatever the group's `multiPool` says.
pub const MULTI_POOL: &str = "purelb.io/multi-pool";
/// `purelb.io/node-affinity` (Service, by users): `service-endpoints` leaves a local address to the nodes with
/// a ready endpoint of the Service.
pub const NODE_AFFINITY: &str = "purelb.io/node-affinity";
/// `purelb.io/service-group` (Service, by users): the name of the ServiceGroup that addresses are taken from.
pub const SERVICE_GROUP: &str = "purelb.io/service-group";
/// `purelb.io/term` (Service, by the allocator): set by one that has become leader, which makes void what an
/// earlier one may still have under way for it. The next answer takes it away.
pub const TERM: &str = "purelb.io/term";

/// `purelb.io/attempt` (Lease, by agents): which write of its process it is.
pub const ATTEMPT: &str = "purelb.io/attempt";
/// `purelb.io/boot-id` (Lease, by agents): the boot of the kernel that its process runs on.
pub const BOOT_ID: &str = "purelb.io/boot-id";
/// `purelb.io/instance` (Lease, by agents): the process that wrote it, by its pod's uid.
pub const INSTANCE: &str = "purelb.io/instance";
/// `purelb.io/join` (Lease, by agents): counts joins.
pub const JOIN: &str = "purelb.io/join";
/// `purelb.io/keep` (Lease, by agents): `true` if its process has stopped and left its addresses.
pub const KEEP: &str = "purelb.io/keep";
/// `purelb.io/late-writes` (Lease, by the allocator): who gave it up cannot tell what became of some of its
/// requests.
pub const LATE_WRITES: &str = "purelb.io/late-writes";
/// `purelb.io/lists` (Lease, by agents): the addresses that it asks for beyond others.
pub const LISTS: &str = "purelb.io/lists";
/// `purelb.io/seen` (Lease, by agents): the lease change up to which everything has taken effect.
pub const SEEN: &str = "purelb.io/seen";
/// `purelb.io/subnets` (Lease, by agents): the subnets that the node can serve.
pub const SUBNETS: &str = "purelb.io/subnets";
