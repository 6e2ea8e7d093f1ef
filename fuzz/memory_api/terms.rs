//! How a write is to be made.

use arbitrary::Arbitrary;

use crate::changes::at;
use crate::http;
use crate::kinds::ACCEPTS;

const MANAGERS: [&str; 4] = ["a", "b", "", "c"];
const VALIDATIONS: [&str; 4] = ["", "Strict", "Ignore", "Warn"];

/// What the parameters and the headers of a write say.
#[derive(Arbitrary, Debug)]
pub(crate) struct Terms {
    manager: u8,
    is_forced: bool,
    /// Most writes are meant.
    rehearsal: u8,
    validation: u8,
    accept: u8,
}

impl Terms {
    pub(crate) fn query(&self) -> String {
        http::query(&[
            ("fieldManager", MANAGERS[at(self.manager, MANAGERS.len())]),
            ("force", if self.is_forced { "true" } else { "" }),
            ("dryRun", if self.is_rehearsal() { "All" } else { "" }),
            ("fieldValidation", VALIDATIONS[at(self.validation, VALIDATIONS.len())]),
        ])
    }

    pub(crate) fn is_rehearsal(&self) -> bool {
        self.rehearsal % 8 == 1
    }

    pub(crate) fn accept(&self) -> &'static str {
        ACCEPTS[at(self.accept, ACCEPTS.len())]
    }
}
