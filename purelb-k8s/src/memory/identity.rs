//! What makes an object this object: its kind, its name, its uid, its versions.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::kind::Kind;
use super::refusal::{self, Complaint, Refusal};
use super::write::Target;

/// The wall clock as Kubernetes writes it.
pub(super) fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Checks `apiVersion` and `kind` against the path, and fills them in if they are missing.
pub(super) fn check_kind(kind: &Kind, object: &mut Value) -> Result<(), Refusal> {
    let fits = |value: Option<&Value>| value.is_none_or(|v| v.is_object() || v.is_null());
    if !object.is_object() || !fits(object.get("metadata")) {
        return Err(refusal::bad_request("the object and its metadata must be JSON objects"));
    }
    for (field, expected) in [("apiVersion", kind.api_version()), ("kind", kind.name.to_owned())] {
        match object[field].as_str() {
            None | Some("") => object[field] = json!(expected),
            Some(found) if found == expected => {}
            Some(found) => {
                let why = format!(
                    "the {field} in the data ({found}) does not match the expected one ({expected})"
                );
                return Err(refusal::bad_request(why));
            }
        }
    }
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    Ok(())
}

/// Checks name and namespace against the path, and fills them in if they are missing.
pub(super) fn check_place(target: &Target, object: &mut Value) -> Result<(), Refusal> {
    let metadata = &mut object["metadata"];
    let mut check = |field: &str, expected: &str| match metadata[field].as_str() {
        _ if expected.is_empty() => {
            if let Some(metadata) = metadata.as_object_mut() {
                metadata.remove(field);
            }
            Ok(())
        }
        None | Some("") => {
            metadata[field] = json!(expected);
            Ok(())
        }
        Some(found) if found == expected => Ok(()),
        Some(found) => Err(refusal::bad_request(format!(
            "the {field} of the object ({found}) does not match the {field} on the URL ({expected})"
        ))),
    };
    check("namespace", &target.namespace)?;
    check("name", &target.name)
}

/// The name of an object to be created, made up if it asks for that.
pub(super) fn name_of_new(kind: &Kind, object: &mut Value) -> Result<String, Refusal> {
    let metadata = &mut object["metadata"];
    if metadata["name"].as_str().is_none_or(str::is_empty) {
        let Some(prefix) = metadata["generateName"].as_str().filter(|p| !p.is_empty()) else {
            let complaint =
                Complaint::required("metadata.name", "name or generateName is required");
            return Err(refusal::invalid(kind, "", &[complaint]));
        };
        metadata["name"] = json!(format!("{prefix}{}", suffix()));
    }
    let name = metadata["name"].as_str().unwrap_or_default().to_owned();
    check_name(kind, &name)?;
    Ok(name)
}

/// Checks the name of an object that is to be.
pub(super) fn check_name(kind: &Kind, name: &str) -> Result<(), Refusal> {
    match name_problem(kind, name) {
        None => Ok(()),
        Some(why) => {
            let complaint = Complaint::invalid("metadata.name", &json!(name), why);
            Err(refusal::invalid(kind, name, &[complaint]))
        }
    }
}

fn name_problem(kind: &Kind, name: &str) -> Option<&'static str> {
    let label = |text: &str, may_start_with_digit: bool| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        text.chars().all(inner)
            && text.len() <= 63
            && !text.ends_with('-')
            && text.starts_with(|c: char| {
                c.is_ascii_lowercase() || (may_start_with_digit && c.is_ascii_digit())
            })
    };
    match kind.name {
        "Service" if !label(name, false) => Some(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start \
             with an alphabetic character, and end with an alphanumeric character",
        ),
        "Namespace" if !label(name, true) => Some(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or \
             '-', and must start and end with an alphanumeric character",
        ),
        _ if name.len() > 253 || !name.split('.').all(|part| label(part, true)) => Some(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
             '-' or '.', and must start and end with an alphanumeric character",
        ),
        _ => None,
    }
}

/// Checks the version and the uid that a write is conditional on. As on a real API server, another
/// uid is a conflict for a replacement, and a forbidden change for a patch.
pub(super) fn check_lock(
    target: &Target,
    live: &Value,
    proposed: &Value,
    replacing: bool,
) -> Result<(), Refusal> {
    let (kind, name) = (target.kind, target.name.as_str());
    let (live, proposed) = (&live["metadata"], &proposed["metadata"]);
    let asked = |field: &str| proposed[field].as_str().filter(|text| !text.is_empty());
    let other_uid = asked("uid").filter(|uid| live["uid"] != *uid);
    if let (Some(uid), true) = (other_uid, replacing) {
        let found = live["uid"].as_str().unwrap_or_default();
        let why =
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {found}");
        return Err(refusal::conflict(kind, name, &why));
    }
    if asked("resourceVersion").is_some_and(|version| live["resourceVersion"] != version) {
        return Err(refusal::outdated(kind, name));
    }
    match other_uid {
        Some(uid) => {
            let complaint = Complaint::invalid("metadata.uid", &json!(uid), "field is immutable");
            Err(refusal::invalid(kind, name, &[complaint]))
        }
        None => Ok(()),
    }
}

/// Leases and custom resources are replaced only by somebody who says which version.
pub(super) fn check_replacement(target: &Target, object: &Value) -> Result<(), Refusal> {
    let conditional = target.kind.name == "Lease" || target.kind.is_custom();
    if conditional && object["metadata"]["resourceVersion"].as_str().is_none_or(str::is_empty) {
        let why = "must be specified for an update";
        let complaint = Complaint::invalid("metadata.resourceVersion", &json!(0), why);
        return Err(refusal::invalid(target.kind, &target.name, &[complaint]));
    }
    Ok(())
}

/// Gives a new object what only the API server gives.
pub(super) fn found(kind: &Kind, object: &mut Value) {
    let metadata = &mut object["metadata"];
    metadata["uid"] = json!(uid());
    metadata["creationTimestamp"] = json!(now());
    if let Some(metadata) = metadata.as_object_mut() {
        for field in ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds"] {
            metadata.remove(field);
        }
        match kind.generation {
            true => metadata.insert("generation".to_owned(), json!(1)),
            false => metadata.remove("generation"),
        };
    }
}

/// Puts back what no client may change.
pub(super) fn keep(live: &Value, object: &mut Value) {
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    for field in [
        "uid",
        "creationTimestamp",
        "resourceVersion",
        "generation",
        "generateName",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        match live["metadata"].get(field) {
            Some(value) => metadata.insert(field.to_owned(), value.clone()),
            None => metadata.remove(field),
        };
    }
}

/// Counts a change of anything but metadata and status.
pub(super) fn count_generation(kind: &Kind, live: &Value, object: &mut Value) {
    let spec = |object: &Value| {
        let mut rest = object.clone();
        if let Some(fields) = rest.as_object_mut() {
            fields.remove("metadata");
            fields.remove("status");
        }
        rest
    };
    if kind.generation && spec(live) != spec(object) {
        let generation = live["metadata"]["generation"].as_i64().unwrap_or_default();
        object["metadata"]["generation"] = json!(generation + 1);
    }
}

/// Whether an object that is being deleted has lost its last finalizer.
pub(super) fn is_released(object: &Value) -> bool {
    let metadata = &object["metadata"];
    !metadata["deletionTimestamp"].is_null()
        && metadata["finalizers"].as_array().is_none_or(Vec::is_empty)
}

/// A version 4 UUID.
fn uid() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Five characters that spell no words.
fn suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..5).map(|_| char::from(ALPHABET[fastrand::usize(..ALPHABET.len())])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_random_uuids() {
        let (a, b) = (uid(), uid());
        assert_ne!(a, b);
        assert_eq!(a.len(), 36);
        assert_eq!(&a[14..15], "4");
        assert!("89ab".contains(&a[19..20]));
    }
}
