//! The form that a client wants its answer in: objects, their metadata, or tables.

use std::sync::Arc;

use hyper::body::Bytes;
use serde_json::{Value, json};

use super::kind::Kind;
use super::refusal::{self, Refusal};
use super::store::Object;
use super::table::{self, Include};

/// What `Accept` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Objects,
    /// `PartialObjectMetadata`.
    Metadata,
    Table(Include),
}

impl Form {
    /// The first form of an `Accept` header that this API can give; nothing asks for JSON.
    ///
    /// # Errors
    ///
    /// 406 if none of them is JSON.
    pub(super) fn parse(accept: &str, include: &str) -> Result<Self, Refusal> {
        let include = match include {
            "None" => Include::None,
            "Object" => Include::Object,
            _ => Include::Metadata,
        };
        if accept.trim().is_empty() {
            return Ok(Self::Objects);
        }
        accept
            .split(',')
            .find_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let media = parts.next()?;
                if !matches!(media, "application/json" | "application/*" | "*/*") {
                    return None;
                }
                let parameter = |name: &str| {
                    parts.clone().find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
                };
                match (parameter("as"), parameter("v")) {
                    (None, _) => Some(Self::Objects),
                    (Some("Table"), Some("v1")) => Some(Self::Table(include)),
                    (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), Some("v1")) => {
                        Some(Self::Metadata)
                    }
                    (Some(_), _) => None,
                }
            })
            .ok_or_else(refusal::not_acceptable)
    }

    /// One object.
    pub(super) fn one(self, kind: &Kind, object: &Object) -> Bytes {
        self.in_watch(kind, object, true)
    }

    /// One object of a watch; only the first table says what its columns are.
    pub(super) fn in_watch(self, kind: &Kind, object: &Object, first: bool) -> Bytes {
        match self {
            Self::Objects => object.json(kind),
            Self::Metadata => table::metadata_only(&object.shown(kind)).to_string().into(),
            Self::Table(include) => {
                let objects = [object.shown(kind)];
                let table = table::table(kind, &objects, object.version(), include, first);
                table.to_string().into()
            }
        }
    }

    /// A list of objects as of a version.
    pub(super) fn list(self, kind: &Kind, objects: &[Arc<Object>], version: u64) -> Bytes {
        let shown = || objects.iter().map(|object| object.shown(kind));
        match self {
            Self::Objects => {
                let mut text = format!(
                    r#"{{"kind":"{}List","apiVersion":"{}","metadata":{{"resourceVersion":"{version}"}},"items":["#,
                    kind.name,
                    kind.api_version()
                )
                .into_bytes();
                for (n, object) in objects.iter().enumerate() {
                    if n > 0 {
                        text.push(b',');
                    }
                    text.extend_from_slice(&object.json(kind));
                }
                text.extend_from_slice(b"]}");
                text.into()
            }
            Self::Metadata => {
                let items: Vec<Value> =
                    shown().map(|object| table::metadata_only(&object)).collect();
                let list = json!({
                    "kind": "PartialObjectMetadataList",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": {"resourceVersion": version.to_string()},
                    "items": items,
                });
                list.to_string().into()
            }
            Self::Table(include) => {
                let objects: Vec<Value> = shown().collect();
                table::table(kind, &objects, version, include, true).to_string().into()
            }
        }
    }

    /// The object of a bookmark: nothing but a version.
    pub(super) fn bookmark(self, kind: &Kind, version: u64, initial_events_end: bool) -> Value {
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if initial_events_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        match self {
            Self::Table(_) => {
                let mut table = table::table(kind, &[], version, Include::None, false);
                table["metadata"] = metadata;
                table
            }
            Self::Metadata => json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
            }),
            Self::Objects => json!({
                "kind": kind.name, "apiVersion": kind.api_version(), "metadata": metadata,
            }),
        }
    }
}
