//! Who manages which fields of an object: `metadata.managedFields` and server-side apply.

use serde_json::{Map, Value, json};

use super::fields::FieldSet;
use super::kind::{Kind, Subresource};
use super::refusal::{self, Refusal};
use super::shape::{Place, Shape, members};

/// Who writes, as far as ownership of fields is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    /// `status`, or nothing.
    pub(super) subresource: &'static str,
}

/// The two ways to come to own fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// By server-side apply: the last configuration's fields, whatever their value was.
    Apply,
    /// By any other write: the fields it changed.
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// One entry of `metadata.managedFields`.
#[derive(Clone, Debug)]
struct Manager {
    name: String,
    operation: String,
    api_version: String,
    subresource: String,
    time: Option<String>,
    fields: FieldSet,
}

impl Manager {
    fn parse(entry: &Value) -> Option<Self> {
        let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        Some(Self {
            name: text("manager"),
            operation: text("operation"),
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: entry["time"].as_str().map(ToOwned::to_owned),
            fields: FieldSet::parse(&entry["fieldsV1"])?,
        })
    }

    fn to_json(&self) -> Value {
        let mut entry = json!({
            "manager": self.name,
            "operation": self.operation,
            "apiVersion": self.api_version,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields.to_json(),
        });
        if let Some(time) = &self.time {
            entry["time"] = json!(time);
        }
        if !self.subresource.is_empty() {
            entry["subresource"] = json!(self.subresource);
        }
        entry
    }

    fn is(&self, who: &Identity) -> bool {
        self.name == who.manager
            && self.operation == who.operation.name()
            && self.subresource == who.subresource
            && (who.operation == Operation::Apply || self.api_version == who.api_version)
    }

    /// How a conflict names this manager.
    fn describe(&self) -> String {
        let mut text = format!("{:?}", self.name);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        text.push_str(&format!(" using {}", self.api_version));
        if let (Some(time), "Update") = (&self.time, self.operation.as_str()) {
            text.push_str(&format!(" at {time}"));
        }
        text
    }
}

fn parse_managers(object: &Value) -> Option<Vec<Manager>> {
    object["metadata"]["managedFields"].as_array()?.iter().map(Manager::parse).collect()
}

fn write_managers(object: &mut Value, managers: &[Manager]) {
    let mut managers: Vec<&Manager> = managers.iter().filter(|m| !m.fields.is_empty()).collect();
    managers.sort_by_key(|m| (&m.operation, &m.time, &m.name));
    let entries: Vec<Value> = managers.into_iter().map(Manager::to_json).collect();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        match entries.is_empty() {
            true => metadata.remove("managedFields"),
            false => metadata.insert("managedFields".to_owned(), Value::Array(entries)),
        };
    }
}

/// The entry of `who`, added if there is none yet.
fn entry_of<'m>(managers: &'m mut Vec<Manager>, who: &Identity) -> &'m mut Manager {
    let at = managers.iter().position(|m| m.is(who)).unwrap_or_else(|| {
        managers.push(Manager {
            name: who.manager.clone(),
            operation: who.operation.name().to_owned(),
            api_version: who.api_version.clone(),
            subresource: who.subresource.to_owned(),
            time: None,
            fields: FieldSet::default(),
        });
        managers.len() - 1
    });
    &mut managers[at]
}

/// Nobody owns what the API server itself writes or what names the object, and a write to one of
/// object and status owns nothing of the other.
fn forget_unowned(kind: &Kind, who: &Identity, fields: &mut FieldSet) {
    match (kind.status, who.subresource) {
        (Subresource::None, _) => {}
        (Subresource::WithMetadata | Subresource::Alone, "") => fields.forget(&["f:status"]),
        (Subresource::WithMetadata | Subresource::Alone, _) => fields.forget(&["f:spec"]),
    }
    fields.forget(&["f:apiVersion"]);
    fields.forget(&["f:kind"]);
    for field in [
        "f:name",
        "f:namespace",
        "f:uid",
        "f:resourceVersion",
        "f:generation",
        "f:creationTimestamp",
        "f:deletionTimestamp",
        "f:deletionGracePeriodSeconds",
        "f:managedFields",
        "f:selfLink",
    ] {
        fields.forget(&["f:metadata", field]);
    }
}

/// Notes in `new` who owns what, after a write other than server-side apply.
///
/// The fields that changed pass to `who`. A client may edit `managedFields` itself, as `kubectl
/// apply --server-side` does when it takes over an object; an empty list says nothing.
pub(super) fn note_update(
    kind: &'static Kind,
    old: &Value,
    new: &mut Value,
    who: &Identity,
    now: &str,
) {
    let edited = parse_managers(new).filter(|managers| !managers.is_empty());
    let mut managers = edited.or_else(|| parse_managers(old)).unwrap_or_default();
    let mut difference = FieldSet::difference(old, new, &Place::root(kind));
    forget_unowned(kind, who, &mut difference.changed);
    forget_unowned(kind, who, &mut difference.removed);
    for manager in &mut managers {
        manager.fields = manager.fields.without(&difference.removed);
        if !manager.is(who) {
            manager.fields = manager.fields.minus(&difference.changed);
        }
    }
    if !difference.changed.is_empty() {
        let entry = entry_of(&mut managers, who);
        entry.fields.union(&difference.changed);
        entry.time = Some(now.to_owned());
    }
    write_managers(new, &managers);
}

/// Applies a configuration to the live object (`Null`-free; an empty object if it is new).
///
/// # Errors
///
/// Without `force`, 409 names the fields whose value would change and that others own.
pub(super) fn apply(
    kind: &'static Kind,
    live: &Value,
    configuration: &Value,
    who: &Identity,
    force: bool,
    now: &str,
) -> Result<Value, Refusal> {
    let root = Place::root(kind);
    let mut managers = parse_managers(live).unwrap_or_default();
    let mut wanted = FieldSet::of_configuration(configuration, &root);
    forget_unowned(kind, who, &mut wanted);

    let entry = entry_of(&mut managers, who);
    let before = std::mem::replace(&mut entry.fields, wanted);
    entry.api_version.clone_from(&who.api_version);
    let mut kept = FieldSet::default();
    for manager in &managers {
        kept.union(&manager.fields);
    }

    let mut merged = merge(live, configuration, &root);
    prune(&mut merged, &before, &kept, &root);

    let mut difference = FieldSet::difference(live, &merged, &root);
    forget_unowned(kind, who, &mut difference.changed);
    forget_unowned(kind, who, &mut difference.removed);
    let mut conflicts = Vec::new();
    for manager in managers.iter_mut().filter(|m| !m.is(who)) {
        let contested = manager.fields.intersection(&difference.changed);
        conflicts.extend(contested.paths().into_iter().map(|path| (manager.describe(), path)));
        manager.fields = manager.fields.minus(&contested).without(&difference.removed);
    }
    if !force && !conflicts.is_empty() {
        return Err(refusal::owned_by_others(&conflicts));
    }
    let entry = entry_of(&mut managers, who);
    if !difference.changed.is_empty() || !difference.removed.is_empty() {
        entry.time = Some(now.to_owned());
    }
    write_managers(&mut merged, &managers);
    Ok(merged)
}

/// The live value with the configuration laid over it.
fn merge(live: &Value, configuration: &Value, place: &Place) -> Value {
    match (live, configuration, place.shape()) {
        (Value::Object(live), Value::Object(wanted), Shape::Fields | Shape::Map) => {
            let mut merged = live.clone();
            for (name, value) in wanted {
                let value = match live.get(name) {
                    Some(live) => merge(live, value, &place.child(&format!("f:{name}"))),
                    None => value.clone(),
                };
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (Value::Array(_), Value::Array(_), shape @ (Shape::Keyed(_) | Shape::Set)) => {
            match (members(live, shape), members(configuration, shape)) {
                (Some(live), Some(wanted)) => Value::Array(merge_items(&live, &wanted, place)),
                _ => configuration.clone(),
            }
        }
        _ => configuration.clone(),
    }
}

/// Items in the configuration's order; an item of the live list alone stays behind the one that it
/// followed there.
fn merge_items(
    live: &[(String, &Value)],
    wanted: &[(String, &Value)],
    place: &Place,
) -> Vec<Value> {
    let mut merged: Vec<(&str, Value)> = Vec::new();
    for (step, value) in wanted {
        let value = match live.iter().find(|(s, _)| s == step) {
            Some((_, live)) => merge(live, value, &place.child(step)),
            None => (*value).clone(),
        };
        merged.push((step, value));
    }
    let mut at = 0;
    for (step, value) in live {
        match merged.iter().position(|(s, _)| s == step) {
            Some(found) => at = found + 1,
            None => {
                merged.insert(at, (step, (*value).clone()));
                at += 1;
            }
        }
    }
    merged.into_iter().map(|(_, value)| value).collect()
}

/// Removes what `before` owned and nobody owns any more.
fn prune(value: &mut Value, before: &FieldSet, kept: &FieldSet, place: &Place) {
    let mut gone = Vec::new();
    for (step, below) in before.steps() {
        let Some(kept) = kept.below(step) else {
            gone.push(step);
            continue;
        };
        let child = place.child(step);
        if let Some(part) = member_mut(value, step, place.shape()) {
            prune(part, below, kept, &child);
        }
    }
    if gone.is_empty() {
        return;
    }
    let shape = place.shape();
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !gone.iter().any(|s| s.strip_prefix("f:") == Some(name)));
        }
        Value::Array(_) => {
            let rest = members(value, shape).map(|parts| {
                let stays = parts.into_iter().filter(|(step, _)| !gone.contains(&step));
                stays.map(|(_, part)| part.clone()).collect()
            });
            if let Some(rest) = rest {
                *value = Value::Array(rest);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn member_mut<'v>(value: &'v mut Value, step: &str, shape: Shape) -> Option<&'v mut Value> {
    if let Some(name) = step.strip_prefix("f:") {
        return value.as_object_mut()?.get_mut(name);
    }
    let at = members(value, shape)?.iter().position(|(s, _)| s == step)?;
    value.as_array_mut()?.get_mut(at)
}

/// Whether two versions of an object differ in nothing but the times of their managers.
pub(super) fn same(old: &Value, new: &Value) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return old == new };
    old.len() == new.len()
        && old.iter().all(|(name, value)| name == "metadata" || new.get(name) == Some(value))
        && timeless(old) == timeless(new)
}

fn timeless(object: &Map<String, Value>) -> Option<Value> {
    let mut metadata = object.get("metadata")?.clone();
    if let Some(Value::Array(entries)) = metadata.get_mut("managedFields") {
        for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
            entry.remove("time");
        }
    }
    Some(metadata)
}
