//! The one thread on which the lab's asynchronous parts run: signals, the API, the responders.

use std::future::Future;
use std::io;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use purelb_k8s::control_plane::Enter;

use super::namespace::Namespace;
use super::stop::Stop;

/// A tokio runtime on a thread of its own, which ends, with all its tasks, when this is dropped.
#[derive(Debug)]
pub struct Background {
    handle: Handle,
    end: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Background {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        Self::begin(Box::new(|| Ok(())))
    }

    /// The same, in a network namespace: what its tasks connect to is what is seen from there.
    pub fn start_in(namespace: &Namespace) -> io::Result<Self> {
        Self::begin(namespace.entry()?)
    }

    fn begin(enter: Enter) -> io::Result<Self> {
        let (entered, result) = mpsc::channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name("background".into()).spawn(move || {
            // Who starts us waits for the answer.
            let _ = entered.send(enter());
            // Either the sender spoke or it is gone: both mean the end.
            let _ = runtime.block_on(ended);
        })?;
        let background = Self { handle, end: Some((end, thread)) };
        result.recv().unwrap_or_else(|_| Err(io::Error::other("the thread is gone")))?;
        Ok(background)
    }

    /// The runtime, for who waits for one of its tasks on another thread.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits here for what `future` comes to.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.handle.block_on(future)
    }

    /// Runs `task` there until it is done or this is dropped.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }

    /// Turns SIGINT, SIGTERM and SIGHUP into a raised `stop`. One wish may come as several signals,
    /// to the process and to its group, so a second one means no more than the first; who is in a
    /// hurry can kill the process, and the kernel removes all that the lab made.
    pub fn stop_on_signals(&self, stop: Stop) -> io::Result<()> {
        let _inside = self.handle.enter();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        self.spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                stop.request();
            }
        });
        Ok(())
    }

    /// Calls `work` where it may create tokio's sockets and timers.
    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        let _inside = self.handle.enter();
        work()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.end.take() {
            drop(end);
            // A panic in a task has been printed already.
            let _ = thread.join();
        }
    }
}
