//! The thread that starts the programs and lives as long as they do.

use std::io;
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

/// What moves the calling thread to where the programs are to run, such as a network namespace.
pub type Enter = Box<dyn FnOnce() -> io::Result<()> + Send>;

type Work = Box<dyn FnOnce() + Send>;

/// A thread that does what it is told, one thing after the other. The kernel kills what was started
/// with a parent-death signal (prctl(2), `PR_SET_PDEATHSIG`) when the *thread* that started it ends,
/// so it must be this one.
#[derive(Debug)]
pub(super) struct Keeper(Option<(mpsc::Sender<Work>, JoinHandle<()>)>);

impl Keeper {
    pub(super) fn start(enter: Option<Enter>) -> io::Result<Self> {
        let (entered, result) = mpsc::channel();
        let (sender, inbox) = mpsc::channel::<Work>();
        let thread = thread::Builder::new().name("control plane".into()).spawn(move || {
            let result = enter.map_or(Ok(()), |enter| enter());
            let usable = result.is_ok();
            if entered.send(result).is_ok() && usable {
                inbox.into_iter().for_each(|work| work());
            }
        })?;
        result.recv().unwrap_or_else(|_| Err(gone()))?;
        Ok(Self(Some((sender, thread))))
    }

    /// Does something on the thread, and waits for the result.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let (reply, answer) = mpsc::channel();
        let Some((sender, _)) = &self.0 else { return Err(gone()) };
        let work = Box::new(move || {
            // Who asked waits for it.
            let _ = reply.send(work());
        });
        sender.send(work).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())
    }

    pub(super) fn spawn(&self, mut command: Command) -> io::Result<Child> {
        self.run(move || command.spawn())?
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.0.take() {
            drop(sender);
            // A panic in it has been printed already.
            let _ = thread.join();
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread of the control plane is gone")
}
