//! Running a command inside a lab that another process keeps.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use thiserror::Error;

use super::state::State;

/// Why a command could not be run inside a lab.
#[derive(Debug, Error)]
pub enum JoinError {
    /// The lab has no namespace of that name.
    #[error("the lab has no {name:?}; it has {}", known.join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
        /// Those it has.
        known: Vec<String>,
    },
    /// A namespace could not be entered.
    #[error("cannot enter {path}: {source}")]
    Enter {
        /// Where the kernel shows it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The command could not be started.
    #[error("cannot run {}: {source}", command.display())]
    Start {
        /// The program.
        command: OsString,
        /// Why.
        source: io::Error,
    },
}

/// Turns this process into `command`, run in the lab's namespace called `name`. Returns only if
/// that fails. Must be called before any thread is started, as
/// [`obtain`](super::privilege::obtain).
pub fn exec(lab: &State, name: &str, command: &[OsString]) -> JoinError {
    let Some(descriptor) = lab.namespaces.get(name) else {
        let known = lab.namespaces.keys().cloned().collect();
        return JoinError::Unknown { name: name.to_owned(), known };
    };
    let process = Path::new("/proc").join(lab.pid.to_string());
    let network = process.join("fd").join(descriptor.to_string());
    let user = process.join("ns/user");
    if let Err(source) = enter_user_namespace(&user) {
        return JoinError::Enter { path: user, source };
    }
    if let Err(source) = enter(&network, LinkNameSpaceType::Network) {
        return JoinError::Enter { path: network, source };
    }
    let shell = [std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into())];
    let (program, arguments) = command.split_first().unwrap_or((&shell[0], &[]));
    let error = Command::new(program).args(arguments).env("KUBECONFIG", &lab.kubeconfig).exec();
    JoinError::Start { command: program.clone(), source: error }
}

/// Enters the user namespace in which the lab is root; a lab of root's has ours.
fn enter_user_namespace(path: &Path) -> io::Result<()> {
    let (theirs, ours) = (fs::metadata(path)?, fs::metadata("/proc/self/ns/user")?);
    if (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()) {
        return Ok(());
    }
    enter(path, LinkNameSpaceType::User)
}

fn enter(path: &Path, kind: LinkNameSpaceType) -> io::Result<()> {
    let namespace = File::open(path)?;
    move_into_link_name_space(namespace.as_fd(), Some(kind))?;
    Ok(())
}
