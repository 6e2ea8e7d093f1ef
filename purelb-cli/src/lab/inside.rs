//! Commands in the place of a pod with the host's network, as `kubectl exec` asks for them.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;

use purelb_k8s::memory::{Exec, TerminalSize};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use rustix::thread::UnshareFlags;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, copy};
use tokio::sync::{oneshot, watch};

use super::namespace::{self, Namespace};
use super::privilege::unshare;

/// Where commands run: in a network, with an environment; clones are the same place.
#[derive(Debug, Clone)]
pub struct Place {
    network: Arc<File>,
    environment: Arc<[(OsString, OsString)]>,
}

/// What is left of a command here once it runs.
struct Running {
    streams: (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>),
    /// Says how it ended.
    end: oneshot::Receiver<io::Result<ExitStatus>>,
    process: Process,
}

impl Place {
    /// The network of a namespace, and an environment.
    pub fn new(network: &Namespace, environment: Vec<(OsString, OsString)>) -> io::Result<Self> {
        Ok(Self { network: Arc::new(network.link()?), environment: environment.into() })
    }

    /// Runs a command to its end, and returns its exit status: that of a shell, 128 and the signal, if it
    /// was killed. Dropping the future kills the command and all of its process group.
    pub async fn run(self, exec: Exec) -> io::Result<i32> {
        let status = match &exec.terminal {
            None => self.run_plainly(exec).await,
            Some(size) => {
                let size = size.clone();
                self.run_on_terminal(exec, size).await
            }
        }?;
        Ok(status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(255))
    }

    async fn run_plainly(self, exec: Exec) -> io::Result<ExitStatus> {
        let pipe = |wanted: bool| if wanted { Stdio::piped() } else { Stdio::null() };
        let mut command = self.command(&[], &exec.command);
        command
            .process_group(0)
            .stdin(pipe(exec.stdin.is_some()))
            .stdout(pipe(exec.stdout.is_some()))
            .stderr(pipe(exec.stderr.is_some()));
        let Running { streams, end, process } = self.start(command).await?;
        let (stdin, stdout, stderr) = streams;
        let to = stdin.map(tokio::process::ChildStdin::from_std).transpose()?;
        let out = stdout.map(tokio::process::ChildStdout::from_std).transpose()?;
        let err = stderr.map(tokio::process::ChildStderr::from_std).transpose()?;
        let work = async {
            let printed = futures::future::join(carry(out, exec.stdout), carry(err, exec.stderr));
            futures::join!(end, printed).0
        };
        tokio::select! {
            ended = work => process.has(ended),
            never = async { carry(exec.stdin, to).await; std::future::pending().await } => never,
        }
    }

    async fn run_on_terminal(
        self,
        exec: Exec,
        mut size: watch::Receiver<TerminalSize>,
    ) -> io::Result<ExitStatus> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let theirs = || ioctl_tiocgptpeer(&ours, flags);
        // It becomes the leader of a session with that terminal.
        let mut command = self.command(&["setsid", "--ctty"], &exec.command);
        command.env("TERM", "xterm").stdin(theirs()?).stdout(theirs()?).stderr(theirs()?);
        resize(&ours, *size.borrow_and_update());
        let Running { end, process, .. } = self.start(command).await?;
        fcntl_setfl(&ours, fcntl_getfl(&ours)? | OFlags::NONBLOCK)?;
        // SAFETY: an `OwnedFd` owns a valid descriptor, and nothing here closes or replaces it while the
        // `AsyncFd` has it.
        #[allow(unsafe_code, reason = "there is no safe form")]
        let terminal = unsafe { AsyncFd::register(ours) }?;
        let work = async { futures::join!(end, show(&terminal, exec.stdout)).0 };
        let follow = async {
            while size.changed().await.is_ok() {
                resize(terminal.get_ref(), *size.borrow_and_update());
            }
        };
        let serve = futures::future::join(enter(exec.stdin, &terminal), follow);
        tokio::select! {
            ended = work => process.has(ended),
            never = async { serve.await; std::future::pending().await } => never,
        }
    }

    /// The command, which ends at the latest with the thread that starts it.
    fn command(&self, within: &[&str], words: &[String]) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).args(within).args(words);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts a command on a thread of its own, which goes to the place first and waits for its end.
    async fn start(&self, mut command: Command) -> io::Result<Running> {
        let (started, running) = oneshot::channel();
        let (tell_end, end) = oneshot::channel();
        let network = Arc::clone(&self.network);
        thread::Builder::new().name("in a pod".into()).spawn(move || {
            let child = namespace::enter(&network).and_then(|()| {
                look_like_a_pod();
                command.spawn()
            });
            // It holds the other end of a terminal.
            drop(command);
            // Who does not listen any more has no use for the command, which the process' drop ends.
            match child {
                Ok(mut child) => {
                    let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
                    let _ = started.send(Ok((streams, Process(Pid::from_child(&child), true))));
                    let _ = tell_end.send(child.wait());
                }
                Err(error) => drop(started.send(Err(error))),
            }
        })?;
        let answer = running.await.map_err(|_| io::Error::other("its thread is gone"))?;
        let (streams, process) = answer?;
        Ok(Running { streams, end, process })
    }
}

/// A process that has not been waited for, with its process group; dropping it kills them.
struct Process(Pid, bool);

impl Process {
    fn has(
        mut self,
        ended: Result<io::Result<ExitStatus>, oneshot::error::RecvError>,
    ) -> io::Result<ExitStatus> {
        self.1 = false;
        ended.map_err(|_| io::Error::other("its thread is gone"))?
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.1 {
            // It may have ended in this moment.
            let _ = kill_process_group(self.0, Signal::KILL);
        }
    }
}

/// Shows the calling thread, and what it starts, the links of its own network under `/sys`, as a container
/// runtime would.
fn look_like_a_pod() {
    let mounted = unshare(UnshareFlags::NEWNS).and_then(|()| {
        let quietly = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
        mount_change("/", quietly)?;
        let flags =
            MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        Ok(mount("sysfs", "/sys", "sysfs", flags, None)?)
    });
    if let Err(error) = mounted {
        // Inside some containers it is forbidden. `ip` and its like ask the kernel otherwise.
        tracing::debug!(%error, "cannot show a pod its own /sys");
    }
}

/// Copies until either side is at its end; whoever waits for that hears of it by the drop.
async fn carry(from: Option<impl AsyncRead + Unpin>, to: Option<impl AsyncWrite + Unpin>) {
    if let (Some(mut from), Some(mut to)) = (from, to) {
        let _ = copy(&mut from, &mut to).await;
    }
}

/// Carries what is printed on a terminal, until nothing holds it open.
async fn show(terminal: &AsyncFd<OwnedFd>, to: Option<impl AsyncWrite + Unpin>) {
    let Some(mut to) = to else { return };
    let mut buffer = [0; 4096];
    loop {
        let read = |ours: &OwnedFd| match rustix::io::read(ours, &mut buffer) {
            // How Linux says that the other end is closed.
            Err(Errno::IO) => Ok(0),
            read => read.map_err(io::Error::from),
        };
        match terminal.async_io(Interest::READABLE, read).await {
            Ok(0) | Err(_) => return,
            Ok(length) if to.write_all(&buffer[..length]).await.is_err() => return,
            Ok(_) => {}
        }
    }
}

/// Carries what is typed to a terminal.
async fn enter(from: Option<impl AsyncRead + Unpin>, terminal: &AsyncFd<OwnedFd>) {
    let Some(mut from) = from else { return };
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            let write = |ours: &OwnedFd| Ok(rustix::io::write(ours, rest)?);
            match terminal.async_io(Interest::WRITABLE, write).await {
                Ok(written) => rest = &rest[written..],
                Err(_) => return,
            }
        }
    }
}

fn resize(terminal: &OwnedFd, size: TerminalSize) {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // One that is not to be had is of no other size.
    let _ = tcsetwinsize(terminal, size);
}
