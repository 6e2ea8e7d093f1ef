//! Builds PureLB's container image: `deploy/image/build`.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use purelb_image::{Built, Recipe, build};

/// Builds PureLB's container image out of built programs and Debian's packages
#[derive(Debug, Parser)]
#[command(name = "purelb-image", version)]
struct Args {
    /// The folder with the programs allocator, lbnodeagent and purelb
    #[arg(long, default_value = "target/release", value_name = "DIR")]
    programs: PathBuf,

    /// The folder with Debian's packages; what is missing there is fetched by apt-get, and what is there is
    /// used however old
    #[arg(long, default_value = "target/image/packages", value_name = "DIR")]
    packages: PathBuf,

    /// The folder that the image is written into
    #[arg(long, default_value = "target/image", value_name = "DIR")]
    output: PathBuf,

    /// The name that the image gets where it is loaded; the version is its tag
    #[arg(long, default_value = "docker.io/library/purelb")]
    name: String,

    /// When the image is made, in seconds since 1970
    #[arg(long, env = "SOURCE_DATE_EPOCH", default_value_t = 0, value_name = "SECONDS")]
    created: i64,
}

fn main() -> ExitCode {
    let Args { programs, packages, output, name, created } = Args::parse();
    match build(&Recipe { programs, packages, output, name, created }) {
        Ok(Built { name, digest, size, folder, archive, bill }) => {
            println!("{name}");
            println!("  digest   {digest}");
            println!("  size     {:.1} MiB, compressed", size as f64 / f64::from(1 << 20));
            println!("  folder   {}", folder.display());
            println!("  archive  {}", archive.display());
            println!("  bill     {}", bill.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprint!("purelb-image: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprint!(": {error}");
                cause = error.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}
