//! Requests that edit and delete objects that exist.

use arbitrary::Arbitrary;
use serde_json::{Value, json};

use crate::changes::{self, Change, at};
use crate::http::{Answer, Call};
use crate::kinds::{name_of, path_of};
use crate::templates::{changed, like};
use crate::terms::Terms;
use crate::world::World;

/// The content type of a configuration for server-side apply.
const APPLY: &str = "application/apply-patch+yaml";

/// A PUT or a PATCH.
#[derive(Arbitrary, Debug)]
pub(crate) struct Edit {
    subject: u8,
    how: How,
    is_to_status: bool,
    is_in_other_form: bool,
    /// Takes over what a template of the kind has.
    template: Option<u8>,
    changes: Vec<Change>,
    lock: u8,
    terms: Terms,
}

#[derive(Arbitrary, Debug)]
enum How {
    Replace,
    /// By server-side apply.
    Apply,
    /// The same of another object, which may be new.
    ApplyTo(u8),
    Merge,
    Strategic,
    Operations(Vec<(u8, u8, u8)>),
}

impl Edit {
    pub(crate) fn run(&self, world: &mut World) {
        let Some(live) = shown(world, self.subject, self.is_in_other_form) else { return };
        let call = self.call(&live);
        let Some(answer) = world.call(&call).filter(|answer| answer.code < 300) else { return };
        let written = answer.json();
        if self.terms.is_rehearsal() || written["kind"] != live["kind"] {
            return;
        }
        world.check_written(&written);
        if written["metadata"]["deletionTimestamp"].is_null() {
            self.check_repeated(world, &call, &written);
        }
    }

    fn call(&self, live: &Value) -> Call {
        let mut path = path_of(live);
        let (method, content_type, mut body) = match &self.how {
            How::Replace => ("PUT", "application/json", self.replacement(live)),
            How::Apply => ("PATCH", APPLY, self.configuration(live)),
            How::ApplyTo(name) => {
                let mut other = live.clone();
                other["metadata"]["name"] = json!(name_of(*name));
                path = path_of(&other);
                ("PATCH", APPLY, self.configuration(&other))
            }
            How::Merge => ("PATCH", "application/merge-patch+json", self.patch(live)),
            How::Strategic => {
                ("PATCH", "application/strategic-merge-patch+json", self.strategic(live))
            }
            How::Operations(operations) => {
                let kind = live["kind"].as_str().unwrap_or_default();
                let operations = changes::operations(kind, operations);
                ("PATCH", "application/json-patch+json", operations)
            }
        };
        self.lock(live, &mut body);
        if self.is_to_status {
            path += "/status";
        }
        Call {
            method,
            path,
            query: self.terms.query(),
            accept: self.terms.accept(),
            content_type,
            body: body.to_string().into_bytes(),
        }
    }

    /// Nothing changes when a configuration is applied once more, or an object is replaced by itself.
    fn check_repeated(&self, world: &mut World, call: &Call, written: &Value) {
        let itself = Call {
            method: "PUT",
            content_type: "application/json",
            body: written.to_string().into_bytes(),
            ..call.clone()
        };
        let before = world.version();
        world
            .call(&itself)
            .inspect(|answer| assert_eq!(answer.code, 200, "{answer:?} to {itself:?}"));
        assert_eq!(world.version(), before, "{written}");
        let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        let version = body["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        if call.content_type == APPLY && version.is_empty() {
            world.call(call);
            assert_eq!(world.version(), before, "{body} applied to {written}");
        }
    }

    /// The object with a template's content.
    fn replacement(&self, live: &Value) -> Value {
        let mut object = live.clone();
        let template = self.template.map(|number| like(live, number));
        for (name, value) in template.as_ref().and_then(Value::as_object).into_iter().flatten() {
            if name != "metadata" {
                object[name] = value.clone();
            }
        }
        changed(object, &self.changes)
    }

    /// What a manager may want of the object.
    fn configuration(&self, live: &Value) -> Value {
        let mut object = self.template.map_or(json!({}), |number| like(live, number));
        for field in ["apiVersion", "kind"] {
            object[field] = live[field].clone();
        }
        for field in ["name", "namespace"] {
            let value = live["metadata"][field].clone();
            changes::put(&mut object, &format!("/metadata/{field}"), value);
        }
        changed(object, &self.changes)
    }

    fn patch(&self, live: &Value) -> Value {
        let mut patch = self.template.map_or(json!({}), |number| like(live, number));
        changes::make(&mut patch, live["kind"].as_str().unwrap_or_default(), &self.changes);
        patch
    }

    fn strategic(&self, live: &Value) -> Value {
        let mut patch = self.template.map_or(json!({}), |number| like(live, number));
        let kind = live["kind"].as_str().unwrap_or_default();
        changes::make_strategic(&mut patch, kind, &self.changes);
        patch
    }

    /// Says which version the edit is for, or leaves it as it is.
    fn lock(&self, live: &Value, body: &mut Value) {
        let version = &live["metadata"]["resourceVersion"];
        let (field, value) = match self.lock % 8 {
            1 => ("resourceVersion", version.clone()),
            2 => ("resourceVersion", json!("1")),
            3 => ("resourceVersion", Value::Null),
            4 => ("uid", live["metadata"]["uid"].clone()),
            5 => ("uid", json!("another")),
            _ => return,
        };
        if body["metadata"].is_object() {
            body["metadata"][field] = value;
        }
    }
}

const PROPAGATIONS: [&str; 3] = ["Background", "Foreground", "Orphan"];

/// A DELETE.
#[derive(Arbitrary, Debug)]
pub(crate) struct Delete {
    subject: u8,
    is_in_other_form: bool,
    precondition: u8,
    propagation: u8,
    rehearsal: u8,
}

impl Delete {
    pub(crate) fn run(&self, world: &mut World) {
        let Some(live) = shown(world, self.subject, self.is_in_other_form) else { return };
        let metadata = &live["metadata"];
        let preconditions = match self.precondition % 6 {
            1 => json!({"uid": metadata["uid"]}),
            2 => json!({"resourceVersion": metadata["resourceVersion"]}),
            3 => json!({"uid": "another"}),
            4 => json!({"resourceVersion": "1"}),
            _ => Value::Null,
        };
        let options = json!({
            "kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions,
            "propagationPolicy": PROPAGATIONS[at(self.propagation, PROPAGATIONS.len())],
        });
        let is_rehearsal = self.rehearsal % 8 == 1;
        let call = Call {
            method: "DELETE",
            query: if is_rehearsal { "dryRun=All".to_owned() } else { String::new() },
            body: match self.propagation {
                0 if preconditions.is_null() => Vec::new(),
                _ => options.to_string().into_bytes(),
            },
            ..Call::get(path_of(&live))
        };
        let Some(answer) = world.call(&call).filter(|answer| answer.code < 300) else { return };
        if !is_rehearsal {
            check_deleted(world, &live, &answer);
        }
    }
}

/// An object that was deleted is gone, or waits for its finalizers.
fn check_deleted(world: &World, live: &Value, answer: &Answer) {
    let answer = answer.json();
    let left = world.objects(live["kind"].as_str().unwrap_or_default());
    let mut left = left.filter(|object| object["metadata"]["uid"] == live["metadata"]["uid"]);
    match left.next() {
        None => assert_eq!(answer["status"], "Success", "{answer}"),
        Some(object) => {
            assert!(object["metadata"]["deletionTimestamp"].is_string(), "{object}");
            assert_eq!(answer["metadata"], object["metadata"]);
        }
    }
}

/// An object that exists; an Event in the form of its other group, if that is wanted.
fn shown(world: &mut World, subject: u8, is_in_other_form: bool) -> Option<Value> {
    let mut object = world.subject(subject)?;
    if object["kind"] != "Event" || !is_in_other_form {
        return Some(object);
    }
    object["apiVersion"] = json!("events.k8s.io/v1");
    let answer = world.call(&Call::get(path_of(&object)))?;
    assert_eq!(answer.code, 200, "{answer:?}");
    Some(answer.json())
}
