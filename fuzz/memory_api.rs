//! Any request over HTTP is answered by the in-memory API or refused, never a panic. Its version never
//! goes back, and no two objects have one path or one uid, no two Services one address or node port.
//! What a write is answered with is what is kept; what is refused or only read changes nothing; and the
//! history of a kind leads to what there is of it.

#![no_main]

#[path = "memory_api/changes.rs"]
mod changes;
#[path = "memory_api/creating.rs"]
mod creating;
#[path = "memory_api/editing.rs"]
mod editing;
#[path = "memory_api/http.rs"]
mod http;
#[path = "memory_api/kinds.rs"]
mod kinds;
#[path = "memory_api/pods.rs"]
mod pods;
#[path = "memory_api/program.rs"]
mod program;
#[path = "memory_api/protobuf.rs"]
mod protobuf;
#[path = "memory_api/random.rs"]
mod random;
#[path = "memory_api/reading.rs"]
mod reading;
#[path = "memory_api/templates.rs"]
mod templates;
#[path = "memory_api/terms.rs"]
mod terms;
#[path = "memory_api/world.rs"]
mod world;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

use world::World;

/// How many steps an API is tried for.
const STEPS: usize = 16;

#[derive(Arbitrary, Debug)]
enum Step {
    Create(creating::Create),
    Edit(editing::Edit),
    Read(reading::Read),
    Delete(editing::Delete),
    Pod(pods::Request),
    Program(program::Program),
    About(random::About),
    Request(random::Request),
    Raw(Vec<u8>),
}

fuzz_target!(|steps: Vec<Step>| {
    let mut world = World::new();
    for step in steps.iter().take(STEPS) {
        step.run(&mut world);
    }
});

impl Step {
    fn run(&self, world: &mut World) {
        match self {
            Self::Create(create) => create.run(world),
            Self::Edit(edit) => edit.run(world),
            Self::Read(read) => read.run(world),
            Self::Delete(delete) => delete.run(world),
            Self::Pod(request) => request.run(world),
            Self::Program(program) => program.run(world),
            Self::About(about) => _ = world.call(&about.call()),
            Self::Request(request) => _ = world.call(&request.call()),
            Self::Raw(bytes) => {
                let answer = world.send(bytes);
                // HTTP/2 begins with the length of a frame.
                let is_http = answer.starts_with(b"HTTP/1.") || answer.starts_with(&[0]);
                assert!(is_http || answer.is_empty(), "{}", answer.escape_ascii());
            }
        }
    }
}
