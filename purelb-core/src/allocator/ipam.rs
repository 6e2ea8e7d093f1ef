//! What is asked of the sidecars of external groups, and what they answer.
//!
//! The wire is the Go PureLB's `purelb.ipam.v1`. A host asks each socket on its own: a sidecar that
//! does not answer delays nobody but its own group.

use std::fmt;
use std::net::IpAddr;

use crate::allocator::event::Ticket;
use crate::host::Family;
use crate::name::{GroupName, ServiceKey, SharingKey};
use crate::usage::Usage;

/// The most addresses that a sidecar may answer with.
pub const MOST_ADDRESSES: usize = 16;

/// A call to a sidecar.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpamRequest {
    /// Bears the reply.
    pub ticket: Ticket,
    /// The group that it is for.
    pub group: GroupName,
    /// The path of the sidecar's Unix socket.
    pub socket: String,
    /// What to call.
    pub call: IpamCall,
}

/// Which of the three calls.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IpamCall {
    /// `Allocate`, by families.
    Allocate {
        /// For which Service.
        service: ServiceKey,
        /// Its sharing key.
        sharing: Option<SharingKey>,
        /// The families wanted, in the Service's order.
        families: Vec<Family>,
    },
    /// `Release`.
    Release {
        /// Of which Service.
        service: ServiceKey,
        /// One address, or all (`None`).
        ip: Option<IpAddr>,
    },
    /// `Stats`.
    Stats,
}

/// What a sidecar answered.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpamReply {
    /// The request's.
    pub ticket: Ticket,
    /// The answer to the call that was made.
    pub result: Result<IpamAnswer, IpamError>,
}

/// An answer.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IpamAnswer {
    /// To `Allocate`: the Service's addresses.
    Allocated(Vec<IpAddr>),
    /// To `Release`.
    Released,
    /// To `Stats`.
    Stats {
        /// The counts; `available` is `None` unless the sidecar knows its capacity.
        usage: Usage,
        /// What it wants to be shown as its ranges.
        addresses: Vec<String>,
    },
}

/// Why a sidecar gave no answer. Without its own text, which may change with each call: that is for
/// the host's log.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum IpamError {
    /// gRPC `ABORTED`.
    #[error("it aborted the call")]
    Aborted,
    /// gRPC `RESOURCE_EXHAUSTED`.
    #[error("it has no free address")]
    Exhausted,
    /// gRPC `INVALID_ARGUMENT`, `FAILED_PRECONDITION`, or `NOT_FOUND`.
    #[error("it refuses the request as invalid")]
    Invalid,
    /// Any other status code, by its name.
    #[error("it answered {code}")]
    Other {
        /// Such as `PERMISSION_DENIED`.
        code: String,
    },
    /// It did not answer in time.
    #[error("it did not answer in time")]
    TimedOut,
    /// The socket is not there, or nobody listens.
    #[error("nobody answers on its socket")]
    Unavailable,
    /// What it answered makes no sense.
    #[error("its answer could not be read")]
    Unreadable,
}

impl IpamError {
    /// Whether asking again soon may help; otherwise something has to change first.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Aborted | Self::Exhausted | Self::TimedOut | Self::Unavailable => true,
            Self::Invalid | Self::Other { .. } | Self::Unreadable => false,
        }
    }
}

impl fmt::Display for IpamCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allocate { service, .. } => write!(f, "Allocate for {service}"),
            Self::Release { service, ip: Some(ip) } => write!(f, "Release {ip} of {service}"),
            Self::Release { service, ip: None } => write!(f, "Release all of {service}"),
            Self::Stats => f.write_str("Stats"),
        }
    }
}
