//! How things are put in a story.

use crate::lease::{LeaseContent, WriteResult};

/// A write of a lease that reached the API.
pub(super) fn lease_write(content: &LeaseContent, result: &WriteResult) -> String {
    let outcome = match result {
        WriteResult::Accepted { version } => format!("version {version}"),
        WriteResult::Conflict => "conflict".to_owned(),
        WriteResult::Unknown { error } => error.clone(),
    };
    format!("lease, write {}: {content} -> {outcome}", content.attempt)
}
