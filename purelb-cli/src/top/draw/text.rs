//! Numbers and times in few columns.

use k8s_openapi::jiff::Timestamp;
use ratatui::style::Style;
use ratatui::text::Span;

use super::{Theme, span};

/// The time of day in UTC; in a simulation, the time since its beginning, if that is less than a day.
pub(super) fn clock(at: Timestamp) -> String {
    let tenths = at.as_millisecond().div_euclid(100).rem_euclid(864_000);
    let seconds = tenths / 10;
    format!("{:02}:{:02}:{:02}.{}", seconds / 3600, seconds / 60 % 60, seconds % 60, tenths % 10)
}

/// A span of time in at most seven columns.
pub(super) fn seconds(seconds: f64) -> String {
    match seconds {
        ..10.0 => format!("{seconds:.1} s"),
        ..120.0 => format!("{seconds:.0} s"),
        ..7200.0 => format!("{:.0} min", (seconds / 60.0).floor()),
        ..172_800.0 => format!("{:.0} h", (seconds / 3600.0).floor()),
        _ => format!("{:.0} d", (seconds / 86_400.0).floor()),
    }
}

/// A count of addresses, which may have 39 digits.
pub(super) fn count(digits: &str) -> String {
    if digits.len() <= 8 {
        return digits.to_owned();
    }
    digits.parse::<f64>().map_or_else(|_| digits.to_owned(), |count| format!("{count:.1e}"))
}

/// A bar of `width` columns, filled by `share` of it; whatever is more than nothing shows.
pub(super) fn bar(share: f64, width: usize, style: Style, theme: Theme) -> [Span<'static>; 2] {
    let share = share.clamp(0.0, 1.0);
    let least = usize::from(share > 0.0);
    let filled = ((share * width as f64).round() as usize).clamp(least, width);
    [span("━".repeat(filled), style), span("─".repeat(width - filled), theme.dim())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time_are_short() {
        let cases = [(0.04, "0.0 s"), (9.96, "10.0 s"), (65.4, "65 s"), (125.0, "2 min")];
        for (given, shown) in cases {
            assert_eq!(seconds(given), shown);
        }
        assert_eq!((seconds(7300.0), seconds(1e6)), ("2 h".to_owned(), "11 d".to_owned()));
    }

    #[test]
    fn counts_are_short_and_clocks_are_clocks() {
        assert_eq!(
            (count("65536").as_str(), count("18446744073709551616").as_str()),
            ("65536", "1.8e19")
        );
        let at: Timestamp = "2026-11-25T23:04:05.678Z".parse().unwrap();
        assert_eq!(clock(at), "23:04:05.6");
    }

    #[test]
    fn a_bar_is_full_only_when_it_is_and_empty_only_when_it_is() {
        let filled = |share| bar(share, 4, Style::new(), Theme::Plain)[0].content.chars().count();
        assert_eq!([0.0, 0.01, 0.5, 1.0, 7.0].map(filled), [0, 1, 2, 4, 4]);
    }
}
