//! Replays told: what a program was told, what it decided, what it asked for.
//!
//! * [`agent`], [`allocator`]: the words for what each program is told and does.
//! * [`overlay`]: objects that are to be otherwise.
//! * [`tale`]: what a machine must be to have its story told.
//! * [`timeline`]: the story of a recording, in lines.
//! * [`what_if`]: what would have been otherwise.
//! * [`world`]: what answers a machine that asks for other things than was recorded.

pub mod agent;
pub mod allocator;
pub mod overlay;
pub mod tale;
pub mod timeline;
pub mod what_if;
pub mod world;

pub use tale::{Kind, Line, Tale};
pub use timeline::{Entry, Narrow, Timeline};
pub use what_if::WhatIf;
