//! The axis of time: where a moment is drawn.

use std::collections::BTreeSet;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// The least width of everything, in pixels.
const LEAST_WIDTH: f64 = 940.0;

/// The most, where nothing but time would make it wider.
const MOST_WIDTH: f64 = 12_000.0;

/// How many pixels a second has at least, if there is room.
const PER_SECOND: f64 = 6.0;

/// A stretch in which nothing happens for longer than this is folded, but for what is next to its ends.
const QUIET: f64 = 20.0;

/// How long before and after a folded stretch is drawn at length.
const BESIDE: f64 = 3.0;

/// As how many seconds a folded stretch is drawn.
const FOLDED: f64 = 2.5;

/// The least distance between two ticks, in pixels.
const APART: f64 = 80.0;

/// Distances between ticks, in seconds.
const TICKS: [f64; 13] =
    [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// From moments to pixels. Long stretches in which nothing happens are folded.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    from: Timestamp,
    pieces: Vec<Piece>,
    width: f64,
}

/// A piece of the axis. Times are seconds since its beginning.
#[derive(Clone, Copy, Debug)]
struct Piece {
    from: f64,
    until: f64,
    x: f64,
    /// Pixels in a second.
    rate: f64,
    is_folded: bool,
}

/// A stretch that is not drawn at length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fold {
    /// Where it is.
    pub(super) x: f64,
    /// How wide.
    pub(super) width: f64,
    /// How long it lasts.
    pub(super) length: SignedDuration,
}

impl Scale {
    /// From one moment to another, with those at which something happens.
    pub(super) fn new(from: Timestamp, until: Timestamp, events: &BTreeSet<Timestamp>) -> Self {
        let since = |at: &Timestamp| at.duration_since(from).as_secs_f64();
        let end = since(&until).max(0.001);
        let mut moments: Vec<f64> =
            events.iter().map(since).filter(|at| *at > 0.0 && *at < end).collect();
        moments.push(end);
        let mut spans = Vec::new();
        let mut last = 0.0;
        for at in moments {
            if at - last > QUIET {
                spans.push((last, last + BESIDE, false));
                spans.push((last + BESIDE, at - BESIDE, true));
                spans.push((at - BESIDE, at, false));
            } else {
                spans.push((last, at, false));
            }
            last = at;
        }
        let drawn = |(from, until, is_folded): &(f64, f64, bool)| {
            if *is_folded { FOLDED } else { until - from }
        };
        let seconds: f64 = spans.iter().map(drawn).sum();
        let rate = (LEAST_WIDTH / seconds).max(PER_SECOND.min(MOST_WIDTH / seconds));
        let mut pieces = Vec::new();
        let mut x = 0.0;
        for span in spans {
            let (from, until, is_folded) = span;
            let width = drawn(&span) * rate;
            pieces.push(Piece { from, until, x, rate: width / (until - from), is_folded });
            x += width;
        }
        Self { from, pieces, width: x }
    }

    /// How wide everything is.
    pub(super) fn width(&self) -> f64 {
        self.width
    }

    /// Where a moment is.
    pub(super) fn x(&self, at: Timestamp) -> f64 {
        let at = at.duration_since(self.from).as_secs_f64().max(0.0);
        let after = self.pieces.partition_point(|piece| piece.from <= at);
        let Some(piece) = self.pieces.get(after.saturating_sub(1)) else { return 0.0 };
        piece.x + (at.min(piece.until) - piece.from) * piece.rate
    }

    /// What is not drawn at length.
    pub(super) fn folds(&self) -> impl Iterator<Item = Fold> {
        self.pieces.iter().filter(|piece| piece.is_folded).map(|piece| {
            let seconds = piece.until - piece.from;
            let length = SignedDuration::from_secs_f64(seconds);
            Fold { x: piece.x, width: seconds * piece.rate, length }
        })
    }

    /// Round moments, none in what is folded, and whether they are full seconds.
    pub(super) fn ticks(&self) -> (Vec<Timestamp>, bool) {
        let rate =
            self.pieces.iter().find(|piece| !piece.is_folded).map_or(1.0, |piece| piece.rate);
        let step = TICKS.into_iter().find(|step| step * rate >= APART).unwrap_or(3600.0);
        let step_ms = (step * 1e3) as i64;
        let begin = self.from.as_millisecond();
        let end = begin + self.pieces.last().map_or(0, |piece| (piece.until * 1e3) as i64);
        let first = begin.div_euclid(step_ms) + 1;
        let ticks = (first..).map(|n| n * step_ms).take_while(|at| *at < end);
        let ticks = ticks.filter(|at| {
            let at = (at - begin) as f64 / 1e3;
            !self.pieces.iter().any(|p| p.is_folded && p.from < at && at < p.until)
        });
        let ticks = ticks.filter_map(|at| Timestamp::from_millisecond(at).ok());
        (self.spread(ticks), step >= 1.0)
    }

    /// Those of the moments that are far enough from each other: on both sides of a fold they may not be.
    fn spread(&self, moments: impl Iterator<Item = Timestamp>) -> Vec<Timestamp> {
        let mut spread = Vec::new();
        let mut room = 0.0;
        for at in moments {
            let x = self.x(at);
            if x >= room {
                spread.push(at);
                room = x + APART * 0.9;
            }
        }
        spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    #[test]
    fn moments_are_in_order_and_fill_the_width() {
        let events = [0, 5_000, 5_010, 40_000].map(at).into();
        let scale = Scale::new(at(0), at(40_000), &events);
        let xs: Vec<f64> = (0..=40).map(|second| scale.x(at(second * 1000))).collect();
        assert!(xs.is_sorted() && xs[0] == 0.0, "{xs:?}");
        assert!((xs[40] - scale.width()).abs() < 0.1, "{xs:?}");
        assert!(scale.width() >= LEAST_WIDTH - 0.1);
        assert_eq!(scale.x(at(50_000)), scale.width(), "what is later is at the end");
    }

    #[test]
    fn a_long_quiet_stretch_is_folded_and_has_no_ticks() {
        let events = [0, 10_000, 3_610_000, 3_620_000].map(at).into();
        let scale = Scale::new(at(0), at(3_620_000), &events);
        let folds: Vec<Fold> = scale.folds().collect();
        let [fold] = folds[..] else { panic!("{folds:?}") };
        assert_eq!(fold.length, SignedDuration::from_secs(3594));
        let (ticks, is_full) = scale.ticks();
        assert!(is_full && ticks.len() >= 4, "{ticks:?}");
        let folded = at(13_000)..at(3_607_000);
        assert!(ticks.iter().all(|tick| !folded.contains(tick)), "{ticks:?}");
        let xs: Vec<f64> = ticks.iter().map(|tick| scale.x(*tick)).collect();
        assert!(xs.windows(2).all(|pair| pair[1] - pair[0] > 60.0), "{xs:?}");
    }

    #[test]
    fn a_second_of_a_long_history_keeps_its_room_until_that_is_too_wide() {
        let every = |seconds: i64| (0..seconds).map(|n| at(n * 1000)).collect();
        let scale = Scale::new(at(0), at(600_000), &every(600));
        assert!((scale.width() - 600.0 * PER_SECOND).abs() < 1.0);
        let scale = Scale::new(at(0), at(36_000_000), &every(36_000));
        assert!(scale.width() <= MOST_WIDTH + 0.1);
        let none = Scale::new(at(0), at(0), &BTreeSet::new());
        assert!(none.x(at(0)) == 0.0 && none.width() > 0.0);
    }
}
