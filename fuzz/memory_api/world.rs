//! The API that is tried, and what must be true of it whatever it is asked.

use std::collections::BTreeSet;
use std::mem;
use std::time::Duration;

use purelb_k8s::memory::{Fault, MemoryApi};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

use crate::changes::at;
use crate::http::{Answer, Call};
use crate::kinds::{KINDS, path_of};
use crate::pods;

/// How long a client waits for the end of an answer, in a time that does not take any.
const PATIENCE: Duration = Duration::from_secs(3);

/// An API, and what was seen of it last.
pub(crate) struct World {
    pub(crate) api: MemoryApi,
    runtime: Runtime,
    version: u64,
    /// All objects in the form that they are kept in, the latest change first.
    objects: Vec<Value>,
    /// Something goes wrong with the next request.
    is_faulty: bool,
}

impl World {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let api = MemoryApi::new();
        api.set_pod_runtime(pods::Echo::new());
        let mut world = Self { api, runtime, version: 0, objects: Vec::new(), is_faulty: false };
        world.look();
        world
    }

    /// The version of the latest change that was seen.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// An object that exists; 0 is the one that was changed last.
    pub(crate) fn subject(&self, number: u8) -> Option<Value> {
        let count = self.objects.len();
        (count > 0).then(|| self.objects[at(number, count)].clone())
    }

    /// All objects of a kind that exist.
    pub(crate) fn objects<'w>(&'w self, kind: &'w str) -> impl Iterator<Item = &'w Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    /// Lets the next request meet with this.
    pub(crate) fn set_fault(&mut self, fault: Fault) {
        self.api.set_fault(move |_| Some(fault.clone()));
        self.is_faulty = true;
    }

    /// Sends bytes over a connection of their own; what came back within the client's patience.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Vec<u8> {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let mut answer = Vec::new();
        let talk = async {
            // A server that has heard enough may still say why.
            let _ = client.write_all(bytes).await;
            let _ = client.read_to_end(&mut answer).await;
        };
        let serve = self.api.clone().serve_connection(server);
        self.runtime.block_on(async {
            let _ = tokio::time::timeout(PATIENCE, async { tokio::join!(talk, serve) }).await;
        });
        if mem::take(&mut self.is_faulty) {
            self.api.clear_fault();
        }
        self.look();
        answer
    }

    /// Makes a request. `None` if something goes wrong with it because that was [asked
    /// for](Self::set_fault).
    pub(crate) fn call(&mut self, call: &Call) -> Option<Answer> {
        let (before, is_faulty) = (self.version, self.is_faulty);
        let answer = Answer::parse(&self.send(&call.bytes()));
        if is_faulty {
            return None;
        }
        let answer = answer.expect("every request is answered");
        assert!((200..500).contains(&answer.code) || answer.code == 504, "{answer:?} to {call:?}");
        if self.version != before {
            let may_write = call.method != "GET" && !call.is_rehearsal() && answer.code < 300;
            assert!(may_write, "nothing is written by {call:?}, answered with {answer:?}");
        }
        if answer.code >= 400 {
            let status = answer.json();
            assert_eq!(status["kind"], "Status", "{status}");
            assert_eq!(status["code"], answer.code, "{status}");
        }
        Some(answer)
    }

    /// Holds the object that a successful write was answered with against the one that is kept.
    pub(crate) fn check_written(&self, object: &Value) {
        let metadata = &object["metadata"];
        let text = |field: &str| metadata[field].as_str().unwrap_or_default();
        let kind = object["kind"].as_str().unwrap_or_default();
        match self.api.get(kind, text("namespace"), text("name")) {
            // An event is kept in one of its two forms only.
            Some(kept) if kept["apiVersion"] != object["apiVersion"] => {
                assert_eq!(&kept["metadata"], metadata);
            }
            Some(kept) => assert_eq!(&kept, object),
            None => {
                let finalizers = metadata["finalizers"].as_array();
                let is_released = finalizers.is_none_or(Vec::is_empty);
                assert!(metadata["deletionTimestamp"].is_string() && is_released, "{object}");
            }
        }
    }

    /// Sees what has changed, and whether it may be so.
    pub(crate) fn look(&mut self) {
        let version = self.api.version();
        assert!(version >= self.version, "versions only grow");
        if version == self.version {
            return;
        }
        self.version = version;
        let kinds: BTreeSet<&str> = KINDS.iter().map(|kind| kind.name).collect();
        self.objects = kinds.into_iter().flat_map(|kind| self.api.list(kind)).collect();
        self.objects.sort_by_key(|object| std::cmp::Reverse(version_of(object)));
        self.check_identities();
        self.check_allotment();
    }

    fn check_identities(&self) {
        let count = self.objects.len();
        let unique = |what: fn(&Value) -> String| {
            let all: BTreeSet<String> = self.objects.iter().map(what).collect();
            assert_eq!(all.len(), count, "{:?}", self.objects);
        };
        unique(path_of);
        unique(|object| object["metadata"]["uid"].to_string());
        unique(|object| object["metadata"]["resourceVersion"].to_string());
        let latest = self.objects.first().map_or(0, version_of);
        assert!(latest <= self.version, "no object is later than the latest change");
    }

    /// No two Services have an address or a node port in common.
    fn check_allotment(&self) {
        let specs = || self.objects("Service").map(|service| &service["spec"]);
        let items = |list: &Value| list.as_array().cloned().unwrap_or_default();
        let addresses = specs().flat_map(|spec| items(&spec["clusterIPs"]));
        let addresses: Vec<_> = addresses.filter(|address| address != "None").collect();
        let ports = specs().flat_map(|spec| {
            let ports = items(&spec["ports"]).into_iter().map(|port| port["nodePort"].as_u64());
            let ports = ports.chain([spec["healthCheckNodePort"].as_u64()]).flatten();
            ports.filter(|port| *port != 0).collect::<BTreeSet<_>>()
        });
        let ports: Vec<u64> = ports.collect();
        let distinct: BTreeSet<String> = addresses.iter().map(Value::to_string).collect();
        assert_eq!(distinct.len(), addresses.len(), "{addresses:?}");
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len(), "{ports:?}");
    }
}

/// The version of an object's latest change.
pub(crate) fn version_of(object: &Value) -> u64 {
    let version = object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
    version.expect("every object has a version")
}
