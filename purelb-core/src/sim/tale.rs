//! How things are put in a story.

use std::net::IpAddr;

use crate::kernel::KernelAction;
use crate::lease::{LeaseContent, WriteResult};
use crate::node::NodeNotice;

/// A write of a lease that reached the API.
pub(super) fn lease_write(content: &LeaseContent, result: &WriteResult) -> String {
    let nets: Vec<String> = content.subnets.iter().map(ToString::to_string).collect();
    let nets = if nets.is_empty() { "nothing".to_owned() } else { nets.join(", ") };
    let outcome = match result {
        WriteResult::Accepted { version } => format!("version {version}"),
        WriteResult::Conflict => "conflict".to_owned(),
        WriteResult::Unknown { error } => error.clone(),
    };
    let mut text = format!("lease, write {}: {nets}", content.attempt);
    for ip in &content.lists {
        text.push_str(&format!(", lists {ip}"));
    }
    if let Some(join) = content.join {
        text.push_str(&format!(", join {join}"));
    }
    if let Some(seen) = content.seen {
        text.push_str(&format!(", seen {seen}"));
    }
    if content.keep {
        text.push_str(&format!(", keep for {:?}", content.duration));
    }
    format!("{text} -> {outcome}")
}

/// Whether a lease that said `before` says nothing new but that its node lives.
pub(super) fn is_renewal(before: &LeaseContent, after: &LeaseContent) -> bool {
    let said = |content: &LeaseContent| {
        (content.subnets.clone(), content.lists.clone(), content.join, content.keep)
    };
    said(before) == said(after) && before.instance == after.instance
}

/// The address that a notice is about.
pub(super) fn about(notice: &NodeNotice) -> Option<IpAddr> {
    match notice {
        NodeNotice::Announced { ip, .. }
        | NodeNotice::Arrived { ip, .. }
        | NodeNotice::Conflict { ip, .. }
        | NodeNotice::ConflictOver { ip, .. }
        | NodeNotice::Foreign { ip, .. }
        | NodeNotice::ForeignGone { ip, .. }
        | NodeNotice::Restored { ip, .. }
        | NodeNotice::ServedAgain { ip, .. }
        | NodeNotice::Unserved { ip, .. }
        | NodeNotice::Withheld { ip, .. } => Some(*ip),
        NodeNotice::KernelFailed { action, .. } => match action {
            KernelAction::AddAddress(new) => Some(new.net.addr()),
            KernelAction::Advertise { ip, .. }
            | KernelAction::Heed { ip, .. }
            | KernelAction::Probe { ip, .. }
            | KernelAction::Unheed { ip, .. } => Some(*ip),
            KernelAction::RemoveAddress(key) => Some(key.net.addr()),
            KernelAction::CreateVirtual { .. }
            | KernelAction::DeleteVirtual { .. }
            | KernelAction::SetAlias { .. }
            | KernelAction::SetConf { .. } => None,
        },
        NodeNotice::Configured { .. }
        | NodeNotice::Confirmed { .. }
        | NodeNotice::Contested { .. }
        | NodeNotice::Fenced { .. }
        | NodeNotice::GaveUp { .. }
        | NodeNotice::HoldingOn { .. }
        | NodeNotice::Identified { .. }
        | NodeNotice::Unidentified { .. } => None,
    }
}
