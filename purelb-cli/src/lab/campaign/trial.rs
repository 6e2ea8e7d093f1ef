//! One lab of a campaign, and what is done in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use purelb_core::election;
use purelb_core::name::NodeName;
use thiserror::Error;

use super::record::{DoubleSeen, Fault, OutageSeen, Setup, Trial};
use crate::lab::client::{ClientError, ObjectPath, ingress};
use crate::lab::cluster::{Cluster, ClusterError};
use crate::lab::ip::IpError;
use crate::lab::observe::{Glance, Unseen, wait_until};
use crate::lab::samples;
use crate::lab::state::Directory;
use crate::lab::stop::Stop;
use crate::lab::topology::{Loss, Topology};
use crate::lab::witness::{Findings, Look, Mac, Witness};

/// The lease duration of the agents, which is the default.
const LEASE: Duration = Duration::from_secs(5);

/// How long until everything has to be where it belongs.
const LIMIT: Duration = Duration::from_secs(40);

/// For how long it has to stay there to count.
const STEADY: Duration = Duration::from_millis(500);

/// With the fence off: how long to look after the successors have taken over.
const LINGER: Duration = Duration::from_secs(1);

/// A group of local addresses, enough for many Services.
const GROUP: &str = "\
apiVersion: purelb.io/v2
kind: ServiceGroup
metadata: {name: default, namespace: purelb}
spec:
  local:
    v4pool: {subnet: 192.0.2.0/24, pool: 192.0.2.110-192.0.2.239, aggregation: default}
    v6pool: {subnet: '2001:db8:1::/64', pool: '2001:db8:1::1:1-2001:db8:1::1:ffff', aggregation: default}
";

/// How the agents are told to let addresses stay for ever.
const FENCE_OFF: &str = "\
apiVersion: purelb.io/v2
kind: LBNodeAgent
metadata: {name: default, namespace: purelb}
spec:
  local:
    addressConfig: {localInterface: {validLifetime: 0}}
";

/// A cluster with Services, and the witness in its client's namespace.
#[derive(Debug)]
pub(super) struct Scene {
    // Dropped in this order: the witness asks out of the cluster's network.
    witness: Witness,
    cluster: Cluster,
    setup: Setup,
    stop: Stop,
    nodes: Vec<NodeName>,
    macs: BTreeMap<Mac, usize>,
}

/// Why a trial could not be made, or a lab not set up.
#[derive(Debug, Error)]
pub(super) enum SceneError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Ip(#[from] IpError),
    #[error("{what} was not seen: {unseen}")]
    Unseen { what: &'static str, unseen: Unseen },
    #[error("a program could not be dealt with: {0}")]
    Program(io::Error),
    #[error("the witness cannot ask: {0}")]
    Witness(io::Error),
}

impl Scene {
    /// Builds a cluster with Services whose addresses have all been taken by the right nodes.
    pub(super) fn set(
        directory: Directory,
        logs: PathBuf,
        setup: Setup,
        stop: Stop,
    ) -> Result<Self, SceneError> {
        let mut cluster = Cluster::start(directory, Some(logs), &stop)?;
        let client = cluster.api().client();
        client.apply(if setup.fence_off { FENCE_OFF } else { samples::NODE_AGENT })?;
        client.apply(GROUP)?;
        let names: Vec<String> = (0..setup.services).map(|n| format!("service{n}")).collect();
        for name in &names {
            client.apply(&service(name))?;
        }
        cluster.start_programs()?;
        let addresses = wait_until(LIMIT, &stop, || addresses(&cluster, &names));
        let addresses = addresses.map_err(unseen("an address for every Service"))?;
        let every = Duration::from_millis(setup.every_ms);
        let topology = cluster.topology();
        let mac = Topology::mac_of_client();
        let witness = Witness::start(topology.client(), "eth0", mac, addresses, every);
        let witness = witness.map_err(SceneError::Witness)?;
        let nodes: Vec<NodeName> = topology.nodes().iter().map(|node| node.name().into()).collect();
        let macs = (0..nodes.len()).map(|n| (Topology::mac_of_node(n), n)).collect();
        let mut scene = Self { witness, cluster, setup, stop, nodes, macs };
        scene.settle(None, Instant::now()).map_err(unseen("each address at its node"))?;
        Ok(scene)
    }

    /// Does something to node number `node`, sees what becomes of every address, and tells.
    pub(super) fn make(&mut self, fault: Fault, node: usize) -> Result<Trial, SceneError> {
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // At any moment of the agents' renewals.
        self.pass(random(Duration::ZERO, LEASE / 3))?;
        self.witness.take_findings();
        let began = Instant::now();
        let (detail, settled) = match fault {
            Fault::Kill => {
                self.cluster.kill_agent(node).map_err(SceneError::Program)?;
                (String::new(), self.settle(Some(node), began))
            }
            Fault::Freeze => {
                let span = random(LEASE + Duration::from_millis(200), LEASE * 2);
                self.signal(node, Halt::Freeze)?;
                self.pass(span)?;
                self.signal(node, Halt::Thaw)?;
                (format!("{} ms", span.as_millis()), self.settle(None, Instant::now()))
            }
            Fault::Partition => {
                let loss = [Loss::Answers, Loss::Both, Loss::Requests];
                let loss = loss[fastrand::usize(..loss.len())];
                let span = random(LEASE + Duration::from_millis(200), LEASE * 2);
                self.cluster.topology().part(node, loss)?;
                self.pass(span)?;
                self.cluster.topology().rejoin(node, loss)?;
                let lost = match loss {
                    Loss::Answers => "answers lost",
                    Loss::Both => "both ways",
                    Loss::Requests => "requests lost",
                };
                (format!("{} ms, {lost}", span.as_millis()), self.settle(None, Instant::now()))
            }
            Fault::Stop => {
                let status = self.cluster.stop_agent(node).map_err(SceneError::Program)?;
                let detail = match status {
                    Some(status) if status.success() => {
                        format!("ended after {} ms", began.elapsed().as_millis())
                    }
                    Some(status) => status.to_string(),
                    None => "had to be killed".to_owned(),
                };
                (detail, self.settle(Some(node), began))
            }
            Fault::Return => {
                self.cluster.start_agent(node)?;
                (String::new(), self.settle(None, began))
            }
        };
        let settled = match settled {
            Ok(span) => Some(span),
            Err(Unseen::TimedOut { .. } | Unseen::Hopeless(_)) => None,
            Err(unseen @ Unseen::Interrupted) => {
                return Err(SceneError::Unseen { what: "the end of the trial", unseen });
            }
        };
        if self.setup.fence_off {
            self.pass(LINGER)?;
        }
        let findings = self.witness.take_findings();
        Ok(self.tell(fault, node, detail, at.as_secs(), began, settled, &findings))
    }

    /// Ends the programs in order and removes the lab; what did not end as it should.
    pub(super) fn strike(mut self) -> Vec<String> {
        self.cluster.end_programs()
    }

    #[expect(clippy::too_many_arguments, reason = "each is a part of the record")]
    fn tell(
        &self,
        fault: Fault,
        node: usize,
        detail: String,
        at: u64,
        began: Instant,
        settled: Option<Duration>,
        findings: &Findings,
    ) -> Trial {
        let doubles = findings.doubles.iter().map(|double| DoubleSeen {
            address: double.address,
            nodes: double.macs.iter().map(|mac| self.name_of(*mac)).collect(),
            after_ms: millis(double.from.saturating_duration_since(began)).cast_signed()
                - millis(began.saturating_duration_since(double.from)).cast_signed(),
            ms: millis(double.to - double.from),
            questions: double.questions,
        });
        let outages = findings.outages.iter().map(|outage| OutageSeen {
            address: outage.address,
            before: self.name_of(outage.before),
            after: self.name_of(outage.after),
            ms: millis(outage.to - outage.from),
        });
        Trial {
            setup: self.setup.clone(),
            fault,
            node: self.nodes[node].to_string(),
            detail,
            at,
            doubles: doubles.collect(),
            outages: outages.collect(),
            moves: findings.moves,
            settled_ms: settled.map(millis),
            pause_ms: millis(findings.pause),
            rounds: findings.rounds,
        }
    }

    /// Waits until every address is with its winner among the nodes but `without`, and how long
    /// after `began` that came to be. With the fence off, others may answer beside the winner while a
    /// node is without its agent.
    fn settle(&mut self, without: Option<usize>, began: Instant) -> Result<Duration, Unseen> {
        let members: Vec<&NodeName> = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(n, _)| Some(*n) != without)
            .map(|n| n.1)
            .collect();
        let is_lenient = self.setup.fence_off && without.is_some();
        let (witness, macs, nodes) = (&self.witness, &self.macs, &self.nodes);
        let cluster = &mut self.cluster;
        let is_in_place = |look: &Look| {
            let winner = election::winner(look.address, members.iter().copied());
            let name = |mac: &Mac| macs.get(mac).map(|node| &nodes[*node]);
            let names: BTreeSet<_> = look.answering.iter().map(name).collect();
            let is_alone = names.len() == 1 || is_lenient;
            let is_steady = look.since.max(began) + STEADY <= look.until;
            names.contains(&winner) && is_alone && is_steady
        };
        wait_until(LIMIT, &self.stop, || {
            if let Some((program, status)) = cluster.fallen() {
                return Err(Glance::Never(format!("{program} ended unexpectedly: {status}")));
            }
            let looks = witness.looks().map_err(|error| Glance::Never(error.to_string()))?;
            match looks.iter().find(|look| !is_in_place(look)) {
                Some(look) => Err(Glance::NotYet(format!("{look:?}"))),
                None if looks.is_empty() => Err(Glance::NotYet("nothing is known yet".into())),
                None => Ok(looks.iter().map(|look| look.since).max().unwrap_or(began)),
            }
        })
        .map(|since| since.saturating_duration_since(began))
    }

    fn signal(&mut self, node: usize, halt: Halt) -> Result<(), SceneError> {
        let Some(agent) = self.cluster.agent(node) else { return Ok(()) };
        match halt {
            Halt::Freeze => agent.freeze(),
            Halt::Thaw => agent.thaw(),
        }
        .map_err(SceneError::Program)
    }

    /// Lets time pass.
    fn pass(&self, span: Duration) -> Result<(), SceneError> {
        let start = Instant::now();
        let look = || match span.saturating_sub(start.elapsed()) {
            Duration::ZERO => Ok(()),
            left => Err(Glance::NotYet(format!("{left:?} left"))),
        };
        wait_until(Duration::MAX, &self.stop, look).map_err(unseen("the end of a wait"))
    }

    fn name_of(&self, mac: Mac) -> String {
        let node = self.macs.get(&mac).and_then(|node| self.nodes.get(*node));
        node.map_or_else(|| format!("{mac:02x?}"), NodeName::to_string)
    }
}

#[derive(Debug, Clone, Copy)]
enum Halt {
    Freeze,
    Thaw,
}

fn unseen(what: &'static str) -> impl FnOnce(Unseen) -> SceneError {
    move |unseen| SceneError::Unseen { what, unseen }
}

fn service(name: &str) -> String {
    let mut yaml = format!("{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: ");
    // A String takes what is written to it.
    let _ = write!(
        yaml,
        "{{type: LoadBalancer, ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv4, IPv6], \
         selector: {{app: web}}, ports: [{{name: http, port: 80}}]}}}}"
    );
    yaml
}

/// The addresses of all Services, once each has one of both families.
fn addresses(cluster: &Cluster, names: &[String]) -> Result<Vec<IpAddr>, Glance> {
    let client = cluster.api().client();
    let mut addresses = Vec::new();
    for name in names {
        let service = client.get(&ObjectPath::service(name));
        let service = service.map_err(|error| Glance::NotYet(error.to_string()))?;
        addresses.extend(ingress(&service));
    }
    if addresses.len() == names.len() * 2 {
        Ok(addresses)
    } else {
        Err(Glance::NotYet(format!("{} addresses for {} Services", addresses.len(), names.len())))
    }
}

fn random(from: Duration, to: Duration) -> Duration {
    from + (to - from).mul_f64(fastrand::f64())
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
