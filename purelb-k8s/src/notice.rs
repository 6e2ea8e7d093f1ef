//! Events: what is told to people through the Kubernetes API.
//!
//! Telling is never waited for and never fails: [`Recorder::tell`] only puts a notice into a queue,
//! and [`Worker::run`] sends it. What cannot be sent is logged and forgotten. Warnings go first; when
//! many Services change at once, the others follow at a leisurely pace.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use http::{Method, Request, header};
use jiff::Timestamp;
use kube::Client;
use purelb_core::name::{GroupName, Namespace, NodeName, ServiceKey, Uid};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::api;
use crate::error::ApiError;
use crate::leisure::Leisurely;
use crate::list_watch::within;

/// An Event to raise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Notice {
    /// What it is about.
    pub about: About,
    /// Its type.
    pub severity: Severity,
    /// Its reason, stable and in CamelCase.
    pub reason: &'static str,
    /// What people read. Equal texts about one object are one Event with a count.
    pub text: String,
}

/// What an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// An LBNodeAgent.
    LbNodeAgent {
        /// Its namespace.
        namespace: Namespace,
        /// Its name.
        name: String,
        /// Its uid.
        uid: Uid,
    },
    /// A Node.
    Node(NodeName),
    /// A Service.
    Service {
        /// Which.
        key: ServiceKey,
        /// Its uid.
        uid: Uid,
    },
    /// A ServiceGroup.
    ServiceGroup {
        /// Its namespace.
        namespace: Namespace,
        /// Which.
        name: GroupName,
        /// Its uid.
        uid: Uid,
    },
}

/// `type` of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// All is well.
    Normal,
    /// Somebody should have a look.
    Warning,
}

/// Takes notices; clones put them into the same queue.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: mpsc::Sender<Notice>,
}

impl Recorder {
    /// Puts a notice into the queue. If that is full, nobody would read so many: it is dropped.
    pub fn tell(&self, notice: Notice) {
        if let Err(error) = self.queue.try_send(notice) {
            tracing::debug!(%error, "dropping an Event");
        }
    }
}

/// Sends what a [`Recorder`] takes.
pub struct Worker {
    client: Client,
    component: &'static str,
    instance: String,
    queue: mpsc::Receiver<Notice>,
    warnings: VecDeque<Notice>,
    others: Leisurely<Notice>,
    sent: BTreeMap<Notice, Sent>,
}

/// A queue for the Events of `component`, such as `purelb-allocator`; `instance` tells one process
/// from another, and is usually the pod's or the node's name.
pub fn recorder(client: Client, component: &'static str, instance: &str) -> (Recorder, Worker) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let instance = if instance.is_empty() { component } else { instance }.to_owned();
    let worker = Worker {
        client,
        component,
        instance,
        queue,
        warnings: VecDeque::new(),
        others: Leisurely::new(),
        sent: BTreeMap::new(),
    };
    (Recorder { queue: sender }, worker)
}

/// An Event that is in the API.
struct Sent {
    name: String,
    count: i32,
    at: Instant,
}

impl Worker {
    /// Sends notices one after the other until every [`Recorder`] is gone and the queue is empty.
    pub async fn run(mut self) {
        // Cancel-safe: a notice that was taken is lost with the future, which nobody minds.
        while let Some(notice) = self.next().await {
            let reason = notice.reason;
            if let Err(error) = self.send(notice).await {
                tracing::debug!(reason, %error, "cannot raise an Event");
            }
        }
    }

    /// The next notice to send; none if there will be none any more.
    async fn next(&mut self) -> Option<Notice> {
        loop {
            while let Ok(notice) = self.queue.try_recv() {
                self.keep(notice);
            }
            if let Some(warning) = self.warnings.pop_front() {
                return Some(warning);
            }
            if let Some(other) = self.others.pop() {
                return Some(other);
            }
            let due = self.others.due();
            // Cancel-safe: the queue and the clock keep what they wait for.
            tokio::select! {
                Some(notice) = self.queue.recv() => self.keep(notice),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                else => return None,
            }
        }
    }

    fn keep(&mut self, notice: Notice) {
        match notice.severity {
            Severity::Normal if self.others.len() < QUEUE => self.others.push(notice),
            Severity::Warning if self.warnings.len() < QUEUE => self.warnings.push_back(notice),
            Severity::Normal | Severity::Warning => {
                tracing::debug!(notice.reason, "dropping an Event: too many wait");
            }
        }
    }

    async fn send(&mut self, notice: Notice) -> Result<(), ApiError> {
        self.sent.retain(|_, sent| sent.at.elapsed() < SERIES);
        if let Some(sent) = self.sent.get_mut(&notice) {
            let count = sent.count.saturating_add(1);
            match within(TIMEOUT, repeat(&self.client, &notice, &sent.name, count)).await {
                Err(error) if error.is_not_found() => {}
                result => {
                    sent.count = count;
                    sent.at = Instant::now();
                    return result;
                }
            }
        }
        if self.sent.len() >= QUEUE {
            self.sent.clear();
        }
        let now = Timestamp::now();
        let name = event_name(&notice.about, now);
        let body = self.event(&notice, &name, now);
        let request = post(&collection(&notice.about), &body)?;
        within(TIMEOUT, async { Ok(self.client.request_text(request).await?) }).await?;
        self.sent.insert(notice, Sent { name, count: 1, at: Instant::now() });
        Ok(())
    }

    fn event(&self, notice: &Notice, name: &str, now: Timestamp) -> Value {
        json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": { "name": name, "namespace": namespace(&notice.about) },
            "action": notice.reason,
            "eventTime": format!("{now:.6}"),
            "note": shortened(&notice.text),
            "reason": notice.reason,
            "regarding": reference(&notice.about),
            "reportingController": self.component,
            "reportingInstance": shortened_to(&self.instance, 128),
            "type": match notice.severity {
                Severity::Normal => "Normal",
                Severity::Warning => "Warning",
            },
        })
    }
}

/// Says that an Event happened once more.
async fn repeat(client: &Client, notice: &Notice, name: &str, count: i32) -> Result<(), ApiError> {
    let series = json!({
        "series": { "count": count, "lastObservedTime": format!("{:.6}", Timestamp::now()) },
    });
    let request = Request::patch(format!("{}/{name}", collection(&notice.about)))
        .header(header::CONTENT_TYPE, "application/merge-patch+json")
        .body(series.to_string().into_bytes())?;
    client.request_text(request).await?;
    Ok(())
}

fn post(path: &str, body: &Value) -> Result<Request<Vec<u8>>, ApiError> {
    Ok(Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.to_string().into_bytes())?)
}

fn collection(about: &About) -> String {
    format!("/apis/events.k8s.io/v1/namespaces/{}/events", namespace(about))
}

/// Events live in the namespace of what they are about.
fn namespace(about: &About) -> &str {
    match about {
        About::LbNodeAgent { namespace, .. } | About::ServiceGroup { namespace, .. } => {
            namespace.as_str()
        }
        About::Node(_) => "default",
        About::Service { key, .. } => key.namespace.as_str(),
    }
}

/// A name that no other Event has: what it is about, and when.
fn event_name(about: &About, now: Timestamp) -> String {
    let name = match about {
        About::LbNodeAgent { name, .. } => name,
        About::Node(name) => name.as_str(),
        About::Service { key, .. } => key.name.as_str(),
        About::ServiceGroup { name, .. } => name.as_str(),
    };
    format!("{}.{:x}", shortened_to(name, 220), now.as_nanosecond())
}

fn reference(about: &About) -> Value {
    let ours = format!("{}/{}", api::GROUP, api::VERSION);
    match about {
        About::LbNodeAgent { namespace, name, uid } => json!({
            "apiVersion": ours, "kind": "LBNodeAgent",
            "namespace": namespace.as_str(), "name": name, "uid": uid.as_str(),
        }),
        // As the kubelet does, for `kubectl describe node` looks for it so.
        About::Node(name) => json!({
            "apiVersion": "v1", "kind": "Node", "name": name.as_str(), "uid": name.as_str(),
        }),
        About::Service { key, uid } => json!({
            "apiVersion": "v1", "kind": "Service",
            "namespace": key.namespace.as_str(), "name": key.name.as_str(), "uid": uid.as_str(),
        }),
        About::ServiceGroup { namespace, name, uid } => json!({
            "apiVersion": ours, "kind": "ServiceGroup",
            "namespace": namespace.as_str(), "name": name.as_str(), "uid": uid.as_str(),
        }),
    }
}

/// At most as long as a note may be.
fn shortened(text: &str) -> String {
    match shortened_to(text, NOTE) {
        whole if whole.len() == text.len() => whole.to_owned(),
        _ => format!("{}…", shortened_to(text, NOTE - '…'.len_utf8())),
    }
}

/// The beginning of a text, at most so many bytes.
fn shortened_to(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

/// How many bytes the note of an Event may have.
const NOTE: usize = 1024;

/// How many notices of each severity may wait to be sent.
const QUEUE: usize = 4096;

/// For how long after an Event an equal one adds to its count.
const SERIES: Duration = Duration::from_secs(600);

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use kube::client::Body;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn warnings_go_first_and_the_others_at_leisure() {
        let (service, _) = tower_test::mock::pair::<Request<Body>, http::Response<Body>>();
        let (recorder, mut worker) = recorder(Client::new(service, "default"), "test", "");
        let (burst, interval) = (Leisurely::<Notice>::BURST, Leisurely::<Notice>::INTERVAL);
        let notice = |severity, text: String| Notice {
            about: About::Node("a".into()),
            severity,
            reason: "Test",
            text,
        };
        let warning = |text: &str| notice(Severity::Warning, text.to_owned());
        let other = |number: u32| notice(Severity::Normal, number.to_string());
        let count = 3 * burst;
        (0..count).for_each(|number| recorder.tell(other(number)));
        recorder.tell(warning("look"));
        let start = Instant::now();
        assert_eq!(worker.next().await, Some(warning("look")));
        for number in 0..burst {
            assert_eq!(worker.next().await, Some(other(number)));
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for number in burst..count {
            if number == 2 * burst {
                recorder.tell(warning("now"));
                assert_eq!(worker.next().await, Some(warning("now")));
            }
            assert_eq!(worker.next().await, Some(other(number)));
        }
        assert!(start.elapsed() >= interval * (2 * burst), "{:?}", start.elapsed());
        assert!(start.elapsed() < interval * (2 * burst + 3), "{:?}", start.elapsed());
        drop(recorder);
        assert_eq!(worker.next().await, None);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(shortened("short"), "short");
        let long = "ä".repeat(600);
        let cut = shortened(&long);
        assert!(cut.len() <= NOTE && cut.ends_with("ä…"), "{}", cut.len());
        assert_eq!(shortened(&"x".repeat(NOTE)).len(), NOTE);
    }
}
