//! What goes wrong between a program and its API server, and what the node agent makes of it: an address
//! stays where the right to it runs, and goes where it has run out; in the end all is as it was. No busy
//! loop meanwhile, a log line that says what happened, and no word of the token.
//!
//! Needs iproute2, and the right to make network namespaces.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod common;

use std::thread;
use std::time::Duration;

use http::Method;
use purelb_cli::lab::require;
use serde_json::json;

use common::node::{LEASE, NAME, Node, TOKEN};
use common::proxy::{Fate, Rule, Seen};
use common::{outage, until};

/// How long a fault lasts: longer than the lease, and long enough to see whether somebody loops.
const OUTAGE: Duration = Duration::from_secs(2 * LEASE);

/// The most requests in a second of outage: six watches and a lease, each with growing pauses, and what
/// the first moments bring.
const CALLS_PER_SECOND: usize = 10;

/// The most processor time in a second of outage, in hundredths.
const BUSY_PER_SECOND: u64 = 20;

const LOCAL: &str = "192.0.2.240";
const MEANWHILE: &str = "192.0.2.241";
const AFTER: &str = "192.0.2.242";
const REMOTE: &str = "198.51.100.7";

/// What a fault does to an agent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Its right runs out: it withdraws what is local.
    Withdraws,
    /// It keeps what it has, and hears of nothing new.
    Keeps,
    /// It goes on.
    GoesOn,
}

use Effect::{GoesOn, Keeps, Withdraws};

/// A fault, what it does, and a word that the log must say about it.
struct Fault(&'static str, Effect, &'static str, Rule);

/// A fault that befalls every request.
fn every(name: &'static str, words: &'static str, fate: Fate) -> Fault {
    Fault(name, Withdraws, words, Box::new(move |_| fate.clone()))
}

/// A fault that befalls those of which `is_hit` says so.
fn some(
    name: &'static str,
    effect: Effect,
    words: &'static str,
    is_hit: impl Fn(&Seen) -> bool + Send + 'static,
    fate: Fate,
) -> Fault {
    let rule = move |seen: &Seen| if is_hit(seen) { fate.clone() } else { Fate::Pass };
    Fault(name, effect, words, Box::new(rule))
}

/// A fault that befalls the first `count` of those.
fn first(
    count: u32,
    name: &'static str,
    words: &'static str,
    is_hit: fn(&Seen) -> bool,
    fate: Fate,
) -> Fault {
    let mut left = count;
    let rule = move |seen: &Seen| {
        if left == 0 || !is_hit(seen) {
            return Fate::Pass;
        }
        left -= 1;
        fate.clone()
    };
    Fault(name, GoesOn, words, Box::new(rule))
}

fn is_of(seen: &Seen, kind: &str) -> bool {
    seen.uri.path().split('/').any(|part| part == kind)
}

fn is_lease_write(seen: &Seen) -> bool {
    is_of(seen, "leases") && seen.method == Method::PATCH
}

fn is_announcement(seen: &Seen) -> bool {
    is_of(seen, "services") && seen.method == Method::PATCH
}

fn is_other_watch(seen: &Seen) -> bool {
    seen.is_watch() && !is_of(seen, "leases")
}

/// A line of a watch that says only how far it is: not far.
fn bookmark() -> String {
    let object = json!({
        "kind": "Service", "apiVersion": "v1", "metadata": { "resourceVersion": "1" },
    });
    format!("{}\n", json!({ "type": "BOOKMARK", "object": object }))
}

/// A list with one sound Service among what makes no sense, of so long ago that a watch brings the others.
fn malformed() -> String {
    let good = json!({
        "metadata": {
            "name": "meanwhile", "namespace": "default", "uid": "u", "resourceVersion": "1",
            "annotations": {
                "purelb.io/allocated-by": "PureLB", "purelb.io/allocated-from": "default",
                "purelb.io/pool-type": "local",
            },
        },
        "spec": { "type": "LoadBalancer" },
        "status": { "loadBalancer": { "ingress": [{ "ip": MEANWHILE }] } },
    });
    let bad = json!({ "metadata": { "name": "bad", "namespace": "default" }, "spec": 7 });
    let items = json!([bad, { "metadata": 7 }, "nothing", good]);
    json!({ "metadata": { "resourceVersion": "1" }, "items": items }).to_string()
}

fn faults() -> Vec<Fault> {
    let nonsense = || Fate::Answer("<html>it works!</html>".into());
    vec![
        every("a broken server", "answered 500", Fate::Refuse(500, None)),
        every("a server that is down", "answered 503", Fate::Refuse(503, None)),
        every("a server that asks for patience", "answered 429", Fate::Refuse(429, Some(1))),
        every("an expired token", "answered 401", Fate::Refuse(401, None)),
        every("a missing right", "answered 403", Fate::Refuse(403, None)),
        every("a black hole", "no answer from the API server", Fate::Swallow),
        every("bodies that break off", "cannot watch", Fate::Halve),
        every("answers that make no sense", "makes no sense", nonsense()),
        some("a slow server", GoesOn, "", |_| true, Fate::Late(Duration::from_millis(300))),
        some("watches of leases that end", Withdraws, "the watch ended", is_lease_watch, empty()),
        some("watches that end", Keeps, "the watch ended", is_other_watch, empty()),
        some(
            "watches that are gone",
            GoesOn,
            "listing again",
            is_other_watch,
            Fate::Refuse(410, None),
        ),
        some(
            "bookmarks only",
            Keeps,
            "the watch ended",
            is_watch_of_services,
            Fate::Answer(bookmark()),
        ),
        some(
            "no resource definitions",
            GoesOn,
            "answered 404",
            |seen| is_of(seen, "purelb.io"),
            Fate::Refuse(404, None),
        ),
        some(
            "malformed Services",
            GoesOn,
            "ignoring a malformed object",
            |seen| is_of(seen, "services") && seen.method == Method::GET && !seen.is_watch(),
            Fate::Answer(malformed()),
        ),
        some(
            "annotations that cannot be written",
            GoesOn,
            "cannot write the announcing annotations",
            is_announcement,
            Fate::Refuse(500, None),
        ),
        first(
            2,
            "conflicts of the lease",
            "the lease was written by another request",
            is_lease_write,
            Fate::Refuse(409, None),
        ),
        first(
            2,
            "lost answers of the lease",
            "the lease may not have been renewed",
            is_lease_write,
            Fate::Halve,
        ),
    ]
}

fn empty() -> Fate {
    Fate::Answer(String::new())
}

fn is_lease_watch(seen: &Seen) -> bool {
    seen.is_watch() && is_of(seen, "leases")
}

fn is_watch_of_services(seen: &Seen) -> bool {
    seen.is_watch() && is_of(seen, "services")
}

async fn befalls(Fault(name, effect, words, rule): Fault) {
    let node = Node::start(|_, _| {}).await;
    node.service("local", "default", LOCAL);
    node.service("remote", "routed", REMOTE);
    node.is_at(name, LOCAL, Some("eth0")).await;
    node.is_at(name, REMOTE, Some("kube-lb0")).await;

    node.proxy.set(rule);
    node.proxy.break_off();
    node.service("meanwhile", "default", MEANWHILE);
    let (calls, busy) = (node.proxy.count(), node.agent.processor_time());
    let outage = outage(OUTAGE);
    tokio::time::sleep(outage).await;
    let (calls, busy) = (node.proxy.count() - calls, node.agent.processor_time() - busy);
    let seconds = outage.as_secs();
    assert!(calls <= CALLS_PER_SECOND * seconds as usize, "{name}: {calls} in {seconds} s");
    assert!(busy <= BUSY_PER_SECOND * seconds, "{name}: {busy} hundredths in {seconds} s");
    assert!(node.agent.has_said(&[words]), "{name}: nothing was said of {words:?}");
    let at = |there: bool| there.then_some("eth0");
    node.is_at(name, LOCAL, at(effect != Withdraws)).await;
    node.is_at(name, MEANWHILE, at(effect == GoesOn)).await;
    assert_eq!(node.place(REMOTE).as_deref(), Some("kube-lb0"), "{name}");

    node.proxy.set(|_| Fate::Pass);
    // What was swallowed stays so.
    node.proxy.break_off();
    node.service("after", "default", AFTER);
    for address in [LOCAL, MEANWHILE, AFTER] {
        node.is_at(name, address, Some("eth0")).await;
    }
    node.is_at(name, REMOTE, Some("kube-lb0")).await;
    tells_no_token(&node, name);
    // What the gauge says of a Service goes with it.
    let series = format!("{{service=\"default/after\",node=\"{NAME}\",ip=\"{AFTER}\"}} 1");
    until("it is counted", || node.metrics().contains(&series)).await;
    node.api.delete("Service", "default", "after").unwrap();
    node.is_at(name, AFTER, None).await;
    until("it is forgotten", || !node.metrics().contains("default/after")).await;
    assert!(node.agent.end().await.success(), "{name}");
}

/// The token is used, and nothing else says it.
fn tells_no_token(node: &Node, name: &str) {
    let seen = node.proxy.seen();
    let with_token = |seen: &Seen| {
        let value = seen.headers.get("authorization");
        value.is_some_and(|value| value.as_bytes().ends_with(TOKEN.as_bytes()))
    };
    assert!(seen.iter().all(with_token), "{name}");
    assert!(!seen.iter().any(|seen| seen.says(TOKEN)), "{name}: a body has it, such as an Event");
    for line in node.agent.log().iter().chain([&node.metrics()]) {
        assert!(!line.contains(TOKEN), "{name}: {line}");
    }
}

/// An agent that finds no definitions of our resources waits for them.
async fn starts_without_definitions() {
    let missing = |seen: &Seen| match is_of(seen, "purelb.io") {
        true => Fate::Refuse(404, None),
        false => Fate::Pass,
    };
    let node = Node::start(|_, proxy| proxy.set(missing)).await;
    node.service("local", "default", LOCAL);
    node.agent.says("answered 404").await;
    tokio::time::sleep(OUTAGE).await;
    assert_eq!(node.place(LOCAL), None);
    assert!(node.agent.processor_time() <= BUSY_PER_SECOND * OUTAGE.as_secs());
    node.proxy.set(|_| Fate::Pass);
    node.is_at("no resource definitions at the start", LOCAL, Some("eth0")).await;
}

async fn its_port_changes_nothing() {
    let node = Node::start(|_, _| {}).await;
    node.service("local", "default", LOCAL);
    node.is_at("its port", LOCAL, Some("eth0")).await;
    until("it is told", || node.proxy.seen().iter().any(is_announcement)).await;
    let before = node.proxy.count();
    let paths =
        ["/", "/metrics", "/healthz", "/readyz", "/recording", "/view", "/debug/pprof", "/quit"];
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PURGE"] {
        for path in paths {
            let answer = node.ask(method, path);
            let status = answer.split(' ').nth(1).unwrap_or_default();
            assert!(matches!(status, "400" | "404" | "405"), "{method} {path}: {answer}");
        }
    }
    for path in ["/healthz", "/readyz", "/view", "/metrics"] {
        assert!(node.ask("GET", path).starts_with("HTTP/1.1 200"), "{path}");
    }
    let renewals = |seen: &Seen| is_lease_write(seen) || seen.method == Method::GET;
    assert!(node.proxy.seen()[before..].iter().all(renewals));
    assert_eq!(node.place(LOCAL).as_deref(), Some("eth0"));
}

#[test]
fn the_port_of_an_agent_changes_nothing_whatever_is_asked_of_it() {
    require::privileged(|| run(its_port_changes_nothing()));
}

/// Runs each on a thread of its own: they mostly wait.
#[test]
fn whatever_befalls_the_api_an_agent_has_what_it_may_have_and_all_of_it_in_the_end() {
    require::privileged(|| {
        thread::scope(|scope| {
            for fault in faults() {
                scope.spawn(|| run(befalls(fault)));
            }
            run(starts_without_definitions());
        });
    });
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(test);
}
