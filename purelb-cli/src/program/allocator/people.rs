//! What people are told: log lines, Events and metrics, out of one value.

use purelb_core::allocator::{How, Notice, ServiceNotice, Severity, Written};
use purelb_core::name::{GroupName, Namespace};
use purelb_k8s::apply::Outcome;
use purelb_k8s::notice::{self, About, Recorder};
use tracing::{info, warn};

use crate::ipam::client::Called;
use crate::telemetry::allocator::{
    self as labels, AllocatorMetrics, Call, EndedCall, Pool, Rejection,
};

/// Tells people.
pub(super) struct People {
    namespace: Namespace,
    recorder: Recorder,
    metrics: AllocatorMetrics,
}

impl People {
    pub(super) fn new(namespace: &str, recorder: Recorder, metrics: AllocatorMetrics) -> Self {
        Self { namespace: namespace.into(), recorder, metrics }
    }

    pub(super) fn metrics(&self) -> &AllocatorMetrics {
        &self.metrics
    }

    /// Logs a notice, raises its Event, and counts it.
    pub(super) fn tell(&self, notice: &Notice) {
        self.count(notice);
        let Some((reason, severity)) = notice.event() else { return };
        let about = match notice {
            Notice::Group { group, uid, .. } => About::ServiceGroup {
                namespace: self.namespace.clone(),
                name: group.clone(),
                uid: uid.clone(),
            },
            Notice::Service { service, uid, .. } => {
                About::Service { key: service.clone(), uid: uid.clone() }
            }
            Notice::Usage { .. } => return,
        };
        let (service, group) = match notice {
            Notice::Group { group, .. } | Notice::Usage { group, .. } => (None, Some(group)),
            Notice::Service { service, .. } => (Some(service), None),
        };
        let service = service.map(tracing::field::display);
        let group = group.map(tracing::field::display);
        let severity = match severity {
            Severity::Normal => {
                info!(reason = reason.as_str(), service, group, "{notice}");
                notice::Severity::Normal
            }
            Severity::Warning => {
                warn!(reason = reason.as_str(), service, group, "{notice}");
                notice::Severity::Warning
            }
        };
        let text = notice.to_string();
        self.recorder.tell(notice::Notice { about, severity, reason: reason.as_str(), text });
    }

    /// Counts a write of any kind.
    pub(super) fn count_write(&self, outcome: &Outcome) {
        match &outcome.written {
            Written::Accepted => self.metrics.client.updates.inc(),
            Written::Conflict | Written::Failed { .. } | Written::Gone => {
                self.metrics.client.update_errors.inc()
            }
        };
    }

    /// Counts a call of a sidecar, and how long it took.
    pub(super) fn count_call(&self, called: &Called) {
        let call = Call { socket: called.socket.clone(), method: called.method.path() };
        let seconds = called.took.as_secs_f64();
        self.metrics.sidecar_seconds.get_or_create(&call).observe(seconds);
        let ended =
            EndedCall { socket: call.socket, method: call.method, code: called.code.clone() };
        self.metrics.sidecar_calls.get_or_create(&ended).inc();
    }

    fn count(&self, notice: &Notice) {
        match notice {
            Notice::Group { .. } => {}
            Notice::Service { what, .. } => self.count_service(what),
            Notice::Usage { group, usage } => {
                let pool = Pool { pool: group.to_string() };
                match usage {
                    Some(usage) => {
                        self.metrics.in_use.get_or_create(&pool).set(usage.in_use() as f64);
                        match usage.size() {
                            Some(size) => {
                                self.metrics.size.get_or_create(&pool).set(size as f64);
                            }
                            None => {
                                self.metrics.size.remove(&pool);
                            }
                        }
                    }
                    None => {
                        self.metrics.in_use.remove(&pool);
                        self.metrics.size.remove(&pool);
                    }
                }
            }
        }
    }

    fn count_service(&self, what: &ServiceNotice) {
        match what {
            ServiceNotice::Assigned { addresses, how, took } => {
                self.metrics.allocation_seconds.observe(took.as_secs_f64());
                let Some((_, group)) = addresses.first() else { return };
                let pool = Pool { pool: group.to_string() };
                match how {
                    How::Balanced => {
                        self.metrics.balanced.get_or_create(&pool).inc();
                    }
                    How::Multi { partial } => {
                        self.metrics.multi_pool.get_or_create(&pool).inc();
                        if *partial {
                            self.metrics.multi_pool_partial.get_or_create(&pool).inc();
                        }
                    }
                    How::External | How::InOrder | How::Requested => {}
                }
            }
            ServiceNotice::Refused(refusal) => {
                let rejection = Rejection {
                    pool: refusal.group().map_or("<unknown>", GroupName::as_str).to_owned(),
                    reason: refusal.metric_reason(),
                };
                self.metrics.rejected.get_or_create(&rejection).inc();
            }
            ServiceNotice::Collision { .. }
            | ServiceNotice::Released { .. }
            | ServiceNotice::ReleaseFailed { .. }
            | ServiceNotice::Remark(_) => {}
        }
    }
}

/// Counts a write of a ServiceGroup's status.
pub(super) fn count_status(metrics: &AllocatorMetrics, outcome: &Outcome) {
    let outcome = match outcome.error.as_ref().map(|error| error.code()) {
        None => "success",
        Some(Some(403)) => "forbidden",
        Some(Some(409)) => "conflict",
        Some(_) => "other",
    };
    metrics.status_writes.get_or_create(&labels::Outcome { outcome }).inc();
}
