//! Bodies in protobuf, which `kubectl create namespace` and `kubectl create service` send
//! whatever the server says it understands.
//!
//! Only what those two commands can write is read: a table of the fields of Namespace and Service,
//! by their numbers in Kubernetes' `generated.proto`. Answers are JSON.

use serde_json::{Map, Value, json};

/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// A field that is read: its number, its name, and what it holds.
type Field = (u64, &'static str, Holds);

#[derive(Clone, Copy)]
enum Holds {
    Text,
    Texts,
    Number,
    Bool,
    /// A map from text to text.
    Pairs,
    Message(&'static [Field]),
    Messages(&'static [Field]),
    /// A number or a text.
    IntOrString,
}

const NAMESPACE: &[Field] = &[(1, "metadata", Holds::Message(METADATA))];

const SERVICE: &[Field] =
    &[(1, "metadata", Holds::Message(METADATA)), (2, "spec", Holds::Message(SERVICE_SPEC))];

const METADATA: &[Field] = &[
    (1, "name", Holds::Text),
    (2, "generateName", Holds::Text),
    (3, "namespace", Holds::Text),
    (11, "labels", Holds::Pairs),
    (12, "annotations", Holds::Pairs),
    (14, "finalizers", Holds::Texts),
];

const SERVICE_SPEC: &[Field] = &[
    (1, "ports", Holds::Messages(SERVICE_PORT)),
    (2, "selector", Holds::Pairs),
    (3, "clusterIP", Holds::Text),
    (4, "type", Holds::Text),
    (5, "externalIPs", Holds::Texts),
    (7, "sessionAffinity", Holds::Text),
    (8, "loadBalancerIP", Holds::Text),
    (9, "loadBalancerSourceRanges", Holds::Texts),
    (10, "externalName", Holds::Text),
    (11, "externalTrafficPolicy", Holds::Text),
    (12, "healthCheckNodePort", Holds::Number),
    (13, "publishNotReadyAddresses", Holds::Bool),
    (17, "ipFamilyPolicy", Holds::Text),
    (18, "clusterIPs", Holds::Texts),
    (19, "ipFamilies", Holds::Texts),
    (20, "allocateLoadBalancerNodePorts", Holds::Bool),
    (21, "loadBalancerClass", Holds::Text),
    (22, "internalTrafficPolicy", Holds::Text),
];

const SERVICE_PORT: &[Field] = &[
    (1, "name", Holds::Text),
    (2, "protocol", Holds::Text),
    (3, "port", Holds::Number),
    (4, "targetPort", Holds::IntOrString),
    (5, "nodePort", Holds::Number),
    (6, "appProtocol", Holds::Text),
];

/// The object in a body, if it is one of the two kinds.
pub(super) fn parse(body: &[u8]) -> Option<Value> {
    let envelope = body.strip_prefix(MAGIC)?;
    let types = field_of(envelope, 1)?;
    let text = |number| String::from_utf8(field_of(types, number)?.to_vec()).ok();
    let (api_version, kind) = (text(1)?, text(2)?);
    let fields = match (api_version.as_str(), kind.as_str()) {
        ("v1", "Namespace") => NAMESPACE,
        ("v1", "Service") => SERVICE,
        _ => return None,
    };
    let mut object = message(field_of(envelope, 2)?, fields)?;
    object["apiVersion"] = json!(api_version);
    object["kind"] = json!(kind);
    Some(object)
}

/// The bytes of a message's last field with this number.
fn field_of(bytes: &[u8], wanted: u64) -> Option<&[u8]> {
    let mut found = None;
    let mut rest = bytes;
    while !rest.is_empty() {
        let (number, raw) = next_field(&mut rest)?;
        if let (true, Raw::Bytes(bytes)) = (number == wanted, raw) {
            found = Some(bytes);
        }
    }
    found
}

fn message(bytes: &[u8], fields: &[Field]) -> Option<Value> {
    let mut object = Map::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (number, raw) = next_field(&mut rest)?;
        let Some((_, name, holds)) = fields.iter().find(|(n, ..)| *n == number) else { continue };
        let name = (*name).to_owned();
        match (holds, raw) {
            // Go writes every field that is not a pointer; its zero stands for nothing.
            (Holds::Text, Raw::Bytes([])) | (Holds::Number, Raw::Varint(0)) => {}
            (Holds::Text, Raw::Bytes(bytes)) => {
                object.insert(name, text(bytes)?);
            }
            (Holds::Number, Raw::Varint(number)) => {
                object.insert(name, json!(number.cast_signed()));
            }
            (Holds::Bool, Raw::Varint(number)) => {
                object.insert(name, json!(number != 0));
            }
            (Holds::Message(fields), Raw::Bytes(bytes)) => {
                object.insert(name, message(bytes, fields)?);
            }
            (Holds::IntOrString, Raw::Bytes(bytes)) => {
                object.insert(name, int_or_string(bytes)?);
            }
            (Holds::Texts, Raw::Bytes(bytes)) => push(&mut object, name, text(bytes)?),
            (Holds::Messages(fields), Raw::Bytes(bytes)) => {
                push(&mut object, name, message(bytes, fields)?);
            }
            (Holds::Pairs, Raw::Bytes(bytes)) => {
                let key = String::from_utf8(field_of(bytes, 1)?.to_vec()).ok()?;
                let value = text(field_of(bytes, 2).unwrap_or_default())?;
                let pairs = object.entry(name).or_insert_with(|| json!({}));
                pairs.as_object_mut()?.insert(key, value);
            }
            (_, Raw::Varint(_) | Raw::Bytes(_) | Raw::Other) => return None,
        }
    }
    Some(Value::Object(object))
}

fn text(bytes: &[u8]) -> Option<Value> {
    String::from_utf8(bytes.to_vec()).ok().map(Value::from)
}

fn push(object: &mut Map<String, Value>, name: String, value: Value) {
    if let Value::Array(items) = object.entry(name).or_insert_with(|| json!([])) {
        items.push(value);
    }
}

/// The first field says which of the other two counts.
fn int_or_string(bytes: &[u8]) -> Option<Value> {
    const PARTS: &[Field] =
        &[(1, "type", Holds::Number), (2, "int", Holds::Number), (3, "text", Holds::Text)];
    let parts = message(bytes, PARTS)?;
    match parts["type"].as_i64() {
        Some(1) => Some(parts["text"].clone()),
        _ => Some(json!(parts["int"].as_i64().unwrap_or_default())),
    }
}

enum Raw<'b> {
    Varint(u64),
    Bytes(&'b [u8]),
    /// A fixed-size number.
    Other,
}

fn next_field<'b>(rest: &mut &'b [u8]) -> Option<(u64, Raw<'b>)> {
    let tag = varint(rest)?;
    let raw = match tag & 7 {
        0 => Raw::Varint(varint(rest)?),
        1 => take(rest, 8).map(|_| Raw::Other)?,
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Raw::Bytes(take(rest, length)?)
        }
        5 => take(rest, 4).map(|_| Raw::Other)?,
        _ => return None,
    };
    Some((tag >> 3, raw))
}

fn take<'b>(rest: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *take(rest, 1)?.first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `kubectl create namespace foo` sends.
    const FOO: &[u8] = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09Namespace\x12\x1b\x0a\x13\x0a\x03foo\x12\0\
        \x1a\0\x22\0\x2a\0\x32\08\0B\0\x12\0\x1a\x02\x0a\0\x1a\0\x22\0";

    #[test]
    fn a_namespace_is_read() {
        let expected = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "foo"},
        });
        assert_eq!(parse(FOO), Some(expected));
    }

    #[test]
    fn what_is_cut_short_is_refused_or_says_less() {
        for length in 0..FOO.len() {
            if let Some(object) = parse(&FOO[..length]) {
                assert_eq!(object["kind"], "Namespace");
            }
        }
    }
}
