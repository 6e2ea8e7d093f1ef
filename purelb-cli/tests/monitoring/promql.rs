//! As much of Prometheus' query language as it takes to see which metrics and labels a query names.

use std::collections::BTreeSet;

/// What a query names.
#[derive(Debug, Default)]
pub(crate) struct Query {
    /// Each metric, with the labels that select among its series.
    pub(crate) selected: Vec<(String, BTreeSet<String>)>,
    /// The labels by which it groups or matches.
    pub(crate) grouped: BTreeSet<String>,
    /// It sums, counts or the like, so that only the labels by which it groups are left.
    aggregates: bool,
}

const FUNCTIONS: [&str; 7] =
    ["absent", "histogram_quantile", "increase", "last_over_time", "rate", "time", "vector"];
const AGGREGATIONS: [&str; 5] = ["avg", "count", "max", "min", "sum"];
const GROUPINGS: [&str; 3] = ["by", "ignoring", "on"];
const OPERATORS: [&str; 4] = ["and", "offset", "or", "unless"];

impl Query {
    /// Reads a query; panics where it is none.
    pub(crate) fn parse(text: &str) -> Self {
        let (mut query, mut rest, mut depth) = (Self::default(), text.trim_start(), 0_u32);
        while let Some(first) = rest.chars().next() {
            let end = match first {
                'a'..='z' | 'A'..='Z' | '_' => {
                    let end = rest.find(|c: char| !is_of_name(c)).unwrap_or(rest.len());
                    let (word, after) = rest.split_at(end);
                    end + query.take(word, after)
                }
                // A number, or a span of time.
                '0'..='9' => rest
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '.')
                    .unwrap_or(rest.len()),
                '[' => rest.find(']').expect("the end of a range") + 1,
                '(' => {
                    depth += 1;
                    1
                }
                ')' => {
                    depth = depth.checked_sub(1).unwrap_or_else(|| panic!("a bracket in {text}"));
                    1
                }
                '+' | '-' | '*' | '/' | '>' | '<' | '=' | '!' | ',' => 1,
                other => panic!("{other:?} in {text}"),
            };
            rest = rest[end..].trim_start();
        }
        assert_eq!(depth, 0, "brackets in {text}");
        query
    }

    /// Takes in a word; returns how much of what comes after belongs to it.
    fn take(&mut self, word: &str, after: &str) -> usize {
        let next = after.trim_start();
        let skipped = after.len() - next.len();
        if GROUPINGS.contains(&word) {
            let (names, _) = next.strip_prefix('(').unwrap().split_once(')').unwrap();
            self.grouped.extend(names.split(',').map(|name| name.trim().to_owned()));
            return skipped + names.len() + 2;
        }
        if AGGREGATIONS.contains(&word) {
            self.aggregates = true;
            return 0;
        }
        if OPERATORS.contains(&word) {
            return 0;
        }
        if next.starts_with('(') {
            assert!(FUNCTIONS.contains(&word), "there is no function {word}");
            return 0;
        }
        let Some(inside) = next.strip_prefix('{') else {
            self.selected.push((word.to_owned(), BTreeSet::new()));
            return 0;
        };
        let (inside, _) = inside.split_once('}').expect("the end of a selector");
        let labels = inside.split(',').map(|matcher| {
            let name = matcher.split(['=', '!']).next().unwrap_or_default().trim();
            assert!(matcher.ends_with('"') && !name.is_empty(), "{matcher}");
            name.to_owned()
        });
        self.selected.push((word.to_owned(), labels.collect()));
        skipped + inside.len() + 2
    }

    /// The metrics.
    pub(crate) fn metrics(&self) -> impl Iterator<Item = String> {
        self.selected.iter().map(|(metric, _)| metric.clone())
    }

    /// Whether a label may be left on the result.
    pub(crate) fn keeps(&self, label: &str) -> bool {
        !self.aggregates || self.grouped.contains(label)
    }
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}
