//! Objects as Kubernetes' protobuf writes them: fields by the numbers of its `generated.proto`.

use serde_json::{Map, Value};

/// The fields of a message that are written, by name.
type Numbers = &'static [(&'static str, u64)];

const OBJECT: Numbers = &[("metadata", 1), ("spec", 2)];

const METADATA: Numbers = &[
    ("name", 1),
    ("generateName", 2),
    ("namespace", 3),
    ("resourceVersion", 6),
    ("labels", 11),
    ("annotations", 12),
    ("finalizers", 14),
];

const SERVICE_SPEC: Numbers = &[
    ("ports", 1),
    ("selector", 2),
    ("clusterIP", 3),
    ("type", 4),
    ("externalIPs", 5),
    ("sessionAffinity", 7),
    ("externalName", 10),
    ("externalTrafficPolicy", 11),
    ("healthCheckNodePort", 12),
    ("publishNotReadyAddresses", 13),
    ("ipFamilyPolicy", 17),
    ("clusterIPs", 18),
    ("ipFamilies", 19),
    ("allocateLoadBalancerNodePorts", 20),
    ("loadBalancerClass", 21),
    ("internalTrafficPolicy", 22),
];

const SERVICE_PORT: Numbers =
    &[("name", 1), ("protocol", 2), ("port", 3), ("targetPort", 4), ("nodePort", 5)];

/// A request's body: the magic number, and an envelope of the kind and the object.
pub(crate) fn body(object: &Value) -> Vec<u8> {
    let mut types = Vec::new();
    for (number, field) in [(1, "apiVersion"), (2, "kind")] {
        put_bytes(&mut types, number, object[field].as_str().unwrap_or_default().as_bytes());
    }
    let mut body = b"k8s\0".to_vec();
    put_bytes(&mut body, 1, &types);
    put_bytes(&mut body, 2, &message(object, OBJECT));
    body
}

fn message(object: &Value, numbers: Numbers) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        if let Some((_, number)) = numbers.iter().find(|(n, _)| n == name) {
            put_field(&mut bytes, *number, name, value);
        }
    }
    bytes
}

fn put_field(bytes: &mut Vec<u8>, number: u64, name: &str, value: &Value) {
    match (name, value) {
        ("targetPort", target) => put_bytes(bytes, number, &int_or_string(target)),
        (_, Value::Null) => {}
        (_, Value::Bool(flag)) => put_number(bytes, number, u64::from(*flag)),
        (_, Value::Number(value)) => {
            put_number(bytes, number, value.as_i64().unwrap_or_default().cast_unsigned());
        }
        (_, Value::String(text)) => put_bytes(bytes, number, text.as_bytes()),
        (_, Value::Array(items)) => {
            items.iter().for_each(|item| put_field(bytes, number, name, item));
        }
        ("labels" | "annotations" | "selector", Value::Object(pairs)) => {
            put_pairs(bytes, number, pairs);
        }
        ("metadata", _) => put_bytes(bytes, number, &message(value, METADATA)),
        ("spec", _) => put_bytes(bytes, number, &message(value, SERVICE_SPEC)),
        (_, Value::Object(_)) => put_bytes(bytes, number, &message(value, SERVICE_PORT)),
    }
}

fn put_pairs(bytes: &mut Vec<u8>, number: u64, pairs: &Map<String, Value>) {
    for (key, value) in pairs {
        let mut pair = Vec::new();
        put_bytes(&mut pair, 1, key.as_bytes());
        put_bytes(&mut pair, 2, value.as_str().unwrap_or_default().as_bytes());
        put_bytes(bytes, number, &pair);
    }
}

fn int_or_string(target: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_number(&mut bytes, 1, u64::from(target.is_string()));
    put_number(&mut bytes, 2, target.as_u64().unwrap_or_default());
    put_bytes(&mut bytes, 3, target.as_str().unwrap_or_default().as_bytes());
    bytes
}

fn put_number(bytes: &mut Vec<u8>, number: u64, value: u64) {
    put_varint(bytes, number << 3);
    put_varint(bytes, value);
}

fn put_bytes(bytes: &mut Vec<u8>, number: u64, value: &[u8]) {
    put_varint(bytes, number << 3 | 2);
    put_varint(bytes, value.len() as u64);
    bytes.extend(value);
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}
