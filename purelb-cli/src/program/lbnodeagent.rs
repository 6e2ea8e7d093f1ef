//! The `lbnodeagent` program.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the `lbnodeagent` with the arguments after the program's name, until it ends.
pub fn run(_args: impl Iterator<Item = OsString>) -> ExitCode {
    eprintln!("lbnodeagent: not built into this executable");
    ExitCode::FAILURE
}
