//! The story of a recording, in lines.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use purelb_core::name::ServiceKey;
use serde::Serialize;

use super::tale::{Kind, Line, Tale};
use crate::command::output::Report;
use crate::recording::{Header, Input, ReadError, Tape, What};

/// What of a story is wanted.
#[derive(Clone, Debug, Default)]
pub struct Narrow {
    /// Nothing after this.
    pub until: Option<Moment>,
    /// What concerns this address.
    pub address: Option<IpAddr>,
    /// What concerns this Service.
    pub service: Option<ServiceKey>,
    /// With what the program was told, and the reasons.
    pub why: bool,
    /// With what comes again and again without news.
    pub all: bool,
}

/// A moment of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// By the clock of the host that gave the recording out.
    At(Timestamp),
    /// After its first input.
    After(Duration),
}

impl Moment {
    /// As recordings count.
    pub fn since_zero<M: Tale>(self, tape: &Tape<M>) -> Duration {
        match self {
            Self::At(at) => {
                let zero = tape.header.moment(Duration::ZERO);
                at.duration_since(zero).try_into().unwrap_or(Duration::ZERO)
            }
            Self::After(after) => tape.span().unwrap_or_default().0 + after,
        }
    }
}

/// One line of a story, with its moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// When, by the clock of the host that gave the recording out.
    #[serde(serialize_with = "moment")]
    pub at: Timestamp,
    /// Whose story: a node, or the pod of an allocator.
    pub name: String,
    /// The input after which it happened, counted from 1 at the start of the program.
    pub input: u64,
    /// What kind of thing.
    pub kind: Kind,
    /// It.
    pub text: String,
    /// The reason beyond what the text says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The addresses that it is about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// The Services that it is about.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "names")]
    pub services: Vec<ServiceKey>,
}

fn moment<S: serde::Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&written(*at))
}

fn names<S: serde::Serializer>(keys: &[ServiceKey], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(keys.iter().map(ToString::to_string))
}

/// A moment to the millisecond, as `--until` takes it.
pub fn written(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Stories of recordings, in one order.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Timeline {
    /// The recordings.
    pub recordings: Vec<Summary>,
    /// What happened, in the order of time.
    pub entries: Vec<Entry>,
}

/// What a recording is, and whether the replay was the same.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Whose.
    pub name: String,
    /// The program.
    pub program: String,
    /// Its version.
    pub version: String,
    /// How many inputs were replayed.
    pub inputs: u64,
    /// How many the program had had before, so that the recording begins with a checkpoint.
    pub before: u64,
    /// The first moment.
    #[serde(serialize_with = "moment")]
    pub from: Timestamp,
    /// The last.
    #[serde(serialize_with = "moment")]
    pub to: Timestamp,
    /// The input after which the replay asked for something else than was recorded, if it did.
    pub differs: Option<u64>,
}

impl Timeline {
    /// Adds the story of a recording.
    ///
    /// # Errors
    ///
    /// If the recording begins with a program that cannot be made.
    pub fn add<M: Tale>(&mut self, tape: &Tape<M>, narrow: &Narrow) -> Result<(), ReadError> {
        let until = narrow.until.map(|moment| moment.since_zero(tape));
        let mut replay = tape.replay()?;
        let mut teller = Teller::new(&tape.header, narrow);
        let mut seen = M::Seen::default();
        let before = replay.machine().decided(&mut seen);
        teller.begin(replay.now(), tape.inputs_before(), before);
        let (mut inputs, mut differs) = (0, None);
        let due_of = |machine: &M| machine.poll_timeout().map(|due| due.why);
        let mut due = due_of(replay.machine());
        while let Some(step) = replay.next_until(until) {
            inputs += step.inputs.len() as u64;
            if differs.is_none() && !step.is_as_recorded() {
                differs = Some(step.first);
            }
            let lines = lines(replay.machine(), step.inputs, due, &step.actions, &mut seen);
            teller.tell(step.at, step.first, &lines);
            due = due_of(replay.machine());
        }
        let (from, _) = tape.span().unwrap_or_default();
        self.recordings.push(Summary {
            name: tape.header.name.clone(),
            program: tape.header.program.to_string(),
            version: tape.header.version.clone(),
            inputs,
            before: tape.inputs_before(),
            from: tape.header.moment(from),
            to: tape.header.moment(replay.now()),
            differs,
        });
        self.entries.extend(teller.entries);
        self.entries.sort_by_key(|entry| entry.at);
        Ok(())
    }

    /// Whether every replay asked for the same as was recorded.
    pub fn is_as_recorded(&self) -> bool {
        self.recordings.iter().all(|recording| recording.differs.is_none())
    }
}

/// All that a step tells: what the machine was told, what it decided, what it asked for. `due` is what it had
/// wanted to be called for.
pub fn lines<M: Tale>(
    machine: &M,
    inputs: &[Input<M::Event>],
    due: Option<&str>,
    actions: &[M::Action],
    seen: &mut M::Seen,
) -> Vec<Line> {
    let told = |input: &Input<M::Event>| match &input.what {
        What::Event(event) => machine.told(event),
        What::Timeout => {
            Line::new(Kind::Told, format!("time has passed: {}", due.unwrap_or("nothing is due")))
        }
    };
    let mut lines: Vec<Line> = inputs.iter().map(told).collect();
    lines.extend(machine.decided(seen));
    lines.extend(actions.iter().map(|action| machine.asked(action, seen)));
    lines
}

/// Picks what is wanted of a story.
pub(super) struct Teller<'a> {
    header: &'a Header,
    narrow: &'a Narrow,
    /// The Services that have the wanted address, as far as they were heard of.
    related: BTreeSet<ServiceKey>,
    pub(super) entries: Vec<Entry>,
}

impl<'a> Teller<'a> {
    pub(super) fn new(header: &'a Header, narrow: &'a Narrow) -> Self {
        Self { header, narrow, related: BTreeSet::new(), entries: Vec::new() }
    }

    /// What was so before the first input, if it was asked about something.
    fn begin(&mut self, at: Duration, input: u64, lines: Vec<Line>) {
        if self.narrow.address.is_none() && self.narrow.service.is_none() {
            return;
        }
        let before = |line: Line| Line { text: format!("{} (before)", line.text), ..line };
        let lines: Vec<Line> = lines.into_iter().map(before).collect();
        self.tell(at, input, &lines);
    }

    pub(super) fn tell(&mut self, at: Duration, input: u64, lines: &[Line]) {
        lines.iter().for_each(|line| self.relate(line));
        let is_result = |line: &&Line| {
            line.kind != Kind::Told && (self.narrow.all || !line.is_routine) && self.concerns(line)
        };
        let has_results = lines.iter().any(|line| is_result(&line));
        let is_told = |line: &&Line| {
            let has_subject = !line.addresses.is_empty() || !line.services.is_empty();
            line.kind == Kind::Told
                && self.narrow.why
                && (has_results || self.narrow.all)
                && (!has_subject || self.concerns(line))
        };
        let at = self.header.moment(at);
        let entry = |line: &Line| Entry {
            at,
            name: self.header.name.clone(),
            input,
            kind: line.kind,
            text: line.text.clone(),
            why: if self.narrow.why { line.why.clone() } else { None },
            addresses: line.addresses.clone(),
            services: line.services.clone(),
        };
        let wanted = lines.iter().filter(|line| is_result(line) || is_told(line));
        let entries: Vec<Entry> = wanted.map(entry).collect();
        self.entries.extend(entries);
    }

    fn relate(&mut self, line: &Line) {
        if let (Some(address), [service]) = (self.narrow.address, line.services.as_slice())
            && line.addresses.contains(&address)
        {
            self.related.insert(service.clone());
        }
    }

    fn concerns(&self, line: &Line) -> bool {
        let is_there = |ip: IpAddr| {
            line.addresses.contains(&ip)
                || (line.addresses.is_empty()
                    && line.services.iter().any(|service| self.related.contains(service)))
        };
        self.narrow.address.is_none_or(is_there)
            && self.narrow.service.as_ref().is_none_or(|service| line.services.contains(service))
    }
}

impl Report for Timeline {
    fn print(&self, to: &mut dyn Write) -> io::Result<()> {
        for recording in &self.recordings {
            recording.print(to)?;
        }
        writeln!(to)?;
        let several = self.recordings.len() > 1;
        let width = self.entries.iter().map(|entry| entry.name.len()).max().unwrap_or_default();
        for entry in &self.entries {
            write!(to, "{}  ", written(entry.at))?;
            if several {
                write!(to, "{:width$}  ", entry.name)?;
            }
            writeln!(to, "{:7}  {}", entry.kind.as_str(), entry.text)?;
            if let Some(why) = &entry.why {
                let indent = if several { 26 + width + 2 } else { 26 };
                writeln!(to, "{:indent$}         because: {why}", "")?;
            }
        }
        Ok(())
    }
}

impl Summary {
    fn print(&self, to: &mut dyn Write) -> io::Result<()> {
        let Self { program, name, version, inputs, before, .. } = self;
        let (from, until) = (written(self.from), written(self.to));
        write!(to, "{program} {name}, version {version}: {inputs} inputs, {from} to {until}")?;
        if *before > 0 {
            write!(to, ", after {before} that are not kept")?;
        }
        match self.differs {
            None => writeln!(to, "; the replay decided the same"),
            Some(input) => {
                let ours = env!("CARGO_PKG_VERSION");
                writeln!(
                    to,
                    "; from input {input} on the replay, of version {ours}, decided otherwise"
                )
            }
        }
    }
}
