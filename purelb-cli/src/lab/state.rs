//! The directory in which a running lab leaves word of itself, for `lab exec` and `lab down`.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Signal, getuid, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use thiserror::Error;

const STATE: &str = "state.json";

/// A file that a lab keeps locked (flock(2)) for as long as it lives. Unlike a process id it says
/// the same in every PID namespace that shares the directory.
const LOCK: &str = "lock";

/// What a lab says about itself in its directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The lab's process.
    pub pid: i32,
    /// When that process started, in clock ticks since the boot, as `/proc/PID/stat` has it: a
    /// later process of the same id is another one.
    pub started: u64,
    /// Which of its descriptors holds which namespace.
    pub namespaces: BTreeMap<String, i32>,
    /// The kubeconfig file that works inside the namespaces.
    pub kubeconfig: PathBuf,
}

/// The private directory of all labs of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labs(PathBuf);

/// The directory of one lab, removed with all that is in it when this is dropped.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    keep: bool,
    lock: File,
}

/// Why a lab could not be found, or leave word of itself.
#[derive(Debug, Error)]
pub enum StateError {
    /// The directory cannot be used.
    #[error("cannot use {path}: {source}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else made the directory, or others can write to it.
    #[error("{0} belongs to somebody else or can be written by others; remove it")]
    NotPrivate(PathBuf),
    /// No lab of this user runs.
    #[error("no lab is running; start one with `purelb lab up`")]
    NoneRuns,
    /// No lab of this user has that process id.
    #[error("no lab with process id {0} is running")]
    NotThis(i32),
    /// Several run and none was named.
    #[error("several labs are running; name one with --lab: {}", list(.0))]
    Several(Vec<i32>),
    /// The lab did not end, even when killed.
    #[error("the lab (process {0}) does not end")]
    DoesNotEnd(i32),
    /// The process could not be signalled.
    #[error("cannot end the lab (process {pid}): {source}")]
    Signal {
        /// The lab's process.
        pid: i32,
        /// Why.
        source: io::Error,
    },
}

fn list(pids: &[i32]) -> String {
    pids.iter().map(i32::to_string).collect::<Vec<_>>().join(", ")
}

impl Labs {
    /// The directory of this user's labs, made if it is missing: in `XDG_RUNTIME_DIR` if that is
    /// set, else in the directory for temporary files. Must be called before a user namespace
    /// changes who the user is.
    pub fn of_this_user() -> Result<Self, StateError> {
        let path = match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
            Some(runtime) if runtime.is_absolute() && runtime.is_dir() => {
                runtime.join("purelb-lab")
            }
            Some(_) | None => {
                std::env::temp_dir().join(format!("purelb-lab-{}", getuid().as_raw()))
            }
        };
        Self::in_directory(path)
    }

    fn in_directory(path: PathBuf) -> Result<Self, StateError> {
        let failed = |source| StateError::Directory { path: path.clone(), source };
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(error));
            }
            Err(_) | Ok(()) => {}
        }
        let metadata = fs::symlink_metadata(&path).map_err(failed)?;
        let private = metadata.is_dir() && metadata.mode() & 0o022 == 0;
        if !private || metadata.uid() != getuid().as_raw() {
            return Err(StateError::NotPrivate(path));
        }
        Ok(Self(path))
    }

    /// Makes the directory of a new lab of this process, and removes those of labs that are gone.
    pub fn start(&self) -> Result<Directory, StateError> {
        self.running()?;
        let name = std::process::id().to_string();
        let (draft, path) = (self.0.join(format!("new-{name}")), self.0.join(name));
        let failed = |source| StateError::Directory { path: path.clone(), source };
        // It gets its place only once it is locked, so that nobody takes it for an old one.
        fs::create_dir_all(&draft).map_err(failed)?;
        let lock = File::create(draft.join(LOCK)).map_err(failed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| failed(error.into()))?;
        fs::rename(&draft, &path).map_err(failed)?;
        Ok(Directory { path, keep: false, lock })
    }

    /// The labs that run, oldest first. What others left behind is removed.
    pub fn running(&self) -> Result<Vec<State>, StateError> {
        let failed = |source| StateError::Directory { path: self.0.clone(), source };
        let mut running = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            // Others are being made, or kept.
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            if !name.iter().all(u8::is_ascii_digit) {
                continue;
            }
            let Ok(lock) = File::open(path.join(LOCK)) else { continue };
            if flock(&lock, FlockOperation::NonBlockingLockShared).is_ok() {
                // If it cannot be removed now, the next lab tries again.
                let _ = fs::remove_dir_all(&path);
                continue;
            }
            // One that is still being set up has said nothing yet.
            let Ok(text) = fs::read(path.join(STATE)) else { continue };
            let state = serde_json::from_slice::<State>(&text).map_err(|e| failed(e.into()))?;
            // From another PID namespace its process cannot be reached.
            if started(state.pid) == Some(state.started) {
                running.push(state);
            }
        }
        running.sort_by_key(|state| (state.started, state.pid));
        Ok(running)
    }

    /// The lab with that process id, or the only one.
    pub fn find(&self, pid: Option<i32>) -> Result<State, StateError> {
        let mut running = self.running()?;
        if let Some(pid) = pid {
            running.retain(|state| state.pid == pid);
        }
        match (running.pop(), pid) {
            (Some(state), _) if running.is_empty() => Ok(state),
            (Some(last), _) => {
                Err(StateError::Several(running.iter().chain([&last]).map(|s| s.pid).collect()))
            }
            (None, Some(pid)) => Err(StateError::NotThis(pid)),
            (None, None) => Err(StateError::NoneRuns),
        }
    }
}

impl State {
    /// The state of a lab of this process.
    pub fn of_this_process(namespaces: BTreeMap<String, i32>, kubeconfig: PathBuf) -> Self {
        let pid = rustix::process::getpid().as_raw_pid();
        Self { pid, started: started(pid).unwrap_or_default(), namespaces, kubeconfig }
    }

    /// Asks the lab to end, kills it after `patience`, and returns once its process is gone.
    pub fn end(&self, patience: Duration) -> Result<(), StateError> {
        let failed =
            |source: rustix::io::Errno| StateError::Signal { pid: self.pid, source: source.into() };
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(()) };
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            opened => opened.map_err(failed)?,
        };
        if started(self.pid) != Some(self.started) {
            return Ok(());
        }
        for signal in [Signal::TERM, Signal::KILL] {
            match pidfd_send_signal(&process, signal) {
                Err(rustix::io::Errno::SRCH) => return Ok(()),
                sent => sent.map_err(failed)?,
            }
            let mut event = [PollFd::new(&process, PollFlags::IN)];
            let limit = patience.try_into().map_err(|_| failed(rustix::io::Errno::INVAL))?;
            if poll(&mut event, Some(&limit)).map_err(failed)? > 0 {
                return Ok(());
            }
        }
        Err(StateError::DoesNotEnd(self.pid))
    }
}

impl Directory {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of `name` in this directory.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A directory inside this one, for one of several labs of one process.
    pub fn room(&self, name: &str) -> io::Result<Self> {
        let (path, lock) = (self.join(name), self.lock.try_clone()?);
        fs::create_dir(&path)?;
        Ok(Self { path, keep: false, lock })
    }

    /// Leaves word of the lab, so that it can be found from now on.
    pub fn publish(&self, state: &State) -> Result<(), StateError> {
        let path = self.path.join(STATE);
        let failed = |source| StateError::Directory { path: path.clone(), source };
        let text = serde_json::to_vec_pretty(state).map_err(|error| failed(error.into()))?;
        let draft = self.path.join("state.json.new");
        fs::write(&draft, text).and_then(|()| fs::rename(&draft, &path)).map_err(failed)
    }

    /// Keeps the directory under a name that no later lab sweeps away, and returns it.
    pub fn keep(mut self) -> io::Result<PathBuf> {
        let kept = self.path.with_file_name(format!("kept-{}", std::process::id()));
        if kept.exists() {
            fs::remove_dir_all(&kept)?;
        }
        for file in [STATE, LOCK] {
            fs::remove_file(self.path.join(file)).or_else(ignore_missing)?;
        }
        fs::rename(&self.path, &kept)?;
        self.keep = true;
        Ok(kept)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.keep {
            // If it cannot be removed now, the next lab tries again.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// When the process started (proc(5): field 22 of `/proc/PID/stat`); `None` once it is gone.
fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The second field, the name in parentheses, may itself hold spaces and parentheses.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(22 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Temporary(PathBuf);

    impl Temporary {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
            Self(path)
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn state() -> State {
        State::of_this_process(BTreeMap::from([("node1".into(), 5)]), "/k".into())
    }

    #[test]
    fn a_lab_is_found_from_publishing_until_its_directory_is_dropped() {
        let temporary = Temporary::new("purelb-state-found");
        let labs = Labs::in_directory(temporary.0.clone()).unwrap();
        assert!(matches!(labs.find(None), Err(StateError::NoneRuns)));
        let directory = labs.start().unwrap();
        assert!(matches!(labs.find(None), Err(StateError::NoneRuns)), "still being set up");
        directory.publish(&state()).unwrap();
        assert_eq!(labs.find(None).unwrap(), state());
        assert_eq!(labs.find(Some(state().pid)).unwrap(), state());
        assert!(matches!(labs.find(Some(1)), Err(StateError::NotThis(1))));
        drop(directory);
        assert!(matches!(labs.find(None), Err(StateError::NoneRuns)));
    }

    #[test]
    fn what_a_dead_lab_left_is_swept_away() {
        let temporary = Temporary::new("purelb-state-stale");
        let labs = Labs::in_directory(temporary.0.clone()).unwrap();
        let dead = temporary.0.join("12345");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join(LOCK), "").unwrap();
        fs::write(dead.join(STATE), serde_json::to_vec(&state()).unwrap()).unwrap();
        assert_eq!(labs.running().unwrap(), []);
        assert!(!dead.exists());
    }

    #[test]
    fn a_lab_whose_process_cannot_be_reached_is_left_alone() {
        let temporary = Temporary::new("purelb-state-unreachable");
        let labs = Labs::in_directory(temporary.0.clone()).unwrap();
        let directory = labs.start().unwrap();
        // As in another PID namespace, where the process id means somebody else.
        directory.publish(&State { started: 1, ..state() }).unwrap();
        assert!(matches!(labs.find(None), Err(StateError::NoneRuns)));
        assert!(directory.path.exists());
    }

    #[test]
    fn a_kept_directory_is_not_swept_away() {
        let temporary = Temporary::new("purelb-state-kept");
        let labs = Labs::in_directory(temporary.0.clone()).unwrap();
        let directory = labs.start().unwrap();
        fs::write(directory.join("a.log"), "text").unwrap();
        let kept = directory.keep().unwrap();
        assert_eq!(labs.running().unwrap(), []);
        assert_eq!(fs::read_to_string(kept.join("a.log")).unwrap(), "text");
    }

    #[test]
    fn a_directory_others_can_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let temporary = Temporary::new("purelb-state-private");
        fs::create_dir(&temporary.0).unwrap();
        fs::set_permissions(&temporary.0, fs::Permissions::from_mode(0o777)).unwrap();
        let refused = Labs::in_directory(temporary.0.clone());
        assert!(matches!(refused, Err(StateError::NotPrivate(_))));
    }
}
