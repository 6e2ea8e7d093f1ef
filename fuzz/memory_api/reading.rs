//! Requests that read: objects, lists, tables, watches.

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use serde_json::{Value, json};

use crate::changes::at;
use crate::http::{Answer, Call, query};
use crate::kinds::{ACCEPTS, collection_of, path_of};
use crate::world::{World, version_of};

const LABELS: [&str; 14] = [
    "",
    "a=b",
    "a!=b",
    "a==c",
    "!a",
    "a",
    "a in (b,c)",
    "a notin (b), a",
    "a in (b",
    "a like (b)",
    "=b",
    "a b",
    "(b)",
    "app,kubernetes.io/service-name=a",
];

const FIELDS: [&str; 20] = [
    "",
    "metadata.name=a",
    "metadata.name!=a",
    "metadata.namespace==default",
    "spec.type=LoadBalancer",
    "spec.clusterIP=None",
    "spec.unschedulable=true",
    "status.phase=Active",
    "spec.nodeName=a",
    "status.podIP=10.0.0.1,spec.restartPolicy=Always",
    "involvedObject.kind=Service",
    "regarding.kind=Service",
    "reason=Created",
    "type!=Normal",
    "source=a",
    "reportingController=a",
    "reportingComponent=agent",
    "spec.holderIdentity=a",
    "metadata.name",
    "a=b",
];

const VERSIONS: [&str; 7] = ["", "1", "0", "5", "99999", "x", "-1"];
const MATCHES: [&str; 3] = ["", "Exact", "NotOlderThan"];
const INCLUDES: [&str; 4] = ["", "None", "Object", "Metadata"];
const TIMEOUTS: [&str; 4] = ["1", "2", "", "0"];

/// A GET about an object that exists, or about its kind.
#[derive(Arbitrary, Debug)]
pub(crate) struct Read {
    subject: u8,
    is_in_other_form: bool,
    what: What,
    form: u8,
    include: u8,
}

#[derive(Arbitrary, Debug)]
enum What {
    Object,
    Status,
    /// All of the kind, and what becomes of them.
    Everything,
    Some(Selection),
    Watch(Selection, Watch),
}

/// Which objects of a kind.
#[derive(Arbitrary, Debug)]
struct Selection {
    is_everywhere: bool,
    labels: u8,
    fields: u8,
    version: u8,
    matching: u8,
}

#[derive(Arbitrary, Debug)]
struct Watch {
    timeout: u8,
    has_bookmarks: bool,
    has_initial_events: bool,
}

impl Read {
    pub(crate) fn run(&self, world: &mut World) {
        let Some(mut subject) = world.subject(self.subject) else { return };
        if subject["kind"] == "Event" && self.is_in_other_form {
            subject["apiVersion"] = json!("events.k8s.io/v1");
        }
        let include = ("includeObject", INCLUDES[at(self.include, INCLUDES.len())]);
        let (path, query) = match &self.what {
            What::Object => (path_of(&subject), query(&[include])),
            What::Status => (path_of(&subject) + "/status", query(&[include])),
            What::Everything => return read_everything(world, &subject),
            What::Some(selection) => {
                let path = collection_of(&subject, selection.is_everywhere);
                (path, query(&[&selection.parameters()[..], &[include]].concat()))
            }
            What::Watch(selection, watch) => {
                let path = collection_of(&subject, selection.is_everywhere);
                let parameters = [&selection.parameters()[..], &watch.parameters(), &[include]];
                (path, query(&parameters.concat()))
            }
        };
        let accept = ACCEPTS[at(self.form, ACCEPTS.len())];
        let answer = world.call(&Call { accept, query, ..Call::get(path) });
        let is_watch = matches!(self.what, What::Watch(..));
        if let Some(answer) = answer.filter(|answer| answer.code == 200) {
            let values = if is_watch { lines(&answer) } else { vec![answer.json()] };
            values.iter().for_each(check_table);
        }
    }
}

impl Selection {
    fn parameters(&self) -> [(&'static str, &'static str); 5] {
        [
            ("labelSelector", LABELS[at(self.labels, LABELS.len())]),
            ("fieldSelector", FIELDS[at(self.fields, FIELDS.len())]),
            ("resourceVersion", VERSIONS[at(self.version, VERSIONS.len())]),
            ("resourceVersionMatch", MATCHES[at(self.matching, MATCHES.len())]),
            ("limit", "2"),
        ]
    }
}

impl Watch {
    fn parameters(&self) -> [(&'static str, &'static str); 4] {
        let flag = |is_set: bool| if is_set { "true" } else { "" };
        [
            ("watch", "1"),
            ("timeoutSeconds", TIMEOUTS[at(self.timeout, TIMEOUTS.len())]),
            ("allowWatchBookmarks", flag(self.has_bookmarks)),
            ("sendInitialEvents", flag(self.has_initial_events)),
        ]
    }
}

/// What has happened to a kind since the beginning leads to what there is of it now.
fn read_everything(world: &mut World, subject: &Value) {
    let path = collection_of(subject, true);
    let Some(answer) = world.call(&Call::get(&path)) else { return };
    let listed = answer.json();
    let listed = listed["items"].as_array().expect("a list has items");
    let query = query(&[("watch", "1"), ("resourceVersion", "1"), ("timeoutSeconds", "1")]);
    let Some(answer) = world.call(&Call { query, ..Call::get(&path) }) else { return };
    let mut objects = BTreeMap::new();
    let mut latest = 0;
    for mut event in lines(&answer) {
        let object = event["object"].take();
        if event["type"] == "ERROR" {
            assert_eq!(object["code"], 410, "it is too long ago");
            return;
        }
        let version = version_of(&object);
        assert!(version > latest, "{object} follows {latest}");
        latest = version;
        let path = path_of(&object);
        let known = match event["type"].as_str() {
            Some("DELETED") => objects.remove(&path).is_some(),
            _ => objects.insert(path, object).is_some(),
        };
        assert_eq!(known, event["type"] != "ADDED", "{event}");
    }
    assert_eq!(objects.into_values().collect::<Vec<_>>(), sorted(listed));
}

fn sorted(objects: &[Value]) -> Vec<Value> {
    let mut objects = objects.to_vec();
    objects.sort_by_key(path_of);
    objects
}

/// The lines of a watch that came whole.
fn lines(answer: &Answer) -> Vec<Value> {
    let whole = answer.body.iter().rposition(|byte| *byte == b'\n').unwrap_or_default();
    let lines = answer.body[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("a line is JSON")).collect()
}

/// A row of a table has a cell for each column; in a watch only the first one says what they are.
fn check_table(value: &Value) {
    let table = if value["kind"] == "Table" { value } else { &value["object"] };
    let columns = table["columnDefinitions"].as_array().map_or(0, Vec::len);
    for row in table["rows"].as_array().into_iter().flatten() {
        let cells = row["cells"].as_array().map_or(0, Vec::len);
        assert!(columns == 0 || cells == columns, "{table}");
    }
}
