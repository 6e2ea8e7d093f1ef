//! The allocator's metrics.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::metrics::{ClientMetrics, WideGauge, counters, registered, seconds};

/// The allocator's metrics; clones are the same.
#[derive(Clone, Debug)]
pub struct AllocatorMetrics {
    /// What both programs have.
    pub client: ClientMetrics,
    /// `purelb_address_pool_size`
    pub size: Family<Pool, WideGauge>,
    /// `purelb_address_pool_addresses_in_use`
    pub in_use: Family<Pool, WideGauge>,
    /// `purelb_address_pool_allocation_rejected_total`
    pub rejected: Family<Rejection, Counter>,
    /// `purelb_address_pool_multipool_allocations_total`
    pub multi_pool: Family<Pool, Counter>,
    /// `purelb_address_pool_multipool_partial_total`
    pub multi_pool_partial: Family<Pool, Counter>,
    /// `purelb_address_pool_balance_pools_allocations_total`
    pub balanced: Family<Pool, Counter>,
    /// `purelb_allocator_allocation_duration_seconds`: from the moment that the allocator found that it
    /// could give a Service an address that it did not show, to the API's word that it shows it. Time in
    /// which the Service was refused does not count; every attempt to write does.
    pub allocation_seconds: Histogram,
    /// `purelb_allocator_leader`
    pub leader: Gauge,
    /// `purelb_allocator_sg_status_writes_total`
    pub status_writes: Family<Outcome, Counter>,
    /// `purelb_allocator_sidecar_rpc_total`
    pub sidecar_calls: Family<EndedCall, Counter>,
    /// `purelb_allocator_sidecar_rpc_duration_seconds`
    pub sidecar_seconds: Family<Call, Histogram, fn() -> Histogram>,
}

/// A method of a sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Call {
    /// The path of its socket.
    pub socket: String,
    /// The method's full path.
    pub method: &'static str,
}

/// A method of a sidecar, and how calls of it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EndedCall {
    /// The path of its socket.
    pub socket: String,
    /// The method's full path.
    pub method: &'static str,
    /// The status code, such as `OK` or `Unavailable`.
    pub code: String,
}

/// One ServiceGroup.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Pool {
    /// Its name.
    pub pool: String,
}

/// Why a Service got no address, and from where.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Rejection {
    /// The group that refused, or `<unknown>`: never a name that a user made up.
    pub pool: String,
    /// Why.
    pub reason: &'static str,
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// `success`, `conflict`, `forbidden` or `other`.
    pub outcome: &'static str,
}

impl AllocatorMetrics {
    /// Adds them to a registry.
    pub fn new(registry: &mut Registry) -> Self {
        Self {
            client: ClientMetrics::new(registry),
            size: registered(
                registry,
                "purelb_address_pool_size",
                "Number of addresses in the pool",
                Family::default(),
            ),
            in_use: registered(
                registry,
                "purelb_address_pool_addresses_in_use",
                "Number of addresses of the pool that are in use",
                Family::default(),
            ),
            rejected: counters(
                registry,
                "purelb_address_pool_allocation_rejected",
                "Number of times that a Service was given no address",
            ),
            multi_pool: counters(
                registry,
                "purelb_address_pool_multipool_allocations",
                "Number of allocations of one address from each range of the pool",
            ),
            multi_pool_partial: counters(
                registry,
                "purelb_address_pool_multipool_partial",
                "Number of such allocations that could not use every range",
            ),
            balanced: counters(
                registry,
                "purelb_address_pool_balance_pools_allocations",
                "Number of allocations balanced over the ranges of the pool",
            ),
            allocation_seconds: registered(
                registry,
                "purelb_allocator_allocation_duration_seconds",
                "Seconds from finding that a Service can be given an address to the API showing it",
                seconds(),
            ),
            leader: registered(
                registry,
                "purelb_allocator_leader",
                "1 if this allocator is the one that decides",
                Gauge::default(),
            ),
            status_writes: counters(
                registry,
                "purelb_allocator_sg_status_writes",
                "Number of writes of a ServiceGroup's status",
            ),
            sidecar_calls: counters(
                registry,
                "purelb_allocator_sidecar_rpc",
                "Number of calls of IPAM sidecars",
            ),
            sidecar_seconds: registered(
                registry,
                "purelb_allocator_sidecar_rpc_duration_seconds",
                "Seconds that calls of IPAM sidecars took",
                Family::new_with_constructor(seconds as fn() -> Histogram),
            ),
        }
    }
}
