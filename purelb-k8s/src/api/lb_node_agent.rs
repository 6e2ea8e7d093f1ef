//! `LBNodeAgent`: how the agents of the selected nodes are to behave.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use purelb_core::config::VIRTUAL_INTERFACE;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The nodes that it is for, and how their agents are to behave.
#[derive(CustomResource, JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "purelb.io",
    version = "v2",
    kind = "LBNodeAgent",
    plural = "lbnodeagents",
    singular = "lbnodeagent",
    shortname = "lbna",
    shortname = "lbnas",
    namespaced,
    status = "LBNodeAgentStatus",
    derive = "PartialEq",
    doc = "How the node agents of the selected nodes are to behave."
)]
#[serde(rename_all = "camelCase")]
pub struct LBNodeAgentSpec {
    /// The nodes that it is for; all if it is absent or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// How addresses are announced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<LocalSpec>,
}

/// How addresses are announced.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LocalSpec {
    /// `default` for the interface of the default route, or a regular expression over interface
    /// names.
    #[serde(default = "default_local_interface")]
    pub local_interface: String,
    /// The name of the virtual interface, which holds addresses that are in no subnet of the node.
    #[serde(default = "default_dummy_interface")]
    pub dummy_interface: String,
    /// Further interfaces by their exact names, in order of preference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<String>,
    /// What more than one default route of a family means. `VirtualInterface`: the local interface
    /// cannot be identified, and addresses go to the virtual interface. `SameInterface`: fine if all
    /// leave by one interface. `LowestMetric`: the one with the lowest metric counts; a tie is still
    /// unidentified.
    #[serde(default)]
    pub multiple_default_routes: MultipleDefaultRoutes,
    /// What a node does with its local addresses while the Kubernetes API cannot be reached.
    /// `Withdraw`: takes them off when its lease runs out. `Hold`: keeps them; in a partition two
    /// nodes may then hold one address.
    #[serde(default)]
    pub api_outage: ApiOutage,
    /// What a stopping agent does with its addresses. `Release`: withdraws them, so that other nodes
    /// take over at once. `Keep`: leaves them to the next process on this node, local ones for at
    /// most half a minute.
    #[serde(default)]
    pub on_stop: OnStop,
    /// Gratuitous ARP and unsolicited neighbour advertisements after an address was added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub garp_config: Option<GarpConfig>,
    /// Lifetimes and flags of the addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address_config: Option<AddressConfigs>,
}

/// What more than one default route of a family means.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MultipleDefaultRoutes {
    /// The interface cannot be identified; addresses go to the virtual interface.
    #[default]
    VirtualInterface,
    /// Fine if all leave by one interface.
    SameInterface,
    /// The one with the lowest metric counts; a tie is still unidentified.
    LowestMetric,
}

/// What a node does with its local addresses while the Kubernetes API cannot be reached.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApiOutage {
    /// Takes them off when its lease runs out.
    #[default]
    Withdraw,
    /// Keeps them. In a partition two nodes may hold one address.
    Hold,
}

/// What a stopping agent does with its addresses.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStop {
    /// Withdraws them, so that other nodes take over at once.
    #[default]
    Release,
    /// Leaves them to the next process on this node, local ones for at most half a minute.
    Keep,
}

/// Gratuitous ARP and unsolicited neighbour advertisements after an address was added.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GarpConfig {
    /// Whether to send any.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// From the address being there to the first one, such as `100ms`.
    #[serde(default = "default_initial_delay")]
    pub initial_delay: String,
    /// How many.
    #[serde(default = "default_count")]
    #[schemars(range(min = 1, max = 10))]
    pub count: i32,
    /// From one to the next, such as `500ms`.
    #[serde(default = "default_interval")]
    pub interval: String,
    /// Accepted for compatibility: none is ever sent past the right to hold the address.
    #[serde(default = "yes")]
    pub verify_before_send: bool,
}

/// Lifetimes and flags of the addresses, by interface.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AddressConfigs {
    /// On local interfaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_interface: Option<AddressConfig>,
    /// On the virtual interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dummy_interface: Option<AddressConfig>,
}

/// Lifetimes and flags of addresses.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AddressConfig {
    /// Seconds that the kernel keeps an address that nobody renews; 0 is for ever. Unset, a local
    /// address stays as long as the node's lease gives the right to hold it, and one on the virtual
    /// interface for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub valid_lifetime: Option<i32>,
    /// Seconds that the kernel may choose the address as a source.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub preferred_lifetime: Option<i32>,
    /// Whether to add the address without a connected route. Unset: yes on local interfaces, no on
    /// the virtual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_prefix_route: Option<bool>,
}

/// Never written.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LBNodeAgentStatus {
    /// Not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_leases: Option<i32>,
}

impl Default for LocalSpec {
    fn default() -> Self {
        Self {
            local_interface: default_local_interface(),
            dummy_interface: default_dummy_interface(),
            interfaces: Vec::new(),
            multiple_default_routes: MultipleDefaultRoutes::default(),
            api_outage: ApiOutage::default(),
            on_stop: OnStop::default(),
            garp_config: None,
            address_config: None,
        }
    }
}

fn default_local_interface() -> String {
    "default".to_owned()
}

fn default_dummy_interface() -> String {
    VIRTUAL_INTERFACE.to_owned()
}

fn default_initial_delay() -> String {
    "100ms".to_owned()
}

fn default_interval() -> String {
    "500ms".to_owned()
}

fn default_count() -> i32 {
    3
}

fn yes() -> bool {
    true
}
