//! The annotations `purelb.io/…`, which programs outside this project read and write too.

pub use purelb_core::allocator::{
    ALLOCATED_BY, ALLOCATED_FROM, POOL_TYPE, RE_EVALUATE, SKIP_IPV6_DAD,
};

/// The prefix of all our annotations.
pub const PREFIX: &str = "purelb.io/";

/// `purelb.io/addresses` (Service, set by users): the addresses wanted.
pub const ADDRESSES: &str = "purelb.io/addresses";
/// `purelb.io/allow-shared-ip` (Service, set by users): the sharing key.
pub const ALLOW_SHARED_IP: &str = "purelb.io/allow-shared-ip";
/// `purelb.io/announcing-IPv4` (Service, set by node agents).
pub const ANNOUNCING_V4: &str = "purelb.io/announcing-IPv4";
/// `purelb.io/announcing-IPv6` (Service, set by node agents).
pub const ANNOUNCING_V6: &str = "purelb.io/announcing-IPv6";
/// `purelb.io/multi-pool` (Service, set by users).
pub const MULTI_POOL: &str = "purelb.io/multi-pool";
/// `purelb.io/node-affinity` (Service, set by users).
pub const NODE_AFFINITY: &str = "purelb.io/node-affinity";
/// `purelb.io/service-group` (Service, set by users).
pub const SERVICE_GROUP: &str = "purelb.io/service-group";
/// `purelb.io/term` (Service, set by an allocator that has become leader): makes void what an earlier one
/// may still have under way for it. The next answer takes it away.
pub const TERM: &str = "purelb.io/term";

/// `purelb.io/attempt` (Lease): which write of its process it is.
pub const ATTEMPT: &str = "purelb.io/attempt";
/// `purelb.io/boot-id` (Lease): the boot of the kernel that its process runs on.
pub const BOOT_ID: &str = "purelb.io/boot-id";
/// `purelb.io/instance` (Lease): the pod that wrote it.
pub const INSTANCE: &str = "purelb.io/instance";
/// `purelb.io/join` (Lease): counts joins.
pub const JOIN: &str = "purelb.io/join";
/// `purelb.io/keep` (Lease): its process has stopped and left its addresses.
pub const KEEP: &str = "purelb.io/keep";
/// `purelb.io/late-writes` (Lease): who gave it up cannot tell what became of some of its requests.
pub const LATE_WRITES: &str = "purelb.io/late-writes";
/// `purelb.io/lists` (Lease): the addresses that it asks for beyond others.
pub const LISTS: &str = "purelb.io/lists";
/// `purelb.io/seen` (Lease): the lease change up to which everything has taken effect.
pub const SEEN: &str = "purelb.io/seen";
/// `purelb.io/subnets` (Lease): the subnets that the node can serve.
pub const SUBNETS: &str = "purelb.io/subnets";
