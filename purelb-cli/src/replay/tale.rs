//! What a machine must be to have its story told.

use std::net::IpAddr;

use purelb_core::name::ServiceKey;
use purelb_core::store::{Change, Object};
use serde::Serialize;

use crate::recording::Recordable;

/// A machine whose inputs, decisions and actions can be put in words.
pub trait Tale: Recordable {
    /// What has been told of it so far, to tell what is new.
    type Seen: Default;

    /// What it was told; it has taken that in already.
    fn told(&self, event: &Self::Event) -> Line;

    /// What it has decided since `seen`.
    fn decided(&self, seen: &mut Self::Seen) -> Vec<Line>;

    /// What it asked for; nothing of that has been answered yet.
    fn asked(&self, action: &Self::Action, seen: &mut Self::Seen) -> Line;
}

/// What kind of thing a line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The program was told something.
    Told,
    /// It decided something.
    Decides,
    /// It asked for something to be done.
    Does,
    /// It told people something.
    Says,
}

impl Kind {
    /// A word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Told => "told",
            Self::Decides => "decides",
            Self::Does => "does",
            Self::Says => "says",
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What kind of thing.
    pub kind: Kind,
    /// It.
    pub text: String,
    /// The reason beyond what the text says, if there is more to say.
    pub why: Option<String>,
    /// The addresses that it is about.
    pub addresses: Vec<IpAddr>,
    /// The Services that it is about.
    pub services: Vec<ServiceKey>,
    /// Whether it comes again and again without news.
    pub is_routine: bool,
}

impl Line {
    /// One about nothing in particular.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        let (addresses, services) = (Vec::new(), Vec::new());
        Self { kind, text: text.into(), why: None, addresses, services, is_routine: false }
    }

    /// With a reason.
    #[must_use]
    pub fn because(self, why: impl Into<String>) -> Self {
        Self { why: Some(why.into()), ..self }
    }

    /// About these addresses.
    #[must_use]
    pub fn of(self, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self { addresses: addresses.into_iter().collect(), ..self }
    }

    /// About these Services.
    #[must_use]
    pub fn on(self, services: impl IntoIterator<Item = ServiceKey>) -> Self {
        Self { services: services.into_iter().collect(), ..self }
    }

    /// Without news, if so.
    #[must_use]
    pub fn routine(self, is_routine: bool) -> Self {
        Self { is_routine, ..self }
    }
}

/// That objects of one kind changed. `kind` is the word for several.
pub fn change<T: Object>(
    change: &Change<T>,
    kind: &str,
    one: impl Fn(&T) -> Line,
    gone: impl Fn(&T::Key) -> Line,
) -> Line {
    match change {
        Change::Deleted(key) => gone(key),
        Change::Listed(objects) => match objects.as_slice() {
            [only] => one(only),
            all => {
                let lines: Vec<Line> = all.iter().map(one).collect();
                Line::new(Kind::Told, format!("{kind}: {}", all.len()))
                    .of(lines.iter().flat_map(|line| line.addresses.iter().copied()))
                    .on(lines.iter().flat_map(|line| line.services.iter().cloned()))
            }
        },
        Change::Updated(object) => one(object),
    }
}
