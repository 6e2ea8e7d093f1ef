//! Why a request is refused, as the `v1 Status` object that a client reads.

use kube::core::Status;
use kube::core::response::{StatusCause, StatusDetails, StatusSummary};
use serde_json::{Value, json};

use super::kind::Kind;

/// A refused request. Boxed, because the object is large and refusals are rare.
pub(super) type Refusal = Box<Status>;

/// One complaint about one field of an object, a line of an `Invalid` answer.
#[derive(Debug)]
pub(super) struct Complaint {
    reason: &'static str,
    field: String,
    message: String,
}

impl Complaint {
    pub(super) fn required(field: impl Into<String>, why: &str) -> Self {
        let message = match why {
            "" => "Required value".to_owned(),
            why => format!("Required value: {why}"),
        };
        Self { reason: "FieldValueRequired", field: field.into(), message }
    }

    pub(super) fn invalid(field: impl Into<String>, value: &Value, why: &str) -> Self {
        Self {
            reason: "FieldValueInvalid",
            field: field.into(),
            message: format!("Invalid value: {value}: {why}"),
        }
    }

    pub(super) fn forbidden(field: impl Into<String>, why: &str) -> Self {
        Self {
            reason: "FieldValueForbidden",
            field: field.into(),
            message: format!("Forbidden: {why}"),
        }
    }

    pub(super) fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self {
            reason: "FieldValueDuplicate",
            field: field.into(),
            message: format!("Duplicate value: {value}"),
        }
    }

    pub(super) fn unsupported(field: impl Into<String>, value: &Value, known: &[&str]) -> Self {
        let known = known.iter().map(|k| format!("{k:?}")).collect::<Vec<_>>().join(", ");
        Self {
            reason: "FieldValueNotSupported",
            field: field.into(),
            message: format!("Unsupported value: {value}: supported values: {known}"),
        }
    }
}

fn failure(code: u16, reason: &str, message: &str) -> Refusal {
    Box::new(Status::failure(message, reason).with_code(code))
}

fn about(kind: &Kind, kind_field: &str, name: &str, causes: Vec<StatusCause>) -> StatusDetails {
    StatusDetails {
        name: name.to_owned(),
        group: kind.group.to_owned(),
        kind: kind_field.to_owned(),
        uid: String::new(),
        causes,
        retry_after_seconds: 0,
    }
}

fn failure_about(code: u16, reason: &str, kind: &Kind, name: &str, message: &str) -> Refusal {
    let mut refusal = failure(code, reason, message);
    refusal.details = Some(about(kind, kind.plural, name, Vec::new()));
    refusal
}

pub(super) fn not_found(kind: &Kind, name: &str) -> Refusal {
    let message = format!("{} {name:?} not found", kind.resource());
    failure_about(404, "NotFound", kind, name, &message)
}

/// No such path, rather than no such object.
pub(super) fn no_such_path() -> Refusal {
    failure(404, "NotFound", "the server could not find the requested resource")
}

pub(super) fn already_exists(kind: &Kind, name: &str) -> Refusal {
    let message = format!("{} {name:?} already exists", kind.resource());
    failure_about(409, "AlreadyExists", kind, name, &message)
}

/// The object has another version than the request is for.
pub(super) fn outdated(kind: &Kind, name: &str) -> Refusal {
    let why = "the object has been modified; please apply your changes to the latest version \
               and try again";
    conflict(kind, name, why)
}

pub(super) fn conflict(kind: &Kind, name: &str, why: &str) -> Refusal {
    let resource = kind.resource();
    let message = format!("Operation cannot be fulfilled on {resource} {name:?}: {why}");
    failure_about(409, "Conflict", kind, name, &message)
}

/// Server-side apply met fields of other managers: pairs of the owner's description and a path.
pub(super) fn owned_by_others(conflicts: &[(String, String)]) -> Refusal {
    let message = match conflicts {
        [(owner, path)] => format!("Apply failed with 1 conflict: conflict with {owner}: {path}"),
        several => {
            let lines: String =
                several.iter().map(|(owner, path)| format!("\n- {owner}: {path}")).collect();
            format!("Apply failed with {} conflicts: conflicts with{lines}", several.len())
        }
    };
    let causes = conflicts.iter().map(|(owner, path)| StatusCause {
        reason: "FieldManagerConflict".to_owned(),
        message: format!("conflict with {owner}"),
        field: path.clone(),
    });
    let mut refusal = failure(409, "Conflict", &message);
    refusal.details = Some(StatusDetails {
        name: String::new(),
        group: String::new(),
        kind: String::new(),
        uid: String::new(),
        causes: causes.collect(),
        retry_after_seconds: 0,
    });
    refusal
}

pub(super) fn invalid(kind: &Kind, name: &str, complaints: &[Complaint]) -> Refusal {
    let lines: Vec<String> =
        complaints.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
    let list = match lines.as_slice() {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    };
    let qualified = match kind.group {
        "" => kind.name.to_owned(),
        group => format!("{}.{group}", kind.name),
    };
    let mut refusal = failure(422, "Invalid", &format!("{qualified} {name:?} is invalid: {list}"));
    let causes = complaints.iter().map(|c| StatusCause {
        reason: c.reason.to_owned(),
        message: c.message.clone(),
        field: c.field.clone(),
    });
    refusal.details = Some(about(kind, kind.name, name, causes.collect()));
    refusal
}

pub(super) fn bad_request(message: impl AsRef<str>) -> Refusal {
    failure(400, "BadRequest", message.as_ref())
}

pub(super) fn method_not_allowed() -> Refusal {
    let message = "the server does not allow this method on the requested resource";
    failure(405, "MethodNotAllowed", message)
}

pub(super) fn not_acceptable() -> Refusal {
    let message = "only the following media types are accepted: application/json";
    failure(406, "NotAcceptable", message)
}

pub(super) fn unsupported_media_type(understood: &str) -> Refusal {
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: \
         {understood}"
    );
    failure(415, "UnsupportedMediaType", &message)
}

pub(super) fn too_large() -> Refusal {
    failure(413, "RequestEntityTooLarge", "the request is too large")
}

/// Nothing runs behind the pods of this API.
pub(super) fn no_runtime(pod: &str) -> Refusal {
    failure(503, "ServiceUnavailable", &format!("nothing runs behind pod {pod:?}"))
}

/// The history that a watch or an exact list asks for is no longer kept.
pub(super) fn expired(asked: u64, oldest: u64) -> Refusal {
    failure(410, "Expired", &format!("too old resource version: {asked} ({oldest})"))
}

/// The asked version has not happened: the client knows another history of this API.
pub(super) fn from_the_future(asked: u64, current: u64) -> Refusal {
    let message = format!("Too large resource version: {asked}, current: {current}");
    let mut refusal = failure(504, "Timeout", &message);
    refusal.details = Some(StatusDetails {
        name: String::new(),
        group: String::new(),
        kind: String::new(),
        uid: String::new(),
        causes: vec![StatusCause {
            reason: "ResourceVersionTooLarge".to_owned(),
            message: "Too large resource version".to_owned(),
            field: String::new(),
        }],
        retry_after_seconds: 1,
    });
    refusal
}

/// An answer that a [fault](super::Fault) asked for.
pub(super) fn injected(code: u16) -> Refusal {
    let reason = match code {
        403 => "Forbidden",
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "",
    };
    failure(code, reason, "a fault was injected")
}

/// The refusal as an API object.
pub(super) fn to_object(refusal: &Status) -> Value {
    let mut object = serde_json::to_value(refusal).unwrap_or_else(|_| json!({}));
    object["kind"] = json!("Status");
    object["apiVersion"] = json!("v1");
    object["metadata"] = json!({});
    object
}

/// The `v1 Status` that says an object is deleted.
pub(super) fn deleted(kind: &Kind, name: &str, uid: &str) -> Value {
    let mut status = Status::success();
    let mut details = about(kind, kind.plural, name, Vec::new());
    details.uid = uid.to_owned();
    status.status = Some(StatusSummary::Success);
    status.details = Some(details);
    to_object(&status)
}
