//! The allocator's writes, a few at once.

use std::collections::VecDeque;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use purelb_core::allocator::{Patch, Release, StatusWrite, Ticket};
use purelb_core::name::{ServiceKey, Uid};
use purelb_k8s::apply::{Outcome, Writer, Writing};
use tokio::time::timeout;

use super::election::Right;
use super::people::count_status;
use crate::telemetry::allocator::AllocatorMetrics;

/// How many writes may be under way at once. Each has a connection of its own.
pub(super) const AT_ONCE: usize = 16;

/// How long a stopping allocator waits for its writes to be answered.
const DRAIN: Duration = Duration::from_secs(3);

/// Something to be written. The request, many times as large, is made when it begins.
pub(super) enum Write {
    Patch(Patch),
    ReEvaluated { ticket: Ticket, service: ServiceKey, uid: Uid },
    Release(Release),
    Status(StatusWrite),
}

/// The writes of one term, in the order in which they were asked for.
pub(super) struct Writes {
    writer: Writer,
    metrics: AllocatorMetrics,
    /// Until when they may be sent.
    right: Right,
    waiting: VecDeque<Write>,
    under_way: FuturesUnordered<Writing>,
    /// Some write may still arrive though it was given up.
    may_be_late: bool,
}

impl Writes {
    pub(super) fn new(writer: Writer, right: Right, metrics: AllocatorMetrics) -> Self {
        Self {
            writer,
            metrics,
            right,
            waiting: VecDeque::new(),
            under_way: FuturesUnordered::new(),
            may_be_late: false,
        }
    }

    pub(super) fn push(&mut self, write: Write) {
        self.waiting.push_back(write);
    }

    /// What became of the next that is answered; `None` if there is nothing to write. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Outcome> {
        while self.under_way.len() < AT_ONCE
            && let Some(write) = self.waiting.pop_front()
        {
            let writing = self.begin(write);
            self.under_way.push(self.right.clone().guard(writing).boxed());
        }
        if self.waiting.is_empty() {
            self.waiting.shrink_to_fit();
        }
        self.answered().await
    }

    /// Waits for those that are under way; others do not begin any more. Whether some request may still
    /// arrive later.
    pub(super) async fn drain(&mut self) -> bool {
        let all = async { while self.answered().await.is_some() {} };
        let is_drained = timeout(DRAIN, all).await.is_ok();
        self.may_be_late || !is_drained
    }

    async fn answered(&mut self) -> Option<Outcome> {
        let outcome = self.under_way.next().await?;
        self.may_be_late |= outcome.may_be_late();
        Some(outcome)
    }

    fn begin(&self, write: Write) -> Writing {
        match write {
            Write::Patch(patch) => self.writer.patch(patch),
            Write::ReEvaluated { ticket, service, uid } => {
                self.writer.re_evaluated(ticket, &service, &uid)
            }
            Write::Release(release) => self.writer.release(release),
            Write::Status(status) => {
                let metrics = self.metrics.clone();
                let writing = self.writer.status(&status);
                writing.inspect(move |outcome| count_status(&metrics, outcome)).boxed()
            }
        }
    }
}
