//! Any text is an announcing annotation; what is understood of it survives being printed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use purelb_core::announcement::Announcing;
use purelb_core::node::Note;

fuzz_target!(|text: &str| {
    let announcing = Announcing::parse(text);
    assert_eq!(Announcing::parse(&announcing.to_string()), announcing);
    let note = Note::parse(text);
    assert_eq!(Note::parse(&note.to_string()).to_string(), note.to_string());
});
