//! What the metrics of both programs have in common.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

/// A gauge of whatever size a pool may have.
pub type WideGauge = Gauge<f64, AtomicU64>;

/// What the program asks of the Kubernetes API, and whether it has been configured.
#[derive(Clone, Debug)]
pub struct ClientMetrics {
    /// `purelb_k8s_client_updates_total`
    pub updates: Counter,
    /// `purelb_k8s_client_update_errors_total`
    pub update_errors: Counter,
    /// `purelb_k8s_client_config_loaded_bool`
    pub config_loaded: Gauge,
}

impl ClientMetrics {
    /// Adds them to a registry.
    pub fn new(registry: &mut Registry) -> Self {
        Self {
            updates: counter(
                registry,
                "purelb_k8s_client_updates",
                "Number of Kubernetes objects that were written",
            ),
            update_errors: counter(
                registry,
                "purelb_k8s_client_update_errors",
                "Number of writes of Kubernetes objects that failed",
            ),
            config_loaded: registered(
                registry,
                "purelb_k8s_client_config_loaded_bool",
                "1 while the configuration is loaded",
                Gauge::default(),
            ),
        }
    }
}

/// A histogram of seconds, from 5 ms to a minute: below is as good as at once, and what a lease has to
/// run out for takes a few lease durations.
pub fn seconds() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0])
}

/// A new metric in a registry. The names of counters end in `_total` by themselves.
pub fn registered<M: Metric + Clone>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    metric: M,
) -> M {
    registry.register(name, help, metric.clone());
    metric
}

/// A new counter in a registry.
pub fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    registered(registry, name, help, Counter::default())
}

/// A new counter with labels in a registry.
pub fn counters<L>(registry: &mut Registry, name: &str, help: &str) -> Family<L, Counter>
where
    Family<L, Counter>: Metric + Clone,
    L: Clone + std::hash::Hash + Eq,
{
    registered(registry, name, help, Family::default())
}
