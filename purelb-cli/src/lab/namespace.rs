//! A network namespace without a name, held by an open file and gone with it.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::panic::resume_unwind;
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use purelb_k8s::control_plane::Enter;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::privilege::unshare;

/// A network namespace of the lab.
///
/// * [`run`](Self::run) runs a closure inside it, on a thread of its own; sockets opened there stay
///   in the namespace wherever they are used later.
/// * [`spawn`](Self::spawn) starts a process inside it.
/// * [`sysctl`](Self::sysctl), [`set_sysctl`](Self::set_sysctl): the values under `/proc/sys/net`
///   inside it.
/// * [`path`](Self::path) names it for other processes, as `ip link … netns PATH` takes it.
///
/// Nothing is registered under `/run/netns`; the namespace ends when this value and the processes
/// in it are gone. One resident thread starts its processes, because a parent-death signal
/// (prctl(2), `PR_SET_PDEATHSIG`) follows the *thread* that started the child.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    link: File,
    resident: Option<Resident>,
}

#[derive(Debug)]
struct Resident {
    requests: mpsc::Sender<Request>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Request {
    command: Command,
    reply: mpsc::Sender<io::Result<Child>>,
}

impl Namespace {
    /// Creates an empty namespace; `name` is for people only.
    pub fn new(name: &str) -> io::Result<Self> {
        let (ready, link) = mpsc::channel();
        let (requests, inbox) = mpsc::channel::<Request>();
        let thread = thread::Builder::new().name(format!("in {name}")).spawn(move || {
            let entered =
                unshare(UnshareFlags::NEWNET).and_then(|()| File::open("/proc/thread-self/ns/net"));
            let usable = entered.is_ok();
            if ready.send(entered).is_err() || !usable {
                return;
            }
            for Request { mut command, reply } in inbox {
                // A caller that no longer waits is being torn down; the child's own
                // parent-death signal takes care of the child.
                let _ = reply.send(command.spawn());
            }
        })?;
        let link = link.recv().unwrap_or_else(|_| Err(thread_is_gone()))?;
        Ok(Self { name: name.to_owned(), link, resident: Some(Resident { requests, thread }) })
    }

    /// The name given at creation.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of the descriptor that holds the namespace, for `/proc/PID/fd/N`.
    pub fn descriptor(&self) -> i32 {
        self.link.as_fd().as_raw_fd()
    }

    /// A path by which other processes of the same user can open the namespace while we live.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.descriptor())
    }

    /// Runs `work` on a fresh thread inside the namespace and waits for its result.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let thread = thread::Builder::new()
                .name(format!("at {}", self.name))
                .spawn_scoped(scope, || self.enter().map(|()| work()))?;
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Starts `command` inside the namespace. Its parent is a thread that lives as long as the
    /// namespace.
    pub fn spawn(&self, command: Command) -> io::Result<Child> {
        let (reply, answer) = mpsc::channel();
        let Some(resident) = &self.resident else { return Err(thread_is_gone()) };
        resident.requests.send(Request { command, reply }).map_err(|_| thread_is_gone())?;
        answer.recv().unwrap_or_else(|_| Err(thread_is_gone()))
    }

    /// What moves the calling thread into the namespace, wherever and whenever it is called. It holds
    /// the namespace open.
    pub fn entry(&self) -> io::Result<Enter> {
        let link = self.link()?;
        Ok(Box::new(move || enter(&link)))
    }

    /// A file that stands for the namespace and holds it open.
    pub(super) fn link(&self) -> io::Result<File> {
        self.link.try_clone()
    }

    /// Sets a kernel variable of this namespace, named as under `/proc/sys`
    /// (`net/ipv4/ip_forward`).
    pub fn set_sysctl(&self, variable: &str, value: &str) -> io::Result<()> {
        // `/proc/sys/net` shows the namespace of the thread that looks.
        self.run(|| fs::write(format!("/proc/sys/{variable}"), value))?
    }

    /// Reads a kernel variable of this namespace, without its line end.
    pub fn sysctl(&self, variable: &str) -> io::Result<String> {
        let value = self.run(|| fs::read_to_string(format!("/proc/sys/{variable}")))??;
        Ok(value.trim_end().to_owned())
    }

    fn enter(&self) -> io::Result<()> {
        enter(&self.link)
    }
}

/// Moves the calling thread into the namespace that a file is a [link](Namespace::link) to.
pub(super) fn enter(link: &File) -> io::Result<()> {
    move_into_link_name_space(link.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Some(Resident { requests, thread }) = self.resident.take() {
            drop(requests);
            // It ends with the channel; a panic in it has been printed already.
            let _ = thread.join();
        }
    }
}

fn thread_is_gone() -> io::Error {
    io::Error::other("the namespace's resident thread is gone")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::require;

    fn links() -> Vec<String> {
        let mut links: Vec<String> = fs::read_dir("/proc/thread-self/net/dev_snmp6")
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        links.sort();
        links
    }

    #[test]
    fn a_new_namespace_holds_nothing_but_the_loopback_link() {
        require::privileged(|| {
            let namespace = Namespace::new("empty").unwrap();
            assert_eq!(namespace.run(links).unwrap(), ["lo"]);
        });
    }

    #[test]
    fn a_process_started_inside_lives_in_the_namespace() {
        require::privileged(|| {
            let namespace = Namespace::new("inside").unwrap();
            let read = || fs::read_link("/proc/thread-self/ns/net").unwrap();
            let mut command = Command::new("readlink");
            command.arg("/proc/self/ns/net").stdout(std::process::Stdio::piped());
            let output = namespace.spawn(command).unwrap().wait_with_output().unwrap();
            let seen = String::from_utf8(output.stdout).unwrap();
            assert_eq!(seen.trim(), namespace.run(read).unwrap().to_str().unwrap());
            assert_ne!(seen.trim(), read().to_str().unwrap());
        });
    }

    #[test]
    fn a_kernel_variable_changes_in_one_namespace_only() {
        require::privileged(|| {
            let (one, other) = (Namespace::new("one").unwrap(), Namespace::new("other").unwrap());
            let before = other.sysctl("net/ipv4/ip_default_ttl").unwrap();
            one.set_sysctl("net/ipv4/ip_default_ttl", "77").unwrap();
            assert_eq!(one.sysctl("net/ipv4/ip_default_ttl").unwrap(), "77");
            assert_eq!(other.sysctl("net/ipv4/ip_default_ttl").unwrap(), before);
        });
    }
}
