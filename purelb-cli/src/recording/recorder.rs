//! The recorder beside a running machine.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::ops::Deref;
use std::str::FromStr;
use std::time::{Instant, SystemTime};

use purelb_core::machine::{Deadline, Machine};
use serde::Serialize;
use tracing::error;

use super::format::{Actions, Base64, Checkpoint, FORMAT, Hash, Header, Line};
use super::log::{Log, compress};
use super::program::Recordable;

/// How many bytes a recorder may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub usize);

impl Bytes {
    /// What a program keeps unless told otherwise.
    pub const DEFAULT: Self = Self(256 << 10);
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0"),
            bytes if bytes.is_multiple_of(1 << 20) => write!(f, "{}Mi", bytes >> 20),
            bytes if bytes.is_multiple_of(1 << 10) => write!(f, "{}Ki", bytes >> 10),
            bytes => write!(f, "{bytes}"),
        }
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = match (text.strip_suffix("Ki"), text.strip_suffix("Mi")) {
            (Some(number), _) => (number, 1 << 10),
            (None, Some(number)) => (number, 1 << 20),
            (None, None) => (text, 1),
        };
        let bytes = number.parse().ok().and_then(|number: usize| number.checked_mul(unit));
        bytes
            .map(Self)
            .ok_or_else(|| format!("write {text:?} as a number of bytes such as 256Ki or 1Mi"))
    }
}

/// A machine with a recorder beside it.
///
/// It is driven as the machine alone would be, and decides the same.
#[derive(Debug)]
pub struct Recorded<M: Recordable> {
    machine: M,
    recorder: Option<Recorder<M>>,
}

impl<M: Recordable> Recorded<M> {
    /// A machine that knows nothing yet and counts from `start`, with a recorder that keeps about `size`
    /// bytes; none without any. `name` says whose recording it is.
    pub fn new(settings: M::Settings, name: &str, size: Bytes, start: Instant) -> Self {
        let machine = M::make(&settings, start);
        let recorder = (size.0 > 0).then(|| Recorder::new(settings, name, size, start));
        Self { machine, recorder }
    }

    /// The recorder, if there is one.
    pub fn recorder(&self) -> Option<&Recorder<M>> {
        self.recorder.as_ref()
    }

    /// The recording up to `now`, compressed; `None` if nothing is recorded.
    pub fn file(&self, now: Instant) -> Option<Vec<u8>> {
        self.recorder.as_ref()?.file(now).ok()
    }

    fn record(&mut self, what: impl FnOnce(&mut Recorder<M>) -> io::Result<()>) {
        if let Some(recorder) = &mut self.recorder
            && let Err(error) = what(recorder)
        {
            error!(%error, "recording ends: something cannot be written down");
            self.recorder = None;
        }
    }
}

impl<M: Recordable> Deref for Recorded<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.machine
    }
}

impl<M: Recordable> Machine for Recorded<M> {
    type Event = M::Event;
    type Action = M::Action;

    fn handle_event(&mut self, event: M::Event, now: Instant) {
        self.record(|recorder| recorder.event(&event, now));
        self.machine.handle_event(event, now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.record(|recorder| recorder.timeout(now));
        self.machine.handle_timeout(now);
    }

    fn poll_action(&mut self) -> Option<M::Action> {
        let action = self.machine.poll_action();
        let Some(recorder) = &mut self.recorder else { return action };
        match &action {
            Some(action) => recorder.action(action),
            None => {
                let drained = recorder.drained(&self.machine);
                self.record(|_| drained);
            }
        }
        action
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.machine.poll_timeout()
    }
}

/// What was recorded of a machine: the last inputs, and what the machine was before them.
///
/// The memory is two segments, each half of what may be kept. When the newer is full, the machine is
/// written down as it is, and a new segment begins with that; the older is dropped. So there are always
/// at least as many inputs as go into one segment. Where the machine itself takes more than half of
/// what may be kept, as with thousands of Services, a segment grows until its inputs take as much as it.
#[derive(Debug)]
pub struct Recorder<M: Recordable> {
    settings: M::Settings,
    name: String,
    start: Instant,
    half: usize,
    segments: VecDeque<Segment>,
    inputs: u64,
    /// Inputs came, or actions were handed out, since the machine was last seen to have no more.
    is_open: bool,
    count: u64,
    hash: Hash,
}

/// Inputs in a row.
#[derive(Debug, Default)]
struct Segment {
    /// The machine before them; `None` for one that knew nothing yet.
    checkpoint: Option<Checkpoint>,
    log: Log,
}

impl Segment {
    fn checkpoint_size(&self) -> usize {
        self.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.state.0.len())
    }
}

impl<M: Recordable> Recorder<M> {
    fn new(settings: M::Settings, name: &str, size: Bytes, start: Instant) -> Self {
        Self {
            settings,
            name: name.to_owned(),
            start,
            half: size.0 / 2,
            segments: VecDeque::from([Segment::default()]),
            inputs: 0,
            is_open: false,
            count: 0,
            hash: Hash::default(),
        }
    }

    fn event(&mut self, event: &M::Event, now: Instant) -> io::Result<()> {
        let t = self.since_start(now);
        self.input(&Line::Event { t, event })
    }

    fn timeout(&mut self, now: Instant) -> io::Result<()> {
        let t = self.since_start(now);
        self.input(&Line::<()>::Timeout { t })
    }

    fn input(&mut self, line: &Line<impl Serialize>) -> io::Result<()> {
        self.inputs += 1;
        self.is_open = true;
        self.write(line)
    }

    fn action(&mut self, action: &M::Action) {
        self.is_open = true;
        self.count += 1;
        self.hash.add(action);
    }

    /// The machine has nothing more to hand out: only now is all of it in what would be written down.
    fn drained(&mut self, machine: &M) -> io::Result<()> {
        if !std::mem::take(&mut self.is_open) {
            return Ok(());
        }
        let count = std::mem::take(&mut self.count);
        self.write(&Line::<()>::Actions(Actions { count, hash: self.hash }))?;
        let is_full = |segment: &Segment| {
            let checkpoint = segment.checkpoint_size();
            segment.log.size() >= checkpoint.max(self.half.saturating_sub(checkpoint))
        };
        let newest = self.segments.back();
        if newest.is_none_or(is_full) { self.begin_segment(machine) } else { Ok(()) }
    }

    fn begin_segment(&mut self, machine: &M) -> io::Result<()> {
        while self.segments.len() > 1 {
            self.segments.pop_front();
        }
        let state =
            compress(|gzip| postcard::to_io(machine, gzip).map(drop).map_err(io::Error::other))?;
        let state = Base64(state);
        let checkpoint = Checkpoint { inputs: self.inputs, hash: self.hash, state };
        self.segments.push_back(Segment { checkpoint: Some(checkpoint), log: Log::default() });
        Ok(())
    }

    fn write(&mut self, line: &Line<impl Serialize>) -> io::Result<()> {
        match self.segments.back_mut() {
            Some(segment) => write_line(&mut segment.log, line),
            None => Ok(()),
        }
    }

    fn since_start(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }

    /// How many bytes of inputs and machines are kept, beside the piece that is not compressed yet.
    pub fn size(&self) -> usize {
        self.segments.iter().map(|segment| segment.log.size() + segment.checkpoint_size()).sum()
    }

    fn file(&self, now: Instant) -> io::Result<Vec<u8>> {
        let mut log = Log::default();
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now_ns = u64::try_from(since_1970.unwrap_or_default().as_nanos()).unwrap_or_default();
        let header = Header {
            format: FORMAT,
            program: M::PROGRAM,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            name: self.name.clone(),
            began: now_ns.saturating_sub(self.since_start(now)),
            settings: serde_json::to_value(&self.settings)?,
        };
        write_line(&mut log, &Line::<()>::Header(header))?;
        if let Some(checkpoint) = self.segments.front().and_then(|s| s.checkpoint.as_ref()) {
            write_line(&mut log, &Line::<()>::Checkpoint(checkpoint.clone()))?;
        }
        let mut file = Vec::new();
        log.append_to(&mut file)?;
        for segment in &self.segments {
            segment.log.append_to(&mut file)?;
        }
        let mut log = Log::default();
        write_line(&mut log, &Line::<()>::End { inputs: self.inputs })?;
        log.append_to(&mut file)?;
        Ok(file)
    }
}

fn write_line(log: &mut Log, line: &Line<impl Serialize>) -> io::Result<()> {
    serde_json::to_writer(&mut *log, line)?;
    log.write_all(b"\n")
}
