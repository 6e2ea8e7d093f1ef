//! The kinds of PATCH, and what each makes of an object.

use json_patch::Patch as JsonPatch;
use serde_json::{Map, Value};

use super::kind::Kind;
use super::refusal::{self, Refusal};
use super::shape::Place;

/// The body of a PATCH, told apart by its content type.
#[derive(Clone, Debug)]
pub(super) enum Patch {
    /// RFC 7396.
    Merge(Value),
    /// RFC 6902.
    Json(JsonPatch),
    /// A merge patch that knows the keys of some lists, for built-in kinds.
    Strategic(Value),
    /// A configuration for server-side apply.
    Apply(Value),
}

impl Patch {
    /// Reads a body by its content type.
    ///
    /// # Errors
    ///
    /// 415 for an unknown type, 400 for a body that is not JSON.
    pub(super) fn parse(content_type: &str, body: &[u8]) -> Result<Self, Refusal> {
        let value = || parse_object(body);
        match content_type {
            "application/merge-patch+json" => Ok(Self::Merge(value()?)),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic(value()?)),
            "application/json-patch+json" => serde_json::from_slice(body)
                .map(Self::Json)
                .map_err(|e| refusal::bad_request(format!("error decoding patch: {e}"))),
            "application/apply-patch+yaml" => Ok(Self::Apply(value()?)),
            _ => Err(refusal::unsupported_media_type(
                "application/json-patch+json, application/merge-patch+json, \
                 application/strategic-merge-patch+json, application/apply-patch+yaml",
            )),
        }
    }
}

/// Reads a body that must be a JSON object.
pub(super) fn parse_object(body: &[u8]) -> Result<Value, Refusal> {
    match serde_json::from_slice(body) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(refusal::bad_request("the body must be a JSON object")),
        Err(e) => Err(refusal::bad_request(format!("the body is not JSON: {e}"))),
    }
}

/// The live object with a JSON patch applied to it.
pub(super) fn json(live: &Value, patch: &JsonPatch) -> Result<Value, Refusal> {
    let mut patched = live.clone();
    // Undoing a patch that fails half-way may panic; the copy is thrown away instead.
    match json_patch::patch_unsafe(&mut patched, patch) {
        Ok(()) => Ok(patched),
        Err(e) => {
            let mut refused = refusal::bad_request(e.to_string());
            refused.code = 422;
            refused.reason = "Invalid".to_owned();
            Err(refused)
        }
    }
}

/// The live object with a strategic merge patch applied to it.
pub(super) fn strategic(
    kind: &'static Kind,
    live: &Value,
    patch: &Value,
) -> Result<Value, Refusal> {
    let mut patched = live.clone();
    lay_over(&mut patched, patch, &Place::root(kind))?;
    Ok(patched)
}

const DIRECTIVE: &str = "$patch";
const ORDER: &str = "$setElementOrder/";
const DELETE_SCALARS: &str = "$deleteFromPrimitiveList/";
const RETAIN: &str = "$retainKeys";

fn lay_over(live: &mut Value, patch: &Value, place: &Place) -> Result<(), Refusal> {
    let Value::Object(patch) = patch else {
        *live = patch.clone();
        return Ok(());
    };
    match patch.get(DIRECTIVE).and_then(Value::as_str) {
        Some("replace") => {
            *live = Value::Object(without_directives(patch));
            return Ok(());
        }
        Some("delete") => {
            *live = Value::Object(Map::new());
            return Ok(());
        }
        _ => {}
    }
    if !live.is_object() {
        *live = Value::Object(Map::new());
    }
    let Value::Object(fields) = live else { return Ok(()) };
    if let Some(Value::Array(retained)) = patch.get(RETAIN) {
        fields.retain(|name, _| retained.iter().any(|r| r == name));
    }
    for (name, value) in patch {
        if name == DIRECTIVE || name == RETAIN || name.starts_with(ORDER) {
            continue;
        }
        if let Some(list) = name.strip_prefix(DELETE_SCALARS) {
            if let (Some(Value::Array(items)), Value::Array(gone)) = (fields.get_mut(list), value) {
                items.retain(|item| !gone.contains(item));
            }
            continue;
        }
        let child = place.child(&format!("f:{name}"));
        match value {
            Value::Null => {
                fields.remove(name);
            }
            Value::Object(_) => {
                let entry = fields.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
                lay_over(entry, value, &child)?;
            }
            Value::Array(items) => {
                let order = patch.get(&format!("{ORDER}{name}")).and_then(Value::as_array);
                let entry = fields.entry(name.clone()).or_insert_with(|| Value::Array(Vec::new()));
                lay_list_over(entry, items, order, &child)?;
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                fields.insert(name.clone(), value.clone());
            }
        }
    }
    Ok(())
}

fn lay_list_over(
    live: &mut Value,
    patch: &[Value],
    order: Option<&Vec<Value>>,
    place: &Place,
) -> Result<(), Refusal> {
    let (Value::Array(items), Some(key)) = (&mut *live, place.merge_key()) else {
        if let (Value::Array(items), true) = (&mut *live, place.merges_scalars()) {
            let new: Vec<_> = patch.iter().filter(|p| !items.contains(p)).cloned().collect();
            items.extend(new);
        } else {
            *live = Value::Array(patch.to_vec());
        }
        return Ok(());
    };
    if patch.iter().any(|p| p[DIRECTIVE] == "replace") {
        *items = patch.iter().filter(|p| p.get(DIRECTIVE).is_none()).cloned().collect();
        return Ok(());
    }
    for part in patch {
        let id = &part[key];
        if id.is_null() {
            let why = format!("map: {part} does not contain declared merge key: {key}");
            return Err(refusal::bad_request(why));
        }
        let found = items.iter().position(|item| item[key] == *id);
        match (found, part[DIRECTIVE] == "delete") {
            (Some(at), true) => {
                items.remove(at);
            }
            (None, true) => {}
            (Some(at), false) => lay_over(&mut items[at], part, &place.child("k:"))?,
            (None, false) => {
                let mut item = Value::Object(Map::new());
                lay_over(&mut item, part, &place.child("k:"))?;
                items.push(item);
            }
        }
    }
    if let Some(order) = order {
        let rank = |item: &Value| order.iter().position(|o| o[key] == item[key]);
        items.sort_by_key(|item| rank(item).unwrap_or(usize::MAX));
    }
    Ok(())
}

fn without_directives(patch: &Map<String, Value>) -> Map<String, Value> {
    patch
        .iter()
        .filter(|(name, _)| !name.starts_with('$'))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect()
}
