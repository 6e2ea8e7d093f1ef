//! The `purelb` command, also `kubectl purelb`. Started under the name of a daemon it runs that one.

use std::process::ExitCode;

fn main() -> ExitCode {
    purelb_cli::command::main(std::env::args_os())
}
