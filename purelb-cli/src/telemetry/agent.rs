//! The node agent's metrics.

use std::net::IpAddr;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use purelb_core::host::Mac;

use super::metrics::{ClientMetrics, counter, counters, registered, seconds};

/// The node agent's metrics; clones are the same.
#[derive(Clone, Debug)]
pub struct AgentMetrics {
    /// What both programs have.
    pub client: ClientMetrics,
    /// `purelb_lbnodeagent_announced`
    pub announced: Family<Announced, Gauge>,
    /// `purelb_lbnodeagent_address_conflict`
    pub conflicts: Family<Conflict, Gauge>,
    /// `purelb_lbnodeagent_garp_sent_total`
    pub garp_sent: Counter,
    /// `purelb_lbnodeagent_garp_errors_total`
    pub garp_errors: Counter,
    /// `purelb_lbnodeagent_na_sent_total`
    pub na_sent: Counter,
    /// `purelb_lbnodeagent_na_errors_total`
    pub na_errors: Counter,
    /// `purelb_lbnodeagent_address_additions_total`
    pub additions: Counter,
    /// `purelb_lbnodeagent_address_withdrawals_total`
    pub withdrawals: Counter,
    /// `purelb_lbnodeagent_address_renewals_total`
    pub renewals: Counter,
    /// `purelb_lbnodeagent_address_renewal_errors_total`
    pub renewal_errors: Counter,
    /// `purelb_lbnodeagent_handover_duration_seconds`: from the moment that this node had won an
    /// address, by its own view of the leases, to the kernel's word that it is on the local interface.
    /// The wait until others confirm that they know of it counts; the time that the lease of a node that
    /// died took to run out does not.
    pub handover_seconds: Family<Handover, Histogram, fn() -> Histogram>,
    /// `purelb_lbnodeagent_repair_duration_seconds`: from the kernel's word that an address is gone that
    /// something other than PureLB took off its interface to its word that it is back. The growing
    /// pauses before one that is removed again and again count.
    pub repair_seconds: Histogram,
    /// `purelb_lbnodeagent_kernel_errors_total`
    pub kernel_errors: Counter,
    /// `purelb_lbnodeagent_interface_unidentified`
    pub unidentified: Family<OfFamily, Gauge>,
    /// `purelb_lbnodeagent_unserved`
    pub unserved: Family<Announced, Gauge>,
    /// `purelb_election_lease_healthy`
    pub lease_healthy: Gauge,
    /// `purelb_election_lease_renewals_total`
    pub lease_renewals: Counter,
    /// `purelb_election_lease_renewal_failures_total`
    pub lease_failures: Counter,
    /// `purelb_events_total`
    pub events: Family<Reason, Counter>,
}

/// An address of a Service that this node has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Announced {
    /// `namespace/name`.
    pub service: String,
    /// This node.
    pub node: String,
    /// The address.
    pub ip: String,
}

/// An address of a Service that something else has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Conflict {
    /// The address.
    pub ip: String,
    /// The interface that it is on, or was heard on.
    pub interface: String,
    /// The Ethernet address of the other station; empty if this host itself has it otherwise.
    pub mac: String,
}

impl Conflict {
    /// With another station, or with this host itself.
    pub fn new(ip: IpAddr, interface: &str, mac: Option<Mac>) -> Self {
        Self {
            ip: ip.to_string(),
            interface: interface.to_owned(),
            mac: mac.map(|mac| mac.to_string()).unwrap_or_default(),
        }
    }
}

/// Where an address that this node won came from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Handover {
    /// `peer` if another node had won it or announced it before, else `new`.
    pub from: &'static str,
}

/// An address family.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfFamily {
    /// `IPv4` or `IPv6`.
    pub family: String,
}

/// Why an Event was raised.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// Its reason.
    pub reason: &'static str,
}

/// The reasons of Events that an agent raises
/// ([`Notice::reason`](purelb_core::notice::Notice::reason)), each with what it means.
pub const REASONS: [(&str, &str); 11] = [
    (
        "AddressConflict",
        "Another station on the network has an address of the Service, which is withdrawn, or this host has it \
         otherwise, which is left alone",
    ),
    ("AddressRestored", "Something else took an address off its interface; it is put back"),
    ("AnnouncementFailed", "The kernel did not do what was asked for an address of the Service"),
    ("AnnouncingLocal", "An address is on a local interface now"),
    ("AnnouncingNonLocal", "An address is on the virtual interface now"),
    (
        "ConfigError",
        "The LBNodeAgent that governs a node makes no sense; the node announces nothing",
    ),
    ("DuplicateNode", "Another host keeps writing this node's Lease"),
    (
        "InterfaceUnidentified",
        "Several default routes: addresses of that family go to the virtual interface",
    ),
    (
        "LeaseLost",
        "The API has not confirmed this node's Lease in time; its local addresses are withdrawn",
    ),
    (
        "LeaseUnconfirmed",
        "The same with `apiOutage: Hold`: the addresses stay, and another node may have them too",
    ),
    ("NotAnnounced", "No node has an address of the Service; the text says why"),
];

impl AgentMetrics {
    /// Adds them to a registry.
    pub fn new(registry: &mut Registry) -> Self {
        let mut agent =
            |name: &str, help: &str| counter(registry, &format!("purelb_lbnodeagent_{name}"), help);
        let garp_sent = agent("garp_sent", "Number of gratuitous ARP announcements sent");
        let garp_errors =
            agent("garp_errors", "Number of gratuitous ARP announcements that failed");
        let na_sent = agent("na_sent", "Number of unsolicited neighbour advertisements sent");
        let na_errors =
            agent("na_errors", "Number of unsolicited neighbour advertisements that failed");
        let additions = agent("address_additions", "Number of addresses put on an interface");
        let withdrawals =
            agent("address_withdrawals", "Number of addresses taken off an interface");
        let renewals = agent("address_renewals", "Number of address lifetimes prolonged");
        let renewal_errors =
            agent("address_renewal_errors", "Number of address lifetimes that were not prolonged");
        let kernel_errors =
            agent("kernel_errors", "Number of times that the kernel did not do what it was asked");
        let events: Family<Reason, Counter> =
            counters(registry, "purelb_events", "Number of Events raised, by reason");
        for (reason, _) in REASONS {
            // An increase from nothing is none to Prometheus.
            drop(events.get_or_create(&Reason { reason }));
        }
        Self {
            client: ClientMetrics::new(registry),
            announced: registered(
                registry,
                "purelb_lbnodeagent_announced",
                "1 for each address of a Service that this node has",
                Family::default(),
            ),
            unserved: registered(
                registry,
                "purelb_lbnodeagent_unserved",
                "1 for each address of a Service that no node has, as one node tells for all",
                Family::default(),
            ),
            conflicts: registered(
                registry,
                "purelb_lbnodeagent_address_conflict",
                "1 for each address of a Service that another station on the network has, or this host itself",
                Family::default(),
            ),
            garp_sent,
            garp_errors,
            na_sent,
            na_errors,
            additions,
            withdrawals,
            renewals,
            renewal_errors,
            handover_seconds: registered(
                registry,
                "purelb_lbnodeagent_handover_duration_seconds",
                "Seconds from winning an address to the kernel showing it on the local interface",
                Family::new_with_constructor(seconds as fn() -> Histogram),
            ),
            repair_seconds: registered(
                registry,
                "purelb_lbnodeagent_repair_duration_seconds",
                "Seconds from an address that something else removed being gone to its being back",
                seconds(),
            ),
            kernel_errors,
            unidentified: registered(
                registry,
                "purelb_lbnodeagent_interface_unidentified",
                "1 while the local interface of a family cannot be identified for having too many default routes",
                Family::default(),
            ),
            lease_healthy: registered(
                registry,
                "purelb_election_lease_healthy",
                "1 while this node's lease gives it the right to hold addresses",
                Gauge::default(),
            ),
            lease_renewals: counter(
                registry,
                "purelb_election_lease_renewals",
                "Number of writes of this node's lease that were accepted",
            ),
            lease_failures: counter(
                registry,
                "purelb_election_lease_renewal_failures",
                "Number of writes of this node's lease that were not accepted",
            ),
            events,
        }
    }
}
