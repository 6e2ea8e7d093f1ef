//! What the allocator asks for.

use std::net::IpAddr;

use crate::allocator::event::Ticket;
use crate::allocator::ipam::IpamRequest;
use crate::allocator::notice::Notice;
use crate::group::Announce;
use crate::name::{GroupName, ResourceVersion, ServiceKey, Uid};
use crate::service::BRAND;
use crate::usage::GroupStatus;

/// `purelb.io/allocated-by` (Service, by the allocator): `PureLB` where the addresses are PureLB's.
pub const ALLOCATED_BY: &str = "purelb.io/allocated-by";
/// `purelb.io/allocated-from` (Service, by the allocator): the ServiceGroup that the addresses are from, or one
/// for each address.
pub const ALLOCATED_FROM: &str = "purelb.io/allocated-from";
/// `purelb.io/pool-type` (Service, by the allocator): `local` or `remote`, as that group is.
pub const POOL_TYPE: &str = "purelb.io/pool-type";
/// `purelb.io/skip-ipv6-dad` (Service, by the allocator): `true` if that group asks for IPv6 addresses without
/// duplicate address detection.
pub const SKIP_IPV6_DAD: &str = "purelb.io/skip-ipv6-dad";
/// `purelb.io/re-evaluate` (Service, by users): `true` moves the Service to the ServiceGroup that would be chosen
/// for it now, if its addresses are of another. The allocator takes it away.
pub const RE_EVALUATE: &str = "purelb.io/re-evaluate";

/// Reads names of annotations of ours back.
#[cfg(feature = "serde")]
pub(crate) fn our_annotations<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<&'static str>, D::Error> {
    const OURS: [&str; 4] = [ALLOCATED_BY, ALLOCATED_FROM, POOL_TYPE, SKIP_IPV6_DAD];
    let names: Vec<String> = serde::Deserialize::deserialize(deserializer)?;
    let known = |name: &String| {
        let found = OURS.into_iter().find(|ours| ours == name);
        found.ok_or_else(|| serde::de::Error::custom(format!("{name:?} is no annotation of ours")))
    };
    names.iter().map(known).collect()
}

/// Something the host of an [`Allocator`](super::Allocator) is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask a sidecar. Never wait for it before carrying out other actions.
    Ipam(IpamRequest),
    /// Tell people: Event, log line, metric.
    Notice(Notice),
    /// Write the whole answer for a Service.
    Patch(Patch),
    /// Remove the annotation `purelb.io/re-evaluate`, which belongs to the user: a merge patch that
    /// sets it to null, conditional on the uid.
    ReEvaluated {
        /// Bears the answer.
        ticket: Ticket,
        /// The Service.
        service: ServiceKey,
        /// It must still be this one.
        uid: Uid,
    },
    /// Take back the answer of a Service that the watch says is gone.
    Release(Release),
    /// Write a group's status: a server-side apply to `servicegroups/status`.
    Status(StatusWrite),
}

/// The whole answer for a Service: one server-side apply to `services/status` that carries the
/// ingress list and our annotations together, as the one field manager that owns them.
///
/// It is conditional: uid and resourceVersion go into the applied object's metadata, so that an
/// answer computed from an older Service, or by an allocator that has lost its lease, cannot land.
/// No other patch for this Service is asked for until this one's outcome was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Bears the outcome.
    pub ticket: Ticket,
    /// The Service.
    pub service: ServiceKey,
    /// It must still be this one …
    pub uid: Uid,
    /// … and exactly as it was then.
    pub version: ResourceVersion,
    /// `status.loadBalancer.ingress`, each with `ipMode: VIP`; empty clears it.
    pub ingress: Vec<IpAddr>,
    /// Our annotations, or `None` for none of them.
    pub marks: Option<Marks>,
    /// Annotations of ours that are there and must not stay. An apply without them removes what
    /// this field manager owns; what another one set (the Go PureLB, a user) needs a null.
    pub remove: Vec<&'static str>,
}

/// The annotations that say whose an address is.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Marks {
    /// `allocated-from`: the group's name; if the addresses are from several, one name for each
    /// address in the order of the ingress list, separated by `", "`.
    pub allocated_from: Option<String>,
    /// `pool-type`: of the first address' group.
    pub pool_type: Option<Announce>,
    /// `skip-ipv6-dad`.
    pub skip_ipv6_dad: bool,
}

impl Marks {
    /// Key and value of each annotation to set, in key order.
    pub fn annotations(&self) -> impl Iterator<Item = (&'static str, String)> {
        let by = Some((ALLOCATED_BY, BRAND.to_owned()));
        let from = self.allocated_from.clone().map(|from| (ALLOCATED_FROM, from));
        let kind = self.pool_type.map(|kind| (POOL_TYPE, kind.as_str().to_owned()));
        let skip = self.skip_ipv6_dad.then(|| (SKIP_IPV6_DAD, "true".to_owned()));
        [by, from, kind, skip].into_iter().flatten()
    }
}

/// The answer of a Service that the watch says is gone is to be taken back: ingress list and
/// annotations of ours, conditional on the uid alone.
///
/// Where the watch is filtered by type, this is how a Service that is no longer a `LoadBalancer`
/// loses our annotations (the API server clears the ingress list itself). Of a deleted Service
/// nothing is left to change: [`Written::Gone`](super::Written::Gone) is the usual outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Bears the outcome.
    pub ticket: Ticket,
    /// The Service.
    pub service: ServiceKey,
    /// It must still be this one.
    pub uid: Uid,
    /// Annotations of ours that were there and must not stay; see [`Patch::remove`].
    pub remove: Vec<&'static str>,
}

/// A group's status is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusWrite {
    /// Bears the outcome.
    pub ticket: Ticket,
    /// The group.
    pub group: GroupName,
    /// It must still be this one.
    pub uid: Uid,
    /// All of its status.
    pub status: GroupStatus,
}
