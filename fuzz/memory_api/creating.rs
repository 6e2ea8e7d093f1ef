//! Requests that create well-formed objects.

use arbitrary::Arbitrary;
use serde_json::Value;

use crate::changes::Change;
use crate::http::Call;
use crate::kinds::collection_of;
use crate::protobuf;
use crate::templates::{changed, named, template};
use crate::terms::Terms;
use crate::world::World;

/// A POST of a template with some changes.
#[derive(Arbitrary, Debug)]
pub(crate) struct Create {
    template: u8,
    name: u8,
    namespace: u8,
    changes: Vec<Change>,
    encoding: Encoding,
    terms: Terms,
}

/// How the body is written.
#[derive(Arbitrary, Debug)]
enum Encoding {
    Json,
    Protobuf,
    /// Protobuf with another byte in one place.
    Damaged(u8, u8),
    CutShort(u8),
}

impl Create {
    pub(crate) fn run(&self, world: &mut World) {
        let object = named(template(self.template), self.name, self.namespace);
        let path = collection_of(&object, false);
        let object = changed(object, &self.changes);
        let (content_type, body) = self.encoding.write(&object);
        let call = Call {
            method: "POST",
            path,
            query: self.terms.query(),
            accept: self.terms.accept(),
            content_type,
            body,
        };
        let Some(answer) = world.call(&call).filter(|answer| answer.code == 201) else { return };
        let created = answer.json();
        if !self.terms.is_rehearsal() && created["kind"] == object["kind"] {
            world.check_written(&created);
        }
    }
}

impl Encoding {
    fn write(&self, object: &Value) -> (&'static str, Vec<u8>) {
        if let Self::Json = self {
            return ("application/json", object.to_string().into_bytes());
        }
        let mut body = protobuf::body(object);
        match *self {
            Self::Json | Self::Protobuf => {}
            Self::Damaged(place, byte) => {
                let place = usize::from(place) % body.len();
                body[place] = byte;
            }
            Self::CutShort(length) => body.truncate(usize::from(length)),
        }
        ("application/vnd.kubernetes.protobuf", body)
    }
}
