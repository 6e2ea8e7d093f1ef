//! The rights the lab needs, and how an ordinary user comes by them.

use std::fs;
use std::io;

use rustix::process::{getgid, getuid};
use rustix::thread::{CapabilitySet, UnshareFlags, capabilities};
use thiserror::Error;

/// Where the lab's right to make namespaces comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// The process had the capabilities already (root, as a rule).
    Capabilities,
    /// The process is root in a user namespace of its own.
    UserNamespace,
}

/// Why this machine gives us no right to make network namespaces.
#[derive(Debug, Error)]
pub enum Refused {
    /// The system allows no user namespaces.
    #[error(
        "cannot create a user namespace ({0}): run the lab as root, or allow unprivileged user \
         namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone; in a \
         container, its seccomp profile)"
    )]
    UserNamespace(io::Error),
    /// The user namespace exists, but its identity map was refused.
    #[error("cannot map this user to root in a new user namespace ({0}): run the lab as root")]
    IdentityMap(io::Error),
}

/// What making namespaces, links and packet sockets takes (capabilities(7)).
const NEEDED: CapabilitySet =
    CapabilitySet::SYS_ADMIN.union(CapabilitySet::NET_ADMIN).union(CapabilitySet::NET_RAW);

/// Makes sure that this process may create network namespaces, if need be by entering a user
/// namespace in which it is root.
///
/// Must be called before any thread is started: the kernel moves only single-threaded processes
/// into a user namespace.
pub fn obtain() -> Result<Privilege, Refused> {
    if has_capabilities() {
        return Ok(Privilege::Capabilities);
    }
    let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
    unshare(UnshareFlags::NEWUSER).map_err(Refused::UserNamespace)?;
    // Without "deny" the kernel refuses a gid_map from an unprivileged process
    // (user_namespaces(7)).
    fs::write("/proc/self/setgroups", "deny").map_err(Refused::IdentityMap)?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).map_err(Refused::IdentityMap)?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).map_err(Refused::IdentityMap)?;
    Ok(Privilege::UserNamespace)
}

/// Whether this process may create network namespaces as it stands.
pub fn has_capabilities() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(NEEDED))
}

/// Whether the kernel takes this process for one of the machine's own administrators: root of a user
/// namespace may neither become other users nor have sockets with buffers above the system's limit.
pub fn is_of_the_machine() -> bool {
    // user_namespaces(7): the first namespace maps every id to itself.
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    has_capabilities() && map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Moves the calling thread (for a user namespace: the process) into new namespaces.
pub(super) fn unshare(namespaces: UnshareFlags) -> io::Result<()> {
    let namespaces = namespaces.difference(UnshareFlags::FILES);
    // SAFETY: `unshare` can break other threads only by giving this one a descriptor table of its
    // own (CLONE_FILES), which is masked out above.
    #[allow(unsafe_code, reason = "the crate offers no safe form without CLONE_FILES")]
    unsafe {
        rustix::thread::unshare_unsafe(namespaces)?;
    }
    Ok(())
}
