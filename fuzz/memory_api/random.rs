//! Requests that may be anything.

use arbitrary::Arbitrary;
use serde_json::json;

use crate::changes::{self, Change, at};
use crate::http::Call;
use crate::kinds::{ACCEPTS, KINDS};

/// What can be asked about the API itself.
const ABOUT: [&str; 13] = [
    "/version",
    "/healthz",
    "/api",
    "/api/v1",
    "/apis",
    "/apis/purelb.io",
    "/apis/purelb.io/v2",
    "/apis/coordination.k8s.io/v1",
    "/openapi/v2",
    "/openapi/v3",
    "/openapi/v3/api/v1",
    "/openapi/v3/apis/purelb.io/v2",
    "/apis/example.org/v1",
];

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

const CONTENT_TYPES: [&str; 7] = [
    "application/json",
    "application/apply-patch+yaml",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/json-patch+json",
    "application/vnd.kubernetes.protobuf",
    "text/plain",
];

const QUERIES: [&str; 10] = [
    "watch=1&timeoutSeconds=1",
    "resourceVersion=1",
    "resourceVersionMatch=NotOlderThan",
    "fieldManager=me",
    "force=true",
    "dryRun=All",
    "fieldValidation=Strict",
    "labelSelector=a%3Db",
    "fieldSelector=metadata.name%3Da",
    "allowWatchBookmarks=true&sendInitialEvents=true",
];

/// A question about the API itself.
#[derive(Arbitrary, Debug)]
pub(crate) struct About {
    method: u8,
    path: u8,
    accept: u8,
}

impl About {
    pub(crate) fn call(&self) -> Call {
        let method = if self.method % 8 == 1 { "POST" } else { "GET" };
        let accept = ACCEPTS[at(self.accept, ACCEPTS.len())];
        Call { method, accept, ..Call::get(ABOUT[at(self.path, ABOUT.len())]) }
    }
}

/// A request to one of the paths that objects have.
#[derive(Arbitrary, Debug)]
pub(crate) struct Request {
    method: u8,
    kind: u8,
    /// None is the collection.
    name: Option<bool>,
    is_status: bool,
    is_everywhere: bool,
    queries: [bool; 10],
    content_type: u8,
    accept: u8,
    body: Body,
}

#[derive(Arbitrary, Debug)]
enum Body {
    Bytes(Vec<u8>),
    Object { name: bool, changes: Vec<Change> },
    Operations(Vec<(u8, u8, u8)>),
}

impl Request {
    pub(crate) fn call(&self) -> Call {
        let kind = &KINDS[at(self.kind, KINDS.len())];
        let group = if kind.api_version.contains('/') { "apis" } else { "api" };
        let mut path = format!("/{group}/{}", kind.api_version);
        if !self.is_everywhere {
            path += "/namespaces/default";
        }
        path = format!("{path}/{}", kind.plural);
        if let Some(name) = self.name {
            path = format!("{path}/{}", name_of(name));
        }
        if self.is_status {
            path += "/status";
        }
        let queries = QUERIES.into_iter().zip(self.queries).filter(|(_, chosen)| *chosen);
        let queries: Vec<&str> = queries.map(|(query, _)| query).collect();
        Call {
            method: METHODS[at(self.method, METHODS.len())],
            path,
            query: queries.join("&"),
            accept: ACCEPTS[at(self.accept, ACCEPTS.len())],
            content_type: CONTENT_TYPES[at(self.content_type, CONTENT_TYPES.len())],
            body: self.body.bytes(kind.api_version, kind.name),
        }
    }
}

impl Body {
    fn bytes(&self, api_version: &str, kind: &str) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Object { name, changes } => {
                let mut object = json!({
                    "apiVersion": api_version, "kind": kind,
                    "metadata": {"name": name_of(*name), "namespace": "default"},
                });
                changes::make(&mut object, kind, changes);
                object.to_string().into_bytes()
            }
            Self::Operations(operations) => {
                changes::operations(kind, operations).to_string().into_bytes()
            }
        }
    }
}

fn name_of(is_a: bool) -> &'static str {
    if is_a { "a" } else { "b" }
}
