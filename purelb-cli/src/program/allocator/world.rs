//! The world around the allocator: the Kubernetes API, signals, people.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered, SelectAll};
use futures::{FutureExt, StreamExt};
use ipnet::IpNet;
use purelb_core::allocator::{Action, Allocator, ClusterRange, Event, Settings};
use purelb_core::lease::LeaseEvent;
use purelb_core::store::{Change, Store};
use purelb_k8s::apply::{Outcome, Writer};
use purelb_k8s::convert::node::NodeNet;
use purelb_k8s::{Pace, leases, watch};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::election::Right;
use super::office::Office;
use super::people::People;
use super::subnets::ActiveSubnets;
use super::writes::{Write, Writes};
use crate::driver::{Host, Input, Question};
use crate::ipam::client::{Called, Sidecars};
use crate::recording::Recorded;
use crate::telemetry::health::Health;

/// Where questions about the machine of this term come from, and those of the next.
pub(super) type Questions = Arc<Mutex<mpsc::Receiver<Question<Recorded<Allocator>>>>>;

/// Everything that an [`Allocator`] acts on and hears of.
pub(super) struct World {
    /// Facts to hand over before any other.
    facts: VecDeque<Event>,
    watches: SelectAll<BoxStream<'static, Heard>>,
    /// What the allocator was last told.
    settings: Settings,
    nodes: Store<NodeNet>,
    service_ranges: Vec<IpNet>,
    subnets: ActiveSubnets,
    /// What the allocator was last told of them.
    told_subnets: Option<BTreeSet<IpNet>>,
    writes: Writes,
    sidecars: Sidecars,
    calls: FuturesUnordered<BoxFuture<'static, Called>>,
    people: People,
    health: Health,
    questions: Questions,
}

/// What a watch says.
enum Heard {
    Event(Box<Event>),
    Lease(Box<LeaseEvent>),
    Node(Change<NodeNet>),
    ServiceRanges(Vec<IpNet>),
}

/// Why the allocator ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The watches of the API ended.
    WatchesLost,
}

impl World {
    /// That of one term, which lasts as long as `right`.
    pub(super) fn new(office: &Office, right: Right) -> Self {
        let Office { client, namespace, settings, recorder, metrics, health, questions, .. } =
            office;
        let leases = leases::watch(client.clone(), namespace, Pace::default());
        let watches = SelectAll::from_iter([
            watch::services(client.clone())
                .map(|change| Heard::Event(Box::new(Event::Services(change))))
                .boxed(),
            watch::service_groups(client.clone(), namespace)
                .map(|change| Heard::Event(Box::new(Event::Groups(change))))
                .boxed(),
            leases.map(|event| Heard::Lease(Box::new(event))).boxed(),
            watch::node_nets(client.clone()).map(Heard::Node).boxed(),
            watch::service_ranges(client.clone()).map(Heard::ServiceRanges).into_stream().boxed(),
        ]);
        Self {
            facts: [Event::Settings(settings.clone())].into(),
            settings: settings.clone(),
            nodes: Store::default(),
            service_ranges: Vec::new(),
            watches,
            subnets: ActiveSubnets::default(),
            told_subnets: None,
            writes: Writes::new(Writer::new(client.clone(), namespace), right, metrics.clone()),
            sidecars: Sidecars::default(),
            calls: FuturesUnordered::new(),
            people: People::new(namespace, recorder.clone(), metrics.clone()),
            health: health.clone(),
            questions: Arc::clone(questions),
        }
    }

    /// The fact that what is known of the cluster's own addresses has changed, if it has.
    fn changed_settings(&mut self) -> Option<Event> {
        self.nodes.is_listed().then_some(())?;
        let pods = self.nodes.iter().flat_map(|node| &node.pod_ranges);
        let pods = pods.map(|net| (*net, ClusterRange::Pods));
        let services = self.service_ranges.iter().map(|net| (*net, ClusterRange::Services));
        let addresses = self
            .nodes
            .iter()
            .flat_map(|node| node.addresses.iter().map(|ip| (*ip, node.name.clone())));
        let settings = Settings {
            default_announcer: self.settings.default_announcer,
            cluster_ranges: pods.chain(services).collect(),
            node_addresses: addresses.collect(),
        };
        if settings == self.settings {
            return None;
        }
        self.settings = settings.clone();
        Some(Event::Settings(settings))
    }

    /// Waits for the writes that are under way; others do not begin any more. Whether some request may
    /// still arrive later.
    pub(super) async fn drain(&mut self) -> bool {
        self.writes.drain().await
    }

    /// The fact that the subnets have changed, if they have.
    fn changed_subnets(&mut self) -> Option<Event> {
        let subnets = self.subnets.subnets()?;
        if self.told_subnets.as_ref() == Some(&subnets) {
            return None;
        }
        self.told_subnets = Some(subnets.clone());
        Some(Event::ActiveSubnets(subnets))
    }

    fn called(&self, called: Called) -> Event {
        self.people.count_call(&called);
        if called.reply.result.is_err() {
            let Called { socket, method, code, text, .. } = &called;
            warn!(socket, ?method, code, text, "a sidecar did not do what it was asked");
        }
        Event::Ipam(called.reply)
    }

    fn written(&self, outcome: Outcome) -> Event {
        self.people.count_write(&outcome);
        match &outcome.error {
            None => {}
            // The object has changed or gone, and the watch says how.
            Some(error) if error.is_conflict() || error.is_not_found() => {
                debug!(object = outcome.object, %error, "nothing was written");
            }
            Some(error) => warn!(object = outcome.object, %error, "a write failed"),
        }
        Event::Written { ticket: outcome.ticket, result: outcome.written }
    }
}

impl Host for World {
    type Machine = Recorded<Allocator>;
    type Ended = Ended;

    fn perform(&mut self, actions: Vec<Action>, _: &mut VecDeque<Event>) {
        for action in actions {
            match action {
                Action::Ipam(request) => self.calls.push(self.sidecars.ask(request)),
                Action::Notice(notice) => self.people.tell(&notice),
                Action::Patch(patch) => self.writes.push(Write::Patch(patch)),
                Action::ReEvaluated { ticket, service, uid } => {
                    self.writes.push(Write::ReEvaluated { ticket, service, uid });
                }
                Action::Release(release) => self.writes.push(Write::Release(release)),
                Action::Status(status) => self.writes.push(Write::Status(status)),
            }
        }
    }

    async fn event(&mut self) -> Result<Input<Recorded<Allocator>>, Ended> {
        loop {
            if let Some(fact) = self.facts.pop_front() {
                return Ok(Input::Fact(fact));
            }
            let expiry = self.subnets.expiry();
            // Cancel-safe, each of them: streams, signals and timers keep what they wait for.
            tokio::select! {
                Some(outcome) = self.writes.next() => {
                    return Ok(Input::Fact(self.written(outcome)));
                }
                Some(called) = self.calls.next(), if !self.calls.is_empty() => {
                    return Ok(Input::Fact(self.called(called)));
                }
                Some(question) = asked(&self.questions) => return Ok(Input::Question(question)),
                heard = self.watches.next() => match heard {
                    Some(Heard::Event(event)) => return Ok(Input::Fact(*event)),
                    Some(Heard::Lease(event)) => self.subnets.handle(*event, Instant::now()),
                    Some(Heard::Node(change)) => {
                        self.nodes.apply(change);
                    }
                    Some(Heard::ServiceRanges(ranges)) => self.service_ranges = ranges,
                    None => return Err(Ended::WatchesLost),
                },
                () = sleep_until(expiry.unwrap_or_else(Instant::now)), if expiry.is_some() => {
                    self.subnets.expire(Instant::now());
                }
            }
            // Only what was heard of Leases and Nodes, or leases running out, comes to here.
            if let Some(fact) = self.changed_subnets().or_else(|| self.changed_settings()) {
                return Ok(Input::Fact(fact));
            }
        }
    }

    fn finished(&self, machine: &Recorded<Allocator>) -> Option<Ended> {
        self.health.set_ready(machine.is_ready());
        self.people.metrics().client.config_loaded.set(i64::from(machine.is_ready()));
        None
    }
}

/// The next question. Cancel-safe: one that has come stays until it is taken.
async fn asked(questions: &Questions) -> Option<Question<Recorded<Allocator>>> {
    questions.lock().await.recv().await
}
