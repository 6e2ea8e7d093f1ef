//! This process's part in choosing the allocator that decides.

use std::collections::VecDeque;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered};
use purelb_core::leadership::{Event, LeaderWrite, Leadership, Role, Term};
use purelb_core::lease::WriteResult;
use purelb_k8s::Client;
use purelb_k8s::apply::{Outcome, Writing};
use purelb_k8s::leadership::{self, LeaderWriter};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::driver::{Host, Input};
use crate::telemetry::health::Health;

/// The world of a [`Leadership`]: the Lease, and the rest of this program.
pub(super) struct Election {
    changes: BoxStream<'static, Event>,
    writer: LeaderWriter,
    writes: FuturesUnordered<BoxFuture<'static, Event>>,
    resignation: mpsc::UnboundedReceiver<bool>,
    seat: watch::Sender<Status>,
    sleep: Sleep,
    identity: String,
}

/// How it stands, for the rest of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Status {
    role: Role,
    /// Somebody leads.
    is_led: bool,
}

/// Why the election is over.
#[derive(Debug)]
pub(super) enum Ended {
    /// The lease was given up.
    Retired,
    /// The watch of the lease ended.
    WatchLost,
}

impl Election {
    /// Takes part with leases of this duration; the seat tells the rest of the program.
    pub(super) fn new(
        client: &Client,
        namespace: &str,
        duration: Duration,
        identity: &str,
    ) -> (Self, Seat) {
        let status = Status { role: Role::Follower(None), is_led: false };
        let (sender, receiver) = watch::channel(status);
        let (resign, resignation) = mpsc::unbounded_channel();
        let election = Self {
            changes: leadership::watch(client.clone(), namespace, duration),
            writer: LeaderWriter::new(client.clone(), namespace),
            writes: FuturesUnordered::new(),
            resignation,
            seat: sender,
            sleep: Sleep::new(),
            identity: identity.to_owned(),
        };
        (election, Seat { status: receiver, resign })
    }

    fn say(&self, before: &Role, role: &Role) {
        match (before, role) {
            (Role::Leader(before), Role::Leader(now)) if before.number == now.number => {}
            (_, Role::Leader(term)) => {
                info!(term = term.number, identity = self.identity, "leading");
            }
            (Role::Leader(_), Role::Follower(_)) => {
                warn!("no longer leading: the lease was not renewed in time, or is another's now");
            }
            (Role::Follower(before), Role::Follower(leader)) if before == leader => {}
            (_, Role::Follower(Some(leader))) => info!(leader, "standing by"),
            (_, Role::Follower(None) | Role::Retired | Role::Retiring) => {}
        }
    }
}

impl Host for Election {
    type Machine = Leadership;
    type Ended = Ended;

    fn perform(&mut self, actions: Vec<LeaderWrite>, _: &mut VecDeque<Event>) {
        self.writes.extend(actions.into_iter().map(|write| self.writer.write(write)));
    }

    async fn event(&mut self) -> Result<Input<Leadership>, Ended> {
        if self.sleep.has_slept() {
            self.sleep = Sleep::new();
            warn!("the machine was suspended: the lease counts as lost");
            return Ok(Input::Fact(Event::Slept));
        }
        // Cancel-safe, each of them: channels and streams keep what they wait for.
        let event = tokio::select! {
            Some(event) = self.writes.next(), if !self.writes.is_empty() => event,
            Some(late_writes) = self.resignation.recv() => Event::Resigned { late_writes },
            event = self.changes.next() => event.ok_or(Ended::WatchLost)?,
        };
        if let Event::Written { result: WriteResult::Unknown { error }, .. } = &event {
            warn!(%error, "the leader lease may not have been written");
        }
        Ok(Input::Fact(event))
    }

    fn finished(&self, machine: &Leadership) -> Option<Ended> {
        let status = Status { role: machine.role(), is_led: machine.is_led() };
        if *self.seat.borrow() != status {
            self.say(&self.seat.borrow().role, &status.role);
            // Nobody who listens has left before this does.
            self.seat.send_replace(status);
        }
        (machine.role() == Role::Retired).then_some(Ended::Retired)
    }
}

/// How the rest of the program takes part.
#[derive(Clone)]
pub(super) struct Seat {
    status: watch::Receiver<Status>,
    resign: mpsc::UnboundedSender<bool>,
}

impl Seat {
    /// Stands by until the next term. Who stands by is ready while somebody leads: it knows the lease,
    /// and reaches the API, for it sees the lease change. Cancel-safe.
    pub(super) async fn term(&mut self, health: &Health) -> Term {
        loop {
            {
                let status = self.status.borrow_and_update();
                if let Role::Leader(term) = status.role {
                    return term;
                }
                health.set_ready(status.is_led);
            }
            if self.status.changed().await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// What says whether something may still be sent in this term.
    pub(super) fn right(&self, term: &Term) -> Right {
        Right { status: self.status.clone(), term: term.number, sleep: Sleep::new() }
    }

    /// Gives the lease up, once nothing is decided any more.
    pub(super) fn resign(&self, late_writes: bool) {
        if self.resign.send(late_writes).is_err() {
            debug!("the election is over already");
        }
    }
}

/// The right to send, during one term.
#[derive(Clone)]
pub(super) struct Right {
    status: watch::Receiver<Status>,
    term: u32,
    sleep: Sleep,
}

impl Right {
    /// Waits for its end.
    pub(super) async fn over(&mut self) {
        let term = self.term;
        let is_over =
            |status: &Status| !matches!(status.role, Role::Leader(now) if now.number == term);
        // Nobody left to tell is as good as an end.
        let _ = self.status.wait_for(is_over).await;
    }

    /// `write`, which does not begin, for ever, unless the right runs at that moment. The clock is asked
    /// anew: a process that was stopped and goes on may not have been told yet.
    pub(super) async fn guard(self, write: Writing) -> Outcome {
        if !self.runs() {
            debug!("a write does not begin: this allocator no longer leads");
            std::future::pending::<()>().await;
        }
        write.await
    }

    fn runs(&self) -> bool {
        let Role::Leader(term) = self.status.borrow().role else { return false };
        term.number == self.term
            && Instant::now().into_std() < term.until
            && !self.sleep.has_slept()
    }
}

/// Tells whether the machine slept: its monotonic clock stands still meanwhile, the one since boot does
/// not.
#[derive(Clone, Copy)]
struct Sleep {
    ahead: Duration,
}

impl Sleep {
    fn new() -> Self {
        Self { ahead: Self::ahead() }
    }

    fn has_slept(self) -> bool {
        Self::ahead().saturating_sub(self.ahead) > TOLERANCE
    }

    fn ahead() -> Duration {
        let [boot, monotonic] = [ClockId::Boottime, ClockId::Monotonic].map(|clock| {
            let time = clock_gettime(clock);
            Duration::new(
                u64::try_from(time.tv_sec).unwrap_or_default(),
                u32::try_from(time.tv_nsec).unwrap_or_default(),
            )
        });
        boot.saturating_sub(monotonic)
    }
}

/// Less than this between the readings of two clocks is no sleep.
const TOLERANCE: Duration = Duration::from_millis(50);
