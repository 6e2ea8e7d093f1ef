//! `purelb plan`: what a change would do, before it is applied.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use purelb_core::host::Family;
use serde_json::Value;

use super::agents;
use super::cluster::Cluster;
use super::output::{Output, verdict};
use crate::report::place::nodes;
use crate::report::plan::PlanReport;
use crate::report::story::Views;
use purelb_k8s::snapshot::Snapshot;
use purelb_k8s::{annotation, memory};

/// Foresees what a change of ServiceGroups, LBNodeAgents, Services or Nodes would do
///
/// Nothing is written. Exit status: 1 if something would be taken away or refused, 2 if the file cannot
/// be read.
#[derive(Debug, Args)]
pub struct Plan {
    #[command(flatten)]
    cluster: Cluster,
    /// Manifest with the objects as they would be; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// Without this object: `servicegroup/NAME` or `lbnodeagent/NAME`
    #[arg(long, value_name = "KIND/NAME")]
    delete: Vec<String>,
    /// Do not ask the agents what interfaces their hosts have
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    output: Output,
}

/// Runs `purelb plan`.
pub fn run(args: &Plan) -> ExitCode {
    if args.filename.is_empty() && args.delete.is_empty() {
        return refuse("name what would change: -f FILE, or --delete KIND/NAME");
    }
    let mut objects = Vec::new();
    for path in &args.filename {
        match read(path) {
            Ok(read) => objects.extend(read),
            Err(why) => return refuse(&format!("{}: {why}", path.display())),
        }
    }
    args.cluster.show(|before| {
        let namespace = args.cluster.namespace();
        let after = match changed(before, objects, &args.delete, namespace) {
            Ok(after) => after,
            Err(why) => return refuse(&why),
        };
        // Hosts matter only where something of the nodes changes.
        let asks = !args.offline && (before.agents != after.agents || before.nodes != after.nodes);
        let views = if asks { agents::views(&args.cluster, nodes(before)) } else { Views::new() };
        let report = PlanReport::new(before, &after, &views);
        args.output.show(&report);
        verdict(report.is_harmless())
    })
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("purelb plan: {why}");
    ExitCode::from(2)
}

/// The objects of a manifest: documents of YAML or JSON, Lists taken apart. A field that a Kubernetes API
/// server would not know is an error, since it would decide nothing.
pub(super) fn read(path: &Path) -> Result<Vec<Value>, String> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.map_err(|error| error.to_string())?;
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).map_err(|error| error.to_string())?;
    let mut objects = Vec::new();
    for document in documents {
        if document["kind"] == "List" {
            let items = document["items"].as_array().ok_or("a List without items")?;
            objects.extend(items.iter().cloned());
        } else if !document.is_null() {
            objects.push(document);
        }
    }
    objects.iter().try_for_each(memory::check_fields)?;
    Ok(objects)
}

/// The cluster as it would be.
pub(super) fn changed(
    before: &Snapshot,
    objects: Vec<Value>,
    deletes: &[String],
    namespace: &str,
) -> Result<Snapshot, String> {
    let mut after = before.clone();
    let ours = objects.into_iter().map(|object| placed(object, before, namespace)).collect();
    after.overlay(ours).map_err(|error| error.to_string())?;
    for delete in deletes {
        let Some((kind, name)) = delete.split_once('/') else {
            return Err(format!("--delete {delete}: write KIND/NAME"));
        };
        let before = after.groups.len() + after.agents.len();
        match kind.to_ascii_lowercase().as_str() {
            "servicegroup" | "servicegroups" | "sg" => {
                after.groups.retain(|group| group.name.as_str() != name);
            }
            "lbnodeagent" | "lbnodeagents" | "lbna" => {
                after.agents.retain(|agent| agent.name.1 != name);
            }
            _ => return Err(format!("--delete {delete}: KIND is servicegroup or lbnodeagent")),
        }
        if after.groups.len() + after.agents.len() == before {
            return Err(format!("--delete {delete}: there is none of that name in {namespace}"));
        }
    }
    Ok(after)
}

/// A cluster address such as the API gives to each Service; which one decides nothing.
const CLUSTER_IP: &str = "10.96.0.1";

/// An object as the API would have it: in a namespace, and if it exists with what only the API knows.
fn placed(mut object: Value, before: &Snapshot, namespace: &str) -> Value {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    let place = match kind.as_str() {
        "ServiceGroup" | "LBNodeAgent" => namespace,
        "Service" => "default",
        _ => return object,
    };
    let Some(metadata) = object["metadata"].as_object_mut() else { return object };
    metadata.entry("namespace").or_insert_with(|| place.into());
    if kind == "Service" {
        let text = |key: &str| metadata.get(key).and_then(Value::as_str).unwrap_or_default();
        let (at, name) = (text("namespace").to_owned(), text("name").to_owned());
        let exists = before.services.iter().find(|service| {
            service.key.namespace.as_str() == at && service.key.name.as_str() == name
        });
        if let Some(service) = exists {
            metadata.insert("uid".to_owned(), service.uid.as_str().into());
            keep_what_is_ours(&mut object, service);
        } else {
            metadata.insert("uid".to_owned(), format!("planned-{at}-{name}").into());
            complete(&mut object["spec"], CLUSTER_IP, &[Family::V4]);
        }
    }
    object
}

/// A manifest has neither the status nor our annotations: an apply leaves them as they are.
fn keep_what_is_ours(object: &mut Value, service: &purelb_core::service::Service) {
    let ingress: Vec<Value> =
        service.ingress.iter().map(|ip| serde_json::json!({"ip": ip})).collect();
    object["status"] = serde_json::json!({"loadBalancer": {"ingress": ingress}});
    let has = &service.annotations;
    for (key, value) in [
        (annotation::ALLOCATED_BY, &has.allocated_by),
        (annotation::ALLOCATED_FROM, &has.allocated_from),
        (annotation::POOL_TYPE, &has.pool_type),
        (annotation::ANNOUNCING_V4, &has.announcing_v4),
        (annotation::ANNOUNCING_V6, &has.announcing_v6),
    ] {
        if let Some(value) = value {
            object["metadata"]["annotations"][key] = value.as_str().into();
        }
    }
    let cluster_ip = if service.has_cluster_ip { CLUSTER_IP } else { "None" };
    complete(&mut object["spec"], cluster_ip, &service.families);
}

/// Fills in what the API would of a Service's `spec`.
fn complete(spec: &mut Value, cluster_ip: &str, families: &[Family]) {
    if spec["clusterIP"].is_null() {
        spec["clusterIP"] = cluster_ip.into();
    }
    if spec["ipFamilies"].is_null() {
        spec["ipFamilies"] = families.iter().map(ToString::to_string).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture::{objects, snapshot};
    use serde_json::json;

    fn manifest(text: &str) -> Result<Vec<Value>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path())
    }

    #[test]
    fn documents_lists_and_json_are_read() {
        let two = manifest("kind: A\n---\n---\nkind: B\n").unwrap();
        assert_eq!(two, [json!({"kind": "A"}), json!({"kind": "B"})]);
        let list = manifest(r#"{"kind": "List", "items": [{"kind": "A"}]}"#).unwrap();
        assert_eq!(list, [json!({"kind": "A"})]);
        assert!(manifest("a: [").is_err());
    }

    #[test]
    fn a_field_that_the_api_does_not_know_is_named() {
        let text = "apiVersion: purelb.io/v2\nkind: ServiceGroup\nmetadata: {name: a}\nspec: {local: {v4pol: {}}}\n";
        assert_eq!(
            manifest(text).unwrap_err(),
            "ServiceGroup in version \"purelb.io/v2\" cannot be handled as a ServiceGroup: strict decoding error: unknown field \"spec.local.v4pol\""
        );
        let service =
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {typ: LoadBalancer}\n";
        assert!(manifest(service).unwrap_err().ends_with("unknown field \"spec.typ\""));
    }

    #[test]
    fn an_applied_service_keeps_its_addresses_and_a_new_one_gets_some() {
        let before = snapshot(objects());
        let service = |name: &str, ports: &str| {
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
                "spec": {"type": "LoadBalancer", "ports": [{"port": 443, "name": ports}]},
            })
        };
        let change = vec![service("web", "https"), service("fresh", "https")];
        let after = changed(&before, change, &[], "purelb").unwrap();
        let report = PlanReport::new(&before, &after, &Views::new());
        let seen: Vec<_> =
            report.services.iter().map(|s| (s.service.to_string(), s.detail.clone())).collect();
        assert_eq!(seen, [("shop/fresh".to_owned(), "192.0.2.241".to_owned())]);
    }

    #[test]
    fn what_is_deleted_must_exist() {
        let before = snapshot(objects());
        let without = |what: &str| changed(&before, vec![], &[what.to_owned()], "purelb");
        assert_eq!(without("sg/default").unwrap().groups.len(), 1);
        assert_eq!(without("lbna/default").unwrap().agents.len(), 0);
        for wrong in ["default", "sg/no", "pod/x"] {
            assert!(without(wrong).unwrap_err().starts_with(&format!("--delete {wrong}: ")));
        }
    }
}
