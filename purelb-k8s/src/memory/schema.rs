//! Objects of custom resources against their OpenAPI schema: pruning, defaults, validation.
//!
//! It knows the keywords that a structural schema of a CustomResourceDefinition may have and that
//! our definitions use; a test fails when they begin to use another one.

use regex::Regex;
use serde_json::{Map, Value};

use super::refusal::Complaint;

/// Removes the fields that the schema does not know.
pub(super) fn prune(schema: &Value, value: &mut Value) {
    if schema["x-kubernetes-preserve-unknown-fields"] == true {
        return;
    }
    match value {
        Value::Object(fields) => {
            let rest = &schema["additionalProperties"];
            fields.retain(|name, value| match known_property(schema, name) {
                Some(property) => {
                    prune(property, value);
                    true
                }
                None => {
                    prune(rest, value);
                    !rest.is_null()
                }
            });
        }
        Value::Array(items) => items.iter_mut().for_each(|item| prune(&schema["items"], item)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn known_property<'s>(schema: &'s Value, name: &str) -> Option<&'s Value> {
    schema["properties"].as_object()?.get(name)
}

/// Fills in defaults; a null where none is allowed counts as absent if there is a default.
pub(super) fn fill(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let none = Map::new();
            for (name, property) in schema["properties"].as_object().unwrap_or(&none) {
                if let Some(default) = property.get("default") {
                    let absent = match fields.get(name) {
                        None => true,
                        Some(Value::Null) => property["nullable"] != true,
                        Some(_) => false,
                    };
                    if absent {
                        fields.insert(name.clone(), default.clone());
                    }
                }
                if let Some(value) = fields.get_mut(name) {
                    fill(property, value);
                }
            }
            let rest = &schema["additionalProperties"];
            for (_, value) in fields.iter_mut().filter(|_| rest.is_object()) {
                fill(rest, value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(&schema["items"], item)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Answers a rule in the Common Expression Language about a value.
pub(super) type Rule = fn(&str, &Value) -> bool;

/// Says what is wrong with a value at `path`.
pub(super) fn check(
    schema: &Value,
    value: &Value,
    path: &str,
    rule: Rule,
    complaints: &mut Vec<Complaint>,
) {
    let before = complaints.len();
    let mut wrong = |shown: &Value, why: &str| {
        complaints.push(Complaint::invalid(path, shown, &format!("{path} in body {why}")));
    };
    if let Some(expected) = schema["type"].as_str()
        && !has_type(expected, value)
        && !(value.is_null() && schema["nullable"] == true)
    {
        let found = type_name(value);
        wrong(&Value::from(found), &format!("must be of type {expected}: {found:?}"));
        return;
    }
    check_bounds(schema, value, &mut wrong);
    if let Some(known) = schema["enum"].as_array()
        && !known.contains(value)
    {
        let known: Vec<&str> = known.iter().filter_map(Value::as_str).collect();
        complaints.push(Complaint::unsupported(path, value, &known));
    }
    match value {
        Value::Object(fields) => check_fields(schema, fields, path, rule, complaints),
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                check(&schema["items"], item, &format!("{path}[{n}]"), rule, complaints);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    // As in a real API server, rules see only what the rest of the schema lets pass.
    if complaints.len() > before {
        return;
    }
    for entry in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let text = entry["rule"].as_str().unwrap_or_default();
        if !rule(text, value) {
            let why = entry["message"].as_str().unwrap_or(text);
            let shown = Value::from(type_name(value));
            complaints.push(Complaint::invalid(path, &shown, why));
        }
    }
}

fn check_fields(
    schema: &Value,
    fields: &Map<String, Value>,
    path: &str,
    rule: Rule,
    complaints: &mut Vec<Complaint>,
) {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            complaints.push(Complaint::required(below(name), ""));
        }
    }
    for (name, value) in fields {
        if let Some(property) = known_property(schema, name) {
            check(property, value, &below(name), rule, complaints);
        } else if schema["additionalProperties"].is_object() {
            check(&schema["additionalProperties"], value, &below(name), rule, complaints);
        }
    }
}

fn check_bounds(schema: &Value, value: &Value, wrong: &mut impl FnMut(&Value, &str)) {
    #[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^52")]
    let (size, least, most, unit) = match value {
        Value::Number(number) => (number.as_f64(), "minimum", "maximum", ""),
        Value::String(text) => {
            (Some(text.chars().count() as f64), "minLength", "maxLength", " chars long")
        }
        Value::Array(items) => (Some(items.len() as f64), "minItems", "maxItems", " items long"),
        Value::Null | Value::Bool(_) | Value::Object(_) => return,
    };
    let (Some(size), shown) = (size, shown(value)) else { return };
    if let Some(least) = schema[least].as_f64().filter(|least| size < *least) {
        wrong(&shown, &format!("should be at least {least}{unit}"));
    }
    if let Some(most) = schema[most].as_f64().filter(|most| size > *most) {
        wrong(&shown, &format!("should be at most {most}{unit}"));
    }
    if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str())
        && Regex::new(pattern).is_ok_and(|regex| !regex.is_match(text))
    {
        wrong(&shown, &format!("should match '{pattern}'"));
    }
}

/// How an error message shows a value.
fn shown(value: &Value) -> Value {
    match value {
        Value::Object(_) | Value::Array(_) => Value::from(type_name(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn has_type(expected: &str, value: &Value) -> bool {
    match expected {
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        expected => type_name(value) == expected,
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::super::custom;
    use super::*;

    /// Keywords that describe, and those that the functions above look at.
    const KNOWN: [&str; 19] = [
        "description",
        "format",
        "title",
        "default",
        "type",
        "properties",
        "additionalProperties",
        "items",
        "required",
        "enum",
        "pattern",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "nullable",
        "x-kubernetes-validations",
    ];

    fn look_for_others(schema: &Value) {
        for (keyword, value) in schema.as_object().expect("a schema is an object") {
            assert!(KNOWN.contains(&keyword.as_str()), "a new keyword: {keyword}");
            match keyword.as_str() {
                "properties" => {
                    value.as_object().expect("a map").values().for_each(look_for_others)
                }
                "items" | "additionalProperties" => look_for_others(value),
                _ => {}
            }
        }
    }

    #[test]
    fn every_keyword_of_our_definitions_is_known() {
        for definition in custom::DEFINITIONS.iter() {
            look_for_others(&definition.schema);
        }
    }
}
