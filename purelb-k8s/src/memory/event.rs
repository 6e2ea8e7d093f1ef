//! Events have two forms, `v1` and `events.k8s.io/v1`; they are kept in the first.

use serde_json::{Value, json};

use super::refusal::Complaint;

/// The fields that have another name in the other form: `v1` first.
const RENAMED: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// From `v1` to `events.k8s.io/v1`.
pub(super) fn show(event: Value) -> Value {
    renamed(event, "events.k8s.io/v1", |(kept, shown)| (kept, shown))
}

/// From `events.k8s.io/v1` to `v1`.
pub(super) fn keep(event: Value) -> Value {
    renamed(event, "v1", |(kept, shown)| (shown, kept))
}

type Pair = (&'static str, &'static str);

fn renamed(mut event: Value, api_version: &str, direction: fn(Pair) -> Pair) -> Value {
    if let Some(fields) = event.as_object_mut() {
        for (from, to) in RENAMED.map(direction) {
            if let Some(value) = fields.remove(from) {
                fields.insert(to.to_owned(), value);
            }
        }
        fields.insert("apiVersion".to_owned(), json!(api_version));
    }
    event
}

/// What may not be in a new Event, which is in the form of the group that it was sent to.
pub(super) fn check(group: &str, event: &Value) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let (about, reporter, text) = match group {
        "" => ("involvedObject", "reportingComponent", "message"),
        _ => ("regarding", "reportingController", "note"),
    };
    let has = |field: &str| event[field].as_str().is_some_and(|text| !text.is_empty());
    let dated = has("eventTime");
    if dated {
        for field in [reporter, "reportingInstance", "action", "reason"] {
            if !has(field) {
                complaints.push(Complaint::required(field, ""));
            }
        }
        if event[text].as_str().unwrap_or_default().len() > 1024 {
            complaints.push(Complaint::invalid(
                text,
                &json!(""),
                "can have at most 1024 characters",
            ));
        }
    }
    let of = event[about]["namespace"].as_str().unwrap_or_default();
    let namespace = event["metadata"]["namespace"].as_str().unwrap_or_default();
    let fits = match of {
        "" => namespace == "default" || (dated && namespace == "kube-system"),
        of => dated || of == namespace,
    };
    if !fits {
        let why = "does not match event.namespace";
        complaints.push(Complaint::invalid("involvedObject.namespace", &json!(of), why));
    }
    if !group.is_empty() {
        if !dated {
            complaints.push(Complaint::required("eventTime", ""));
        }
        if event["type"] != "Normal" && event["type"] != "Warning" {
            let why = format!("has invalid value: {}", event["type"].as_str().unwrap_or_default());
            complaints.push(Complaint::invalid("type", &json!(""), &why));
        }
    }
    complaints
}
