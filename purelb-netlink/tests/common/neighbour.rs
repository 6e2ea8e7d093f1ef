//! Another station on the wire: a network namespace of its own, held by a thread.

use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::{ip, unshare};

type Job = Box<dyn FnOnce() + Send>;

/// A station with one link, which was moved into it.
pub(crate) struct Neighbour {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Neighbour {
    /// Makes a station of the link with this name, with `lo` and the link up.
    pub(crate) fn with(link: &str) -> Self {
        let (jobs, todo) = mpsc::channel::<Job>();
        let (told, id) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            unshare().unwrap();
            told.send(rustix::thread::gettid().as_raw_nonzero()).unwrap();
            todo.into_iter().for_each(|job| job());
        });
        let neighbour = Self { jobs: Some(jobs), thread: Some(thread) };
        ip(&format!("link set {link} netns {}", id.recv().unwrap()));
        for name in ["lo", link] {
            neighbour.ip(&format!("link set {name} up"));
        }
        neighbour
    }

    /// Runs `job` in its namespace.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (told, done) = mpsc::channel();
        let job = Box::new(move || told.send(job()).unwrap());
        self.jobs.as_ref().unwrap().send(job).unwrap();
        done.recv().unwrap()
    }

    /// Runs `ip` with these arguments in its namespace; it must succeed.
    pub(crate) fn ip(&self, arguments: &str) {
        let arguments = arguments.to_owned();
        self.run(move || drop(ip(&arguments)));
    }

    /// Writes a sysctl of its namespace.
    pub(crate) fn sysctl(&self, setting: &str) {
        let setting = setting.to_owned();
        self.run(move || {
            assert!(
                Command::new("sysctl").args(["-q", "-w", &setting]).status().unwrap().success()
            );
        });
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
