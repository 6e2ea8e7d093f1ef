//! Any text is a range or an error; a range is consistent with itself and survives being printed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use purelb_core::range::AddressRange;

fuzz_target!(|text: &str| {
    let Ok(range) = text.parse::<AddressRange>() else { return };
    assert!(range.first() <= range.last());
    assert!(range.contains(range.first()) && range.contains(range.last()));
    assert_eq!(range.offset(range.last()).map(|last| last.saturating_add(1)), Some(range.size()));
    assert_eq!(range.to_string().parse(), Ok(range));
});
