//! Leases: what each agent says of itself, and in which order the API says so.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::name::{BootId, NodeName, Uid};

/// The `resourceVersion` of a Lease or of a list of them: a number that grows with every change of
/// any Lease (Kubernetes enhancement 5504). Compared for Leases only.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A node's Lease `purelb-node-<node>`.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The node, from the lease's name.
    pub node: NodeName,
    /// The change that made it what it is.
    pub version: Version,
    /// One for its whole life.
    pub uid: Uid,
    /// What its agent says.
    pub content: LeaseContent,
}

/// What an agent says in its lease.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LeaseContent {
    /// `leaseDurationSeconds`.
    pub duration: Duration,
    /// `purelb.io/subnets`: the subnets that it can serve now, host bits cleared.
    pub subnets: BTreeSet<IpNet>,
    /// `purelb.io/lists`: the addresses that it asks for beyond others, having endpoints for them.
    pub lists: BTreeSet<IpAddr>,
    /// `purelb.io/join`: counts its joins. Absent from a Go agent's lease.
    pub join: Option<u64>,
    /// `purelb.io/seen`: every lease change up to this one has taken effect on its interfaces.
    /// Absent from a Go agent's lease.
    pub seen: Option<Version>,
    /// `purelb.io/boot-id`: the boot of the kernel that it runs on.
    pub boot_id: Option<BootId>,
    /// `purelb.io/keep`: its process has stopped, its addresses stay until the lease runs out.
    pub keep: bool,
    /// `purelb.io/instance`: the process (pod) that wrote it.
    pub instance: String,
    /// `purelb.io/attempt`: which write of that process this is.
    pub attempt: u64,
}

impl LeaseContent {
    /// Whether it says nothing that `before` did not say, but that its node lives.
    pub fn is_renewal_of(&self, before: &Self) -> bool {
        let said = |it: &Self| (it.join, it.keep);
        said(self) == said(before)
            && self.subnets == before.subnets
            && self.lists == before.lists
            && self.instance == before.instance
    }
}

/// What it says beyond that its node lives, in a line.
impl fmt::Display for LeaseContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.subnets.first() {
            Some(first) => write!(f, "{first}")?,
            None => f.write_str("nothing")?,
        }
        for subnet in self.subnets.iter().skip(1) {
            write!(f, ", {subnet}")?;
        }
        for ip in &self.lists {
            write!(f, ", lists {ip}")?;
        }
        if let Some(join) = self.join {
            write!(f, ", join {join}")?;
        }
        if let Some(seen) = self.seen {
            write!(f, ", seen {seen}")?;
        }
        if self.keep {
            write!(f, ", keep for {:?}", self.duration)?;
        }
        Ok(())
    }
}

/// A fact about leases, in the API's order.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LeaseEvent {
    /// Every change up to this one has been delivered.
    Bookmark(Version),
    /// This lease was deleted; `version` is the deletion's.
    Deleted {
        /// Whose it was.
        node: NodeName,
        /// The change that deleted it.
        version: Version,
    },
    /// These are all leases as of `version`.
    Listed {
        /// The leases.
        leases: Vec<Lease>,
        /// The list's own version.
        version: Version,
    },
    /// This lease is new or has changed.
    Updated(Lease),
    /// A write of our own lease was answered.
    Written {
        /// Which one.
        attempt: u64,
        /// The answer.
        result: WriteResult,
    },
}

/// The answer to a write of our own lease.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WriteResult {
    /// It replaced the version that it was conditional on.
    Accepted {
        /// The lease's new version.
        version: Version,
    },
    /// The lease was not what the write was conditional on: another write landed first, perhaps an
    /// earlier one of ours.
    Conflict,
    /// No answer, or an error; it may have landed or may still land.
    Unknown {
        /// What went wrong.
        error: String,
    },
}

/// A write of our own lease, conditional on what it replaces.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaseWrite {
    /// Counts the writes of this process; equals `content.attempt`.
    pub attempt: u64,
    /// What must be there for the write to happen.
    pub base: Base,
    /// What to write.
    pub content: LeaseContent,
    /// Give up on the request after this.
    pub timeout: Duration,
}

/// What a lease write is conditional on.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Base {
    /// There is no such lease: create it.
    Absent,
    /// It is this very one.
    Exactly {
        /// Its uid.
        uid: Uid,
        /// Its version.
        version: Version,
    },
}
