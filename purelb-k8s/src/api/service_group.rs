//! `ServiceGroup`: which addresses there are to give out.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where addresses come from, how they reach the world, and which namespaces may use them.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "purelb.io",
    version = "v2",
    kind = "ServiceGroup",
    plural = "servicegroups",
    singular = "servicegroup",
    shortname = "sg",
    shortname = "sgs",
    namespaced,
    status = "ServiceGroupStatus",
    derive = "PartialEq",
    doc = "A group of addresses for Services of type LoadBalancer.",
    printcolumn(name = "Announce", type_ = "string", json_path = ".status.announce"),
    printcolumn(name = "IPAM", type_ = "string", json_path = ".status.ipam"),
    printcolumn(name = "Allocated-V4", type_ = "integer", json_path = ".status.allocatedIPv4"),
    printcolumn(name = "Allocated-V6", type_ = "integer", json_path = ".status.allocatedIPv6"),
    printcolumn(
        name = "Addresses",
        type_ = "string",
        json_path = ".status.addresses",
        priority = "1"
    ),
    printcolumn(
        name = "Available-V4",
        type_ = "integer",
        json_path = ".status.availableIPv4",
        priority = "1"
    ),
    printcolumn(
        name = "Available-V6",
        type_ = "integer",
        json_path = ".status.availableIPv6",
        priority = "1"
    ),
    printcolumn(
        name = "Namespaces",
        type_ = "string",
        json_path = ".spec.namespaces",
        priority = "1"
    ),
    printcolumn(
        name = "Enforced",
        type_ = "boolean",
        json_path = ".spec.enforceNamespaces",
        priority = "1"
    ),
    printcolumn(
        name = "Bound",
        type_ = "string",
        json_path = ".status.boundNamespaces",
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("(has(self.local) ? 1 : 0) + (has(self.remote) ? 1 : 0) + (has(self.external) ? 1 : 0) == 1",
        "exactly one of local, remote and external must be given"),
    validation = ("!self.enforceNamespaces || (has(self.namespaces) && size(self.namespaces) > 0)",
        "enforceNamespaces needs namespaces"),
    validation = ("!self.namespaceDefault || (has(self.namespaces) && size(self.namespaces) > 0)",
        "namespaceDefault needs namespaces")
)]
pub struct ServiceGroupSpec {
    /// Addresses that one node of their subnet answers for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<LocalSpec>,
    /// Addresses that every node's routing software announces, from the virtual interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteSpec>,
    /// Addresses that a sidecar gives out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalSpec>,
    /// The namespaces that this group is for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 1024),
        inner(length(max = 63), pattern(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))
    )]
    pub namespaces: Vec<String>,
    /// Services of these namespaces may use only groups that list them, and this group refuses
    /// Services of all others.
    #[serde(default)]
    pub enforce_namespaces: bool,
    /// Where several groups list a namespace, this one is its default.
    #[serde(default)]
    pub namespace_default: bool,
}

/// Addresses that one node of their subnet answers for.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!self.multiPool || !self.balancePools",
        "multiPool and balancePools are mutually exclusive"),
    validation = ("!has(self.v4pool) || !self.v4pool.pool.contains(':')",
        "v4pool must hold IPv4 addresses"),
    validation = ("!has(self.v6pool) || self.v6pool.pool.contains(':')",
        "v6pool must hold IPv6 addresses"),
    validation = ("!has(self.v4pools) || self.v4pools.all(p, !p.pool.contains(':'))",
        "v4pools must hold IPv4 addresses"),
    validation = ("!has(self.v6pools) || self.v6pools.all(p, p.pool.contains(':'))",
        "v6pools must hold IPv6 addresses")
)]
pub struct LocalSpec {
    /// One range of IPv4 addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v4pool: Option<AddressPool>,
    /// One range of IPv6 addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v6pool: Option<AddressPool>,
    /// Ranges of IPv4 addresses, in the order in which they are used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub v4pools: Vec<AddressPool>,
    /// Ranges of IPv6 addresses, in the order in which they are used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub v6pools: Vec<AddressPool>,
    /// Put IPv6 addresses on an interface without duplicate address detection by the kernel.
    #[serde(default, rename = "skipIPv6DAD")]
    pub skip_ipv6_dad: bool,
    /// Give a Service one address from each range that is in a subnet of some node.
    #[serde(default)]
    pub multi_pool: bool,
    /// Take each address from the range with the fewest addresses in use.
    #[serde(default)]
    pub balance_pools: bool,
}

/// Addresses that every node's routing software announces, from the virtual interface.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!self.multiPool || !self.balancePools",
        "multiPool and balancePools are mutually exclusive"),
    validation = ("!has(self.v4pool) || !self.v4pool.pool.contains(':')",
        "v4pool must hold IPv4 addresses"),
    validation = ("!has(self.v6pool) || self.v6pool.pool.contains(':')",
        "v6pool must hold IPv6 addresses"),
    validation = ("!has(self.v4pools) || self.v4pools.all(p, !p.pool.contains(':'))",
        "v4pools must hold IPv4 addresses"),
    validation = ("!has(self.v6pools) || self.v6pools.all(p, p.pool.contains(':'))",
        "v6pools must hold IPv6 addresses")
)]
pub struct RemoteSpec {
    /// One range of IPv4 addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v4pool: Option<AddressPool>,
    /// One range of IPv6 addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v6pool: Option<AddressPool>,
    /// Ranges of IPv4 addresses, in the order in which they are used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub v4pools: Vec<AddressPool>,
    /// Ranges of IPv6 addresses, in the order in which they are used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub v6pools: Vec<AddressPool>,
    /// Give a Service one address from each range.
    #[serde(default)]
    pub multi_pool: bool,
    /// Take each address from the range with the fewest addresses in use.
    #[serde(default)]
    pub balance_pools: bool,
}

/// Addresses that a sidecar gives out.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ExternalSpec {
    /// A name for people.
    #[schemars(length(min = 1))]
    pub provider: String,
    /// The path of the sidecar's Unix socket.
    #[serde(default = "default_socket")]
    pub socket: String,
    /// How the addresses reach the world: `local` or `remote`.
    #[schemars(extend("enum" = ["local", "remote"]))]
    pub announce: String,
}

/// A range of addresses.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AddressPool {
    /// The addresses: a CIDR such as `192.0.2.0/24`, or the first and the last with a dash between.
    #[schemars(length(max = 128))]
    pub pool: String,
    /// The subnet that the addresses belong to, as a CIDR.
    #[schemars(length(max = 64))]
    pub subnet: String,
    /// The prefix length that an address has on the virtual interface: `default` for the subnet's, or
    /// `/8` to `/128`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(pattern(r"^(default|/([89]|[1-9][0-9]|1[01][0-9]|12[0-8]))$"))]
    pub aggregation: Option<String>,
}

/// What the allocator made of a ServiceGroup.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceGroupStatus {
    /// `Local` or `Remote`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub announce: String,
    /// `Cluster`, or the name of the external provider.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ipam: String,
    /// The ranges as written, IPv4 before IPv6.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// IPv4 addresses in use.
    #[serde(rename = "allocatedIPv4")]
    #[schemars(range(min = 0))]
    pub allocated_ipv4: i64,
    /// IPv6 addresses in use.
    #[serde(rename = "allocatedIPv6")]
    #[schemars(range(min = 0))]
    pub allocated_ipv6: i64,
    /// IPv4 addresses that are free, if known.
    #[serde(rename = "availableIPv4", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub available_ipv4: Option<i64>,
    /// IPv6 addresses that are free, if known; the largest number there is if there are more.
    #[serde(rename = "availableIPv6", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub available_ipv6: Option<i64>,
    /// `spec.namespaces` as the allocator last read it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bound_namespaces: Vec<String>,
}

/// Where the sidecar listens unless said otherwise.
fn default_socket() -> String {
    "/var/run/purelb/ipam.sock".to_owned()
}
