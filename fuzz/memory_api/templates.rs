//! Well-formed objects of each kind, and a few that are not quite.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::changes::{self, Change, at};
use crate::kinds::{KINDS, name_of, namespace_of};

static TEMPLATES: LazyLock<Vec<Value>> =
    LazyLock::new(|| serde_json::from_str(include_str!("templates.json")).expect("it is JSON"));

/// One of them, without a name.
pub(crate) fn template(number: u8) -> Value {
    TEMPLATES[at(number, TEMPLATES.len())].clone()
}

/// One of those that are of an object's kind, in its form.
pub(crate) fn like(object: &Value, number: u8) -> Value {
    let of_kind = |wanted: &str| {
        let all = TEMPLATES.iter().filter(|template| template["kind"] == object["kind"]);
        let same = all.filter(|template| template["apiVersion"] == wanted);
        same.collect::<Vec<_>>()
    };
    let found = of_kind(object["apiVersion"].as_str().unwrap_or_default());
    found[at(number, found.len())].clone()
}

/// A template with a name, in a namespace if its kind has them.
pub(crate) fn named(mut object: Value, name: u8, namespace: u8) -> Value {
    match name_of(name) {
        "" => changes::put(&mut object, "/metadata/generateName", json!("made-")),
        name => changes::put(&mut object, "/metadata/name", json!(name)),
    }
    if KINDS.iter().any(|kind| object["kind"] == kind.name && kind.is_namespaced) {
        changes::put(&mut object, "/metadata/namespace", json!(namespace_of(namespace)));
    }
    object
}

/// An object with changes that its kind may see.
pub(crate) fn changed(mut object: Value, made: &[Change]) -> Value {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    changes::make(&mut object, &kind, made);
    object
}
