//! iproute2, the lab's hand for setting links and routes up, and its eye for seeing what is there.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use thiserror::Error;

use super::namespace::Namespace;

/// Why an `ip` command gave no result.
#[derive(Debug, Error)]
pub enum IpError {
    /// There is no such program.
    #[error("the lab needs iproute2: no `ip` program was found on the PATH")]
    NotInstalled,
    /// It could not be started, or the namespace could not be entered.
    #[error("cannot run `ip` in {namespace}")]
    Start {
        /// Where.
        namespace: String,
        /// Why.
        source: io::Error,
    },
    /// It ran and failed.
    #[error("`ip {command}` failed in {namespace}: {message}")]
    Failed {
        /// Where.
        namespace: String,
        /// Its arguments.
        command: String,
        /// What it said.
        message: String,
    },
    /// Its JSON output is not as expected.
    #[error("cannot read the output of `ip {command}` in {namespace}")]
    Output {
        /// Where.
        namespace: String,
        /// Its arguments.
        command: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// Checks that iproute2 is installed.
pub fn is_installed() -> Result<(), IpError> {
    match Command::new("ip").arg("-V").output() {
        Ok(_) => Ok(()),
        Err(_) => Err(IpError::NotInstalled),
    }
}

/// Runs `ip` with `arguments`, split at spaces, in `namespace`; what it printed.
pub fn ip(namespace: &Namespace, arguments: &str) -> Result<String, IpError> {
    run(namespace, arguments, "")
}

/// Runs many commands, one a line, in one `ip` process; the first that fails ends it.
pub fn ip_batch(namespace: &Namespace, commands: &str) -> Result<(), IpError> {
    run(namespace, "-batch -", commands).map(drop)
}

fn run(namespace: &Namespace, arguments: &str, input: &str) -> Result<String, IpError> {
    let start = |source| IpError::Start { namespace: namespace.name().to_owned(), source };
    let output = namespace
        .run(|| -> io::Result<_> {
            let mut child = Command::new("ip")
                .args(arguments.split_whitespace())
                .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                // Ctrl-C at the terminal is for the lab, not for what it is doing just then.
                .process_group(0)
                .spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(input.as_bytes())?;
            }
            child.wait_with_output()
        })
        .and_then(|output| output)
        .map_err(start)?;
    if !output.status.success() {
        return Err(IpError::Failed {
            namespace: namespace.name().to_owned(),
            command: arguments.to_owned(),
            message: String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
