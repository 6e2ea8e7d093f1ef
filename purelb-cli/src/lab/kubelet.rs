//! The lab's kubelet: the programs are pods on the in-memory API, which follow what becomes of them, and
//! have logs and run commands.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::jiff::Timestamp;
use purelb_k8s::memory::{Container, Exec, MemoryApi, PodLog, PodRuntime, Run};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use serde_json::{Value, json};

use super::inside::Place;
use super::manifest::{self, Component, NAMESPACE};
use super::namespace::{self, Namespace};
use super::process::{Ending, Log, Program};
use crate::telemetry::server::PORT;

/// How long a probe may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// From one probe to the next of a program that is ready, and of one that is not yet.
const PAUSE: Duration = Duration::from_secs(1);
const SHORT_PAUSE: Duration = Duration::from_millis(100);

/// After how many probes in a row that failed a program counts as not ready (Kubernetes'
/// `failureThreshold`).
const FAILURES: u32 = 3;

/// Keeps the pods of the lab's programs. Dropping it waits for the ends of the programs that it was told
/// of, so they are to be ended before.
pub struct Kubelet {
    api: MemoryApi,
    pods: Pods,
    /// By the pods' names.
    keepers: Mutex<BTreeMap<String, JoinHandle<()>>>,
}

/// What runs in each pod, by the pod's name.
#[derive(Clone, Default)]
struct Pods(Arc<Mutex<BTreeMap<String, Runs>>>);

/// The runs of a pod's one container.
struct Runs {
    container: &'static str,
    restarts: u32,
    log: PodLog,
    previous: Option<PodLog>,
    /// How the previous one ended, as a `ContainerState` has it.
    last_state: Value,
    /// Where commands run, while the container does.
    place: Option<Place>,
}

/// A program that was started.
#[derive(Debug)]
pub struct Started<'a> {
    /// Which it is.
    pub component: Component,
    /// Where it runs.
    pub namespace: &'a Namespace,
    /// The addresses of that place.
    pub addresses: &'a [IpAddr],
    /// Its arguments.
    pub arguments: &'a [&'a str],
    /// What the environment of commands in its pod is to be.
    pub environment: Vec<(OsString, OsString)>,
    /// The program itself.
    pub program: &'a Program,
}

impl fmt::Debug for Kubelet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubelet").finish_non_exhaustive()
    }
}

impl Kubelet {
    /// Puts itself behind the pods of `api`.
    pub fn new(api: MemoryApi) -> Self {
        let pods = Pods::default();
        api.set_pod_runtime(Arc::new(pods.clone()));
        Self { api, pods, keepers: Mutex::default() }
    }

    /// A program was started, for the first time or again: its pod says so from now on, whether it is
    /// ready, and how it ends. The run before it, if there was one, is over.
    pub fn started(&self, started: Started<'_>) -> io::Result<()> {
        let Started { component, namespace, addresses, arguments, environment, program } = started;
        let pod = manifest::pod(component, namespace, arguments);
        let name = component.pod(namespace.name());
        let mut keepers = self.keepers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keeper) = keepers.remove(&name) {
            // A panic in it has been printed already.
            let _ = keeper.join();
        }
        self.api.apply("kubelet", pod).map_err(|status| io::Error::other(status.message))?;
        let log = PodLog::new();
        let (restarts, last_state) = {
            let mut pods = self.pods.lock();
            let runs = pods.entry(name.clone()).or_insert_with(|| Runs::new(component.name()));
            runs.begin(&log, Place::new(namespace, environment)?);
            (runs.restarts, runs.last_state.clone())
        };
        let keeper = Keeper {
            api: self.api.clone(),
            pods: self.pods.clone(),
            component,
            name,
            addresses: manifest::addresses(addresses),
            since: Timestamp::now(),
            restarts,
            last_state,
            source: program.log_of_this_run(),
            log,
            ending: program.ending(),
            namespace: namespace.link()?,
        };
        keeper.show(&json!({"running": {"startedAt": keeper.since}}), false);
        let name = keeper.name.clone();
        let thread = thread::Builder::new().name("kubelet".into()).spawn(move || keeper.keep())?;
        keepers.insert(name, thread);
        Ok(())
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        let keepers = self.keepers.get_mut().unwrap_or_else(PoisonError::into_inner);
        for keeper in std::mem::take(keepers).into_values() {
            // A panic in it has been printed already.
            let _ = keeper.join();
        }
    }
}

impl Pods {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Runs>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the runs of a container, if there is one.
    fn look<T>(&self, container: &Container, look: impl FnOnce(&Runs) -> Option<T>) -> Option<T> {
        let pods = self.lock();
        let runs = pods.get(&container.pod).filter(|_| container.namespace == NAMESPACE)?;
        (runs.container == container.name).then(|| look(runs)).flatten()
    }
}

impl Runs {
    fn new(container: &'static str) -> Self {
        let (log, last_state) = (PodLog::new(), Value::Null);
        Self { container, restarts: 0, log, previous: None, last_state, place: None }
    }

    fn begin(&mut self, log: &PodLog, place: Place) {
        let before = std::mem::replace(&mut self.log, log.clone());
        if !self.last_state.is_null() {
            self.restarts += 1;
            self.previous = Some(before);
        }
        self.place = Some(place);
    }
}

impl PodRuntime for Pods {
    fn log(&self, container: &Container, run: Run) -> Option<PodLog> {
        self.look(container, |runs| match run {
            Run::Present => Some(runs.log.clone()),
            Run::Previous => runs.previous.clone(),
        })
    }

    fn exec(&self, container: &Container, exec: Exec) -> BoxFuture<'static, Result<i32, String>> {
        match self.look(container, |runs| runs.place.clone()) {
            Some(place) => {
                async { place.run(exec).await.map_err(|error| error.to_string()) }.boxed()
            }
            None => {
                let why = format!("container {:?} is not running", container.name);
                futures::future::ready(Err(why)).boxed()
            }
        }
    }
}

/// One run of one container, on a thread of its own from its start to its end.
struct Keeper {
    api: MemoryApi,
    pods: Pods,
    component: Component,
    name: String,
    addresses: Value,
    since: Timestamp,
    restarts: u32,
    last_state: Value,
    source: Log,
    log: PodLog,
    ending: Ending,
    namespace: File,
}

impl Keeper {
    fn keep(mut self) {
        if let Err(error) = namespace::enter(&self.namespace) {
            tracing::warn!(pod = self.name, %error, "cannot probe it from its own network");
        }
        // Without, the log is read when it is time for a probe.
        let news = watch(self.source.path())
            .inspect_err(|error| tracing::debug!(pod = self.name, %error, "cannot watch its log"))
            .ok();
        let (mut is_ready, mut failures, mut next_probe) = (false, 0, Instant::now());
        let status = loop {
            self.read();
            if let Some(status) = self.ending.status() {
                break status;
            }
            let now = Instant::now();
            if now >= next_probe {
                failures = if is_live("/readyz") { 0 } else { failures + 1 };
                let was_ready = is_ready;
                is_ready = failures == 0 || (is_ready && failures < FAILURES);
                if is_ready != was_ready && self.ending.status().is_none() {
                    self.show(&json!({"running": {"startedAt": self.since}}), is_ready);
                }
                next_probe = Instant::now() + if is_ready { PAUSE } else { SHORT_PAUSE };
            }
            self.wait(news.as_ref(), next_probe.saturating_duration_since(Instant::now()));
        };
        self.read();
        self.log.end();
        let state = json!({"terminated": terminated(status, self.since)});
        if let Some(runs) = self.pods.lock().get_mut(&self.name) {
            runs.place = None;
            runs.last_state = state.clone();
        }
        self.show(&state, false);
    }

    /// Takes over what the program has printed.
    fn read(&mut self) {
        let now = Timestamp::now();
        match self.source.new_lines() {
            Ok(lines) => lines.iter().for_each(|line| self.log.append(now, line)),
            Err(error) => tracing::warn!(pod = self.name, %error, "cannot read its log"),
        }
    }

    /// Waits for the program's end, for news of its log, or for the time to pass.
    fn wait(&self, news: Option<&OwnedFd>, time: Duration) {
        let mut events = vec![PollFd::from_borrowed_fd(self.ending.process(), PollFlags::IN)];
        events.extend(news.map(|news| PollFd::new(news, PollFlags::IN)));
        let time = time.try_into().ok();
        if poll(&mut events, time.as_ref()).is_err() {
            return;
        }
        if !events[0].revents().is_empty() {
            self.ending.wait();
        }
        if let Some(news) = news {
            // All that is told is that there is something.
            let mut told = [0; 4096];
            while rustix::io::read(news, &mut told).is_ok_and(|length| length > 0) {}
        }
    }

    /// Writes the pod's status.
    fn show(&self, state: &Value, is_ready: bool) {
        let verdict = |is_so: bool| if is_so { "True" } else { "False" };
        let conditions = [
            ("PodScheduled", true),
            ("Initialized", true),
            ("ContainersReady", is_ready),
            ("Ready", is_ready),
        ]
        .map(|(kind, is_so)| json!({"type": kind, "status": verdict(is_so)}));
        let mut status = self.addresses.clone();
        status["phase"] = json!("Running");
        status["conditions"] = json!(conditions);
        status["startTime"] = json!(self.since);
        let mut container = json!({
            "name": self.component.name(), "image": "purelb", "imageID": "", "state": state,
            "ready": is_ready, "started": state.get("running").is_some(),
            "restartCount": self.restarts,
        });
        if !self.last_state.is_null() {
            container["lastState"] = self.last_state.clone();
        }
        status["containerStatuses"] = json!([container]);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": self.name, "namespace": NAMESPACE}, "status": status,
        });
        if let Err(status) = self.api.apply_status("kubelet", pod) {
            // Somebody has deleted it, say.
            tracing::debug!(pod = self.name, error = status.message, "cannot write its status");
        }
    }
}

/// What tells of additions to a file.
fn watch(path: &Path) -> io::Result<OwnedFd> {
    let news = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(news.as_fd(), path, inotify::WatchFlags::MODIFY)?;
    Ok(news)
}

/// Whether the program at the monitoring port of this network answers that all is well.
fn is_live(path: &str) -> bool {
    let ask = || -> io::Result<bool> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut line = [0; "HTTP/1.1 200".len()];
        stream.read_exact(&mut line)?;
        Ok(line.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

/// A `ContainerStateTerminated`.
fn terminated(status: ExitStatus, since: Timestamp) -> Value {
    let code = status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(255);
    json!({
        "exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" },
        "startedAt": since, "finishedAt": Timestamp::now(),
    })
}
