//! Any bytes are a recording or an error; what is a recording can be replayed and told, and the same way again.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use purelb_cli::recording::{Program, Recording, Tape};
use purelb_cli::replay::{Narrow, Tale, Timeline};

fuzz_target!(|bytes: &[u8]| {
    let recording = match Recording::read(bytes) {
        Ok(recording) => recording,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let program = recording.header().program;
    match recording {
        Recording::Agent(tape) => tell(&tape, program),
        Recording::Allocator(tape) => tell(&tape, program),
    }
});

fn tell<M: Tale>(tape: &Tape<M>, program: Program) {
    assert_eq!(program, M::PROGRAM);
    // A checkpoint is what a program was: any bytes may be refused, but none are taken for true.
    if tape.checkpoint.is_some() {
        drop(tape.replay());
        return;
    }
    let narrow = Narrow { why: true, all: true, ..Narrow::default() };
    let [once, again] = [(); 2].map(|()| {
        let mut timeline = Timeline::default();
        timeline.add(tape, &narrow).expect("nothing but a checkpoint can be refused");
        timeline.entries
    });
    assert_eq!(once, again);
    assert_eq!(
        deadline_after(tape, None),
        deadline_after(tape, tape.span().map(|(_, end)| end / 2))
    );
}

/// When the machine of a recording is next due at its end, if one paused on the way.
fn deadline_after<M: Tale>(tape: &Tape<M>, pause: Option<Duration>) -> Option<Duration> {
    let mut replay = tape.replay().expect("nothing but a checkpoint can be refused");
    while replay.next_before(pause).is_some() {}
    assert!(pause.is_none_or(|pause| replay.now() <= pause || replay.next_at().is_none()));
    while replay.next_until(None).is_some() {}
    let start = replay.start();
    let deadline = replay.into_machine().poll_timeout()?;
    Some(deadline.at.saturating_duration_since(start))
}
