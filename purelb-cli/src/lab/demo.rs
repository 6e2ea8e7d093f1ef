//! The half-minute tour: what PureLB does, shown step by step and seen from outside.
//!
//! A step counts only when somebody other than the program that acted has seen its effect.

mod failures;
mod looks;
mod steps;

use std::fmt::Display;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::observe::{Glance, Link, Unseen, wait_until};
use super::state::Directory;
use super::stop::Stop;
use super::story::{Story, Witness};

/// How long a fact may take to be seen that needs no lease to run out.
const SOON: Duration = Duration::from_secs(10);

/// The same for one that does: a lease lasts 5 s, and a small machine may be busy.
const AFTER_A_LEASE: Duration = Duration::from_secs(20);

const INTERRUPTED: &str = "Interrupted; the lab is removed.";

/// How the tour ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All was seen.
    Complete,
    /// Something was not seen, or could not be done.
    Failed,
    /// The person at the keyboard ended it.
    Interrupted,
}

/// Why the tour does not go on; what there is to say has been said.
#[derive(Debug, Clone, Copy)]
enum Halt {
    Failed,
    Interrupted,
}

/// Gives the tour in a fresh cluster, and removes the cluster.
pub fn demo(directory: Directory, logs: Option<PathBuf>) -> Outcome {
    let (stop, mut story) = (Stop::default(), Story::new());
    story.end("PureLB lab: a cluster of network namespaces on this machine");
    let cluster = match Cluster::start(directory, logs, &stop) {
        Ok(cluster) => cluster,
        Err(_) if stop.is_requested() => {
            story.end(INTERRUPTED);
            return Outcome::Interrupted;
        }
        Err(error) => {
            story.missed("the lab is set up", &Witness::Parent, &error);
            return Outcome::Failed;
        }
    };
    let mut tour = Tour::new(cluster, story, stop);
    let halt = tour.steps().err();
    tour.end(halt)
}

/// The state of the tour between its steps.
struct Tour {
    cluster: Cluster,
    story: Story,
    stop: Stop,
    /// When the last thing was done whose effects are looked for.
    acted: Instant,
    /// What was on each node before the programs started.
    untouched: Vec<Vec<Link>>,
    local: Vip,
    routed: Vip,
}

/// The addresses of a Service; known once the allocator has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Vip {
    v4: IpAddr,
    v6: IpAddr,
}

impl Vip {
    const UNKNOWN: Self = Self {
        v4: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        v6: IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    };

    fn both(self) -> [IpAddr; 2] {
        [self.v4, self.v6]
    }
}

impl Tour {
    fn new(cluster: Cluster, story: Story, stop: Stop) -> Self {
        let (local, routed) = (Vip::UNKNOWN, Vip::UNKNOWN);
        let (acted, untouched) = (Instant::now(), Vec::new());
        Self { cluster, story, stop, acted, untouched, local, routed }
    }

    fn steps(&mut self) -> Result<(), Halt> {
        self.build_the_network()?;
        self.start_the_programs()?;
        self.create_the_services()?;
        self.ask_as_a_client()?;
        self.lose_a_node()?;
        self.add_a_second_default_route()?;
        self.delete_the_services()
    }

    /// Does something whose effects are looked for next.
    fn act<T, E: Display>(
        &mut self,
        what: &str,
        action: impl FnOnce(&mut Cluster) -> Result<T, E>,
    ) -> Result<T, Halt> {
        if self.stop.is_requested() {
            return Err(Halt::Interrupted);
        }
        self.story.say(what);
        self.acted = Instant::now();
        action(&mut self.cluster).map_err(|error| {
            self.story.missed(what, &Witness::Parent, &error);
            Halt::Failed
        })
    }

    /// Looks for a fact until it is there; `expected` names it beforehand, `tell` says what was
    /// seen. The time printed runs from the last [`act`](Self::act).
    fn see<T>(
        &mut self,
        witness: &Witness,
        expected: &str,
        limit: Duration,
        mut look: impl FnMut(&mut Cluster) -> Result<T, Glance>,
        tell: impl FnOnce(&T) -> String,
    ) -> Result<T, Halt> {
        self.story.wait_for(expected);
        let cluster = &mut self.cluster;
        let seen = wait_until(limit, &self.stop, || match cluster.fallen() {
            Some((program, status)) => {
                Err(Glance::Never(format!("{program} ended unexpectedly: {status}")))
            }
            None => look(cluster),
        });
        match seen {
            Ok(fact) => {
                self.story.seen(&tell(&fact), witness, self.acted.elapsed());
                Ok(fact)
            }
            Err(Unseen::Interrupted) => Err(Halt::Interrupted),
            Err(unseen @ (Unseen::TimedOut { .. } | Unseen::Hopeless(_))) => {
                self.story.missed(expected, witness, &unseen);
                Err(Halt::Failed)
            }
        }
    }

    /// Shows what the programs logged as errors since the last call.
    fn show_errors(&mut self) {
        for program in self.cluster.programs() {
            let mut lines = program.log().new_lines().unwrap_or_default();
            lines.retain(|line| is_error(line));
            self.story.log(program.name(), &lines);
        }
    }

    /// Shows what a command prints on node number `node`.
    fn show_ip(&mut self, node: usize, arguments: &str) {
        let namespace = self.cluster.node(node);
        let output = super::ip::ip(namespace, arguments).unwrap_or_else(|error| error.to_string());
        self.story.show(namespace.name(), &format!("ip {arguments}"), &output);
    }

    /// Ends the tour: programs, network, words.
    fn end(mut self, halt: Option<Halt>) -> Outcome {
        match halt {
            None => self.conclude(),
            Some(Halt::Interrupted) => {
                self.cluster.end_programs();
                drop(self.cluster);
                self.story.end(INTERRUPTED);
                Outcome::Interrupted
            }
            Some(Halt::Failed) => {
                self.show_log_tails();
                self.cluster.end_programs();
                match self.cluster.keep_logs() {
                    Ok(path) => self.story.say(&format!("the logs are in {}", path.display())),
                    Err(error) => self.story.say(&format!("the logs cannot be kept: {error}")),
                }
                self.story.end("The lab is removed. Not everything was seen.");
                Outcome::Failed
            }
        }
    }

    fn conclude(mut self) -> Outcome {
        let problems = self.cluster.end_programs();
        self.show_errors();
        drop(self.cluster);
        let (facts, seconds) = (self.story.facts(), self.story.elapsed().as_secs_f64());
        for problem in &problems {
            self.story.missed("every program ends in order", &Witness::Parent, problem);
        }
        if !problems.is_empty() {
            self.story.end("The lab is removed. Not everything was seen.");
            return Outcome::Failed;
        }
        self.story.end(&format!(
            "All {facts} facts were seen from outside the programs, in {seconds:.0} s. The lab is \
             removed."
        ));
        Outcome::Complete
    }

    fn show_log_tails(&mut self) {
        for program in self.cluster.programs() {
            let lines = program.log().tail(12).unwrap_or_default();
            self.story.log(program.name(), &lines);
        }
    }
}

/// Whether a line of a program's log, text or JSON, is at level `error`.
fn is_error(line: &str) -> bool {
    line.trim_start().starts_with("ERROR") || line.contains(r#""level":"ERROR""#)
}
