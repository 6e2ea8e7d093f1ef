//! Any request over HTTP is answered by the in-memory API or refused, never a panic; its version never
//! goes back, and no two objects of a kind have one name or one uid.

#![no_main]

#[path = "memory_api/pods.rs"]
mod pods;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use purelb_k8s::memory::MemoryApi;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const KINDS: [(&str, &str, &str); 10] = [
    ("/api/v1", "services", "Service"),
    ("/apis/coordination.k8s.io/v1", "leases", "Lease"),
    ("/apis/purelb.io/v2", "servicegroups", "ServiceGroup"),
    ("/apis/purelb.io/v2", "lbnodeagents", "LBNodeAgent"),
    ("/apis/events.k8s.io/v1", "events", "Event"),
    ("/apis/discovery.k8s.io/v1", "endpointslices", "EndpointSlice"),
    ("/api/v1", "pods", "Pod"),
    ("/api/v1", "nodes", "Node"),
    ("/api/v1", "namespaces", "Namespace"),
    ("/api/v1", "events", "Event"),
];

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

const ACCEPTS: [&str; 6] = [
    "application/json",
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    "text/html",
];

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

const CONTENT_TYPES: [&str; 6] = [
    "application/json",
    "application/apply-patch+yaml",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/json-patch+json",
    "application/vnd.kubernetes.protobuf",
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

#[derive(Arbitrary, Debug)]
enum Step {
    Raw(Vec<u8>),
    Request(Request),
    About { path: u8, accept: u8 },
    Pod(pods::Request),
}

#[derive(Arbitrary, Debug)]
struct Request {
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
    Object { name: bool, fields: Vec<(u8, u8)> },
    Operations(Vec<(u8, u8, u8)>),
}

fuzz_target!(|steps: Vec<Step>| {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let api = MemoryApi::new();
    api.set_pod_runtime(pods::Echo::new());
    let mut version = api.version();
    for step in steps {
        let bytes = match step {
            Step::Raw(bytes) => bytes,
            Step::Request(request) => request.bytes(),
            Step::About { path, accept } => about(path, accept),
            Step::Pod(request) => request.bytes(),
        };
        runtime.block_on(converse(&api, &bytes));
        assert!(api.version() >= version, "versions only grow");
        version = api.version();
        for (_, _, kind) in KINDS {
            let objects = api.list(kind);
            let unique = |field: &str| {
                let all = objects.iter().map(|object| object["metadata"][field].to_string());
                all.collect::<BTreeSet<_>>().len()
            };
            assert_eq!(unique("uid"), objects.len(), "{objects:?}");
            let names = objects.iter().map(|object| &object["metadata"]);
            let names = names.map(|meta| format!("{}/{}", meta["namespace"], meta["name"]));
            assert_eq!(names.collect::<BTreeSet<_>>().len(), objects.len(), "{objects:?}");
        }
    }
});

/// Sends the bytes, and takes what comes for a while.
async fn converse(api: &MemoryApi, bytes: &[u8]) {
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let talk = async {
        let sent = client.write_all(bytes).await.is_ok();
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer).await;
        assert!(!sent || answer.is_empty() || answer.starts_with(b"HTTP/1.") || answer[0] == 0);
    };
    let both = async {
        tokio::select! {
            () = talk => {}
            () = api.clone().serve_connection(server) => {}
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(3), both).await;
}

impl Request {
    fn bytes(&self) -> Vec<u8> {
        let (group, plural, kind) = KINDS[usize::from(self.kind) % KINDS.len()];
        let mut path = group.to_owned();
        if !self.is_everywhere {
            path += "/namespaces/default";
        }
        let _ = write!(path, "/{plural}");
        if let Some(name) = self.name {
            let _ = write!(path, "/{}", name_of(name));
        }
        if self.is_status {
            path += "/status";
        }
        let queries = QUERIES.into_iter().zip(self.queries).filter(|(_, chosen)| *chosen);
        let queries: Vec<&str> = queries.map(|(query, _)| query).collect();
        let body = self.body.bytes(group, kind);
        let accept = ACCEPTS[at(self.accept, ACCEPTS.len())];
        let mut bytes = format!(
            "{} {path}?{} HTTP/1.1\r\nhost: api\r\nconnection: close\r\naccept: {accept}\r\n\
             content-type: {}\r\ncontent-length: {}\r\n\r\n",
            METHODS[usize::from(self.method) % METHODS.len()],
            queries.join("&"),
            CONTENT_TYPES[usize::from(self.content_type) % CONTENT_TYPES.len()],
            body.len(),
        )
        .into_bytes();
        bytes.extend(body);
        bytes
    }
}

fn about(path: u8, accept: u8) -> Vec<u8> {
    let (path, accept) = (ABOUT[at(path, ABOUT.len())], ACCEPTS[at(accept, ACCEPTS.len())]);
    format!("GET {path} HTTP/1.1\r\nhost: api\r\nconnection: close\r\naccept: {accept}\r\n\r\n")
        .into_bytes()
}

impl Body {
    fn bytes(&self, group: &str, kind: &str) -> Vec<u8> {
        let version = group.trim_start_matches("/apis/").trim_start_matches("/api/");
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Object { name, fields } => {
                let mut object = json!({
                    "apiVersion": version, "kind": kind,
                    "metadata": {"name": name_of(*name), "namespace": "default"},
                });
                for (place, value) in fields {
                    let (pointer, value) = (POINTERS[at(*place, POINTERS.len())], value_of(*value));
                    put(&mut object, pointer, value);
                }
                object.to_string().into_bytes()
            }
            Self::Operations(operations) => {
                let operation = |(verb, place, value): &(u8, u8, u8)| {
                    json!({
                        "op": OPERATIONS[at(*verb, OPERATIONS.len())],
                        "path": POINTERS[at(*place, POINTERS.len())],
                        "from": POINTERS[at(*value, POINTERS.len())],
                        "value": value_of(*value),
                    })
                };
                Value::from_iter(operations.iter().map(operation)).to_string().into_bytes()
            }
        }
    }
}

const OPERATIONS: [&str; 6] = ["add", "remove", "replace", "test", "move", "copy"];

const POINTERS: [&str; 20] = [
    "/metadata/name",
    "/metadata/uid",
    "/metadata/resourceVersion",
    "/metadata/annotations/a",
    "/metadata/labels/a",
    "/metadata/finalizers",
    "/metadata/managedFields",
    "/spec",
    "/spec/type",
    "/spec/ports",
    "/spec/ipFamilies",
    "/spec/clusterIP",
    "/spec/holderIdentity",
    "/spec/local/v4pools",
    "/status/loadBalancer/ingress",
    "/kind",
    "/spec/containers",
    "/spec/loadBalancerClass",
    "/spec/externalTrafficPolicy",
    "/metadata/ownerReferences",
];

fn value_of(number: u8) -> Value {
    match number % 20 {
        0 => Value::Null,
        1 => json!("LoadBalancer"),
        2 => json!("ClusterIP"),
        3 => json!([{"port": 80}]),
        4 => json!([{"port": 80, "nodePort": 30000}, {"port": 80, "protocol": "UDP"}]),
        5 => json!(["IPv4", "IPv6"]),
        6 => json!("None"),
        7 => json!([{"ip": "192.0.2.1"}]),
        8 => json!([{"subnet": "192.0.2.0/24", "pool": "192.0.2.1-192.0.2.9"}]),
        9 => json!("1"),
        10 => json!(["x"]),
        11 => json!({}),
        12 => json!([]),
        13 => json!("10.96.0.7"),
        14 => json!(-1),
        15 => json!([{"name": "a", "image": "a"}]),
        16 => json!("Local"),
        17 => json!("ExternalName"),
        18 => json!([{"apiVersion": "v1", "kind": "Node", "name": "a", "uid": "u"}]),
        _ => json!({"type": "LoadBalancer", "ports": [{"port": 80}]}),
    }
}

/// Sets what a pointer names, making objects on the way where there are none.
fn put(object: &mut Value, pointer: &str, value: Value) {
    let mut place = object;
    for part in pointer.split('/').skip(1) {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[part];
    }
    *place = value;
}

fn name_of(is_a: bool) -> &'static str {
    if is_a { "a" } else { "b" }
}

fn at(number: u8, count: usize) -> usize {
    usize::from(number) % count
}
