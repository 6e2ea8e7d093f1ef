//! `purelb top`: a live view of a cluster in a terminal.
//!
//! * [`model`]: what facts make of what is shown; no I/O and no clock.
//! * [`source`]: where facts come from: a cluster (or the lab), a recording, or a simulation.
//! * [`state`]: what the viewer has chosen with keys.
//! * [`draw`]: a frame, as a pure function of the model and those choices.
//! * [`screen`]: the terminal, and the loop.
//! * [`svg`]: a frame as a picture.

pub mod draw;
pub mod holdings;
pub mod model;
pub mod screen;
pub mod source;
pub mod state;
pub mod svg;
