//! What the program asks that the API runs in, and what it lets go wrong.

use std::time::Duration;

use arbitrary::Arbitrary;
use purelb_k8s::memory::{Fault, MemoryApi, check_fields};

use crate::changes::{Change, at};
use crate::templates::{changed, named, template};
use crate::world::World;

const CODES: [u16; 9] = [403, 409, 410, 429, 500, 503, 504, 418, 99];

#[derive(Arbitrary, Debug)]
pub(crate) enum Program {
    Create(Named),
    Apply(Named),
    ApplyStatus(Named),
    Delete(u8),
    /// Whether the fields of an object are known.
    Check(Named),
    /// How much of the past is remembered from now on.
    LimitHistory(u8),
    /// Goes wrong with the next request.
    Fail(u8),
    Describe,
}

/// A template with a name and changes.
#[derive(Arbitrary, Debug)]
pub(crate) struct Named {
    template: u8,
    name: u8,
    namespace: u8,
    changes: Vec<Change>,
}

impl Program {
    pub(crate) fn run(&self, world: &mut World) {
        match self {
            Self::Create(named) => {
                let created = world.api.create(named.object());
                world.look();
                if let Ok(created) = created {
                    world.check_written(&created);
                }
            }
            Self::Apply(named) => {
                let applied = world.api.apply("program", named.object());
                world.look();
                if let Ok(applied) = applied {
                    world.check_written(&applied);
                }
            }
            Self::ApplyStatus(named) => {
                let _ = world.api.apply_status("program", named.object());
            }
            Self::Delete(subject) => delete(world, *subject),
            Self::Check(named) => _ = check_fields(&named.object()),
            Self::LimitHistory(changes) => world.api.limit_history(usize::from(*changes)),
            Self::Fail(number) => world.set_fault(fault(*number)),
            Self::Describe => {
                let config = MemoryApi::kubeconfig(&format!("http://{:?}", world.api));
                assert!(config.starts_with("apiVersion: v1\n"));
            }
        }
        world.look();
    }
}

impl Named {
    fn object(&self) -> serde_json::Value {
        let object = named(template(self.template), self.name, self.namespace);
        changed(object, &self.changes)
    }
}

fn delete(world: &World, subject: u8) {
    let Some(object) = world.subject(subject) else { return };
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let kind = object["kind"].as_str().unwrap_or_default();
    let deleted = world.api.delete(kind, text("namespace"), text("name"));
    assert!(deleted.is_ok(), "what exists can be deleted: {deleted:?}");
}

fn fault(number: u8) -> Fault {
    match number % 16 {
        0 => Fault::Drop,
        1 => Fault::LoseAnswer,
        2 => Fault::Delay(Duration::from_secs(1)),
        number => Fault::Refuse(CODES[at(number, CODES.len())]),
    }
}
