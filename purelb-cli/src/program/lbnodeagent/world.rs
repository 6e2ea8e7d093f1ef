//! The world around a node agent: the kernel, the Kubernetes API, signals, people.

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures::stream::{BoxStream, FuturesUnordered, SelectAll};
use futures::{FutureExt, Stream, StreamExt};
use purelb_core::host::Family;
use purelb_core::kernel::{KernelAction, KernelOutcome};
use purelb_core::lease::{LeaseEvent, LeaseWrite, WriteResult};
use purelb_core::membership::Settings;
use purelb_core::name::{NodeName, Uid};
use purelb_core::node::{Action, ClusterAction, Event, NodeAgent, NodeNotice, Since};
use purelb_core::notice::{Level, Notice, Regarding};
use purelb_core::store::Change;
use purelb_k8s::leases::{self, LeaseWriter};
use purelb_k8s::notice::{self, About, Recorder, Severity};
use purelb_k8s::{Client, announce, watch};
use purelb_netlink::{HostChange, Kernel, WatchError};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use super::announcements::Announcements;
use crate::driver::{Host, Input, Question};
use crate::program::daemon::Signals;
use crate::recording::Recorded;
use crate::telemetry::agent::{AgentMetrics, Conflict, Handover, OfFamily, Reason};
use crate::telemetry::announced::AnnouncedGauge;
use crate::telemetry::health::Health;

/// A sleep of the machine shorter than this is how clocks are read, not a sleep.
const SLEPT: Duration = Duration::from_millis(50);

/// How long a stopping agent waits for the kernel and the API.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// What came of a request.
enum Answer {
    /// Of an announcement: what the machine has to know, if anything.
    Announced(Option<Event>),
    /// Of a write of the lease.
    Lease(Event),
}

/// Everything that a [`NodeAgent`] acts on and hears of.
pub(super) struct World {
    client: Client,
    namespace: String,
    node: NodeName,
    node_uid: Option<Uid>,
    kernel: Kernel,
    watches: SelectAll<BoxStream<'static, Event>>,
    leases: BoxStream<'static, Event>,
    lease_duration: Duration,
    /// Watched while some Service needs it.
    endpoints: Option<BoxStream<'static, Event>>,
    /// Requests under way; each ends as a fact, or as nothing worth telling the machine.
    requests: FuturesUnordered<Pin<Box<dyn Future<Output = Answer>>>>,
    announcements: Announcements,
    signals: Signals,
    questions: mpsc::Receiver<Question<Recorded<NodeAgent>>>,
    /// When to give up stopping in order.
    stop_by: Option<Instant>,
    /// What the gauge of announced addresses shows.
    announced: AnnouncedGauge,
    recorder: Recorder,
    worker: Option<notice::Worker>,
    metrics: AgentMetrics,
    health: Health,
}

/// What an agent hears of besides the API.
pub(super) struct Sources {
    /// Addresses, links and routes.
    pub(super) kernel: Kernel,
    /// What people ask it.
    pub(super) questions: mpsc::Receiver<Question<Recorded<NodeAgent>>>,
    /// When to stop.
    pub(super) signals: Signals,
}

/// Why the agent ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The kernel can no longer be watched.
    KernelLost(WatchError),
    /// It was told to stop, and everything is withdrawn.
    Stopped,
    /// It was told to stop, but something would not be withdrawn in time, or it was told twice.
    Unfinished,
    /// The watches of the API ended.
    WatchesLost,
}

impl World {
    pub(super) fn new(
        client: Client,
        namespace: &str,
        settings: &Settings,
        sources: Sources,
        metrics: AgentMetrics,
        health: Health,
    ) -> Self {
        let Sources { kernel, questions, signals } = sources;
        let (recorder, worker) =
            notice::recorder(client.clone(), "purelb-lbnodeagent", settings.node.as_str());
        let watches = watch_objects(&client, namespace, &settings.node);
        let leases = watch_leases(&client, namespace, settings.duration);
        Self {
            client,
            namespace: namespace.to_owned(),
            node: settings.node.clone(),
            node_uid: None,
            kernel,
            watches,
            leases,
            lease_duration: settings.duration,
            endpoints: None,
            requests: FuturesUnordered::new(),
            announcements: Announcements::new(),
            signals,
            questions,
            stop_by: None,
            announced: AnnouncedGauge::new(metrics.announced.clone(), settings.node.clone()),
            recorder,
            worker: Some(worker),
            metrics,
            health,
        }
    }

    /// What raises Events, to be polled beside the driver. Ends only if it fails.
    pub(super) fn take_worker(&mut self) -> impl Future<Output = ()> + use<> {
        let worker = self.worker.take();
        async move {
            if let Some(worker) = worker {
                worker.run().await;
            }
        }
    }

    fn cluster(&mut self, action: ClusterAction) {
        match action {
            ClusterAction::Announce(write) => self.announcements.push(write),
            ClusterAction::ListLeases => self.list_anew(),
            ClusterAction::UnwatchEndpoints => self.endpoints = None,
            ClusterAction::WatchEndpoints => self.endpoints = Some(watch_endpoints(&self.client)),
            ClusterAction::WriteLease(write) => self.write_lease(write),
        }
    }

    /// The leases have another history, so everything else has.
    fn list_anew(&mut self) {
        warn!(
            "the leases went back, as they do when a backup of the API is restored: listing all anew"
        );
        self.leases = watch_leases(&self.client, &self.namespace, self.lease_duration);
        self.watches = watch_objects(&self.client, &self.namespace, &self.node);
        if self.endpoints.is_some() {
            self.endpoints = Some(watch_endpoints(&self.client));
        }
    }

    /// Starts the announcements that may begin now.
    fn announce(&mut self) {
        while let Some(write) = self.announcements.begin() {
            let service = write.service.clone();
            let metrics = self.metrics.client.clone();
            let request = announce::announce(self.client.clone(), write);
            self.requests.push(Box::pin(request.map(move |result| {
                Answer::Announced(match result {
                    Ok(()) => {
                        metrics.updates.inc();
                        None
                    }
                    // The Service has changed, and the change is on its way.
                    Err(error) if error.is_conflict() || error.is_not_found() => None,
                    Err(error) => {
                        metrics.update_errors.inc();
                        warn!(%service, %error, "cannot write the announcing annotations");
                        Some(Event::AnnounceFailed { service, error: error.to_string() })
                    }
                })
            })));
        }
    }

    fn write_lease(&mut self, write: LeaseWrite) {
        debug!(
            attempt = write.attempt,
            subnets = ?write.content.subnets,
            seen = write.content.seen.map(|version| version.0),
            join = write.content.join,
            "writing the lease"
        );
        let attempt = write.attempt;
        let Some(uid) = self.node_uid.clone() else {
            // Without the Node there is nothing for the lease to belong to.
            let error = format!("there is no Node {}", self.node);
            warn!(%error, "cannot write the lease");
            let result = WriteResult::Unknown { error };
            let answer = Event::Leases(LeaseEvent::Written { attempt, result });
            self.requests.push(Box::pin(std::future::ready(Answer::Lease(answer))));
            return;
        };
        let writer = LeaseWriter::new(self.client.clone(), &self.namespace, self.node.clone(), uid);
        let metrics = self.metrics.clone();
        self.requests.push(Box::pin(writer.write(write).map(move |event| {
            if let LeaseEvent::Written { result, .. } = &event {
                match result {
                    WriteResult::Accepted { .. } => {
                        metrics.lease_renewals.inc();
                    }
                    WriteResult::Conflict => {
                        metrics.lease_failures.inc();
                        debug!("the lease was written by another request");
                    }
                    WriteResult::Unknown { error } => {
                        metrics.lease_failures.inc();
                        warn!(%error, "the lease may not have been renewed");
                    }
                }
            }
            Answer::Lease(Event::Leases(event))
        })));
    }

    /// Counts what the kernel did. The machine is told what it has to know: what failed, and what was
    /// removed; what was added it sees.
    fn outcome(&self, outcome: KernelOutcome) -> Option<Event> {
        let is_ok = outcome.result.is_ok();
        let count = |good: &prometheus_client::metrics::counter::Counter,
                     bad: &prometheus_client::metrics::counter::Counter| {
            if is_ok { good.inc() } else { bad.inc() }
        };
        let metrics = &self.metrics;
        match &outcome.action {
            KernelAction::Advertise { ip, .. } => match Family::of(*ip) {
                Family::V4 => count(&metrics.garp_sent, &metrics.garp_errors),
                Family::V6 => count(&metrics.na_sent, &metrics.na_errors),
            },
            KernelAction::AddAddress(_) => count(&metrics.renewals, &metrics.renewal_errors),
            KernelAction::RemoveAddress(_) if is_ok => metrics.withdrawals.inc(),
            KernelAction::CreateVirtual { .. }
            | KernelAction::DeleteVirtual { .. }
            | KernelAction::Heed { .. }
            | KernelAction::Probe { .. }
            | KernelAction::RemoveAddress(_)
            | KernelAction::SetAlias { .. }
            | KernelAction::SetConf { .. }
            | KernelAction::Unheed { .. } => 0,
        };
        let matters = !is_ok || matches!(outcome.action, KernelAction::RemoveAddress(_));
        matters.then_some(Event::Kernel(outcome))
    }

    fn tell(&mut self, notice: &NodeNotice) {
        let service = match notice.regarding() {
            Regarding::Service { key, .. } => Some(key.to_string()),
            Regarding::Agent { .. } | Regarding::Node => None,
        };
        let service = service.as_deref();
        match notice.level() {
            Level::Error => error!(service, "{notice}"),
            Level::Warning => warn!(service, "{notice}"),
            Level::Info => info!(service, "{notice}"),
            Level::Debug => debug!(service, "{notice}"),
        }
        self.count(notice);
        let Some(reason) = notice.reason() else { return };
        self.metrics.events.get_or_create(&Reason { reason }).inc();
        let severity = match notice.level() {
            Level::Error | Level::Warning => Severity::Warning,
            Level::Info | Level::Debug => Severity::Normal,
        };
        let about = match notice.regarding() {
            Regarding::Agent { namespace, name, uid } => {
                About::LbNodeAgent { namespace, name, uid }
            }
            Regarding::Node => About::Node(self.node.clone()),
            Regarding::Service { key, uid } => About::Service { key, uid },
        };
        self.recorder.tell(notice::Notice { about, severity, reason, text: notice.to_string() });
    }

    fn count(&mut self, notice: &NodeNotice) {
        let of = |family: &Family| OfFamily { family: family.to_string() };
        match notice {
            NodeNotice::Announced { ip, service, .. } => {
                self.metrics.additions.inc();
                self.announced.add(&service.key, *ip);
            }
            NodeNotice::Arrived { since, took, .. } => {
                let seconds = took.as_secs_f64();
                let won = |from| self.metrics.handover_seconds.get_or_create(&Handover { from });
                match since {
                    Since::Lost => self.metrics.repair_seconds.observe(seconds),
                    Since::WonFromPeer => won("peer").observe(seconds),
                    Since::WonNew => won("new").observe(seconds),
                }
            }
            NodeNotice::KernelFailed { .. } => {
                self.metrics.kernel_errors.inc();
            }
            NodeNotice::Identified { family, .. } => {
                self.metrics.unidentified.get_or_create(&of(family)).set(0);
            }
            NodeNotice::Unidentified { family, is_ambiguous, .. } => {
                let value = i64::from(*is_ambiguous);
                self.metrics.unidentified.get_or_create(&of(family)).set(value);
            }
            NodeNotice::Withheld { ip, service, .. } => {
                self.announced.remove(&service.key, *ip);
            }
            NodeNotice::Conflict { ip, interface, mac, service: _ } => {
                let conflict = Conflict::new(*ip, interface, Some(*mac));
                self.metrics.conflicts.get_or_create(&conflict).set(1);
            }
            NodeNotice::ConflictOver { ip, interface, mac, service: _ } => {
                self.metrics.conflicts.remove(&Conflict::new(*ip, interface, Some(*mac)));
            }
            NodeNotice::Foreign { ip, interface, service: _ } => {
                self.metrics.conflicts.get_or_create(&Conflict::new(*ip, interface, None)).set(1);
            }
            NodeNotice::ForeignGone { ip, interface, service: _ } => {
                self.metrics.conflicts.remove(&Conflict::new(*ip, interface, None));
            }
            NodeNotice::Unserved { ip, service, why: _ } => {
                let labels = self.announced.labels(&service.key, *ip);
                self.metrics.unserved.get_or_create(&labels).set(1);
            }
            NodeNotice::ServedAgain { ip, service } => {
                self.metrics.unserved.remove(&self.announced.labels(&service.key, *ip));
            }
            NodeNotice::Configured { .. }
            | NodeNotice::Confirmed { .. }
            | NodeNotice::Contested { .. }
            | NodeNotice::Fenced { .. }
            | NodeNotice::GaveUp { .. }
            | NodeNotice::HoldingOn { .. }
            | NodeNotice::Restored { .. } => {}
        }
    }

    /// Notes what this world itself needs of a fact.
    fn note(&mut self, event: &Event) {
        if let Event::Services(change) = event {
            match change {
                Change::Deleted(key) => self.announced.retain(|service| service != key),
                Change::Listed(services) => {
                    let there: BTreeSet<_> = services.iter().map(|service| &service.key).collect();
                    self.announced.retain(|service| there.contains(service));
                }
                Change::Updated(_) => {}
            }
        }
        if let Event::Node(change) = event {
            match change {
                Change::Deleted(_) => self.node_uid = None,
                Change::Listed(nodes) => {
                    self.node_uid = nodes.first().map(|node| node.uid.clone());
                    if nodes.is_empty() {
                        error!(node = %self.node, "there is no Node of this name: check --node-name");
                    }
                }
                Change::Updated(node) => self.node_uid = Some(node.uid.clone()),
            }
        }
    }
}

impl Host for World {
    type Machine = Recorded<NodeAgent>;
    type Ended = Ended;

    fn perform(&mut self, actions: Vec<Action>, facts: &mut VecDeque<Event>) {
        let (mut kernel, mut cluster, mut notices) = (Vec::new(), Vec::new(), Vec::new());
        for action in actions {
            match action {
                Action::Cluster(action) => cluster.push(action),
                Action::Kernel(action) => kernel.push(action),
                Action::Notice(notice) => notices.push(notice),
            }
        }
        if !kernel.is_empty() {
            let outcomes = self.kernel.apply(kernel);
            facts.extend(outcomes.into_iter().filter_map(|outcome| self.outcome(outcome)));
        }
        for action in cluster {
            self.cluster(action);
        }
        // What people read can wait: a thousand lines take their time.
        for notice in notices {
            self.tell(&notice);
        }
    }

    async fn event(&mut self) -> Result<Input<Recorded<NodeAgent>>, Ended> {
        loop {
            if self.kernel.suspended() > SLEPT {
                self.kernel.rebase();
                warn!("the machine was suspended: every right to hold an address is given up");
                return Ok(Input::Fact(Event::Slept));
            }
            self.announce();
            let announcement = self.announcements.due();
            let stop_by = self.stop_by;
            // Cancel-safe, each of them: streams, signals and timers keep what they wait for.
            let event = tokio::select! {
                () = self.signals.next() => Event::Stop,
                Some(question) = self.questions.recv() => return Ok(Input::Question(question)),
                () = until(stop_by), if stop_by.is_some() => return Err(Ended::Unfinished),
                () = until(announcement), if announcement.is_some() => continue,
                change = self.kernel.next() => match change {
                    Ok(HostChange::Addresses(change)) => Event::Addresses(change),
                    Ok(HostChange::Links(change)) => Event::Links(change),
                    Ok(HostChange::Routes(change)) => Event::Routes(change),
                    Ok(HostChange::Sighted(sighting)) => Event::Sighted(sighting),
                    Err(error) => return Err(Ended::KernelLost(error)),
                },
                Some(answer) = self.requests.next(), if !self.requests.is_empty() => match answer {
                    Answer::Lease(event) => event,
                    Answer::Announced(event) => {
                        self.announcements.done();
                        match event {
                            Some(event) => event,
                            None => continue,
                        }
                    }
                },
                event = self.leases.next() => match event {
                    Some(event) => event,
                    None => return Err(Ended::WatchesLost),
                },
                event = next(&mut self.endpoints), if self.endpoints.is_some() => match event {
                    Some(event) => event,
                    None => return Err(Ended::WatchesLost),
                },
                event = self.watches.next() => match event {
                    Some(event) => event,
                    None => return Err(Ended::WatchesLost),
                },
            };
            if event == Event::Stop {
                if self.stop_by.is_some() {
                    return Err(Ended::Unfinished);
                }
                info!("stopping");
                self.stop_by = Some(Instant::now() + STOP_PATIENCE);
            }
            self.note(&event);
            return Ok(Input::Fact(event));
        }
    }

    fn finished(&self, machine: &Recorded<NodeAgent>) -> Option<Ended> {
        self.health.set_ready(machine.is_able());
        self.metrics.client.config_loaded.set(i64::from(machine.is_ready()));
        let membership = machine.membership();
        let is_healthy = membership.right().is_some() && !membership.is_holding_on();
        self.metrics.lease_healthy.set(i64::from(is_healthy));
        machine.is_stopped().then_some(Ended::Stopped)
    }
}

fn watch_leases(client: &Client, namespace: &str, duration: Duration) -> BoxStream<'static, Event> {
    leases::watch(client.clone(), namespace, leases::pace(duration)).map(Event::Leases).boxed()
}

fn watch_endpoints(client: &Client) -> BoxStream<'static, Event> {
    watch::endpoints(client.clone()).map(Event::Endpoints).boxed()
}

/// Everything that is watched all the time, but leases.
fn watch_objects(
    client: &Client,
    namespace: &str,
    node: &NodeName,
) -> SelectAll<BoxStream<'static, Event>> {
    SelectAll::from_iter([
        watch::services(client.clone()).map(Event::Services).boxed(),
        watch::service_groups(client.clone(), namespace).map(Event::Groups).boxed(),
        watch::lb_node_agents(client.clone(), namespace).map(Event::Agents).boxed(),
        watch::node(client.clone(), node).map(Event::Node).boxed(),
    ])
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn next<S: Stream + Unpin>(stream: &mut Option<S>) -> Option<S::Item> {
    match stream {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}
