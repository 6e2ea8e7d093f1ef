//! A history as a page: one file with everything in it, to be kept and passed on.

use std::collections::BTreeSet;
use std::fmt::Write;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::track::{Evidence, Span, State, Track};
use super::{History, HistoryError, Source};
use crate::recording::Recording;
use crate::top::svg::escaped;

mod chart;
mod scale;

use chart::Chart;

/// The look of what is not in the picture.
const STYLE: &str = include_str!("html/page.css");

/// More rows than this are shown when they are asked for.
const MANY: usize = 60;

/// A page about recordings, in any order: a picture of who held which address when, with gaps and reasons, and
/// the same in words. It needs nothing from elsewhere.
///
/// # Errors
///
/// As [`History::of`].
pub fn html(recordings: &[Recording]) -> Result<String, HistoryError> {
    Ok(page(&History::of(recordings)?))
}

/// The page of a history.
pub fn page(history: &History) -> String {
    let chart = Chart::new(history);
    let title = format!("Addresses, {} to {}", day_and_second(history.from), second(history.until));
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}{}</style>\n</head>\n<body>\n<main>\n\
         <h1>Who held which address when</h1>\n",
        chart::STYLE
    );
    // Writing into a string does not fail.
    let _ = summary(&mut page, history);
    page.push_str("<p class=\"skip\"><a href=\"#words\">The same in words</a></p>\n");
    page.push_str("<div class=\"chart\">");
    page.push_str(&chart.labels());
    page.push_str("<div class=\"plot\">");
    page.push_str(&chart.plot());
    page.push_str("</div></div>\n");
    page.push_str(&chart.legend());
    let _ = words(&mut page, history);
    let _ = marks(&mut page, history);
    let _ = sources(&mut page, &history.sources);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// The picture of a history alone, as an SVG document.
pub fn picture(history: &History) -> String {
    Chart::new(history).document()
}

fn summary(page: &mut String, history: &History) -> std::fmt::Result {
    let names: BTreeSet<&str> =
        history.sources.iter().map(|source| source.header.name.as_str()).collect();
    writeln!(
        page,
        "<p class=\"lead\">{} to {} UTC, {}: {} on {}, by the recordings of {}.</p>",
        day_and_second(history.from),
        second(history.until),
        told(history.until.duration_since(history.from)),
        counted(history.tracks.len(), "address", "addresses"),
        counted(history.holders().len(), "node", "nodes"),
        escaped(&list(names.into_iter())),
    )?;
    page.push_str("<ul class=\"facts\">\n");
    fact(page, history, "nobody had it", |state| matches!(state, State::Nobody(_)))?;
    fact(page, history, "several had it", |state| matches!(state, State::Several(_)))?;
    if history.states().any(|state| matches!(state, State::Expiring(_))) {
        fact(page, history, "its holder was lost", |state| matches!(state, State::Expiring(_)))?;
    }
    page.push_str("</ul>\n");
    if history.has_hearsay() {
        page.push_str(
            "<p>Pale bars are hearsay: there is no recording of that node for that time, and another node heard \
             of it by the annotations of Services and by leases, which come a little later than what \
             they tell of.</p>\n",
        );
    }
    Ok(())
}

/// How often an address was in such a state, and when for longest.
fn fact(
    page: &mut String,
    history: &History,
    name: &str,
    is: impl Fn(&State) -> bool,
) -> std::fmt::Result {
    let spans = history
        .tracks
        .iter()
        .flat_map(|track| track.spans.iter().map(move |span| (track.ip, span)))
        .filter(|(_, span)| is(&span.state));
    match spans.clone().max_by_key(|(_, span)| span.length()) {
        None => writeln!(page, "<li>{name}: <b>never</b></li>"),
        Some((ip, span)) => writeln!(
            page,
            "<li class=\"loss\">{name}: <b>{} ×</b>, the longest {}, {ip} at {}</li>",
            spans.count(),
            told(span.length()),
            millisecond(span.from),
        ),
    }
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn words(page: &mut String, history: &History) -> std::fmt::Result {
    let rows: usize = history.tracks.iter().map(|track| track.spans.len()).sum();
    let open = if rows > MANY { "" } else { " open" };
    writeln!(
        page,
        "<details id=\"words\"{open}><summary><h2>The same in words</h2></summary>\n<table>\n\
         <thead><tr><th>Address</th><th>Service</th><th>From</th><th>For</th><th>Holder</th>\
         <th>Why</th></tr></thead>\n<tbody>"
    )?;
    for track in &history.tracks {
        for span in &track.spans {
            row(page, track, span)?;
        }
    }
    page.push_str("</tbody>\n</table>\n</details>\n");
    Ok(())
}

fn row(page: &mut String, track: &Track, span: &Span) -> std::fmt::Result {
    let class = if span.state.is_loss() { " class=\"loss\"" } else { "" };
    writeln!(
        page,
        "<tr{class}><td>{}</td><td>{}</td><td>{}</td><td class=\"number\">{}</td><td>{}</td><td>",
        track.ip,
        escaped(&services(track)),
        millisecond(span.from),
        told(span.length()),
        escaped(&holder(&span.state)),
    )?;
    if !span.why.is_empty() {
        page.push_str("<ul>");
        for (at, text) in &span.why {
            write!(page, "<li><time>{}</time> {}</li>", millisecond(*at), escaped(text))?;
        }
        page.push_str("</ul>");
    }
    page.push_str("</td></tr>\n");
    Ok(())
}

fn marks(page: &mut String, history: &History) -> std::fmt::Result {
    if history.marks.is_empty() {
        return Ok(());
    }
    let open = if history.marks.len() > MANY { "" } else { " open" };
    writeln!(page, "<details{open}><summary><h2>What happened</h2></summary>\n<table>\n<tbody>")?;
    for mark in &history.marks {
        let class = if mark.kind.is_loss() { " class=\"loss\"" } else { "" };
        let (at, text) = (millisecond(mark.at), escaped(&mark.text));
        writeln!(page, "<tr{class}><td>{at}</td><td>{text}</td></tr>")?;
    }
    page.push_str("</tbody>\n</table>\n</details>\n");
    Ok(())
}

fn sources(page: &mut String, sources: &[Source]) -> std::fmt::Result {
    page.push_str(
        "<h2>The recordings</h2>\n\
         <p>Each moment is one by the clock of the node that recorded it. If the clocks of two nodes differ, \
         what one tells is shifted against what the other tells by as much, and a gap between them looks longer or \
         shorter, or as if both had the address.</p>\n<table>\n<thead><tr><th>Of</th><th>Version</th>\
         <th>From</th><th>To</th><th>Inputs</th><th>Decides as recorded</th></tr></thead>\n<tbody>\n",
    );
    for source in sources {
        let header = &source.header;
        writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"number\">{}</td><td>{}</td></tr>",
            escaped(&header.name),
            escaped(&header.version),
            day_and_second(source.from),
            day_and_second(source.until),
            source.inputs,
            if source.is_as_recorded {
                "yes"
            } else {
                "no: this build is another than the one that recorded, and its reasons may be others"
            },
        )?;
    }
    page.push_str("</tbody>\n</table>\n");
    Ok(())
}

/// Who holds an address, in words.
fn holder(state: &State) -> String {
    match state {
        State::Awaited => "nobody yet".to_owned(),
        State::Everywhere { nodes, interface } => {
            format!("{interface} of {}", list(nodes.iter().map(|node| node.as_str())))
        }
        State::Expiring(node) => {
            format!("{node} or nobody: its kernel takes it off before the lease runs out")
        }
        State::Held { node, interface, evidence: Evidence::Heard } => {
            format!("{node} {interface}, as others heard")
        }
        State::Held { node, interface, evidence: Evidence::Seen } => format!("{node} {interface}"),
        State::Nobody(Evidence::Heard) => "nobody, as others heard".to_owned(),
        State::Nobody(Evidence::Seen) => "nobody".to_owned(),
        State::Several(nodes) => {
            format!("several at a time: {}", list(nodes.iter().map(|node| node.as_str())))
        }
    }
}

/// Everything about a span, in lines.
fn title(track: &Track, span: &Span) -> String {
    let mut title = format!(
        "{}: {}\n{} to {}, {}",
        track.ip,
        holder(&span.state),
        millisecond(span.from),
        millisecond(span.until),
        told(span.length())
    );
    for (at, text) in &span.why {
        let _ = write!(title, "\n{} {text}", millisecond(*at));
    }
    title
}

fn services(track: &Track) -> String {
    list(track.services.iter().map(ToString::to_string))
}

fn list<T: AsRef<str>>(names: impl Iterator<Item = T>) -> String {
    let mut list = String::new();
    for name in names {
        if !list.is_empty() {
            list.push_str(", ");
        }
        list.push_str(name.as_ref());
    }
    list
}

fn day_and_second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn second(at: Timestamp) -> String {
    at.strftime("%H:%M:%S").to_string()
}

fn millisecond(at: Timestamp) -> String {
    at.strftime("%H:%M:%S%.3f").to_string()
}

/// A span of time in at most two units.
fn told(span: SignedDuration) -> String {
    let seconds = span.as_secs_f64().max(0.0);
    match seconds {
        ..0.9995 => format!("{:.0} ms", seconds * 1e3),
        ..9.995 => format!("{seconds:.2} s"),
        ..99.95 => format!("{seconds:.1} s"),
        ..5999.5 => {
            format!("{:.0} min {:02.0} s", (seconds / 60.0).floor(), (seconds % 60.0).floor())
        }
        _ => format!(
            "{:.0} h {:02.0} min",
            (seconds / 3600.0).floor(),
            (seconds % 3600.0 / 60.0).floor()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_units_of_their_size() {
        let told = |millis| told(SignedDuration::from_millis(millis));
        assert_eq!(told(-3), "0 ms");
        assert_eq!(told(7), "7 ms");
        assert_eq!(told(999), "999 ms");
        assert_eq!(told(1264), "1.26 s");
        assert_eq!(told(59_949), "59.9 s");
        assert_eq!(told(125_000), "2 min 05 s");
        assert_eq!(told(2 * 3_600_000 + 5 * 60_000), "2 h 05 min");
    }
}
