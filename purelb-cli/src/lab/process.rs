//! A program of the lab: a child process with a log file, which never outlives the lab.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};

use super::namespace::Namespace;

/// Names the lab's process in the environment of each program it starts.
const PARENT: &str = "PURELB_LAB_PID";

/// What the programs inherit from the environment; all else, such as proxies, stays outside.
const INHERITED: [&str; 3] = ["PATH", "PURELB_LOG_LEVEL", "RUST_BACKTRACE"];

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    log: Log,
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
        let name = format!("{} on {}", launch.program, namespace.name());
        Ok(Self { name, child, log: Log { path: launch.log.to_owned(), offset } })
    }

    /// What people call it: the program and where it runs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed.
    pub fn log(&mut self) -> &mut Log {
        &mut self.log
    }

    /// How it ended, if it has.
    pub fn has_ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Kills it (SIGKILL): it gets no chance to clean anything up.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
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
        if self.has_ended()?.is_none() {
            kill_process(Pid::from_child(&self.child), signal)?;
        }
        Ok(())
    }

    /// Waits until it ends and kills it when that takes longer than `patience`; `None` then.
    pub fn wait(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        let start = Instant::now();
        while start.elapsed() < patience {
            if let Some(status) = self.has_ended()? {
                return Ok(Some(status));
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.kill().map(|()| None)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended and been waited for; then there is nothing to kill.
        let _ = self.kill();
    }
}

/// A program's log file, read from where the program began.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    offset: u64,
}

impl Log {
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
