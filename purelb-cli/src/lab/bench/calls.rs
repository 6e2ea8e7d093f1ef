//! Who asked the API for what.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;

use crate::lab::api::Api;

/// A request; watches, which last, are not among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) client: IpAddr,
    pub(super) verb: String,
    pub(super) path: String,
}

/// Takes note of the requests from now on.
#[derive(Debug)]
pub(super) enum Calls {
    /// The in-memory API tells us of each.
    Told(Arc<Mutex<Vec<Call>>>),
    /// The API server's audit log, read from where it ended.
    Log { path: PathBuf, begin: u64 },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    #[serde(rename = "sourceIPs", default)]
    source_ips: Vec<IpAddr>,
}

impl Calls {
    pub(super) fn start(api: &mut Api) -> io::Result<Self> {
        if let Some(memory) = api.memory() {
            let told = Arc::new(Mutex::new(Vec::new()));
            let calls = Arc::clone(&told);
            memory.set_fault(move |call| {
                if call.verb != "watch" {
                    let call = Call {
                        client: call.client.ip(),
                        verb: call.verb.to_owned(),
                        path: call.path.clone(),
                    };
                    calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
                }
                None
            });
            return Ok(Self::Told(told));
        }
        let Some(plane) = api.plane() else { return Err(io::Error::other("no API")) };
        let path = plane.audit_log();
        let begin = std::fs::metadata(&path)?.len();
        Ok(Self::Log { path, begin })
    }

    /// Those since the start, but for what comes from the loopback address: the API server's own,
    /// and the bench's where it does not come through the hub.
    pub(super) fn all(&self) -> io::Result<Vec<Call>> {
        let mut calls = self.noted()?;
        calls.retain(|call| !call.client.is_loopback());
        Ok(calls)
    }

    fn noted(&self) -> io::Result<Vec<Call>> {
        match self {
            Self::Told(calls) => Ok(calls.lock().unwrap_or_else(PoisonError::into_inner).clone()),
            Self::Log { path, begin } => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(*begin))?;
                let mut text = String::new();
                file.read_to_string(&mut text)?;
                let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
                let calls = lines.filter_map(|Line { verb, request_uri, source_ips }| {
                    let path = request_uri.split('?').next().unwrap_or_default().to_owned();
                    Some(Call { client: *source_ips.first()?, verb, path })
                });
                Ok(calls.filter(|call| call.verb != "watch").collect())
            }
        }
    }
}

/// How many of each kind, for people: `patch services/status 300, create events 300`.
pub(super) fn kinds<'a>(calls: impl Iterator<Item = &'a Call>) -> String {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for call in calls {
        *kinds.entry(format!("{} {}", call.verb, kind(&call.path))).or_default() += 1;
    }
    let text: Vec<_> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    if text.is_empty() { "none".to_owned() } else { text.join(", ") }
}

/// Which resource a path is about: `services/status`.
fn kind(path: &str) -> String {
    let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    // The group and version, then the namespace of what is in one.
    parts.drain(..parts.len().min(if path.starts_with("/api/") { 2 } else { 3 }));
    if parts.first() == Some(&"namespaces") && parts.len() > 2 {
        parts.drain(..2);
    }
    match parts[..] {
        [resource, _, subresource, ..] => format!("{resource}/{subresource}"),
        [resource, ..] => resource.to_owned(),
        [] => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_about_a_resource() {
        for (path, expected) in [
            ("/api/v1/namespaces/default/services/web/status", "services/status"),
            ("/apis/events.k8s.io/v1/namespaces/default/events", "events"),
            ("/apis/coordination.k8s.io/v1/namespaces/purelb/leases/purelb-node-a", "leases"),
            ("/api/v1/services", "services"),
            ("/api/v1/namespaces/purelb", "namespaces"),
        ] {
            assert_eq!(kind(path), expected, "{path}");
        }
    }
}
