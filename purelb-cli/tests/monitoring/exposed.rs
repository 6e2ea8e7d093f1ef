//! What the two programs expose, out of their registries.

use std::collections::{BTreeMap, BTreeSet};

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use purelb_cli::telemetry::agent::{AgentMetrics, Announced, Conflict, Handover, OfFamily};
use purelb_cli::telemetry::allocator::{
    AllocatorMetrics, Call, EndedCall, Outcome, Pool, Rejection,
};
use purelb_cli::telemetry::health::Health;

use super::promql::Query;

/// Labels that whoever scrapes adds.
const SCRAPED: [&str; 4] = ["instance", "job", "namespace", "pod"];

/// The allocator's page, with one series at least of every metric: one without any is not on a page. A
/// new metric does not compile here before it is given one.
pub(crate) fn allocator() -> String {
    let mut registry = Registry::default();
    Health::new(&mut registry);
    let AllocatorMetrics {
        client: _,
        size,
        in_use,
        rejected,
        multi_pool,
        multi_pool_partial,
        balanced,
        allocation_seconds: _,
        leader: _,
        status_writes,
        sidecar_calls,
        sidecar_seconds,
    } = AllocatorMetrics::new(&mut registry);
    let pool = Pool { pool: String::new() };
    let (socket, method, code) = (String::new(), "", String::new());
    size.get_or_create(&pool).set(0.0);
    in_use.get_or_create(&pool).set(0.0);
    rejected.get_or_create(&Rejection { pool: String::new(), reason: "" }).inc();
    multi_pool.get_or_create(&pool).inc();
    multi_pool_partial.get_or_create(&pool).inc();
    balanced.get_or_create(&pool).inc();
    status_writes.get_or_create(&Outcome { outcome: "" }).inc();
    sidecar_seconds.get_or_create(&Call { socket: socket.clone(), method }).observe(0.0);
    sidecar_calls.get_or_create(&EndedCall { socket, method, code }).inc();
    page(&registry)
}

/// The same of the agent.
pub(crate) fn agent() -> String {
    let mut registry = Registry::default();
    Health::new(&mut registry);
    let AgentMetrics {
        client: _,
        announced,
        conflicts,
        garp_sent: _,
        garp_errors: _,
        na_sent: _,
        na_errors: _,
        additions: _,
        withdrawals: _,
        renewals: _,
        renewal_errors: _,
        handover_seconds,
        repair_seconds: _,
        kernel_errors: _,
        unidentified,
        unserved,
        lease_healthy: _,
        lease_renewals: _,
        lease_failures: _,
        // It has a series for each reason from the beginning.
        events: _,
    } = AgentMetrics::new(&mut registry);
    let nothing = String::new;
    let address = Announced { service: nothing(), node: nothing(), ip: nothing() };
    announced.get_or_create(&address).set(1);
    unserved.get_or_create(&address).set(1);
    let conflict = Conflict { ip: nothing(), interface: nothing(), mac: nothing() };
    conflicts.get_or_create(&conflict).set(1);
    unidentified.get_or_create(&OfFamily { family: nothing() }).set(1);
    handover_seconds.get_or_create(&Handover { from: "" }).observe(0.0);
    page(&registry)
}

fn page(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    text
}

/// A metric as a page describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Family {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

/// What is different between what a program shows and what its registry has, where only metrics with labels
/// may be missing: those without a series yet.
pub(crate) fn difference(shown: &str, registry: &str) -> Vec<String> {
    let (shown, all) = (families(shown), described(registry));
    let known = |name: &String, kind: &String| all.get(name).is_some_and(|it| it.kind == *kind);
    let strange = shown.iter().filter(|(name, kind)| !known(name, kind)).map(|(name, _)| name);
    let expected = all.iter().filter(|(_, family)| family.labels.is_empty());
    let missing = expected.map(|(name, _)| name).filter(|name| !shown.contains_key(*name));
    strange.chain(missing).cloned().collect()
}

/// Names and kinds of a page's metrics.
fn families(page: &str) -> BTreeMap<String, String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, kind)| (name.to_owned(), kind.trim().to_owned())).collect()
}

fn described(page: &str) -> BTreeMap<String, Family> {
    let help = |name: &str| {
        let start = format!("# HELP {name} ");
        let help = page.lines().find_map(|line| line.strip_prefix(&*start));
        help.expect("every metric says what it is").trim_end_matches('.').to_owned()
    };
    let family = |(name, kind): (String, String)| {
        let samples = samples(&name, &kind);
        let labels = page.lines().find_map(|line| {
            let of = line.split(['{', ' ']).next()?;
            samples.iter().any(|sample| sample == of).then(|| labels_of(line))
        });
        let labels = labels.unwrap_or_else(|| panic!("{name} has no series here: give it one"));
        let family = Family { help: help(&name), kind, labels };
        (name, family)
    };
    families(page).into_iter().map(family).collect()
}

/// The names that a metric's series have.
fn samples(name: &str, kind: &str) -> Vec<String> {
    match kind {
        "counter" => vec![format!("{name}_total")],
        "gauge" => vec![name.to_owned()],
        "histogram" => ["bucket", "count", "sum"].map(|end| format!("{name}_{end}")).into(),
        other => panic!("{name} is a {other}"),
    }
}

fn labels_of(line: &str) -> BTreeSet<String> {
    let Some((_, rest)) = line.split_once('{') else { return BTreeSet::new() };
    let names = rest.split("=\"").filter_map(|part| part.rsplit([',', '{', '"']).next());
    let names = names.filter(|name| !name.is_empty() && !name.starts_with('}') && *name != "le");
    names.map(str::to_owned).collect()
}

/// The names of all series, each with its labels.
pub(crate) struct Exposed(BTreeMap<String, BTreeSet<String>>);

impl Exposed {
    /// What either program exposes.
    pub(crate) fn of_both() -> Self {
        let mut all = BTreeMap::new();
        for page in [allocator(), agent()] {
            for (name, family) in described(&page) {
                for sample in samples(&name, &family.kind) {
                    let mut labels = family.labels.clone();
                    labels.extend(sample.ends_with("_bucket").then(|| "le".to_owned()));
                    all.insert(sample, labels);
                }
            }
        }
        assert!(all.len() > 30, "{all:?}");
        Self(all)
    }

    /// What is wrong with a query, if anything.
    pub(crate) fn complaint(&self, query: &Query) -> Option<String> {
        if query.selected.is_empty() {
            return Some("it asks for nothing".to_owned());
        }
        for (metric, labels) in &query.selected {
            let Some(there) = self.0.get(metric) else {
                return Some(format!("there is no {metric}"));
            };
            let is_there = |label: &&String| there.contains(*label) || is_scraped(label);
            if let Some(label) = labels.iter().find(|label| !is_there(label)) {
                return Some(format!("{metric} has no label {label}"));
            }
        }
        let labels = self.labels(query);
        let grouped = query.grouped.iter().find(|label| !labels.contains(*label));
        grouped.map(|label| format!("nothing in it has a label {label}"))
    }

    /// The labels that a query's series may have, which is sound.
    pub(crate) fn check(&self, query: &Query) -> BTreeSet<String> {
        if let Some(complaint) = self.complaint(query) {
            panic!("{complaint}: {query:?}");
        }
        self.labels(query)
    }

    fn labels(&self, query: &Query) -> BTreeSet<String> {
        let of_metrics = query.metrics().filter_map(|metric| self.0.get(metric.as_str())).flatten();
        of_metrics.cloned().chain(SCRAPED.map(str::to_owned)).collect()
    }
}

fn is_scraped(label: &str) -> bool {
    SCRAPED.contains(&label)
}

/// The reference of all metrics, as a table.
pub(crate) fn table() -> String {
    let mut table =
        "| metric | kind | labels | of | what it shows |\n|---|---|---|---|---|\n".to_owned();
    let (allocator, agent) = (described(&allocator()), described(&agent()));
    let names: BTreeSet<_> = allocator.keys().chain(agent.keys()).collect();
    for name in names {
        let (family, of) = match (allocator.get(name), agent.get(name)) {
            (Some(one), Some(other)) => {
                assert_eq!(one, other);
                (one, "both")
            }
            (Some(one), None) => (one, "allocator"),
            (None, Some(one)) => (one, "agent"),
            (None, None) => unreachable!("it is of one of them"),
        };
        let Family { kind, help, labels } = family;
        let end = if kind == "counter" { "_total" } else { "" };
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = labels.join(", ");
        table.push_str(&format!("| `{name}{end}` | {kind} | {labels} | {of} | {help} |\n"));
    }
    table
}
