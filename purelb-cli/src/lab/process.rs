//! A program of the lab: a child process with a log file, which never outlives the lab.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, getppid, pidfd_open, pidfd_send_signal,
    set_parent_process_death_signal,
};

use super::namespace::Namespace;

/// Names the lab's process in the environment of each program it starts.
const PARENT: &str = "PURELB_LAB_PID";

/// What the programs inherit from the environment; all else, such as proxies, stays outside.
const INHERITED: [&str; 3] = ["PATH", "PURELB_LOG_LEVEL", "RUST_BACKTRACE"];

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Program {
    name: String,
    id: u32,
    ending: Ending,
    log: Log,
    /// Where this run began in the log.
    begin: u64,
}

/// How to start a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch<'a> {
    /// What people call it.
    pub program: &'a str,
    /// What is run.
    pub image: Image<'a>,
    /// Its arguments.
    pub arguments: &'a [&'a str],
    /// Variables of its environment.
    pub environment: &'a [(&'a str, &'a OsStr)],
    /// Where what it prints is appended.
    pub log: &'a Path,
}

/// An executable file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image<'a> {
    /// `purelb`, which is started by the program's name: `allocator` or `lbnodeagent`.
    Purelb(&'a Path),
    /// Another, which knows nothing of labs.
    Foreign(&'a Path),
}

impl Image<'_> {
    /// The running executable itself. The link also works after the file was replaced by a newer
    /// build.
    pub const THIS: &'static str = "/proc/self/exe";
}

impl Program {
    /// Starts a program in `namespace`.
    pub fn start(namespace: &Namespace, launch: &Launch<'_>) -> io::Result<Self> {
        use std::os::unix::process::CommandExt;

        let log = OpenOptions::new().create(true).append(true).open(launch.log)?;
        let offset = log.metadata()?.len();
        let mut command = match launch.image {
            Image::Purelb(path) => {
                let mut command = Command::new(path);
                command.arg0(launch.program);
                command
            }
            // What `end_with_parent` does in our own.
            Image::Foreign(path) => {
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "KILL"]).arg(path);
                command
            }
        };
        command
            .args(launch.arguments)
            .env_clear()
            .envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .envs(launch.environment.iter().copied())
            .env(PARENT, std::process::id().to_string())
            // Ctrl-C at the terminal is for the lab alone, which then ends its programs.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = namespace.spawn(command)?;
        let id = child.id();
        let ending = Ending::of(child)?;
        let name = format!("{} on {}", launch.program, namespace.name());
        let log = Log { path: launch.log.to_owned(), offset };
        Ok(Self { name, id, ending, log, begin: offset })
    }

    /// What people call it: the program and where it runs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its end, for whoever waits for it elsewhere.
    pub fn ending(&self) -> Ending {
        self.ending.clone()
    }

    /// All that it has printed and will print, for another reader.
    pub fn log_of_this_run(&self) -> Log {
        Log { path: self.log.path.clone(), offset: self.begin }
    }

    /// What it has printed.
    pub fn log(&mut self) -> &mut Log {
        &mut self.log
    }

    /// How it ended, if it has.
    pub fn has_ended(&self) -> Option<ExitStatus> {
        self.ending.status()
    }

    /// Kills it (SIGKILL): it gets no chance to clean anything up.
    pub fn kill(&mut self) -> io::Result<()> {
        self.signal(Signal::KILL)?;
        self.ending.wait();
        Ok(())
    }

    /// Asks it to end (SIGTERM), without waiting.
    pub fn ask_to_end(&mut self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Halts it (SIGSTOP), as if its machine gave it no time.
    pub fn freeze(&mut self) -> io::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&mut self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&mut self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(self.ending.process(), signal) {
            // It has ended.
            Err(Errno::SRCH) => Ok(()),
            sent => Ok(sent?),
        }
    }

    /// Waits until it ends and kills it when that takes longer than `patience`; `None` then.
    pub fn wait(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        match self.ending.wait_for(patience) {
            Some(status) => Ok(Some(status)),
            None => self.kill().map(|()| None),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended and been waited for; then there is nothing to kill.
        let _ = self.kill();
    }
}

/// The end of a process, which a thread waits for so that anybody may ask; clones are the same.
#[derive(Debug, Clone)]
pub struct Ending(Arc<End>);

#[derive(Debug)]
struct End {
    process: OwnedFd,
    status: Mutex<Option<ExitStatus>>,
    known: Condvar,
}

impl Ending {
    fn of(mut child: Child) -> io::Result<Self> {
        let process =
            pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).or_else(|error| {
                child.kill().and_then(|()| child.wait())?;
                Err(io::Error::from(error))
            })?;
        let (status, known) = (Mutex::new(None), Condvar::new());
        let ending = Self(Arc::new(End { process, status, known }));
        let end = ending.clone();
        thread::Builder::new().name("waits for a program".into()).spawn(move || {
            // Nobody else waits for it, so this fails never; it would be as good as an end.
            let status = child.wait().unwrap_or_else(|_| ExitStatus::from_raw(255 << 8));
            *end.lock() = Some(status);
            end.0.known.notify_all();
        })?;
        Ok(ending)
    }

    /// The process, which can be read from (poll(2)) when it has ended.
    pub fn process(&self) -> BorrowedFd<'_> {
        self.0.process.as_fd()
    }

    /// How it ended, if it has.
    pub fn status(&self) -> Option<ExitStatus> {
        *self.lock()
    }

    /// Waits for it, however long that takes.
    pub fn wait(&self) -> ExitStatus {
        let mut status = self.lock();
        loop {
            match *status {
                Some(status) => return status,
                None => {
                    let woken = self.0.known.wait(status);
                    status = woken.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Waits for it as long as `patience` lasts.
    pub fn wait_for(&self, patience: Duration) -> Option<ExitStatus> {
        let waited =
            self.0.known.wait_timeout_while(self.lock(), patience, |status| status.is_none());
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, Option<ExitStatus>> {
        self.0.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A program's log file, read from where the program began.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    offset: u64,
}

impl Log {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The complete lines that were added since the last call, without colours.
    pub fn new_lines(&mut self) -> io::Result<Vec<String>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let complete = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        self.offset += complete as u64;
        let text = String::from_utf8_lossy(&bytes[..complete]);
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The last `count` lines of the file, whether or not they were read before.
    pub fn tail(&self, count: usize) -> io::Result<Vec<String>> {
        let bytes = fs::read(&self.path)?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        Ok(lines[lines.len().saturating_sub(count)..]
            .iter()
            .map(|line| (*line).to_owned())
            .collect())
    }
}

/// In a program started by a lab: makes the kernel kill this process when the lab's ends, however
/// it ends. Does nothing elsewhere.
pub fn end_with_parent() {
    let Some(parent) = std::env::var(PARENT).ok().and_then(|id| id.parse().ok()) else { return };
    // Both failures mean that nobody would end us: the lab is gone already, or cannot kill us.
    if set_parent_process_death_signal(Some(Signal::KILL)).is_err()
        || getppid().map(Pid::as_raw_pid) != Some(parent)
    {
        std::process::exit(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_log_hands_out_each_complete_line_once() {
        let path = std::env::temp_dir().join(format!("purelb-log-{}", std::process::id()));
        let mut file = File::create(&path).unwrap();
        let mut log = Log { path: path.clone(), offset: 0 };
        file.write_all(b"one\ntwo\nthr").unwrap();
        assert_eq!(log.new_lines().unwrap(), ["one", "two"]);
        assert_eq!(log.new_lines().unwrap(), [""; 0]);
        file.write_all(b"ee\n").unwrap();
        assert_eq!(log.new_lines().unwrap(), ["three"]);
        assert_eq!(log.tail(2).unwrap(), ["two", "three"]);
        fs::remove_file(&path).unwrap();
    }
}
