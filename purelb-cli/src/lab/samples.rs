//! The objects of the lab: the very files under `deploy/samples` that a user would copy.

/// The group of addresses of the nodes' own subnet.
pub const LOCAL_GROUP: &str = include_str!("../../../deploy/samples/servicegroup-default.yaml");

/// The group of addresses that are routed to the nodes.
pub const ROUTED_GROUP: &str = include_str!("../../../deploy/samples/servicegroup-routed.yaml");

/// How the agents behave.
pub const NODE_AGENT: &str = include_str!("../../../deploy/samples/lbnodeagent.yaml");

/// A Service with addresses of the first group, called `web`.
pub const LOCAL_SERVICE: &str = include_str!("../../../deploy/samples/service-local.yaml");

/// A Service with addresses of the second group, called `web-routed`.
pub const ROUTED_SERVICE: &str = include_str!("../../../deploy/samples/service-routed.yaml");
