//! What is kept of each trial: one JSON object a line, so that a campaign goes on where it was ended.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What is done to a node, or to its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// Its agent is killed (SIGKILL). The kernel, with the addresses, lives on.
    Kill,
    /// Its agent gets no time (SIGSTOP) for longer than its lease, and then again (SIGCONT).
    Freeze,
    /// It cannot reach the API, or the API cannot reach it, for longer than its lease.
    Partition,
    /// Its agent is asked to stop (SIGTERM).
    Stop,
    /// Its agent is started again after it was killed or stopped.
    Return,
}

impl Fault {
    /// All of them, as the table has them.
    pub const ALL: [Self; 5] =
        [Self::Kill, Self::Freeze, Self::Partition, Self::Stop, Self::Return];

    /// Whether the agent does not run after it, so that a return has to follow.
    pub fn ends_the_agent(self) -> bool {
        match self {
            Self::Kill | Self::Stop => true,
            Self::Freeze | Self::Partition | Self::Return => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kill => "kill",
            Self::Freeze => "freeze",
            Self::Partition => "partition",
            Self::Stop => "stop",
            Self::Return => "return",
        })
    }
}

/// On what a trial is made. Figures of different setups are not mixed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// Services, each with an address of both families.
    pub services: u16,
    /// Milliseconds from one question for an address to the next.
    pub every_ms: u64,
    /// The kernel takes no address away: nothing fences an agent that does not run.
    pub fence_off: bool,
    /// The kernel's release.
    pub kernel: String,
    /// The version of the programs.
    pub version: String,
}

/// One trial, as it was seen on the wire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// On what it was made.
    #[serde(flatten)]
    pub setup: Setup,
    /// What was done.
    pub fault: Fault,
    /// To which node.
    pub node: String,
    /// In which way, where there are several.
    pub detail: String,
    /// When, in seconds since 1970.
    pub at: u64,
    /// Every time in which two nodes answered for one address.
    pub doubles: Vec<DoubleSeen>,
    /// Every time in which nobody answered for one address.
    pub outages: Vec<OutageSeen>,
    /// How often an address changed hands.
    pub moves: usize,
    /// Milliseconds until every address was with the node that the election names, for good: from
    /// the fault, or from the end of a freeze or a partition. `None` if that was not seen in time.
    pub settled_ms: Option<u64>,
    /// The longest time without questions, in milliseconds.
    pub pause_ms: u64,
    /// Questions for each address.
    pub rounds: u64,
}

impl Trial {
    /// Whether the lab itself had its time: a machine with too much else to do stops everything in
    /// it, the API too, and what is measured then is the machine.
    pub fn is_calm(&self) -> bool {
        self.pause_ms <= 250
    }
}

/// A time in which two nodes answered for one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoubleSeen {
    /// The address.
    pub address: IpAddr,
    /// The nodes.
    pub nodes: Vec<String>,
    /// Milliseconds from the fault to the first question that was answered twice.
    pub after_ms: i64,
    /// Milliseconds from that question to the last such.
    pub ms: u64,
    /// How many questions in a row.
    pub questions: usize,
}

/// A time in which nobody answered for one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutageSeen {
    /// The address.
    pub address: IpAddr,
    /// Who answered before.
    pub before: String,
    /// Who answered after.
    pub after: String,
    /// Milliseconds from the last question that was answered before to the first after.
    pub ms: u64,
}

/// The trials of a file, and more to come.
#[derive(Debug)]
pub(super) struct Records {
    file: File,
    trials: Vec<Trial>,
}

impl Records {
    /// Reads `path`, which may not exist yet, to append to it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let mut trials = Vec::new();
        let mut is_cut_short = false;
        for line in BufReader::new(&file).split(b'\n') {
            // The last line may have been cut short when a campaign was killed.
            match serde_json::from_slice(&line?) {
                Ok(trial) => trials.push(trial),
                Err(_) => is_cut_short = true,
            }
        }
        if is_cut_short {
            file.write_all(b"\n")?;
        }
        Ok(Self { file, trials })
    }

    /// Appends a trial.
    pub(super) fn add(&mut self, trial: Trial) -> io::Result<()> {
        let mut line = serde_json::to_vec(&trial).map_err(io::Error::other)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.trials.push(trial);
        Ok(())
    }

    /// The trials that were made on `setup`.
    pub(super) fn of<'a>(&'a self, setup: &'a Setup) -> impl Iterator<Item = &'a Trial> {
        self.trials.iter().filter(move |trial| trial.setup == *setup)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn setup() -> Setup {
        Setup {
            services: 1,
            every_ms: 10,
            fence_off: false,
            kernel: "6.1".into(),
            version: "1".into(),
        }
    }

    pub(in super::super) fn trial(fault: Fault) -> Trial {
        Trial {
            setup: setup(),
            fault,
            node: "node1".into(),
            detail: String::new(),
            at: 0,
            doubles: vec![],
            outages: vec![],
            moves: 0,
            settled_ms: Some(1),
            pause_ms: 12,
            rounds: 100,
        }
    }

    #[test]
    fn a_campaign_that_was_killed_while_it_wrote_goes_on() {
        let name = format!("purelb-records-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut records = Records::open(&path).unwrap();
        records.add(trial(Fault::Kill)).unwrap();
        records.file.write_all(b"{\"fault\":\"ki").unwrap();
        drop(records);
        let mut records = Records::open(&path).unwrap();
        records.add(trial(Fault::Stop)).unwrap();
        let other = Setup { services: 2, ..setup() };
        records.add(Trial { setup: other.clone(), ..trial(Fault::Kill) }).unwrap();
        drop(records);
        let records = Records::open(&path).unwrap();
        let faults: Vec<Fault> = records.of(&setup()).map(|trial| trial.fault).collect();
        assert_eq!(faults, [Fault::Kill, Fault::Stop]);
        assert_eq!(records.of(&other).count(), 1);
        std::fs::remove_file(&path).unwrap();
    }
}
