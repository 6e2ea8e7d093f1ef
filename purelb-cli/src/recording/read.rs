//! Files into tapes.

use std::io;
use std::time::Duration;

use purelb_core::allocator::Allocator;
use purelb_core::node::NodeAgent;
use serde::Deserialize;

use super::format::{Actions, Checkpoint, FORMAT, Header, Line, Program};
use super::log::decompress;
use super::program::Recordable;

/// The most text that is read, in bytes: a compressed file can be made to hold any amount.
const MOST: u64 = 1 << 30;

/// A recording of one of the programs.
#[derive(Debug)]
pub enum Recording {
    /// Of an agent.
    Agent(Box<Tape<NodeAgent>>),
    /// Of an allocator, or rather of its latest term.
    Allocator(Box<Tape<Allocator>>),
}

/// What a machine was told, in order.
#[derive(Clone, Debug)]
pub struct Tape<M: Recordable> {
    /// What was recorded.
    pub header: Header,
    /// What the machine was made with.
    pub settings: M::Settings,
    /// The machine as it was before the first input; `None` if it knew nothing yet.
    pub checkpoint: Option<Checkpoint>,
    /// What it was told, in turns.
    pub turns: Vec<Turn<M::Event>>,
}

/// What a machine was told before it was asked for actions.
#[derive(Clone, Debug)]
pub struct Turn<E> {
    /// What it was told.
    pub inputs: Vec<Input<E>>,
    /// What came of it; `None` at the end of a recording that was given out in the middle of a turn.
    pub actions: Option<Actions>,
}

/// One thing that a machine was told.
#[derive(Clone, Debug, PartialEq)]
pub struct Input<E> {
    /// When, since the zero of the recording.
    pub at: Duration,
    /// What.
    pub what: What<E>,
}

/// What a machine can be told.
#[derive(Clone, Debug, PartialEq)]
pub enum What<E> {
    /// A fact.
    Event(E),
    /// That time has passed.
    Timeout,
}

/// Why a file cannot be read as a recording.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be uncompressed.
    #[error("the file is damaged, or ends too soon; take the recording again")]
    Compression(#[source] io::Error),
    /// It does not end as a recording does.
    #[error("the recording ends too soon, after line {lines}; take it again")]
    CutOff {
        /// How many lines there are.
        lines: usize,
    },
    /// It is of another format.
    #[error(
        "the recording has format {found}, and this purelb reads format {FORMAT}; use a purelb of version {version}"
    )]
    Format {
        /// Its format.
        found: u32,
        /// What made it.
        version: String,
    },
    /// It has a line that no recording has there.
    #[error("line {number} is none that a recording of the {program} has there")]
    Line {
        /// Which, from 1.
        number: usize,
        /// Whose recording it is.
        program: Program,
        /// What is wrong with it.
        source: Option<serde_json::Error>,
    },
    /// It does not begin as a recording does.
    #[error("this is no recording: write one with `purelb record`")]
    NoRecording,
    /// Its checkpoint does not make a machine.
    #[error("the {program} that the recording begins with cannot be made: it was recorded by version {version}, this is version {}; use a purelb of the build that recorded", env!("CARGO_PKG_VERSION"))]
    Checkpoint {
        /// Whose recording it is.
        program: Program,
        /// What made it.
        version: String,
        /// Why not.
        source: io::Error,
    },
    /// Its settings are not those of such a machine.
    #[error("the settings of the {program} in the header make no sense")]
    Settings {
        /// Whose recording it is.
        program: Program,
        /// What is wrong with them.
        source: serde_json::Error,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum First {
    Header(Numbered),
}

/// As much of a header as every format has.
#[derive(Deserialize)]
struct Numbered {
    format: u32,
    version: String,
}

impl Recording {
    /// Reads a recording, be it compressed or not.
    ///
    /// # Errors
    ///
    /// If it is none, is damaged, or is of another format.
    pub fn read(file: &[u8]) -> Result<Self, ReadError> {
        let is_compressed = file.starts_with(&[0x1f, 0x8b]);
        let text;
        let text = if is_compressed {
            text = decompress(file, MOST).map_err(ReadError::Compression)?;
            &text
        } else {
            file
        };
        let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let First::Header(numbered) =
            serde_json::from_slice(first).map_err(|_| ReadError::NoRecording)?;
        if numbered.format != FORMAT {
            let Numbered { format: found, version } = numbered;
            return Err(ReadError::Format { found, version });
        }
        let Ok(Line::<()>::Header(header)) = serde_json::from_slice(first) else {
            return Err(ReadError::NoRecording);
        };
        Ok(match header.program {
            Program::Allocator => Self::Allocator(Box::new(Tape::read(header, text)?)),
            Program::Lbnodeagent => Self::Agent(Box::new(Tape::read(header, text)?)),
        })
    }

    /// What was recorded.
    pub fn header(&self) -> &Header {
        match self {
            Self::Agent(tape) => &tape.header,
            Self::Allocator(tape) => &tape.header,
        }
    }
}

impl<M: Recordable> Tape<M> {
    fn read(header: Header, text: &[u8]) -> Result<Self, ReadError> {
        let program = header.program;
        let settings = serde_json::from_value(header.settings.clone())
            .map_err(|source| ReadError::Settings { program, source })?;
        let mut tape = Self { header, settings, checkpoint: None, turns: Vec::new() };
        let mut inputs = Vec::new();
        let mut lines = 1;
        let mut is_over = false;
        let numbered = (1..).zip(text.split(|byte| *byte == b'\n')).skip(1);
        for (number, line) in numbered.filter(|(_, line)| !line.is_empty()) {
            lines = number;
            let wrong = |source| ReadError::Line { number, program, source };
            let line = serde_json::from_slice(line).map_err(|error| match error.classify() {
                serde_json::error::Category::Eof => ReadError::CutOff { lines: number - 1 },
                serde_json::error::Category::Data
                | serde_json::error::Category::Io
                | serde_json::error::Category::Syntax => wrong(Some(error)),
            })?;
            if is_over {
                return Err(wrong(None));
            }
            match line {
                Line::Actions(actions) => {
                    let inputs = std::mem::take(&mut inputs);
                    tape.turns.push(Turn { inputs, actions: Some(actions) });
                }
                Line::Checkpoint(checkpoint) if number == 2 => tape.checkpoint = Some(checkpoint),
                Line::End { .. } => is_over = true,
                Line::Event { t, mut event } => {
                    M::complete_event(&mut event);
                    let at = Duration::from_nanos(t);
                    inputs.push(Input { at, what: What::Event(event) });
                }
                Line::Timeout { t } => {
                    inputs.push(Input { at: Duration::from_nanos(t), what: What::Timeout });
                }
                Line::Checkpoint(_) | Line::Header(_) => return Err(wrong(None)),
            }
        }
        if !is_over {
            return Err(ReadError::CutOff { lines });
        }
        if !inputs.is_empty() {
            tape.turns.push(Turn { inputs, actions: None });
        }
        Ok(tape)
    }

    /// How many inputs the machine had had before the first of the tape.
    pub fn inputs_before(&self) -> u64 {
        self.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.inputs)
    }

    /// The moments of the first and the last input.
    pub fn span(&self) -> Option<(Duration, Duration)> {
        let mut all = self.turns.iter().flat_map(|turn| &turn.inputs).map(|input| input.at);
        let first = all.next()?;
        Some((first, all.last().unwrap_or(first)))
    }
}
