//! Durations as Go writes them, which is how PureLB's flags and objects have them.

use std::time::Duration;

/// Reads a duration such as `5s`, `100ms` or `1m30s`.
///
/// # Errors
///
/// If the text is no duration of Go, or a negative one.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let unreadable = || DurationError { text: text.to_owned() };
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(unreadable());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(unreadable)?;
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| unreadable())?;
        let (unit, length) = UNITS
            .iter()
            .find(|(unit, _)| tail.starts_with(unit) && !continues(&tail[unit.len()..]))
            .ok_or_else(unreadable)?;
        let part = Duration::try_from_secs_f64(number * length).map_err(|_| unreadable())?;
        total = total.checked_add(part).ok_or_else(unreadable)?;
        rest = &tail[unit.len()..];
    }
    Ok(total)
}

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no duration: write one such as \"5s\" or \"100ms\"")]
pub struct DurationError {
    /// The text as given.
    pub text: String,
}

/// Whether more letters follow, so that the unit is a longer word.
fn continues(rest: &str) -> bool {
    rest.starts_with(|c: char| c.is_alphabetic())
}

/// Each unit, in seconds.
const UNITS: [(&str, f64); 7] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_reads_is_read() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("5s", 5_000),
            ("100ms", 100),
            ("1m30s", 90_000),
            ("1.5s", 1_500),
            (".5s", 500),
            ("2h", 7_200_000),
            ("+1s", 1_000),
            ("1000us", 1),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "5", "s", "-1s", "1x", "1sec", "5 s", "1..2s", "+", "9e9h", "1e400h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
