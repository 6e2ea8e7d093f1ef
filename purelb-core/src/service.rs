//! A Service of the cluster, as far as a decision needs it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use crate::host::Family;
use crate::name::{GroupName, ResourceVersion, ServiceKey, SharingKey, Uid};
use crate::store::Object;

/// The value of `purelb.io/allocated-by` on every Service whose addresses are ours.
pub const BRAND: &str = "PureLB";

/// The load balancer classes that are ours.
pub const CLASSES: [&str; 2] = ["purelb.io/purelbv2", "purelb.io/purelb"];

/// A Service.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub key: ServiceKey,
    /// One for its whole life.
    pub uid: Uid,
    /// `metadata.resourceVersion`: what a write that was computed from this object is conditional on.
    pub version: ResourceVersion,
    /// Whether `spec.type` is `LoadBalancer`.
    pub is_load_balancer: bool,
    /// `spec.loadBalancerClass`.
    pub class: Option<String>,
    /// Whether it has a cluster address: a headless Service has none and gets no address of ours.
    pub has_cluster_ip: bool,
    /// `spec.ipFamilies` in order, without repeats.
    pub families: Vec<Family>,
    /// `spec.ipFamilyPolicy`.
    pub family_policy: FamilyPolicy,
    /// `spec.ports`.
    pub ports: BTreeSet<Port>,
    /// `spec.externalTrafficPolicy`.
    pub traffic_policy: TrafficPolicy,
    /// `spec.loadBalancerIP`, deprecated by Kubernetes and still honoured.
    pub load_balancer_ip: Option<String>,
    /// The addresses in `status.loadBalancer.ingress`, in order.
    pub ingress: Vec<IpAddr>,
    /// Deletion has begun.
    pub is_deleting: bool,
    /// Our annotations.
    pub annotations: Annotations,
}

impl Service {
    /// A plain `LoadBalancer` Service of one IPv4 address, without ports or annotations, that has
    /// nothing yet. For tests and embedders: change what differs.
    pub fn new(key: ServiceKey, uid: impl Into<Uid>) -> Self {
        Self {
            key,
            uid: uid.into(),
            version: ResourceVersion::default(),
            is_load_balancer: true,
            class: None,
            has_cluster_ip: true,
            families: vec![Family::V4],
            family_policy: FamilyPolicy::default(),
            ports: BTreeSet::new(),
            traffic_policy: TrafficPolicy::default(),
            load_balancer_ip: None,
            ingress: Vec::new(),
            is_deleting: false,
            annotations: Annotations::default(),
        }
    }

    /// Whether it is for us to serve: of our class, or of none while we are the default announcer.
    pub fn is_ours(&self, default_announcer: bool) -> bool {
        self.is_load_balancer
            && match &self.class {
                Some(class) => CLASSES.contains(&class.as_str()),
                None => default_announcer,
            }
    }

    /// Whether our allocator gave it its addresses.
    pub fn is_branded(&self) -> bool {
        self.annotations.allocated_by.as_deref() == Some(BRAND)
    }
}

impl Service {
    /// Whether it asks that only nodes with a ready endpoint hold its local addresses. Affinity is for
    /// a Service alone on its address.
    pub fn is_narrowed(&self) -> bool {
        self.traffic_policy == TrafficPolicy::Local
            || (self.annotations.endpoint_affinity && self.annotations.sharing.is_none())
    }
}

impl Object for Service {
    type Key = ServiceKey;

    fn key(&self) -> ServiceKey {
        self.key.clone()
    }

    fn share_texts(&mut self, former: &Self) {
        if self.key == former.key {
            self.key = former.key.clone();
        }
        if self.uid == former.uid {
            self.uid = former.uid.clone();
        }
    }
}

/// `spec.ipFamilyPolicy`.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FamilyPolicy {
    /// Both families where the group can serve both.
    PreferDualStack,
    /// Both families or nothing.
    RequireDualStack,
    /// One family.
    #[default]
    SingleStack,
}

/// `spec.externalTrafficPolicy`.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrafficPolicy {
    /// Any node may take the traffic.
    #[default]
    Cluster,
    /// Only nodes with a ready endpoint.
    Local,
}

/// A port that a Service listens on.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// Its transport.
    pub protocol: Protocol,
    /// Its number.
    pub number: u16,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol, self.number)
    }
}

/// A transport protocol.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// SCTP.
    Sctp,
    /// TCP, what a port is for unless it says otherwise.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sctp => "SCTP",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// The annotations `purelb.io/…` of a Service. A key that is absent is `None` or `false`.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// `service-group`: which group to allocate from.
    pub service_group: Option<GroupName>,
    /// `addresses`: the addresses wanted, separated by commas, as written.
    pub addresses: Option<String>,
    /// `allow-shared-ip`, if not empty.
    pub sharing: Option<SharingKey>,
    /// `multi-pool`: `true` is on, any other value is off.
    pub multi_pool: Option<bool>,
    /// `re-evaluate: "true"`.
    pub re_evaluate: bool,
    /// `node-affinity: service-endpoints`.
    pub endpoint_affinity: bool,
    /// `allocated-by`: set by our allocator.
    pub allocated_by: Option<String>,
    /// `allocated-from`: set by our allocator, as written.
    pub allocated_from: Option<String>,
    /// `pool-type`: set by our allocator, as written.
    pub pool_type: Option<String>,
    /// `skip-ipv6-dad: "true"`: set by our allocator.
    pub skip_ipv6_dad: bool,
    /// `announcing-IPv4`, as written.
    pub announcing_v4: Option<String>,
    /// `announcing-IPv6`, as written.
    pub announcing_v6: Option<String>,
}

impl Annotations {
    /// `announcing-IPv4` or `-IPv6`, as written.
    pub fn announcing(&self, family: Family) -> Option<&str> {
        match family {
            Family::V4 => self.announcing_v4.as_deref(),
            Family::V6 => self.announcing_v6.as_deref(),
        }
    }
}

/// The nodes that have endpoints of a Service which take traffic.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Whose they are.
    pub service: ServiceKey,
    /// Nodes with at least one ready (or serving) endpoint.
    pub nodes: BTreeSet<crate::name::NodeName>,
}

impl Object for Endpoints {
    type Key = ServiceKey;

    fn key(&self) -> ServiceKey {
        self.service.clone()
    }
}
