//! Leases, byte-compatible with those of the Go agents.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::coordination::v1 as k8s;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use purelb_core::lease::{Lease, LeaseContent, Version};
use purelb_core::name::{BootId, NodeName, Uid};

use crate::annotation;

/// What the name of every agent's Lease begins with; the node's name follows.
pub const NAME_PREFIX: &str = "purelb-node-";

/// The labels of every agent's Lease.
pub const LABELS: [(&str, &str); 2] =
    [("app.kubernetes.io/component", "lbnodeagent"), ("app.kubernetes.io/name", "purelb")];

/// As the Go agents: no more subnets of one lease than these are taken in.
const MAX_SUBNETS: usize = 256;

/// A Lease as the core sees it; `None` if it is no agent's, or if the API gave it no version.
///
/// As in the Go agents a lease without a duration or a time of renewal is one that has run out, and
/// entries that cannot be read are left out.
pub fn lease(object: &k8s::Lease) -> Option<Lease> {
    let metadata = &object.metadata;
    let spec = object.spec.as_ref();
    let seconds = spec
        .filter(|spec| spec.renew_time.is_some())
        .and_then(|spec| u64::try_from(spec.lease_duration_seconds?).ok());
    let annotations = metadata.annotations.as_ref();
    let text = |key| annotations.and_then(|all| all.get(key)).map(String::as_str);
    Some(Lease {
        node: node(metadata.name.as_deref()?)?,
        version: version(metadata.resource_version.as_deref()?)?,
        uid: Uid::from(metadata.uid.as_deref().unwrap_or_default()),
        content: LeaseContent {
            duration: Duration::from_secs(seconds.unwrap_or_default()),
            subnets: subnets(text(annotation::SUBNETS).unwrap_or_default()),
            lists: addresses(text(annotation::LISTS).unwrap_or_default()),
            join: text(annotation::JOIN).and_then(|join| join.parse().ok()),
            seen: text(annotation::SEEN).and_then(version),
            boot_id: text(annotation::BOOT_ID).filter(|id| !id.is_empty()).map(BootId::from),
            keep: text(annotation::KEEP) == Some("true"),
            instance: text(annotation::INSTANCE).unwrap_or_default().to_owned(),
            attempt: text(annotation::ATTEMPT)
                .and_then(|attempt| attempt.parse().ok())
                .unwrap_or_default(),
        },
    })
}

/// The node whose Lease has this name.
pub fn node(name: &str) -> Option<NodeName> {
    name.strip_prefix(NAME_PREFIX).filter(|node| !node.is_empty()).map(NodeName::from)
}

/// The name of a node's Lease.
pub fn name(node: &NodeName) -> String {
    format!("{NAME_PREFIX}{node}")
}

/// A `resourceVersion` as a number.
pub fn version(text: &str) -> Option<Version> {
    text.parse().ok().map(Version)
}

/// The annotations of a Lease with this content; `None` is for one that must not be there.
pub fn annotations(content: &LeaseContent) -> BTreeMap<&'static str, Option<String>> {
    BTreeMap::from([
        (annotation::ATTEMPT, Some(content.attempt.to_string())),
        (annotation::BOOT_ID, content.boot_id.as_ref().map(ToString::to_string)),
        (annotation::INSTANCE, Some(content.instance.clone())),
        (annotation::JOIN, content.join.map(|join| join.to_string())),
        (annotation::KEEP, content.keep.then(|| "true".to_owned())),
        (annotation::LISTS, (!content.lists.is_empty()).then(|| joined(&content.lists))),
        (annotation::SEEN, content.seen.map(|seen| seen.to_string())),
        (annotation::SUBNETS, Some(joined(&content.subnets))),
    ])
}

/// The reference that makes a Lease go with its Node.
pub fn owner(node: &NodeName, uid: &Uid) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        block_owner_deletion: Some(false),
        controller: Some(false),
        kind: "Node".to_owned(),
        name: node.to_string(),
        uid: uid.to_string(),
    }
}

/// `leaseDurationSeconds`: whole seconds, rounded down.
pub fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

fn subnets(text: &str) -> BTreeSet<IpNet> {
    let valid = text.split(',').filter_map(|subnet| subnet.parse::<IpNet>().ok());
    valid.take(MAX_SUBNETS).map(|subnet| subnet.trunc()).collect()
}

fn addresses(text: &str) -> BTreeSet<IpAddr> {
    text.split(',').filter_map(|ip| ip.parse().ok()).collect()
}

/// Joined by commas, in the order of the texts' bytes.
fn joined(items: &BTreeSet<impl ToString>) -> String {
    let texts: BTreeSet<_> = items.iter().map(ToString::to_string).collect();
    texts.into_iter().collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(annotations: impl serde::Serialize, spec: impl serde::Serialize) -> LeaseContent {
        let object = json!({
            "metadata": { "name": "purelb-node-n1", "resourceVersion": "7", "annotations": annotations },
            "spec": spec,
        });
        lease(&serde_json::from_value(object).unwrap()).unwrap().content
    }

    #[test]
    fn the_content_survives_a_round_trip() {
        let content = LeaseContent {
            duration: Duration::from_secs(5),
            subnets: ["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/64"]
                .map(|net| net.parse().unwrap())
                .into(),
            lists: ["192.0.2.7", "2001:db8::7"].map(|ip| ip.parse().unwrap()).into(),
            join: Some(3),
            seen: Some(Version(41)),
            boot_id: Some("b".into()),
            keep: true,
            instance: "pod".into(),
            attempt: 9,
        };
        let annotations: BTreeMap<_, _> = annotations(&content)
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .collect();
        let spec = json!({ "leaseDurationSeconds": 5, "renewTime": "2026-01-01T00:00:00.000000Z" });
        assert_eq!(parsed(json!(annotations), spec), content);
    }

    #[test]
    fn subnets_are_sorted_by_the_bytes_of_their_text() {
        let content = LeaseContent {
            subnets: ["9.0.0.0/8", "192.0.2.0/24", "10.0.0.0/8", "fd00::/64", "2001:db8::/64"]
                .map(|net| net.parse().unwrap())
                .into(),
            ..LeaseContent::default()
        };
        assert_eq!(
            annotations(&content)[annotation::SUBNETS].as_deref(),
            Some("10.0.0.0/8,192.0.2.0/24,2001:db8::/64,9.0.0.0/8,fd00::/64")
        );
    }

    #[test]
    fn nothing_to_serve_is_an_empty_text_and_absent_facts_are_absent() {
        let annotations = annotations(&LeaseContent::default());
        assert_eq!(annotations[annotation::SUBNETS].as_deref(), Some(""));
        assert_eq!(annotations[annotation::INSTANCE].as_deref(), Some(""));
        for key in [
            annotation::BOOT_ID,
            annotation::JOIN,
            annotation::KEEP,
            annotation::LISTS,
            annotation::SEEN,
        ] {
            assert_eq!(annotations[key], None, "{key}");
        }
    }

    #[test]
    fn entries_that_cannot_be_read_are_left_out() {
        let content = parsed(
            json!({ annotation::SUBNETS: "192.0.2.7/24, 10.0.0.0/8,x,,fd00::1/64", annotation::SEEN: "x" }),
            json!({ "leaseDurationSeconds": 5, "renewTime": "2026-01-01T00:00:00.000000Z" }),
        );
        let subnets: Vec<_> = content.subnets.iter().map(ToString::to_string).collect();
        assert_eq!(subnets, ["192.0.2.0/24", "fd00::/64"]);
        assert_eq!(content.seen, None);
    }

    #[test]
    fn at_most_256_subnets_are_taken_in() {
        let text: Vec<_> = (0..300).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256)).collect();
        assert_eq!(subnets(&text.join(",")).len(), 256);
    }

    #[test]
    fn without_a_duration_or_a_renewal_it_has_run_out() {
        for spec in [
            json!(null),
            json!({ "leaseDurationSeconds": 5 }),
            json!({ "renewTime": "2026-01-01T00:00:00.000000Z" }),
            json!({ "leaseDurationSeconds": -1, "renewTime": "2026-01-01T00:00:00.000000Z" }),
        ] {
            assert_eq!(parsed(json!({}), spec.clone()).duration, Duration::ZERO, "{spec}");
        }
    }

    #[test]
    fn the_node_is_named_by_the_lease() {
        assert_eq!(node("purelb-node-n1"), Some("n1".into()));
        assert_eq!(node("purelb-node-"), None);
        assert_eq!(node("kube-scheduler"), None);
    }
}
