//! What a container has printed, and how `kubectl logs` reads it.

use std::collections::VecDeque;
use std::time::Duration;

use hyper::body::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;

use super::query::Query;
use super::refusal::{self, Refusal};

/// How many bytes of text are kept; the oldest lines go first. A kubelet's containers have 10 MiB.
const KEPT: usize = 4 << 20;

/// What one run of a container has printed, each line with the time when it was read; clones are handles
/// to the same.
///
/// [`append`](Self::append) and [`end`](Self::end) are for the [runtime](super::PodRuntime) that reads
/// it from the container.
#[derive(Clone, Debug)]
pub struct PodLog(watch::Sender<Lines>);

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<(Timestamp, String)>,
    /// The bytes of text in them.
    bytes: usize,
    /// How many lines went before them.
    dropped: usize,
    /// Nothing will be added.
    over: bool,
}

impl Default for PodLog {
    fn default() -> Self {
        Self::new()
    }
}

impl PodLog {
    /// One of a container that has printed nothing yet.
    pub fn new() -> Self {
        Self(watch::Sender::new(Lines::default()))
    }

    /// Adds a line, without its line end, that was read at `time`.
    pub fn append(&self, time: Timestamp, line: &str) {
        self.0.send_modify(|lines| {
            lines.bytes += line.len();
            lines.kept.push_back((time, line.to_owned()));
            while lines.bytes > KEPT
                && let Some((_, oldest)) = lines.kept.pop_front()
            {
                lines.bytes -= oldest.len();
                lines.dropped += 1;
            }
        });
    }

    /// The container has ended: who follows the log is at its end too.
    pub fn end(&self) {
        self.0.send_modify(|lines| lines.over = true);
    }

    /// Begins to read as a client asked.
    pub(super) fn read(&self, options: &LogOptions) -> Reading {
        let log = self.0.subscribe();
        let lines = log.borrow();
        let end = lines.dropped + lines.kept.len();
        let next = options.tail.map_or(0, |tail| end.saturating_sub(tail));
        drop(lines);
        Reading { log, next, options: options.clone(), left: options.limit.unwrap_or(u64::MAX) }
    }
}

/// How a client wants to read a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LogOptions {
    follow: bool,
    timestamps: bool,
    /// Only so many lines before those that are yet to come.
    tail: Option<usize>,
    /// Only what was printed since then.
    since: Option<Timestamp>,
    /// Only so many bytes.
    limit: Option<u64>,
}

impl LogOptions {
    pub(super) fn parse(query: &Query) -> Result<Self, Refusal> {
        let seconds = query.number("sinceSeconds")?.map(Duration::from_secs);
        let since =
            match (seconds, query.text("sinceTime")) {
                (None, "") => None,
                (Some(seconds), _) => {
                    Some(Timestamp::now().saturating_sub(seconds).map_err(|_| {
                        refusal::bad_request("sinceSeconds: is longer than any log")
                    })?)
                }
                (None, text) => Some(text.parse().map_err(|_| {
                    refusal::bad_request(format!("sinceTime: {text:?} is not a time"))
                })?),
            };
        let tail = query.number("tailLines")?;
        Ok(Self {
            follow: query.is_set("follow"),
            timestamps: query.is_set("timestamps"),
            tail: tail.map(|tail| usize::try_from(tail).unwrap_or(usize::MAX)),
            since,
            limit: query.number("limitBytes")?,
        })
    }
}

/// A client that reads a log.
#[derive(Debug)]
pub(super) struct Reading {
    log: watch::Receiver<Lines>,
    /// The number of the next line, counted from the container's first.
    next: usize,
    options: LogOptions,
    /// How many bytes it may still get.
    left: u64,
}

impl Reading {
    /// The next lines; waits for some if it follows. `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            let (text, over) = self.take();
            if !text.is_empty() {
                return Some(text.into());
            }
            if over || !self.options.follow || self.left == 0 {
                return None;
            }
            // The runtime may let go of the log without a word: then this was all.
            self.log.changed().await.ok()?;
        }
    }

    /// All lines that are there, and whether none will follow.
    fn take(&mut self) -> (String, bool) {
        let lines = self.log.borrow_and_update();
        let mut text = String::new();
        for (time, line) in lines.kept.iter().skip(self.next.saturating_sub(lines.dropped)) {
            if self.options.since.is_some_and(|since| *time < since) {
                continue;
            }
            if self.options.timestamps {
                text.push_str(&format!("{time:.9} "));
            }
            text.push_str(line);
            text.push('\n');
        }
        self.next = self.next.max(lines.dropped + lines.kept.len());
        if text.len() as u64 > self.left {
            let mut end = usize::try_from(self.left).unwrap_or(usize::MAX);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            self.left = text.len() as u64;
        }
        self.left -= text.len() as u64;
        (text, lines.over)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn time(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("it is in range")
    }

    /// A log of lines `1`, `2` and so on, each at the second of its number.
    fn log(lines: i64) -> PodLog {
        let log = PodLog::new();
        (1..=lines).for_each(|n| log.append(time(n), &n.to_string()));
        log
    }

    fn read(log: &PodLog, query: &str) -> String {
        let options = LogOptions::parse(&Query::parse(query)).expect("good options");
        let text = log.read(&options).next().now_or_never().expect("it does not wait");
        String::from_utf8(text.unwrap_or_default().to_vec()).expect("text")
    }

    #[test]
    fn a_client_gets_the_lines_that_it_asks_for() {
        let log = log(3);
        for (query, text) in [
            ("", "1\n2\n3\n"),
            ("tailLines=2", "2\n3\n"),
            ("tailLines=0", ""),
            ("tailLines=9", "1\n2\n3\n"),
            ("sinceTime=1970-01-01T00:00:02Z", "2\n3\n"),
            ("sinceTime=1970-01-01T00:00:02Z&tailLines=1", "3\n"),
            ("sinceSeconds=60", ""),
            ("limitBytes=3", "1\n2"),
            ("timestamps=true&tailLines=1", "1970-01-01T00:00:03.000000000Z 3\n"),
        ] {
            assert_eq!(read(&log, query), text, "{query}");
        }
        for query in ["tailLines=x", "sinceTime=yesterday", "limitBytes=-1"] {
            assert!(LogOptions::parse(&Query::parse(query)).is_err(), "{query}");
        }
    }

    #[test]
    fn who_follows_waits_for_lines_until_the_container_ends() {
        let log = log(1);
        let options = LogOptions::parse(&Query::parse("follow=true")).expect("good options");
        let mut reading = log.read(&options);
        let mut next = || reading.next().now_or_never();
        assert_eq!(next(), Some(Some(Bytes::from_static(b"1\n"))));
        assert_eq!(next(), None, "it waits");
        log.append(time(2), "2");
        log.append(time(3), "3");
        assert_eq!(next(), Some(Some(Bytes::from_static(b"2\n3\n"))));
        log.end();
        assert_eq!(next(), Some(None));
    }

    #[test]
    fn the_oldest_lines_go_when_there_are_too_many() {
        let log = PodLog::new();
        let long = "x".repeat(KEPT / 2);
        let options = LogOptions::default();
        let mut early = log.read(&options);
        ["first", &long, &long, "last"].iter().for_each(|line| log.append(time(1), line));
        let expected = format!("{long}\nlast\n");
        assert_eq!(read(&log, ""), expected);
        let seen = early.next().now_or_never().flatten().expect("lines");
        assert!(seen == expected.as_bytes(), "who began early gets what is kept");
        log.append(time(2), "more");
        assert_eq!(early.next().now_or_never().flatten().expect("a line"), "more\n");
    }
}
