//! The `allocator` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    purelb_cli::program::allocator::run(std::env::args_os().skip(1))
}
