//! What an allocator does with its time: stands by, leads for a term, resigns.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use purelb_core::allocator::{Settings, Written};
use purelb_core::group::ServiceGroup;
use purelb_core::leadership::{Takeover, Term, unsettled};
use purelb_core::service::Service;
use purelb_core::store::{Change, Object};
use purelb_k8s::apply::Writer;
use purelb_k8s::notice::Recorder;
use purelb_k8s::{Client, watch};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::election::{Right, Seat};
use super::world::{Ended, Questions, World};
use super::writes;
use crate::driver::drive;
use crate::program::daemon::{Failure, Signals};
use crate::recording::{Bytes, Recorded};
use crate::telemetry::allocator::AllocatorMetrics;
use crate::telemetry::health::Health;

/// From one attempt to make a request void to the next.
const PAUSE: Duration = Duration::from_millis(500);

/// All that a term needs.
pub(super) struct Office {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) settings: Settings,
    pub(super) recorder: Recorder,
    pub(super) metrics: AllocatorMetrics,
    pub(super) health: Health,
    pub(super) seat: Seat,
    pub(super) signals: Signals,
    pub(super) questions: Questions,
    /// Whose recordings are made, and how large.
    pub(super) recording: (String, Bytes),
}

/// How a term ended.
enum Over {
    /// Another may lead now.
    Lost,
    /// It was told to stop.
    Stopped,
}

impl Office {
    /// Leads whenever it may, until it is told to stop; the election ends the program then. Returns only
    /// if something fails.
    pub(super) async fn run(mut self) -> Failure {
        loop {
            let mut seat = self.seat.clone();
            let term = tokio::select! {
                biased;
                () = self.signals.next() => return self.resign(false).await,
                term = seat.term(&self.health) => term,
                () = turn_away(&self.questions) => continue,
            };
            self.health.set_ready(false);
            self.metrics.leader.set(1);
            let over = self.lead(&term).await;
            self.metrics.leader.set(0);
            match over {
                Ok((Over::Lost, _)) => {}
                Ok((Over::Stopped, late_writes)) => return self.resign(late_writes).await,
                Err(failure) => return failure,
            }
        }
    }

    async fn resign(&self, late_writes: bool) -> Failure {
        info!(late_writes, "stopping");
        self.seat.resign(late_writes);
        std::future::pending().await
    }

    /// Leads for one term. How it ended, and whether some request may still arrive.
    async fn lead(&mut self, term: &Term) -> Result<(Over, bool), Failure> {
        let right = self.seat.right(term);
        let mut end = right.clone();
        if term.takeover == Takeover::Unclean {
            let voided = make_void(
                &self.client,
                &self.namespace,
                self.settings.default_announcer,
                term,
                &right,
            );
            tokio::select! {
                biased;
                // Cancel-safe, the last: what is not void yet is so for the next leader.
                () = end.over() => return Ok((Over::Lost, true)),
                () = self.signals.next() => return Ok((Over::Stopped, true)),
                done = voided => done?,
            }
        }
        let mut world = World::new(self, right);
        let (name, size) = &self.recording;
        let mut machine = Recorded::new((), name, *size, Instant::now().into_std());
        let pulse = self.health.pulse("allocator");
        tokio::select! {
            biased;
            () = end.over() => return Ok((Over::Lost, true)),
            () = self.signals.next() => {}
            ended = drive(&mut machine, &mut world, &pulse) => match ended {
                Ended::WatchesLost => return Err(Failure::WatchesLost),
            },
        }
        drop(pulse);
        self.health.set_ready(false);
        let late_writes = tokio::select! {
            biased;
            () = end.over() => true,
            late_writes = world.drain() => late_writes,
        };
        Ok((Over::Stopped, late_writes))
    }
}

/// Answers questions about a machine that is not there, until for ever.
async fn turn_away(questions: &Questions) {
    while let Some(question) = questions.lock().await.recv().await {
        drop(question);
    }
    std::future::pending().await
}

/// Changes every Service that the allocator before may still be writing to, so that its requests are
/// refused whenever they arrive.
async fn make_void(
    client: &Client,
    namespace: &str,
    default_announcer: bool,
    term: &Term,
    right: &Right,
) -> Result<(), Failure> {
    let groups = all(watch::service_groups(client.clone(), namespace)).await?;
    let growing: BTreeSet<_> =
        groups.into_iter().filter(ServiceGroup::may_grow).map(|group| group.name).collect();
    let services: Vec<Service> = all(watch::services(client.clone())).await?;
    let concerned = unsettled(&services, &growing, default_announcer);
    info!(
        term = term.number,
        services = concerned.len(),
        "taking over: requests that an earlier allocator may have under way are made void"
    );
    let writer = Writer::new(client.clone(), namespace);
    let concerned = services.iter().filter(|service| concerned.contains(&service.key));
    stream::iter(concerned)
        .for_each_concurrent(writes::AT_ONCE, |service| void_one(&writer, service, term, right))
        .await;
    Ok(())
}

async fn void_one(writer: &Writer, service: &Service, term: &Term, right: &Right) {
    loop {
        let write = writer.void(service, term.number);
        match right.clone().guard(write).await.written {
            Written::Accepted | Written::Conflict | Written::Gone => return,
            Written::Failed { error } => {
                warn!(service = %service.key, error, "cannot take over yet");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Everything of a kind, as first listed.
async fn all<T: Object>(mut changes: BoxStream<'static, Change<T>>) -> Result<Vec<T>, Failure> {
    match changes.next().await {
        Some(Change::Listed(objects)) => Ok(objects),
        Some(Change::Updated(_) | Change::Deleted(_)) | None => Err(Failure::WatchesLost),
    }
}
