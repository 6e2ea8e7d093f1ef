//! The messages of `purelb.ipam.v1`, the Go PureLB's contract with a sidecar.
//!
//! `docs/ipam.proto` says the same for other languages; a test holds the two together.

use prost::{Message, Oneof};

/// The service's full name, the first part of every method's path.
pub const SERVICE: &str = "purelb.ipam.v1.IPAM";

/// A method of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// Give a Service addresses. Asked again for one that has them, it answers the same.
    Allocate,
    /// Take addresses back. What is free already is no error.
    Release,
    /// Tell how full a pool is.
    Stats,
}

impl Method {
    /// The path that it is called by.
    pub fn path(self) -> &'static str {
        match self {
            Self::Allocate => "/purelb.ipam.v1.IPAM/Allocate",
            Self::Release => "/purelb.ipam.v1.IPAM/Release",
            Self::Stats => "/purelb.ipam.v1.IPAM/Stats",
        }
    }
}

/// What [`Method::Allocate`] takes.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AllocateRequest {
    /// The ServiceGroup.
    #[prost(string, tag = "1")]
    pub pool: String,
    /// The Service, as `namespace/name`.
    #[prost(string, tag = "2")]
    pub service: String,
    /// Services with this key may have one address together; empty: with nobody.
    #[prost(string, tag = "3")]
    pub sharing_key: String,
    /// What is wanted.
    #[prost(oneof = "Selector", tags = "4, 5")]
    pub selector: Option<Selector>,
}

/// What is wanted.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum Selector {
    /// These addresses.
    #[prost(message, tag = "4")]
    Explicit(ExplicitIps),
    /// One address of each of these families.
    #[prost(message, tag = "5")]
    Families(FamilyRequest),
}

/// Addresses that are wanted.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ExplicitIps {
    /// As text.
    #[prost(string, repeated, tag = "1")]
    pub ips: Vec<String>,
}

/// Families that are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct FamilyRequest {
    /// IPv4.
    #[prost(bool, tag = "1")]
    pub want_ipv4: bool,
    /// IPv6.
    #[prost(bool, tag = "2")]
    pub want_ipv6: bool,
}

/// What [`Method::Allocate`] answers.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AllocateResponse {
    /// All addresses that the Service has now.
    #[prost(message, repeated, tag = "1")]
    pub ips: Vec<AllocatedIp>,
}

/// An address that was given.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AllocatedIp {
    /// As text.
    #[prost(string, tag = "1")]
    pub ip: String,
}

/// What [`Method::Release`] takes.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ReleaseRequest {
    /// The ServiceGroup.
    #[prost(string, tag = "1")]
    pub pool: String,
    /// The Service, as `namespace/name`.
    #[prost(string, tag = "2")]
    pub service: String,
    /// What is given back.
    #[prost(oneof = "Target", tags = "3, 4")]
    pub target: Option<Target>,
}

/// What is given back.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum Target {
    /// This address.
    #[prost(string, tag = "3")]
    Ip(String),
    /// Everything that the Service has.
    #[prost(bool, tag = "4")]
    All(bool),
}

/// What [`Method::Release`] answers.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ReleaseResponse {}

/// What [`Method::Stats`] takes.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StatsRequest {
    /// The ServiceGroup.
    #[prost(string, tag = "1")]
    pub pool: String,
}

/// What [`Method::Stats`] answers.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StatsResponse {
    /// IPv4 addresses that somebody has.
    #[prost(uint64, tag = "1")]
    pub in_use_v4: u64,
    /// IPv6 addresses that somebody has.
    #[prost(uint64, tag = "2")]
    pub in_use_v6: u64,
    /// IPv4 addresses in all; means something only with `has_known_capacity`.
    #[prost(uint64, tag = "3")]
    pub size_v4: u64,
    /// IPv6 addresses in all; means something only with `has_known_capacity`.
    #[prost(uint64, tag = "4")]
    pub size_v6: u64,
    /// The sizes are known.
    #[prost(bool, tag = "5")]
    pub has_known_capacity: bool,
    /// What to show as the pool's ranges.
    #[prost(string, repeated, tag = "6")]
    pub display_addresses: Vec<String>,
}
