//! Any bytes are a recording or an error; what is a recording can be replayed and told, and the same way again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use purelb_cli::recording::{Recording, Tape};
use purelb_cli::replay::{Narrow, Tale, Timeline};

fuzz_target!(|bytes: &[u8]| {
    match Recording::read(bytes) {
        Ok(Recording::Agent(tape)) => tell(&tape),
        Ok(Recording::Allocator(tape)) => tell(&tape),
        Err(error) => drop(error.to_string()),
    }
});

fn tell<M: Tale>(tape: &Tape<M>) {
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
}
