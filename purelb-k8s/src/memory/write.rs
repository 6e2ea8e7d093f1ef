//! Everything that changes an object: create, replace, patch, apply, delete.

use std::sync::Arc;

use serde_json::{Value, json};

use super::admit;
use super::identity;
use super::kind::{KINDS, Kind, NAMESPACES, Subresource};
use super::ownership::{self, Identity, Operation};
use super::patch::{self, Patch};
use super::refusal::{self, Refusal};
use super::store::{Object, Store};

/// The object that a request is about.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) kind: &'static Kind,
    /// Empty for kinds without namespaces.
    pub(super) namespace: String,
    pub(super) name: String,
    /// Whether the request is to `/status`.
    pub(super) status: bool,
}

/// What a request says about how to write.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) manager: String,
    /// Takes fields from their managers instead of conflicting with them.
    pub(super) force: bool,
    pub(super) dry_run: bool,
    pub(super) unknown_fields: UnknownFields,
}

/// What becomes of fields that a kind does not have (`fieldValidation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum UnknownFields {
    Ignore,
    #[default]
    Warn,
    Refuse,
}

/// What a write led to.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) object: Arc<Object>,
    pub(super) created: bool,
    pub(super) warnings: Vec<String>,
}

/// The ways to write an object that may exist.
#[derive(Clone, Debug)]
pub(super) enum Edit {
    Replace(Value),
    Patch(Patch),
}

/// What must hold for a deletion.
#[derive(Clone, Debug, Default)]
pub(super) struct Preconditions {
    pub(super) uid: Option<String>,
    pub(super) resource_version: Option<String>,
}

/// What a deletion led to.
#[derive(Debug)]
pub(super) enum Deletion {
    /// The object is gone; its uid.
    Gone(String),
    /// The object waits for its finalizers.
    Waits(Arc<Object>),
}

/// Creates an object.
pub(super) fn create(
    store: &mut Store,
    kind: &'static Kind,
    namespace: &str,
    mut object: Value,
    terms: &Terms,
) -> Result<Written, Refusal> {
    identity::check_kind(kind, &mut object)?;
    let name = identity::name_of_new(kind, &mut object)?;
    let target = Target { kind, namespace: namespace.to_owned(), name, status: false };
    identity::check_place(&target, &mut object)?;
    if object["metadata"]["resourceVersion"].as_str().is_some_and(|v| !v.is_empty()) {
        let why = "resourceVersion should not be set on objects to be created";
        return Err(refusal::bad_request(why));
    }
    if store.get(kind, namespace, &target.name).is_some() {
        return Err(refusal::already_exists(kind, &target.name));
    }
    let warnings = finish_new(store, &target, &mut object, terms, Operation::Update)?;
    Ok(Written { object: settle(store, kind, object, terms), created: true, warnings })
}

/// Writes an object that exists, or creates it by server-side apply.
pub(super) fn edit(
    store: &mut Store,
    target: &Target,
    edit: &Edit,
    terms: &Terms,
) -> Result<Written, Refusal> {
    let kind = target.kind;
    let current = store.get(kind, &target.namespace, &target.name);
    let Some(current) = current else {
        return match edit {
            Edit::Patch(Patch::Apply(configuration)) if !target.status => {
                apply_new(store, target, configuration, terms)
            }
            Edit::Patch(_) | Edit::Replace(_) => Err(refusal::not_found(kind, &target.name)),
        };
    };
    let live = current.shown(kind);
    let mut operation = Operation::Update;
    let mut proposed = match edit {
        Edit::Replace(object) => {
            identity::check_replacement(target, object)?;
            object.clone()
        }
        Edit::Patch(Patch::Merge(patch)) => {
            let mut patched = live.clone();
            json_patch::merge(&mut patched, patch);
            patched
        }
        Edit::Patch(Patch::Json(patch)) => patch::json(&live, patch)?,
        Edit::Patch(Patch::Strategic(_)) if kind.is_custom() => {
            return Err(refusal::unsupported_media_type(
                "application/json-patch+json, application/merge-patch+json, \
                 application/apply-patch+yaml",
            ));
        }
        Edit::Patch(Patch::Strategic(patch)) => patch::strategic(kind, &live, patch)?,
        Edit::Patch(Patch::Apply(configuration)) => {
            operation = Operation::Apply;
            let configuration = configuration_of(target, configuration)?;
            let who = identity_of(target, terms, operation);
            let now = identity::now();
            ownership::apply(kind, &live, &configuration, &who, terms.force, &now)?
        }
    };
    identity::check_kind(kind, &mut proposed)?;
    identity::check_place(target, &mut proposed)?;
    let replacing = matches!(edit, Edit::Replace(_));
    identity::check_lock(target, &live, &proposed, replacing)?;
    let warnings = finish_edited(store, target, &live, &mut proposed, terms, operation)?;
    if ownership::same(&live, &proposed) {
        return Ok(Written { object: current, created: false, warnings });
    }
    if identity::is_released(&proposed) && !terms.dry_run {
        store.remove(kind, &current);
        let last = Object::new(kept(kind, proposed), store.version());
        return Ok(Written { object: last, created: false, warnings });
    }
    Ok(Written { object: settle(store, kind, proposed, terms), created: false, warnings })
}

/// Deletes an object; a namespace takes what is in it along.
pub(super) fn delete(
    store: &mut Store,
    target: &Target,
    preconditions: &Preconditions,
    dry_run: bool,
) -> Result<Deletion, Refusal> {
    let kind = target.kind;
    let current = store
        .get(kind, &target.namespace, &target.name)
        .ok_or_else(|| refusal::not_found(kind, &target.name))?;
    let check = |what: &str, wanted: &Option<String>, found: &str| match wanted {
        Some(wanted) if wanted != found => {
            let why = format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
            );
            Err(refusal::conflict(kind, &target.name, &why))
        }
        Some(_) | None => Ok(()),
    };
    check("UID", &preconditions.uid, current.uid())?;
    let version = current.version().to_string();
    check("ResourceVersion", &preconditions.resource_version, &version)?;
    if dry_run {
        return Ok(Deletion::Gone(current.uid().to_owned()));
    }
    let mut object = current.kept().clone();
    if object["metadata"]["finalizers"].as_array().is_some_and(|list| !list.is_empty()) {
        if object["metadata"]["deletionTimestamp"].is_null() {
            object["metadata"]["deletionTimestamp"] = json!(identity::now());
            object["metadata"]["deletionGracePeriodSeconds"] = json!(0);
            return Ok(Deletion::Waits(store.put(kind, object)));
        }
        return Ok(Deletion::Waits(current));
    }
    if kind.shelf == NAMESPACES {
        empty(store, &target.name);
    }
    store.remove(kind, &current);
    Ok(Deletion::Gone(current.uid().to_owned()))
}

/// Removes everything in a namespace.
fn empty(store: &mut Store, namespace: &str) {
    for kind in KINDS.iter().filter(|kind| kind.namespaced) {
        let objects: Vec<_> = store.objects(kind, Some(namespace)).cloned().collect();
        for object in objects {
            store.remove(kind, &object);
        }
    }
}

/// Creates an object out of a configuration for server-side apply.
fn apply_new(
    store: &mut Store,
    target: &Target,
    configuration: &Value,
    terms: &Terms,
) -> Result<Written, Refusal> {
    let kind = target.kind;
    identity::check_name(kind, &target.name)?;
    let configuration = configuration_of(target, configuration)?;
    if !configuration["metadata"]["uid"].is_null() {
        let why =
            "uid mismatch: the provided object specified a uid, and no existing object was found";
        return Err(refusal::conflict(kind, &target.name, why));
    }
    if configuration["metadata"]["resourceVersion"].as_str().is_some_and(|v| !v.is_empty()) {
        return Err(refusal::outdated(kind, &target.name));
    }
    let who = identity_of(target, terms, Operation::Apply);
    let nothing = json!({});
    let now = identity::now();
    let mut object = ownership::apply(kind, &nothing, &configuration, &who, true, &now)?;
    identity::check_place(target, &mut object)?;
    let warnings = finish_new(store, target, &mut object, terms, Operation::Apply)?;
    Ok(Written { object: settle(store, kind, object, terms), created: true, warnings })
}

/// A configuration without what this target does not take, and without nulls.
fn configuration_of(target: &Target, configuration: &Value) -> Result<Value, Refusal> {
    let mut configuration = configuration.clone();
    for field in ["apiVersion", "kind"] {
        if configuration[field].as_str().is_none_or(str::is_empty) {
            let why = format!("error decoding patch: Object '{field}' is missing");
            return Err(refusal::bad_request(why));
        }
    }
    identity::check_kind(target.kind, &mut configuration)?;
    if configuration["metadata"].get("managedFields").is_some_and(|m| !m.is_null()) {
        return Err(refusal::bad_request("metadata.managedFields must be nil"));
    }
    admit::drop_nulls(&mut configuration);
    if let Some(fields) = configuration.as_object_mut() {
        fields.retain(|name, _| match (name.as_str(), target.kind.status, target.status) {
            ("apiVersion" | "kind", ..) | (_, Subresource::None, _) => true,
            ("status", _, to_status) => to_status,
            ("metadata", ..) => true,
            (_, _, to_status) => !to_status,
        });
    }
    if target.status
        && target.kind.status == Subresource::Alone
        && let Some(metadata) = configuration["metadata"].as_object_mut()
    {
        // Only what names the object and locks its version.
        metadata.retain(|name, _| {
            matches!(name.as_str(), "name" | "namespace" | "uid" | "resourceVersion")
        });
    }
    Ok(configuration)
}

fn identity_of(target: &Target, terms: &Terms, operation: Operation) -> Identity {
    Identity {
        manager: terms.manager.clone(),
        operation,
        api_version: target.kind.api_version(),
        subresource: if target.status { "status" } else { "" },
    }
}

fn finish_new(
    store: &mut Store,
    target: &Target,
    object: &mut Value,
    terms: &Terms,
    operation: Operation,
) -> Result<Vec<String>, Refusal> {
    let kind = target.kind;
    if kind.namespaced && store.get(&KINDS[NAMESPACES], "", &target.namespace).is_none() {
        return Err(refusal::not_found(&KINDS[NAMESPACES], &target.namespace));
    }
    admit::clear_status_of_new(kind, object);
    let warnings = admit::decode(kind, object, unknown_fields(kind, terms, operation))?;
    identity::found(kind, object);
    if operation == Operation::Update {
        let who = identity_of(target, terms, operation);
        let now = identity::now();
        ownership::note_update(kind, &json!({}), object, &who, &now);
    }
    admit::prepare(store, target, None, object)?;
    Ok(warnings)
}

fn finish_edited(
    store: &mut Store,
    target: &Target,
    live: &Value,
    object: &mut Value,
    terms: &Terms,
    operation: Operation,
) -> Result<Vec<String>, Refusal> {
    let kind = target.kind;
    admit::keep_other_half(target, live, object);
    let warnings = admit::decode(kind, object, unknown_fields(kind, terms, operation))?;
    identity::keep(live, object);
    if operation == Operation::Update {
        let who = identity_of(target, terms, operation);
        let now = identity::now();
        ownership::note_update(kind, live, object, &who, &now);
    }
    admit::prepare(store, target, Some(live), object)?;
    identity::count_generation(kind, live, object);
    Ok(warnings)
}

/// Server-side apply needs a schema for every field, so it refuses unknown ones of built-in kinds.
fn unknown_fields(kind: &Kind, terms: &Terms, operation: Operation) -> UnknownFields {
    match operation {
        Operation::Apply if !kind.is_custom() => UnknownFields::Refuse,
        Operation::Apply | Operation::Update => terms.unknown_fields,
    }
}

/// Stores an object, or only shows it if the request is a rehearsal.
fn settle(store: &mut Store, kind: &'static Kind, object: Value, terms: &Terms) -> Arc<Object> {
    match terms.dry_run {
        true => Object::new(kept(kind, object), store.version()),
        false => store.put(kind, kept(kind, object)),
    }
}

/// An object in the form that it is kept in.
fn kept(kind: &Kind, object: Value) -> Value {
    match kind.view {
        Some(view) => (view.keep)(object),
        None => object,
    }
}
