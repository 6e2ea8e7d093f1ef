//! A cluster to measure in, and what looks at it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use http::Request;
use purelb_k8s::client::connect;
use purelb_k8s::error::ApiError;
use purelb_k8s::{Client, watch};
use serde_json::json;

use super::calls::Calls;
use super::sight::{Seen, Sight};
use super::{BenchError, Case, Plan};
use crate::lab::background::Background;
use crate::lab::cluster::{Blueprint, Cluster};
use crate::lab::ip::ip_batch;
use crate::lab::process::Program;
use crate::lab::samples;
use crate::lab::state::Directory;
use crate::lab::stop::Stop;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// How many requests the bench has under way at once when many are to be made.
const CLIENTS: usize = 16;

/// A group of addresses of a second subnet of the nodes, with room for everything.
const GROUP: &str = "\
apiVersion: purelb.io/v2
kind: ServiceGroup
metadata: {name: default, namespace: purelb}
spec:
  local:
    v4pool: {subnet: 172.20.0.0/16, pool: 172.20.16.0-172.20.95.255, aggregation: default}
    v6pool: {subnet: 'fd00:20::/64', pool: 'fd00:20::1:0/112', aggregation: default}
";

/// Which addresses a Service wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Families {
    /// An IPv4 address.
    One,
    /// One of each family.
    Both,
}

impl Families {
    pub(super) fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::Both => 2,
        }
    }
}

/// A cluster without programs, until they are started.
pub(super) struct Scene {
    // Fields are dropped in this order: who looks, before what there is to see.
    _sights: Vec<Background>,
    connection: Client,
    runtime: Background,
    pub(super) sight: Sight,
    pub(super) cluster: Cluster,
    stop: Stop,
}

impl Scene {
    pub(super) fn start(
        directory: &Directory,
        plan: &Plan,
        case: Case,
        number: usize,
        stop: &Stop,
    ) -> Result<Self, BenchError> {
        let name = format!("{case:?}-{number}").to_lowercase();
        let room = directory.room(&name)?;
        let logs = plan.logs.as_ref().map(|logs| logs.join(&name));
        let daemons = daemons();
        let blueprint = Blueprint { assets: plan.assets.clone(), daemons, ..Blueprint::default() };
        let cluster = Cluster::build(room, logs, stop, blueprint)?;
        for sample in [samples::NODE_AGENT, GROUP] {
            cluster.api().client().apply(sample)?;
        }
        let sight = Sight::default();
        let mut sights = Vec::new();
        for (number, node) in cluster.topology().nodes().iter().enumerate() {
            let host = 11 + number;
            ip_batch(
                node,
                &format!(
                    "addr add 172.20.0.{host}/16 brd + dev eth0\n\
                     addr add fd00:20::{host}/64 dev eth0 nodad\n"
                ),
            )?;
            let background = Background::start_in(node)?;
            background.spawn(sight.clone().watch_node(number));
            sights.push(background);
        }
        let runtime = Background::start()?;
        let connection = connect_to(&runtime, &cluster)?;
        runtime.spawn(sight.clone().watch_services(connection.clone()));
        Ok(Self { _sights: sights, connection, runtime, sight, cluster, stop: stop.clone() })
    }

    /// Starts the programs and waits until a Service has come and gone through all of them.
    pub(super) fn start_programs(&mut self) -> Result<(), BenchError> {
        self.cluster.start_programs()?;
        self.create(["warm-up".to_owned()], Families::Both)?;
        self.until("the first addresses", Self::OFTEN, |seen| seen.held() == 2)?;
        let path = "/api/v1/namespaces/default/services/warm-up";
        self.ask(Request::delete(path).body(Vec::new()))?;
        self.until("their end", Self::OFTEN, |seen| seen.held() == 0)
    }

    /// Watches the Services once more for each program there could be: one on each node, and the
    /// allocator. Each has a connection of its own.
    pub(super) fn watch_as_programs_do(&self) -> Result<(), BenchError> {
        for _ in 0..=self.cluster.topology().nodes().len() {
            let connection = connect_to(&self.runtime, &self.cluster)?;
            self.runtime.spawn(async { watch::services(connection).for_each(async |_| ()).await });
        }
        Ok(())
    }

    /// How often is looked for something whose moment matters to what comes next.
    pub(super) const OFTEN: Duration = Duration::from_millis(1);

    /// How often for what takes some time.
    pub(super) const NOW_AND_THEN: Duration = Duration::from_millis(50);

    /// Waits until something has been seen.
    pub(super) fn until(
        &mut self,
        what: &str,
        every: Duration,
        holds: impl Fn(&Seen) -> bool,
    ) -> Result<(), BenchError> {
        let start = Instant::now();
        loop {
            {
                let seen = self.sight.look();
                if holds(&seen) {
                    return Ok(());
                }
                if start.elapsed() > PATIENCE || seen.blind.is_some() {
                    let (held, services) = (seen.held(), seen.services.len());
                    let blind = seen.blind.clone().unwrap_or_default();
                    let what = format!(
                        "{what}; {held} addresses are held, {services} Services seen {blind}"
                    );
                    return Err(BenchError::Unseen { what, seconds: start.elapsed().as_secs() });
                }
            }
            if let Some((program, status)) = self.cluster.fallen() {
                let what = format!("{what}; {program} ended: {status}");
                return Err(BenchError::Unseen { what, seconds: start.elapsed().as_secs() });
            }
            if self.stop.is_requested() {
                return Err(BenchError::Interrupted);
            }
            thread::sleep(every);
        }
    }

    /// Creates Services, several at once; when each was answered, by its name.
    pub(super) fn create(
        &self,
        names: impl IntoIterator<Item = String>,
        families: Families,
    ) -> Result<BTreeMap<String, Instant>, BenchError> {
        self.create_of_class(names, families, None)
    }

    /// The same, of a load balancer class; PureLB leaves those of others alone.
    pub(super) fn create_of_class(
        &self,
        names: impl IntoIterator<Item = String>,
        families: Families,
        class: Option<&str>,
    ) -> Result<BTreeMap<String, Instant>, BenchError> {
        let (policy, families) = match families {
            Families::One => ("SingleStack", json!(["IPv4"])),
            Families::Both => ("RequireDualStack", json!(["IPv4", "IPv6"])),
        };
        let requests = names.into_iter().map(|name| {
            let mut service = json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {
                    "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false,
                    "ipFamilyPolicy": policy, "ipFamilies": families,
                    "ports": [{"port": 80, "protocol": "TCP"}],
                },
            });
            if let Some(class) = class {
                service["spec"]["loadBalancerClass"] = json!(class);
            }
            let request = Request::post("/api/v1/namespaces/default/services")
                .header("content-type", "application/json")
                .body(service.to_string().into_bytes());
            (format!("default/{name}"), request)
        });
        self.ask_all(requests)
    }

    /// Writes an address into the status of each Service, as the allocator does; when each was
    /// answered.
    pub(super) fn patch_statuses<'a>(
        &self,
        names: impl IntoIterator<Item = &'a String>,
    ) -> Result<BTreeMap<String, Instant>, BenchError> {
        let requests = names.into_iter().map(|name| (format!("default/{name}"), status(name)));
        self.ask_all(requests)
    }

    /// How long one such request takes.
    pub(super) fn patch_status(&self, name: &str) -> Result<Duration, BenchError> {
        let start = Instant::now();
        self.ask(status(name))?;
        Ok(start.elapsed())
    }

    fn ask(&self, request: http::Result<Request<Vec<u8>>>) -> Result<(), BenchError> {
        Ok(self.runtime.block_on(ask(&self.connection, request))?)
    }

    fn ask_all(
        &self,
        requests: impl Iterator<Item = (String, http::Result<Request<Vec<u8>>>)>,
    ) -> Result<BTreeMap<String, Instant>, BenchError> {
        let asked = futures::stream::iter(requests).map(|(name, request)| async {
            ask(&self.connection, request).await?;
            Ok::<_, ApiError>((name, Instant::now()))
        });
        Ok(self.runtime.block_on(asked.buffer_unordered(CLIENTS).try_collect())?)
    }

    /// Takes note of requests to the API from now on.
    pub(super) fn note_calls(&mut self) -> Result<Calls, BenchError> {
        Ok(Calls::start(self.cluster.api_mut())?)
    }

    /// The programs' names and processes.
    pub(super) fn processes(&mut self) -> Vec<(String, u32)> {
        let programs = self.cluster.programs();
        programs.map(|program: &mut Program| (program.name().to_owned(), program.id())).collect()
    }

    /// The processes of a real control plane, and this one.
    pub(super) fn servers(&mut self) -> Vec<(String, u32)> {
        let plane = self.cluster.api_mut().plane();
        let ids = plane
            .map(|plane| [("kube-apiserver", plane.api_server_id()), ("etcd", plane.etcd_id())]);
        let ids = ids.into_iter().flatten().filter_map(|(name, id)| Some((name, id?)));
        let all = ids.chain([("this benchmark", std::process::id())]);
        all.map(|(name, id)| (name.to_owned(), id)).collect()
    }

    /// Where each node asks the API from.
    pub(super) fn addresses_of_nodes(&self) -> Vec<IpAddr> {
        self.cluster.topology().node_addresses().map(|(v4, _)| v4).collect()
    }
}

fn connect_to(runtime: &Background, cluster: &Cluster) -> Result<Client, BenchError> {
    Ok(runtime.block_on(connect(cluster.kubeconfig().to_str(), "purelb-lab-bench"))?)
}

/// Where the two daemons are, as they are installed, if they were built beside this program.
fn daemons() -> Option<PathBuf> {
    let directory = std::env::current_exe().ok()?.parent()?.to_owned();
    let both = ["allocator", "lbnodeagent"];
    both.iter().all(|name| directory.join(name).is_file()).then_some(directory)
}

async fn ask(connection: &Client, request: http::Result<Request<Vec<u8>>>) -> Result<(), ApiError> {
    connection.request_text(request?).await?;
    Ok(())
}

fn status(name: &str) -> http::Result<Request<Vec<u8>>> {
    let body = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "annotations": {"purelb.io/allocated-by": "bench"}},
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}},
    });
    let path =
        format!("/api/v1/namespaces/default/services/{name}/status?fieldManager=bench&force=true");
    Request::patch(path)
        .header("content-type", "application/apply-patch+yaml")
        .body(body.to_string().into_bytes())
}
