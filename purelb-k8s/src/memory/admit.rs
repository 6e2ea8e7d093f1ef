//! What happens to an object on its way in, by its kind: decoding, defaults, checks.

use serde_json::{Map, Value, json};

use super::custom;
use super::event;
use super::kind::{Kind, Subresource};
use super::refusal::{self, Complaint, Refusal};
use super::service;
use super::store::Store;
use super::write::{Target, UnknownFields};

/// A new object has no status yet; a Node brings its own.
pub(super) fn clear_status_of_new(kind: &Kind, object: &mut Value) {
    if kind.status != Subresource::None
        && kind.name != "Node"
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("status");
    }
}

/// A write to `/status` leaves the rest alone, a write to the object leaves the status alone.
pub(super) fn keep_other_half(target: &Target, live: &Value, object: &mut Value) {
    let Some(proposed) = object.as_object_mut() else { return };
    match (target.kind.status, target.status) {
        (Subresource::None, _) => {}
        (Subresource::WithMetadata | Subresource::Alone, false) => {
            restore(live, proposed, "status");
        }
        (Subresource::WithMetadata, true) => {
            restore(live, proposed, "spec");
        }
        (Subresource::Alone, true) => {
            let status = proposed.remove("status");
            let managers = proposed["metadata"].get("managedFields").cloned();
            *object = live.clone();
            if let Some(status) = status {
                object["status"] = status;
            }
            if let Some(managers) = managers {
                object["metadata"]["managedFields"] = managers;
            }
        }
    }
}

fn restore(live: &Value, proposed: &mut Map<String, Value>, field: &str) {
    match live.get(field) {
        Some(value) => proposed.insert(field.to_owned(), value.clone()),
        None => proposed.remove(field),
    };
}

/// Brings an object into its stored form, with defaults; returns warnings.
pub(super) fn decode(
    kind: &Kind,
    object: &mut Value,
    unknown_fields: UnknownFields,
) -> Result<Vec<String>, Refusal> {
    let cannot = |why: &str| {
        let (version, name) = (kind.api_version(), kind.name);
        let why = format!("{name} in version {version:?} cannot be handled as a {name}: {why}");
        refusal::bad_request(why)
    };
    let sent = object.take();
    *object = (kind.decode)(kind, sent.clone()).map_err(|why| cannot(&why))?;
    let mut unknown = Vec::new();
    if unknown_fields != UnknownFields::Ignore {
        find_unknown(&sent, object, "", &mut unknown);
    }
    if unknown_fields == UnknownFields::Refuse && !unknown.is_empty() {
        return Err(cannot(&format!("strict decoding error: {}", unknown.join(", "))));
    }
    fill_defaults(kind, object);
    Ok(unknown)
}

/// Fields that decoding has dropped.
fn find_unknown(sent: &Value, kept: &Value, path: &str, unknown: &mut Vec<String>) {
    match (sent, kept) {
        (Value::Object(sent), Value::Object(kept)) => {
            for (name, value) in sent.iter().filter(|(_, value)| !value.is_null()) {
                let path = match path {
                    "" => name.clone(),
                    path => format!("{path}.{name}"),
                };
                match kept.get(name) {
                    Some(kept) => find_unknown(value, kept, &path, unknown),
                    None => unknown.push(format!("unknown field {path:?}")),
                }
            }
        }
        (Value::Array(sent), Value::Array(kept)) => {
            for (n, (sent, kept)) in sent.iter().zip(kept).enumerate() {
                find_unknown(sent, kept, &format!("{path}[{n}]"), unknown);
            }
        }
        _ => {}
    }
}

fn fill_defaults(kind: &Kind, object: &mut Value) {
    match kind.name {
        "Service" => service::default(object),
        "Namespace" => {
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            object["spec"]["finalizers"] = json!(["kubernetes"]);
            object["status"]["phase"] = json!("Active");
        }
        "EndpointSlice" => {
            let ports = object.get_mut("ports").and_then(Value::as_array_mut);
            for port in ports.into_iter().flatten() {
                if port["protocol"].is_null() {
                    port["protocol"] = json!("TCP");
                }
            }
        }
        "Pod" if object["status"]["phase"].is_null() => {
            object["status"]["phase"] = json!("Pending");
        }
        _ => {}
    }
}

/// Decides what the API server decides about an object of this kind, and checks the rest.
pub(super) fn prepare(
    store: &mut Store,
    target: &Target,
    live: Option<&Value>,
    object: &mut Value,
) -> Result<(), Refusal> {
    let complaints = match target.kind.name {
        "Service" if target.status => check_ingress(object),
        "Service" => service::prepare(&mut store.allotment, live, object).err().unwrap_or_default(),
        "Event" if live.is_none() => event::check(target.kind.group, object),
        _ => custom::check(target.kind, object),
    };
    match complaints.is_empty() {
        true => Ok(()),
        false => Err(refusal::invalid(target.kind, &target.name, &complaints)),
    }
}

fn check_ingress(service: &Value) -> Vec<Complaint> {
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array().into_iter().flatten();
    let mut complaints = Vec::new();
    for (n, entry) in ingress.enumerate() {
        if let Some(ip) = entry["ip"].as_str()
            && ip.parse::<std::net::IpAddr>().is_err()
        {
            let field = format!("status.loadBalancer.ingress[{n}].ip");
            let why = "must be a valid IP address";
            complaints.push(Complaint::invalid(field, &entry["ip"], why));
        }
    }
    let balanced = service["spec"]["type"] == service::LOAD_BALANCER;
    let any =
        service["status"]["loadBalancer"]["ingress"].as_array().is_some_and(|i| !i.is_empty());
    if any && !balanced {
        let field = "status.loadBalancer.ingress";
        let why = "may only be used when `spec.type` is \"LoadBalancer\"";
        complaints.push(Complaint::forbidden(field, why));
    }
    complaints
}

/// Removes fields that are null; server-side apply takes them for absent.
pub(super) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
