//! Any text is a range or an error; a range is consistent with itself and with another one, and survives being
//! printed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use purelb_core::range::AddressRange;

// One range, or two with a blank between them.
fuzz_target!(|text: &str| {
    let (text, other) = text.split_once(' ').unwrap_or((text, "192.0.2.4/30"));
    match text.parse::<AddressRange>() {
        Ok(range) => {
            is_consistent(&range);
            if let Ok(other) = other.parse() {
                are_consistent(&range, &other);
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

fn is_consistent(range: &AddressRange) {
    assert!(range.first() <= range.last());
    assert!(range.contains(range.first()) && range.contains(range.last()));
    assert_eq!(range.offset(range.last()).map(|last| last.saturating_add(1)), Some(range.size()));
    assert_eq!(range.to_string().parse().as_ref(), Ok(range));
    for offset in [0, 1, range.size() / 2, range.size() - 1, range.size()] {
        let ip = range.nth(offset);
        // The size of the largest range is told as one less.
        assert!(ip.is_some() == (offset < range.size()) || offset == u128::MAX);
        assert!(ip.is_none_or(|ip| range.offset(ip) == Some(offset)));
    }
}

fn are_consistent(range: &AddressRange, other: &AddressRange) {
    assert_eq!(range.overlaps(other), other.overlaps(range));
    let ends = |range: &AddressRange| [range.first(), range.last()];
    let shared = ends(other).into_iter().any(|ip| range.contains(ip));
    let shared = shared || ends(range).into_iter().any(|ip| other.contains(ip));
    assert_eq!(range.overlaps(other), shared);
    match AddressRange::new(range.first(), other.last()) {
        Ok(made) => assert!(made.contains(range.first()) && made.contains(other.last())),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
