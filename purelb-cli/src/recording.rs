//! Recordings: what a program was told, so that it can be asked again what it decided, and why.
//!
//! A [`Recorded`] machine keeps its last inputs in a bounded memory ([`Recorder`]) and gives them out as a
//! file; [`Recording::read`] takes one in, and [`Tape::replay`] runs the inputs through the same machine:
//!
//! ```
//! use purelb_cli::recording::{Bytes, Recorded, Recording};
//! use purelb_core::allocator::{Allocator, Event, Settings};
//! use purelb_core::machine::Machine;
//!
//! let now = std::time::Instant::now();
//! let mut allocator = Recorded::<Allocator>::new((), "example", Bytes::DEFAULT, now);
//! allocator.handle_event(Event::Settings(Settings::default()), now);
//! while allocator.poll_action().is_some() {}
//! let file = allocator.file(now).unwrap();
//!
//! let Recording::Allocator(tape) = Recording::read(&file).unwrap() else { unreachable!() };
//! let mut replay = tape.replay().unwrap();
//! while let Some(step) = replay.next() {
//!     assert!(step.is_as_recorded());
//!     let _what_it_knows_now: &Allocator = replay.machine();
//! }
//! ```
//!
//! * [`format`](mod@format): the lines of a file.
//! * [`log`]: compressed lines in memory.
//! * [`program`]: what a machine must be to be recorded.
//! * [`read`]: files into tapes.
//! * [`recorder`]: the recorder beside a running machine.
//! * [`replay`]: tapes into decisions.

pub mod format;
pub mod log;
pub mod program;
pub mod read;
pub mod recorder;
pub mod replay;

pub use format::{Header, Program};
pub use program::{AgentSettings, Recordable};
pub use read::{Input, ReadError, Recording, Tape, Turn, What};
pub use recorder::{Bytes, Recorded, Recorder};
pub use replay::{Replay, Step};
