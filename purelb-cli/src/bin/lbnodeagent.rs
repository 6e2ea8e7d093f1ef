//! The `lbnodeagent` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    purelb_cli::program::lbnodeagent::run(std::env::args_os().skip(1))
}
