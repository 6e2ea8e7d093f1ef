//! A watch: the changes of a kind after some version, as they happen.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::MemoryApi;
use super::fault::{Call, Fault};
use super::form::Form;
use super::kind::Kind;
use super::refusal::{self, Refusal};
use super::selector::Filter;
use super::store::{Change, Object, Store};

/// A watch that wants bookmarks hears something at least this often.
const BOOKMARK_EVERY: Duration = Duration::from_secs(1);
/// How long a watch lasts that does not say so.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// What a watch asks for.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) kind: &'static Kind,
    pub(super) filter: Filter,
    pub(super) form: Form,
    /// After which version; none for all that is there, then what comes.
    pub(super) after: Option<u64>,
    pub(super) bookmarks: bool,
    /// Whether to begin with all that is there and a bookmark that ends it.
    pub(super) initial_events: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) call: Call,
}

/// A running watch.
#[derive(Debug)]
pub(super) struct Watching {
    api: MemoryApi,
    request: Request,
    news: watch::Receiver<()>,
    /// Every change up to this version is in what has been delivered.
    seen: u64,
    /// Lines that are ready, such as the objects that were there at the start.
    ready: Vec<u8>,
    any_sent: bool,
    next_bookmark: Instant,
    ends: Instant,
    over: bool,
}

impl Watching {
    pub(super) fn start(api: &MemoryApi, request: Request) -> Self {
        let store = api.store();
        let now = Instant::now();
        let mut watching = Self {
            news: store.news(request.kind),
            seen: request.after.unwrap_or_else(|| store.version()),
            ready: Vec::new(),
            any_sent: false,
            next_bookmark: now + BOOKMARK_EVERY,
            ends: now + request.timeout.unwrap_or(LONGEST),
            over: false,
            api: api.clone(),
            request,
        };
        if watching.request.after.is_none() || watching.request.initial_events {
            watching.begin_with_all(&store);
        }
        drop(store);
        watching
    }

    fn begin_with_all(&mut self, store: &Store) {
        let kind = self.request.kind;
        let namespace = self.request.filter.namespace.clone();
        for object in store.objects(kind, namespace.as_deref()) {
            if self.selects(object) {
                self.say("ADDED", object);
            }
        }
        self.seen = store.version();
        if self.request.initial_events {
            self.bookmark(true);
        }
    }

    /// The next lines; none once the watch is over.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.over && self.ready.is_empty() {
                return None;
            }
            self.news.mark_unchanged();
            if !self.over {
                self.catch_up();
            }
            if !self.ready.is_empty() {
                match self.api.fault(&self.request.call) {
                    None => {}
                    Some(Fault::Delay(time)) => sleep(time).await,
                    Some(Fault::Refuse(_) | Fault::Drop | Fault::LoseAnswer) => return None,
                }
                self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                return Some(std::mem::take(&mut self.ready).into());
            }
            tokio::select! {
                news = self.news.changed() => if news.is_err() { return None },
                () = sleep_until(self.next_bookmark), if self.request.bookmarks => {
                    self.catch_up();
                    if self.ready.is_empty() {
                        self.bookmark(false);
                    }
                }
                () = sleep_until(self.ends) => self.over = true,
            }
        }
    }

    /// Turns what happened since into lines.
    fn catch_up(&mut self) {
        let kind = self.request.kind;
        let api = self.api.clone();
        let store = api.store();
        let forgotten = store.forgotten(kind);
        if self.seen < forgotten {
            drop(store);
            self.fail(&refusal::expired(self.seen, forgotten));
            return;
        }
        let changes: Vec<Change> = store.changes_after(kind, self.seen).cloned().collect();
        // A client that asked for a version yet to come hears of nothing before it.
        self.seen = self.seen.max(store.version());
        drop(store);
        for change in changes {
            self.deliver(&change);
        }
    }

    /// An object that begins to match the selectors is added, one that stops is deleted.
    fn deliver(&mut self, change: &Change) {
        let now = change.now.as_ref().filter(|object| self.selects(object));
        let before = change.before.as_ref().filter(|object| self.selects(object));
        match (before, now) {
            (None, None) => {}
            (None, Some(object)) => self.say("ADDED", object),
            (Some(_), Some(object)) => self.say("MODIFIED", object),
            (Some(object), None) => self.say("DELETED", &object.as_of(change.version)),
        }
    }

    fn selects(&self, object: &Arc<Object>) -> bool {
        match self.request.kind.view {
            Some(_) => self.request.filter.selects(&object.shown(self.request.kind)),
            None => self.request.filter.selects(object.kept()),
        }
    }

    fn say(&mut self, what: &str, object: &Object) {
        let body = self.request.form.in_watch(self.request.kind, object, !self.any_sent);
        self.any_sent = true;
        self.line(what, &body);
    }

    fn bookmark(&mut self, initial_events_end: bool) {
        let form = self.request.form;
        let object = form.bookmark(self.request.kind, self.seen, initial_events_end);
        self.line("BOOKMARK", object.to_string().as_bytes());
    }

    fn fail(&mut self, why: &Refusal) {
        self.line("ERROR", refusal::to_object(why).to_string().as_bytes());
        self.over = true;
    }

    fn line(&mut self, what: &str, object: &[u8]) {
        self.ready.extend_from_slice(format!(r#"{{"type":"{what}","object":"#).as_bytes());
        self.ready.extend_from_slice(object);
        self.ready.extend_from_slice(b"}\n");
    }
}
