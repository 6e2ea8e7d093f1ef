//! Tables, as `kubectl get` asks for them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::age;
use super::custom;
use super::kind::Kind;

/// How much of each object a row carries (`includeObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

/// A `meta.k8s.io/v1 Table` with some objects of one kind.
pub(super) fn table(
    kind: &Kind,
    objects: &[Value],
    version: u64,
    include: Include,
    with_columns: bool,
) -> Value {
    let now = Timestamp::now();
    let rows: Vec<Value> = objects.iter().map(|object| row(kind, object, include, now)).collect();
    let columns = if with_columns { columns(kind) } else { Vec::new() };
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version.to_string()},
        "columnDefinitions": columns,
        "rows": rows,
    })
}

fn row(kind: &Kind, object: &Value, include: Include, now: Timestamp) -> Value {
    let mut row = json!({"cells": cells(kind, object, now)});
    match include {
        Include::None => row["object"] = Value::Null,
        Include::Metadata => row["object"] = metadata_only(object),
        Include::Object => row["object"] = object.clone(),
    }
    row
}

/// A `PartialObjectMetadata`.
pub(super) fn metadata_only(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}

/// A column without the wide ones' mark, and one with it.
fn narrow(name: &str) -> Value {
    column(name, "string", 0)
}

fn wide(name: &str) -> Value {
    column(name, "string", 1)
}

fn column(name: &str, data_type: &str, priority: i64) -> Value {
    let format = if name == "Name" { "name" } else { "" };
    json!({
        "name": name, "type": data_type, "format": format, "description": "",
        "priority": priority,
    })
}

fn columns(kind: &Kind) -> Vec<Value> {
    let (narrow_names, wide_names): (&[&str], &[&str]) = match kind.name {
        "Service" => {
            (&["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age"], &["Selector"])
        }
        "Node" => (
            &["Name", "Status", "Roles", "Age", "Version"],
            &["Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime"],
        ),
        "Namespace" => (&["Name", "Status", "Age"], &[]),
        "Pod" => (
            &["Name", "Ready", "Status", "Restarts", "Age"],
            &["IP", "Node", "Nominated Node", "Readiness Gates"],
        ),
        "Lease" => (&["Name", "Holder", "Age"], &[]),
        "EndpointSlice" => (&["Name", "AddressType", "Ports", "Endpoints", "Age"], &[]),
        "Event" => {
            return vec![
                narrow("Last Seen"),
                narrow("Type"),
                narrow("Reason"),
                narrow("Object"),
                wide("Subobject"),
                wide("Source"),
                narrow("Message"),
                wide("First Seen"),
                wide("Count"),
                wide("Name"),
            ];
        }
        _ => return custom_columns(kind),
    };
    narrow_names.iter().map(|n| narrow(n)).chain(wide_names.iter().map(|n| wide(n))).collect()
}

fn custom_columns(kind: &Kind) -> Vec<Value> {
    let defined = custom_definitions(kind).map(|c| {
        let name = c["name"].as_str().unwrap_or_default();
        let data_type = c["type"].as_str().unwrap_or("string");
        column(name, data_type, c["priority"].as_i64().unwrap_or_default())
    });
    let mut columns = vec![narrow("Name")];
    columns.extend(defined);
    if columns.len() == 1 {
        columns.push(column("Age", "date", 0));
    }
    columns
}

fn custom_definitions(kind: &Kind) -> impl Iterator<Item = &'static Value> {
    custom::definition(kind).into_iter().flat_map(|definition| &definition.columns)
}

fn cells(kind: &Kind, object: &Value, now: Timestamp) -> Vec<Value> {
    let name = &object["metadata"]["name"];
    let age = json!(age::since(&object["metadata"]["creationTimestamp"], now));
    let (spec, status) = (&object["spec"], &object["status"]);
    match kind.name {
        "Service" => vec![
            name.clone(),
            spec["type"].clone(),
            json!(spec["clusterIPs"][0].as_str().unwrap_or("<none>")),
            json!(external_addresses(object)),
            json!(or_none(&service_ports(spec))),
            age,
            json!(or_none(&labels(&spec["selector"]))),
        ],
        "Node" => {
            let address = |wanted: &str| {
                let found = items(&status["addresses"]).find(|a| a["type"] == wanted);
                json!(found.and_then(|a| a["address"].as_str()).unwrap_or("<none>"))
            };
            let info = |field: &str| {
                let text = status["nodeInfo"][field].as_str().filter(|text| !text.is_empty());
                json!(text.unwrap_or("<unknown>"))
            };
            vec![
                name.clone(),
                json!(node_status(object)),
                json!(or_none(&node_roles(&object["metadata"]["labels"]))),
                age,
                json!(status["nodeInfo"]["kubeletVersion"].as_str().unwrap_or_default()),
                address("InternalIP"),
                address("ExternalIP"),
                info("osImage"),
                info("kernelVersion"),
                info("containerRuntimeVersion"),
            ]
        }
        "Namespace" => vec![name.clone(), status["phase"].clone(), age],
        "Pod" => pod_cells(object, age, now),
        "Lease" => {
            vec![name.clone(), json!(spec["holderIdentity"].as_str().unwrap_or_default()), age]
        }
        "EndpointSlice" => vec![
            name.clone(),
            object["addressType"].clone(),
            json!(first_three(items(&object["ports"]).map(|p| match p["port"].as_i64() {
                Some(port) => port.to_string(),
                None => p["name"].as_str().unwrap_or("*").to_owned(),
            }))),
            json!(first_three(
                items(&object["endpoints"])
                    .flat_map(|e| items(&e["addresses"]))
                    .map(|a| a.as_str().unwrap_or_default().to_owned()),
            )),
            age,
        ],
        "Event" => match kind.view {
            Some(view) => event_cells(&(view.keep)(object.clone()), now),
            None => event_cells(object, now),
        },
        _ => {
            let defined = custom_definitions(kind).map(|c| custom_cell(c, object, now));
            let mut cells = vec![name.clone()];
            cells.extend(defined);
            if cells.len() == 1 {
                cells.push(age);
            }
            cells
        }
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

fn labels(selector: &Value) -> String {
    let pairs = selector.as_object().into_iter().flatten();
    pairs
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect::<Vec<_>>()
        .join(",")
}

fn external_addresses(service: &Value) -> String {
    let spec = &service["spec"];
    if spec["type"] == "ExternalName" {
        return spec["externalName"].as_str().unwrap_or_default().to_owned();
    }
    let balanced = spec["type"] == "LoadBalancer";
    let ingress = items(&service["status"]["loadBalancer"]["ingress"])
        .filter(|_| balanced)
        .filter_map(|i| i["ip"].as_str().or_else(|| i["hostname"].as_str()));
    let external = items(&spec["externalIPs"]).filter_map(Value::as_str);
    let all: Vec<&str> = ingress.chain(external).collect();
    match (all.is_empty(), balanced) {
        (true, true) => "<pending>".to_owned(),
        (true, false) => "<none>".to_owned(),
        (false, _) => all.join(","),
    }
}

fn service_ports(spec: &Value) -> String {
    let text = |port: &Value| {
        let protocol = port["protocol"].as_str().unwrap_or_default();
        match port["nodePort"].as_i64() {
            Some(node) => format!("{}:{node}/{protocol}", port["port"]),
            None => format!("{}/{protocol}", port["port"]),
        }
    };
    items(&spec["ports"]).map(text).collect::<Vec<_>>().join(",")
}

fn node_status(node: &Value) -> String {
    let ready = items(&node["status"]["conditions"]).find(|c| c["type"] == "Ready");
    let mut words = vec![match ready {
        Some(ready) if ready["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }];
    if node["spec"]["unschedulable"] == true {
        words.push("SchedulingDisabled");
    }
    words.join(",")
}

fn node_roles(labels: &Value) -> String {
    let names = labels.as_object().into_iter().flat_map(|labels| labels.keys());
    let roles = names.filter_map(|name| name.strip_prefix("node-role.kubernetes.io/"));
    roles.collect::<Vec<_>>().join(",")
}

fn pod_cells(pod: &Value, age: Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let containers = || items(&status["containerStatuses"]);
    let ready = containers().filter(|c| c["ready"] == true).count();
    let restarts: i64 = containers().filter_map(|c| c["restartCount"].as_i64()).sum();
    let ends = containers().map(|c| &c["lastState"]["terminated"]["finishedAt"]);
    let last_end = ends.filter(|end| !end.is_null()).max_by_key(|end| end.as_str());
    let restarts = match last_end {
        Some(end) if restarts > 0 => format!("{restarts} ({} ago)", age::since(end, now)),
        Some(_) | None => restarts.to_string(),
    };
    let text = |value: &Value| json!(value.as_str().unwrap_or("<none>"));
    vec![
        pod["metadata"]["name"].clone(),
        json!(format!("{ready}/{}", items(&spec["containers"]).count())),
        json!(pod_state(pod)),
        json!(restarts),
        age,
        text(&status["podIP"]),
        text(&spec["nodeName"]),
        text(&status["nominatedNodeName"]),
        json!("<none>"),
    ]
}

/// What is most worth knowing of a pod, in a word: why its first container that does not run waits or has
/// ended, else its phase.
fn pod_state(pod: &Value) -> String {
    let status = &pod["status"];
    if pod["metadata"]["deletionTimestamp"].is_string() {
        return "Terminating".to_owned();
    }
    let trouble = items(&status["containerStatuses"]).find_map(|container| {
        let (waiting, ended) = (&container["state"]["waiting"], &container["state"]["terminated"]);
        let reason = waiting["reason"].as_str().or_else(|| ended["reason"].as_str());
        let code = || Some(format!("ExitCode:{}", ended["exitCode"].as_i64()?));
        reason.map(ToOwned::to_owned).or_else(code)
    });
    let phase = || status["reason"].as_str().or_else(|| status["phase"].as_str());
    trouble.unwrap_or_else(|| phase().unwrap_or_default().to_owned())
}

/// Of an event in the form that it is kept in.
fn event_cells(event: &Value, now: Timestamp) -> Vec<Value> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let present = |values: [&Value; 3]| values.into_iter().find(|v| !v.is_null()).cloned();
    let nothing = Value::Null;
    let (about, source, series) = (&event["involvedObject"], &event["source"], &event["series"]);
    let first = present([&event["firstTimestamp"], &event["eventTime"], &nothing]);
    let last = present([&series["lastObservedTime"], &event["lastTimestamp"], &nothing]);
    let first = first.unwrap_or_default();
    let last = last.unwrap_or_else(|| first.clone());
    let counts = [&series["count"], &event["count"]];
    let count = counts.into_iter().find_map(|c| c.as_i64().filter(|c| *c > 0)).unwrap_or(1);
    let kind = text(&about["kind"]).to_lowercase();
    let target = match about["name"].as_str() {
        Some(name) if !name.is_empty() => format!("{kind}/{name}"),
        Some(_) | None => kind,
    };
    let either =
        |a: &Value, b: &Value| Some(text(a)).filter(|a| !a.is_empty()).unwrap_or_else(|| text(b));
    let component = either(&source["component"], &event["reportingComponent"]);
    let source = match either(&source["host"], &event["reportingInstance"]).as_str() {
        "" => component,
        instance => format!("{component}, {instance}"),
    };
    vec![
        json!(age::since(&last, now)),
        event["type"].clone(),
        event["reason"].clone(),
        json!(target),
        json!(text(&about["fieldPath"])),
        json!(source),
        json!(text(&event["message"]).trim()),
        json!(age::since(&first, now)),
        json!(count),
        event["metadata"]["name"].clone(),
    ]
}

fn first_three(texts: impl Iterator<Item = String>) -> String {
    let texts: Vec<String> = texts.collect();
    match texts.get(..3) {
        _ if texts.is_empty() => "<unset>".to_owned(),
        Some(three) if texts.len() > 3 => {
            format!("{} + {} more...", three.join(","), texts.len() - 3)
        }
        _ => texts.join(","),
    }
}

/// The value at a simple JSON path such as `.status.announce`.
fn custom_cell(column: &Value, object: &Value, now: Timestamp) -> Value {
    let path = column["jsonPath"].as_str().unwrap_or_default();
    let steps = path.split('.').filter(|step| !step.is_empty());
    let Some(value) = steps.into_iter().try_fold(object, |value, step| value.get(step)) else {
        return Value::Null;
    };
    match (column["type"].as_str(), value) {
        (Some("date"), value) => json!(age::since(value, now)),
        (Some("string"), Value::Array(_) | Value::Object(_)) => json!(value.to_string()),
        _ => value.clone(),
    }
}
