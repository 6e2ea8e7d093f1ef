//! Listing a kind and watching it from there, with every version in view.
//!
//! One engine for all kinds. It differs from the watcher that comes with the client library in what
//! PureLB needs: versions and bookmarks are handed on, each object is decoded by itself so that one
//! that makes no sense hides no other, and how quickly a dead connection is noticed and replaced can
//! be chosen.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use futures::io::AsyncBufReadExt;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use kube::Client;
use kube::api::{ListParams, WatchParams};
use kube::core::{Request, Status};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, timeout};

use crate::error::{ApiError, chain};

/// What to list and watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// What it is called in the log.
    pub(crate) name: &'static str,
    /// The path of the collection.
    pub(crate) path: String,
    /// A label selector.
    pub(crate) labels: Option<String>,
    /// A field selector. Not every server knows every field: where it answers 400, everything is
    /// listed and watched instead.
    pub(crate) fields: Option<String>,
    /// How patient to be.
    pub(crate) pace: Pace,
}

/// How patient a list and watch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// For the answer to a request; for a list as a whole, for a watch until it begins.
    pub request: Duration,
    /// A watch without a message for this long is taken for dead and begun anew from where it was.
    pub idle: Duration,
    /// The longest pause between attempts; the first is a sixteenth of it, each further one twice as
    /// long, and all are cut by up to half at random.
    pub retry: Duration,
}

impl Default for Pace {
    /// For kinds on which no deadline depends. The server ends each watch before it is idle.
    fn default() -> Self {
        Self {
            request: Duration::from_secs(30),
            idle: Duration::from_secs(300),
            retry: Duration::from_secs(8),
        }
    }
}

/// One step of a list and watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step<T> {
    /// Every change up to this version has been delivered.
    Bookmark(String),
    /// This object is gone, as of its version.
    Deleted(Metadata),
    /// These are all objects, as of `version`.
    Listed { objects: Vec<T>, version: String },
    /// This object is new or has changed.
    Updated(T),
}

/// What every object has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) resource_version: String,
}

/// Lists, watches from there, and begins again wherever that breaks off, for ever.
///
/// Each object is read as an `O` and made a `T`; one that is no `O`, or of which nothing is made, is
/// left out. Failures are logged when they begin, when they change and when they end; while they
/// last, nothing is handed out, so that the last state stands.
pub(crate) fn list_watch<O, T, F>(
    client: Client,
    source: Source,
    convert: F,
) -> impl Stream<Item = Step<T>> + Send + use<O, T, F>
where
    O: DeserializeOwned,
    T: Send,
    F: Fn(O) -> Option<T> + Send + Sync,
{
    let name = source.name;
    let decode = move |json: &RawValue| match serde_json::from_str(json.get()) {
        Ok(object) => convert(object),
        Err(error) => {
            let Metadata { namespace, name: object, .. } = metadata(json).unwrap_or_default();
            tracing::warn!(kind = name, %namespace, name = %object, %error, "ignoring a malformed object");
            None
        }
    };
    let watch = Watch {
        client,
        whole: source.fields.is_none(),
        source,
        decode,
        state: State::Unlisted,
        is_doubtful: false,
        failures: 0,
        complaint: None,
    };
    futures::stream::unfold(watch, |mut watch| async {
        let step = watch.next().await;
        Some((step, watch))
    })
}

/// The lines of a watch as they come; one that breaks off is over.
type Lines = BoxStream<'static, io::Result<String>>;

struct Watch<D> {
    client: Client,
    source: Source,
    /// The field selector is not used.
    whole: bool,
    decode: D,
    state: State,
    /// Attempts since the last watch that lasted. One that ends soon counts, whatever it brought: a
    /// server that ends every watch after its first message is not to be asked without a pause.
    failures: u32,
    /// Something went wrong since the server was last seen to be where we are: it may be another now, or
    /// have another past.
    is_doubtful: bool,
    /// What was last complained of.
    complaint: Option<ApiError>,
}

enum State {
    /// Nothing is known.
    Unlisted,
    /// Everything is known up to this version, and nothing is watched.
    Listed(String),
    /// Changes since this version arrive, until about `ends`.
    Watching { version: String, began: Instant, ends: Instant, lines: Lines },
}

impl<T, D: Fn(&RawValue) -> Option<T>> Watch<D> {
    /// The next step. Not cancel-safe by itself; the stream around it keeps the future.
    async fn next(&mut self) -> Step<T> {
        loop {
            match std::mem::replace(&mut self.state, State::Unlisted) {
                State::Unlisted => match self.list().await {
                    Ok((objects, version)) => {
                        self.is_doubtful = false;
                        self.state = State::Listed(version.clone());
                        return Step::Listed { objects, version };
                    }
                    Err(error) if error.code() == Some(400) && !self.whole => {
                        let (kind, fields) = (self.source.name, &self.source.fields);
                        tracing::info!(kind, ?fields, "this API server cannot select by field");
                        self.whole = true;
                    }
                    Err(error) => self.failed(error).await,
                },
                State::Listed(version) => match self.resume(version.clone()).await {
                    Ok(state) => self.state = state,
                    Err(error) if error.is_gone() => {
                        tracing::debug!(kind = self.source.name, %error, "listing again");
                        self.pause_if_failing().await;
                    }
                    Err(error) => {
                        if !is_answer(&error) {
                            self.state = State::Listed(version);
                        }
                        self.failed(error).await;
                    }
                },
                State::Watching { version, began, ends, lines } => {
                    if let Some(step) = self.receive(version, began, ends, lines).await {
                        return step;
                    }
                }
            }
        }
    }

    /// Watches on from `version`; lists anew if the server has never been there. It would not say so: a
    /// watch from a version that is still to come begins, and leaves out all that happens until then.
    async fn resume(&mut self, version: String) -> Result<State, ApiError> {
        if self.is_doubtful {
            let newest = self.newest().await?;
            self.is_doubtful = false;
            if is_older(&newest, &version) {
                let kind = self.source.name;
                tracing::warn!(
                    kind,
                    version,
                    newest,
                    "versions went back, as they do when a backup of the API is restored; listing anew"
                );
                return Ok(State::Unlisted);
            }
        }
        let began = Instant::now();
        let limit = self.server_timeout();
        let lines = self.watch(&version, limit).await?;
        if self.complaint.take().is_some() {
            tracing::info!(kind = self.source.name, "watching again");
        }
        Ok(State::Watching { version, began, ends: began + limit, lines })
    }

    /// The version that the server is at.
    async fn newest(&mut self) -> Result<String, ApiError> {
        // Without a resourceVersion, as above; one object is as good as all.
        let params = ListParams { limit: Some(1), ..ListParams::default() };
        let (client, source) = (&self.client, &self.source);
        let newest = async {
            let request = Request::new(&source.path).list(&params)?;
            let text = client.request_text(request).await?;
            let page: Page<'_> = serde_json::from_str(&text)?;
            Ok(page.metadata.resource_version)
        };
        within(source.pace.request, newest).await
    }

    async fn list(&mut self) -> Result<(Vec<T>, String), ApiError> {
        // Without a resourceVersion the server answers from what is written now.
        let mut params = ListParams {
            label_selector: self.source.labels.clone(),
            field_selector: self.fields(),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        let (client, source, decode) = (&self.client, &self.source, &self.decode);
        let list = async {
            let mut objects = Vec::new();
            loop {
                let request = Request::new(&source.path).list(&params)?;
                let text = client.request_text(request).await?;
                let page: Page<'_> = serde_json::from_str(&text)?;
                objects.extend(page.items.unwrap_or_default().into_iter().filter_map(decode));
                if page.metadata.r#continue.is_empty() {
                    return Ok((objects, page.metadata.resource_version));
                }
                params.continue_token = Some(page.metadata.r#continue);
            }
        };
        within(source.pace.request, list).await
    }

    /// Begins a watch that the server is to end after `limit`.
    async fn watch(&mut self, version: &str, limit: Duration) -> Result<Lines, ApiError> {
        let params = WatchParams {
            label_selector: self.source.labels.clone(),
            field_selector: self.fields(),
            timeout: u32::try_from(limit.as_secs()).ok(),
            ..WatchParams::default()
        };
        let request = Request::new(&self.source.path).watch(&params, version)?;
        let client = &self.client;
        let begin = async { Ok(client.request_stream(request).await?) };
        Ok(within(self.source.pace.request, begin).await?.lines().boxed())
    }

    /// When the server is to end a watch, so that the client need not: a little before it would be
    /// taken for dead, but not all watches at once.
    fn server_timeout(&self) -> Duration {
        let longest = self.source.pace.idle.max(SHORTEST_WATCH).mul_f64(0.95);
        longest.mul_f64(0.7 + 0.3 * fastrand::f64())
    }

    fn fields(&self) -> Option<String> {
        self.source.fields.clone().filter(|_| !self.whole)
    }

    /// Waits for a line; what follows from it is a step, or only a new state.
    async fn receive(
        &mut self,
        version: String,
        began: Instant,
        ends: Instant,
        mut lines: Lines,
    ) -> Option<Step<T>> {
        let (kind, idle) = (self.source.name, self.source.pace.idle);
        let line = timeout(idle, lines.next()).await;
        if began.elapsed() >= self.source.pace.retry {
            self.failures = 0;
        }
        let line = match line {
            Ok(Some(Ok(line))) => line,
            Ok(end) => {
                let error = end.and_then(Result::err).map(|error| chain(&error));
                tracing::debug!(kind, error, "the watch ended");
                self.is_doubtful |= error.is_some() || Instant::now() + IN_TIME < ends;
                self.state = State::Listed(version);
                self.pause_if_failing().await;
                return None;
            }
            Err(_) => {
                tracing::debug!(kind, ?idle, "nothing heard from the watch");
                self.is_doubtful = true;
                self.state = State::Listed(version);
                return None;
            }
        };
        match self.step(&line) {
            Ok((version, step)) => {
                self.state = State::Watching { version, began, ends, lines };
                step
            }
            // The server no longer knows what came after our version: list again.
            Err(error) if error.is_gone() => {
                tracing::debug!(kind, %error, "listing again");
                self.pause_if_failing().await;
                None
            }
            Err(error) => {
                self.state = State::Listed(version);
                self.failed(error).await;
                None
            }
        }
    }

    /// What a line says, and the version that is reached with it.
    fn step(&self, line: &str) -> Result<(String, Option<Step<T>>), ApiError> {
        let Message { kind, object } = serde_json::from_str(line)?;
        if kind == "ERROR" {
            return Err(serde_json::from_str::<Status>(object.get())?.into());
        }
        let metadata = metadata(object)?;
        let version = metadata.resource_version.clone();
        let step = match &*kind {
            "ADDED" | "MODIFIED" => (self.decode)(object).map(Step::Updated),
            "BOOKMARK" => Some(Step::Bookmark(version.clone())),
            "DELETED" => Some(Step::Deleted(metadata)),
            // As the API has it, what is not known is to be ignored.
            _ => None,
        };
        Ok((version, step))
    }

    /// Complains unless it is the same again, and waits.
    async fn failed(&mut self, error: ApiError) {
        if self.complaint.as_ref() != Some(&error) {
            tracing::warn!(kind = self.source.name, %error, "cannot watch; trying again");
            self.complaint = Some(error);
        }
        self.is_doubtful = true;
        self.failures = self.failures.max(1);
        self.pause_if_failing().await;
    }

    /// Waits if this is not the first attempt since the last one that went well; longer each time,
    /// and not exactly as long as everybody else.
    async fn pause_if_failing(&mut self) {
        self.failures += 1;
        if let Some(doublings) = self.failures.checked_sub(2) {
            let pause = (self.source.pace.retry / 16) * 2_u32.pow(doublings.min(4));
            sleep(pause.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
        }
    }
}

/// A line of a watch.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(default)]
    metadata: PageMetadata,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PageMetadata {
    resource_version: String,
    r#continue: String,
}

fn metadata(json: &RawValue) -> Result<Metadata, ApiError> {
    #[derive(Deserialize)]
    struct Head {
        metadata: Metadata,
    }
    let Head { metadata } = serde_json::from_str(json.get())?;
    Ok(metadata)
}

/// Whether a watch that could not begin was answered for good, so that a new list is called for: the
/// version may be one that the server has never heard of. A server that is only busy says 429 or 503.
fn is_answer(error: &ApiError) -> bool {
    error.code().is_some_and(|code| !matches!(code, 429 | 503))
}

/// Whether the first of two versions of one kind comes before the second. The API promises that they are
/// numbers which grow (KEP-5504); where they are none, nobody can tell.
fn is_older(version: &str, than: &str) -> bool {
    let number = |text: &str| text.parse::<u128>().ok();
    number(version).zip(number(than)).is_some_and(|(version, than)| version < than)
}

/// How many objects are asked for at once.
const PAGE: u32 = 250;

/// A watch that ends so much before its time ended as it should: the server counts whole seconds.
const IN_TIME: Duration = Duration::from_secs(2);

/// No watch is asked to end sooner: beginning one costs the server more than keeping it.
const SHORTEST_WATCH: Duration = Duration::from_secs(60);

/// The outcome of a request, unless it takes too long; it is cancelled then.
pub(crate) async fn within<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    timeout(limit, request).await.unwrap_or(Err(ApiError::TimedOut(limit)))
}
