//! Which lists and maps of an object are merged item by item, and by which keys.
//!
//! A Kubernetes API server knows this from its OpenAPI schemas (`x-kubernetes-list-type` and
//! friends); here it is a table of the few places where it matters. Every list that is not in the
//! table is atomic, every map is merged key by key.

use serde_json::Value;

use super::kind::Kind;

/// How server-side apply treats a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// An object with known fields, or a scalar.
    Fields,
    /// A map whose keys are data, such as annotations.
    Map,
    /// Owned and replaced as a whole.
    Atomic,
    /// A list of objects, each identified by these fields.
    Keyed(&'static [&'static str]),
    /// A list of scalars without order.
    Set,
}

/// A place inside an object of some kind, without indices: `spec.containers[].ports`.
#[derive(Clone, Debug)]
pub(super) struct Place {
    kind: &'static Kind,
    path: String,
}

impl Place {
    /// The object itself.
    pub(super) fn root(kind: &'static Kind) -> Self {
        Self { kind, path: String::new() }
    }

    /// The place that one step of a fieldsV1 tree leads to, `f:name` or a list item.
    pub(super) fn child(&self, step: &str) -> Self {
        let path = match step.strip_prefix("f:") {
            Some(name) if self.path.is_empty() => name.to_owned(),
            Some(name) => format!("{}.{name}", self.path),
            None => format!("{}[]", self.path),
        };
        Self { kind: self.kind, path }
    }

    /// How server-side apply treats what is here.
    pub(super) fn shape(&self) -> Shape {
        match (self.kind.name, self.path.as_str()) {
            (_, "metadata.annotations" | "metadata.labels") => Shape::Map,
            (_, "metadata.ownerReferences") => Shape::Keyed(&["uid"]),
            (_, "metadata.finalizers") => Shape::Set,
            ("Service", "spec.ports") => Shape::Keyed(&["port", "protocol"]),
            ("Service", "spec.selector") | ("Pod", "spec.nodeSelector") => Shape::Atomic,
            ("Service" | "Node" | "Namespace" | "Pod", "status.conditions") => {
                Shape::Keyed(&["type"])
            }
            ("Node", "status.addresses") => Shape::Keyed(&["type"]),
            ("Node", "spec.podCIDRs") => Shape::Set,
            ("Node", "status.capacity" | "status.allocatable") => Shape::Map,
            ("Pod", "status.podIPs" | "status.hostIPs") => Shape::Keyed(&["ip"]),
            ("Pod", "spec.containers" | "spec.containers[].env" | "spec.volumes") => {
                Shape::Keyed(&["name"])
            }
            ("Pod", "spec.containers[].ports") => Shape::Keyed(&["containerPort", "protocol"]),
            ("Event", "involvedObject" | "regarding" | "related" | "source") => Shape::Atomic,
            _ => Shape::Fields,
        }
    }

    /// The key by which a strategic merge patch finds the items of this list; none: replace it.
    pub(super) fn merge_key(&self) -> Option<&'static str> {
        match (self.kind.name, self.path.as_str()) {
            (_, "metadata.ownerReferences") => Some("uid"),
            ("Service", "spec.ports") => Some("port"),
            ("Node", "spec.taints") => Some("key"),
            ("Pod", "spec.containers[].ports") => Some("containerPort"),
            _ => match self.shape() {
                Shape::Keyed(&[key]) => Some(key),
                Shape::Keyed(_) | Shape::Fields | Shape::Map | Shape::Atomic | Shape::Set => None,
            },
        }
    }

    /// Whether a strategic merge patch adds to this list of scalars instead of replacing it.
    pub(super) fn merges_scalars(&self) -> bool {
        self.shape() == Shape::Set
    }
}

/// The parts of a value that are owned one by one, each with its step; `None` if it has none and
/// is owned as a whole.
pub(super) fn members(value: &Value, shape: Shape) -> Option<Vec<(String, &Value)>> {
    match (value, shape) {
        (Value::Object(fields), Shape::Fields | Shape::Map) => {
            Some(fields.iter().map(|(name, value)| (format!("f:{name}"), value)).collect())
        }
        (Value::Array(items), Shape::Keyed(keys)) => {
            items.iter().map(|item| Some((key_step(item, keys)?, item))).collect()
        }
        (Value::Array(items), Shape::Set) => {
            Some(items.iter().map(|item| (format!("v:{item}"), item)).collect())
        }
        _ => None,
    }
}

/// `k:{"port":80,"protocol":"TCP"}`
fn key_step(item: &Value, keys: &[&str]) -> Option<String> {
    let item = item.as_object()?;
    let mut step = String::from("k:{");
    for (n, key) in keys.iter().enumerate() {
        let tcp = Value::from("TCP");
        let value = match (item.get(*key), *key) {
            (Some(value), _) => value,
            (None, "protocol") => &tcp,
            (None, _) => return None,
        };
        let comma = if n == 0 { "" } else { "," };
        step.push_str(&format!("{comma}{key:?}:{value}"));
    }
    step.push('}');
    Some(step)
}
