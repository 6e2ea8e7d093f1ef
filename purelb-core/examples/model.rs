//! Searches every interleaving of a small cluster for a moment in which two nodes hold one address.
//!
//! ```sh
//! cargo run --release -p purelb-core --example model -- --nodes 2 --ticks 8 --faults 2
//! cargo run --release -p purelb-core --example model -- --mutation no-echo
//! ```

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a program has arguments and a clock"
)]

#[path = "../tests/model/mod.rs"]
mod model;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use model::scene::Scene;
use model::search::{search, tell};
use purelb_core::mutation::Mutation;

struct Options {
    nodes: usize,
    quantum: Duration,
    ticks: u32,
    faults: u32,
    limit: usize,
    scenes: Vec<Scene>,
    mutation: Option<Mutation>,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let mut is_safe = true;
    for scene in &options.scenes {
        let start = Instant::now();
        let mut world = scene.world(options.nodes, options.quantum, options.mutation);
        (world.ticks_left, world.faults_left) = (options.ticks, options.faults);
        let found = search(&world, options.limit);
        let extent = if found.is_exhausted { "all" } else { "the first" };
        println!(
            "{scene:?}: {extent} {} states, {} steps deep, {:.1} s: {}",
            found.states,
            found.depth,
            start.elapsed().as_secs_f64(),
            if found.double.is_some() { "two nodes hold the address" } else { "never held twice" },
        );
        if let Some(actions) = found.double {
            is_safe = false;
            tell(&world, &actions).iter().for_each(|line| println!("  {line}"));
        }
    }
    if is_safe { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        nodes: 2,
        quantum: Duration::from_secs(1),
        ticks: 6,
        faults: 1,
        limit: 10_000_000,
        scenes: Scene::ALL.to_vec(),
        mutation: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(option) = args.next() {
        let value = args.next().ok_or_else(|| format!("{option} needs a value"))?;
        let number =
            || value.parse::<usize>().map_err(|_| format!("{option}: {value:?} is no number"));
        match option.as_str() {
            "--nodes" => options.nodes = number()?.clamp(1, 3),
            "--quantum-ms" => options.quantum = Duration::from_millis(number()?.max(1) as u64),
            "--ticks" => options.ticks = number()? as u32,
            "--faults" => options.faults = number()? as u32,
            "--states" => options.limit = number()?,
            "--scene" => {
                let scene = Scene::ALL.into_iter().find(|scene| format!("{scene:?}") == value);
                options.scenes = vec![scene.ok_or_else(|| format!("no scene {value:?}"))?];
            }
            "--mutation" => {
                let mutation = Mutation::ALL.into_iter().find(|m| m.name() == value);
                options.mutation = Some(mutation.ok_or_else(|| format!("no mutation {value:?}"))?);
            }
            _ => return Err(format!("{option} is no option")),
        }
    }
    Ok(options)
}
