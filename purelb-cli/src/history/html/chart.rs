//! The picture: a row for each address, time across, and what happened on a strip on top.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use k8s_openapi::jiff::Timestamp;
use purelb_core::name::NodeName;

use super::scale::Scale;
use super::{escaped, millisecond, services, title, told};
use crate::history::track::{Evidence, Span, State, Track};
use crate::history::{History, Mark, MarkKind};

/// The look of a picture, in a page or alone.
pub(super) const STYLE: &str = include_str!("chart.css");

/// Heights, in pixels: of the strip with marks, of the axis, of a row, and of a bar in it.
const STRIP: f64 = 30.0;
const AXIS: f64 = 20.0;
const ROW: f64 = 36.0;
const BAR: f64 = 20.0;

/// How far the plot is from its frame on both sides.
const MARGIN: f64 = 14.0;

/// The least width of a bar and of a gap, such that it can be seen.
const LEAST_BAR: f64 = 1.5;
const LEAST_GAP: f64 = 3.5;

/// How wide a letter is, roughly: in bars, small ones, and in addresses.
const LETTER: f64 = 7.0;
const SMALL_LETTER: f64 = 6.2;
const WIDE_LETTER: f64 = 7.4;

/// The size of a mark.
const MARK: f64 = 15.0;

/// The longest name of a Service that is shown whole, in letters.
const NAME: usize = 30;

/// Colours that are told apart and bear white letters, none of them near the red of gaps.
const COLOURS: [&str; 8] =
    ["#2f6fb7", "#15826f", "#8653b3", "#a8690a", "#4b7f2c", "#0d7f9e", "#b14a8e", "#76612f"];

/// A picture of a history.
pub(super) struct Chart<'a> {
    history: &'a History,
    scale: Scale,
    colours: BTreeMap<&'a NodeName, String>,
}

impl<'a> Chart<'a> {
    pub(super) fn new(history: &'a History) -> Self {
        let spans = history.tracks.iter().flat_map(|track| &track.spans);
        let ends = spans.flat_map(|span| [span.from, span.until]);
        let events: BTreeSet<Timestamp> =
            ends.chain(history.marks.iter().map(|mark| mark.at)).collect();
        let scale = Scale::new(history.from, history.until, &events);
        let colours =
            history.holders().into_iter().enumerate().map(|(n, node)| (node, colour(n))).collect();
        Self { history, scale, colours }
    }

    /// The names beside the rows.
    pub(super) fn labels(&self) -> String {
        let (width, height) = (self.label_width(), self.height());
        let mut svg = format!(
            "<svg width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\" aria-label=\"Addresses\">\n"
        );
        self.draw_labels(&mut svg);
        svg.push_str("</svg>");
        svg
    }

    /// The rows.
    pub(super) fn plot(&self) -> String {
        let (width, height) = (self.plot_width(), self.height());
        let mut svg = format!(
            "<svg class=\"rows\" width=\"{width:.0}\" height=\"{height:.0}\" role=\"group\" aria-label=\"Who held which address when\">\n"
        );
        self.draw_plot(&mut svg);
        svg.push_str("</svg>");
        svg
    }

    /// Both as one document.
    pub(super) fn document(&self) -> String {
        let (left, height) = (self.label_width(), self.height());
        let width = left + self.plot_width();
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\">\n\
             <style>\n{STYLE}</style>\n<rect class=\"paper\" width=\"100%\" height=\"100%\" rx=\"8\"/>\n"
        );
        self.draw_labels(&mut svg);
        let _ = writeln!(svg, "<svg x=\"{left:.0}\" width=\"{:.0}\">", self.plot_width());
        self.draw_plot(&mut svg);
        svg.push_str("</svg>\n</svg>\n");
        svg
    }

    /// What colours and signs mean.
    pub(super) fn legend(&self) -> String {
        let mut legend = String::from("<ul class=\"legend\">\n");
        let mut item = |class: &str, rect: &str, text: &str| {
            let _ = writeln!(
                legend,
                "<li><svg width=\"26\" height=\"14\" aria-hidden=\"true\"><g class=\"{class}\"><rect x=\"1\" y=\"1\" width=\"24\" height=\"12\" rx=\"3\" {rect}/></g></svg>{}</li>",
                escaped(text)
            );
        };
        for (node, colour) in &self.colours {
            item("held", &format!("fill=\"{colour}\""), node.as_str());
        }
        let mut if_any = |is: fn(&State) -> bool, class, text| {
            if self.history.states().any(is) {
                let rect = if class == "held heard" { "fill=\"#888\" stroke=\"#888\"" } else { "" };
                item(class, rect, text);
            }
        };
        if_any(
            |state| matches!(state, State::Held { evidence: Evidence::Heard, .. }),
            "held heard",
            "pale: as another node heard",
        );
        if_any(
            |state| matches!(state, State::Everywhere { .. }),
            "everywhere",
            "on the virtual interface",
        );
        if_any(|state| matches!(state, State::Nobody(_)), "nobody", "nobody has it");
        if_any(
            |state| matches!(state, State::Expiring(_)),
            "expiring",
            "taken off in this time, as the lease of a lost holder ends",
        );
        if_any(|state| *state == State::Awaited, "awaited", "nobody has it yet");
        if_any(
            |state| matches!(state, State::Several(_)),
            "several",
            "several have it: must not be",
        );
        legend.push_str("<li>L lease, A agent, I interface, S Service: red is lost, green is back</li>\n</ul>\n");
        legend
    }

    fn height(&self) -> f64 {
        STRIP + AXIS + ROW * self.history.tracks.len() as f64 + 8.0
    }

    fn plot_width(&self) -> f64 {
        self.scale.width() + 2.0 * MARGIN
    }

    fn x(&self, at: Timestamp) -> f64 {
        MARGIN + self.scale.x(at)
    }

    /// How wide names of Services and addresses are.
    fn name_widths(&self) -> (f64, f64) {
        let tracks = &self.history.tracks;
        let longest = |length: &dyn Fn(&Track) -> usize| tracks.iter().map(length).max();
        let names = longest(&|track| short(&services(track)).chars().count());
        let addresses = longest(&|track| track.ip.to_string().len());
        let width =
            |letters: Option<usize>, letter: f64| letters.unwrap_or_default() as f64 * letter;
        (width(names, LETTER).max(60.0), width(addresses, WIDE_LETTER).max(60.0))
    }

    fn label_width(&self) -> f64 {
        let (names, addresses) = self.name_widths();
        12.0 + names + 16.0 + addresses + 12.0
    }

    fn draw_labels(&self, svg: &mut String) {
        let width = self.label_width();
        self.draw_bands(svg, width);
        // Writing into a string does not fail.
        let _ = writeln!(svg, "<text class=\"dim\" x=\"12\" y=\"20\">what happened</text>");
        let _ = writeln!(
            svg,
            "<text class=\"dim\" x=\"12\" y=\"{:.1}\">{} UTC</text>",
            STRIP + 14.0,
            self.history.from.strftime("%Y-%m-%d")
        );
        let address = 12.0 + self.name_widths().0 + 16.0;
        let mut above = String::new();
        for (n, track) in self.history.tracks.iter().enumerate() {
            let y = row_y(n) + ROW / 2.0 + 7.0;
            let name = services(track);
            if name != above {
                let _ = writeln!(
                    svg,
                    "<g><title>{}</title><text x=\"12\" y=\"{y:.1}\">{}</text></g>",
                    escaped(&name),
                    escaped(&short(&name))
                );
            }
            let ip = track.ip;
            let _ = writeln!(
                svg,
                "<text class=\"address\" x=\"{address:.1}\" y=\"{y:.1}\">{ip}</text>"
            );
            above = name;
        }
    }

    fn draw_plot(&self, svg: &mut String) {
        let width = self.plot_width();
        svg.push_str(
            "<defs><pattern id=\"gap\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
             patternTransform=\"rotate(45)\"><rect class=\"paper\" width=\"6\" height=\"6\"/>\
             <path class=\"hatch\" d=\"M1 0v6\"/></pattern><pattern id=\"wait\" width=\"6\" height=\"6\" \
             patternUnits=\"userSpaceOnUse\"><rect class=\"paper\" width=\"6\" height=\"6\"/>\
             <path class=\"dots\" d=\"M2 3h2\"/></pattern></defs>\n",
        );
        self.draw_bands(svg, width);
        self.draw_axis(svg);
        for (n, track) in self.history.tracks.iter().enumerate() {
            self.draw_row(svg, track, row_y(n));
        }
        self.draw_marks(svg);
    }

    /// Every other row has another ground, here and beside.
    fn draw_bands(&self, svg: &mut String, width: f64) {
        for n in (0..self.history.tracks.len()).step_by(2) {
            let y = row_y(n);
            let _ = writeln!(
                svg,
                "<rect class=\"band\" y=\"{y:.1}\" width=\"{width:.0}\" height=\"{ROW}\"/>"
            );
        }
    }

    fn draw_axis(&self, svg: &mut String) {
        let bottom = self.height();
        for fold in self.scale.folds() {
            let (x, height, length) = (MARGIN + fold.x, bottom - STRIP, told(fold.length));
            let _ = writeln!(
                svg,
                "<g><title>{length} in which nothing happened</title><rect class=\"fold\" x=\"{x:.1}\" y=\"{STRIP}\" width=\"{:.1}\" height=\"{height:.0}\"/><text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">… {length} …</text></g>",
                fold.width,
                x + fold.width / 2.0,
                STRIP - 8.0
            );
        }
        let (ticks, are_full) = self.scale.ticks();
        for at in ticks {
            let x = self.x(at);
            let format = if are_full { "%H:%M:%S" } else { "%H:%M:%S%.1f" };
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{x:.1} {STRIP}V{bottom:.0}\"/><text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                STRIP + 14.0,
                at.strftime(format)
            );
        }
    }

    /// What is lost is drawn over the rest: a gap may be narrower than can be seen.
    fn draw_row(&self, svg: &mut String, track: &Track, y: f64) {
        let (losses, others): (Vec<&Span>, Vec<&Span>) =
            track.spans.iter().partition(|span| span.state.is_loss());
        for span in others {
            let (x, end) = (self.x(span.from), self.x(span.until));
            self.draw_span(svg, track, span, (x, y, (end - x).max(LEAST_BAR)));
        }
        let mut room = 0.0;
        for span in losses {
            let (x, end) = (self.x(span.from), self.x(span.until));
            let width = (end - x).max(LEAST_GAP);
            self.draw_span(svg, track, span, (x, y, width));
            let most = if matches!(span.state, State::Expiring(_)) { "≤ " } else { "" };
            let length = format!("{most}{}", told(span.length()));
            let half = length.chars().count() as f64 * SMALL_LETTER / 2.0;
            let (middle, y) = (x + width / 2.0, y + 11.0);
            // A length that would hide another is left out.
            if middle - half >= room {
                let _ = writeln!(
                    svg,
                    "<text class=\"length\" x=\"{middle:.1}\" y=\"{y:.1}\">{length}</text>"
                );
                room = middle + half + 4.0;
            }
        }
    }

    fn draw_span(
        &self,
        svg: &mut String,
        track: &Track,
        span: &Span,
        (x, y, width): (f64, f64, f64),
    ) {
        let (class, fill, names) = self.look(&span.state);
        let y = y + ROW - BAR - 3.0;
        let title = escaped(&title(track, span));
        let _ = write!(
            svg,
            "<g class=\"{class}\" tabindex=\"0\" role=\"img\"><title>{title}</title><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"{:.1}\"{fill}/>",
            (width / 2.0).min(3.0)
        );
        let fits = |name: &&String| name.chars().count() as f64 * LETTER + 12.0 <= width;
        if let Some(name) = names.iter().find(fits) {
            let (x, y) = (x + 7.0, y + 14.5);
            let _ = write!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(name));
        }
        svg.push_str("</g>\n");
    }

    /// The class, the colour and the names of a bar, the longest first.
    fn look(&self, state: &State) -> (&'static str, String, Vec<String>) {
        match state {
            State::Awaited => ("awaited", String::new(), Vec::new()),
            State::Everywhere { nodes, interface } => {
                let count = format!("{interface} of {}", nodes.len());
                let names = super::list(nodes.iter().map(|node| node.as_str()));
                let long = format!("{interface} of {names}");
                ("everywhere", String::new(), vec![long, count, interface.clone()])
            }
            State::Expiring(node) => {
                let colour = self.colours.get(node).map_or("#888", String::as_str);
                ("expiring", format!(" stroke=\"{colour}\""), Vec::new())
            }
            State::Held { node, interface, evidence } => {
                let colour = self.colours.get(node).map_or("#888", String::as_str);
                let (class, fill) = match evidence {
                    Evidence::Heard => {
                        ("held heard", format!(" fill=\"{colour}\" stroke=\"{colour}\""))
                    }
                    Evidence::Seen => ("held", format!(" fill=\"{colour}\"")),
                };
                (class, fill, vec![format!("{node} {interface}"), node.to_string()])
            }
            State::Nobody(Evidence::Heard) => ("nobody heard", String::new(), Vec::new()),
            State::Nobody(Evidence::Seen) => ("nobody", String::new(), Vec::new()),
            State::Several(nodes) => {
                let names = super::list(nodes.iter().map(|node| node.as_str()));
                ("several", String::new(), vec![names, nodes.len().to_string()])
            }
        }
    }

    fn draw_marks(&self, svg: &mut String) {
        let bottom = self.height();
        for mark in self.history.marks.iter().filter(|mark| mark.kind.is_loss()) {
            let x = self.x(mark.at);
            let _ = writeln!(svg, "<path class=\"since\" d=\"M{x:.1} {STRIP}V{bottom:.0}\"/>");
        }
        for marks in self.heaps() {
            self.draw_heap(svg, marks);
        }
    }

    /// Marks that would hide each other, together.
    fn heaps(&self) -> impl Iterator<Item = &[Mark]> {
        let mut end = f64::MIN;
        let starts: Vec<usize> = self
            .history
            .marks
            .iter()
            .enumerate()
            .filter_map(|(n, mark)| {
                let x = self.x(mark.at);
                let is_first = x >= end;
                if is_first {
                    end = x + MARK + 2.0;
                }
                is_first.then_some(n)
            })
            .collect();
        let ends = starts.clone().into_iter().skip(1).chain([self.history.marks.len()]);
        starts.into_iter().zip(ends).map(|(from, until)| &self.history.marks[from..until])
    }

    fn draw_heap(&self, svg: &mut String, marks: &[Mark]) {
        let (Some(first), Some(gravest)) =
            (marks.first(), marks.iter().map(|mark| mark.kind).min())
        else {
            return;
        };
        let lines: Vec<String> =
            marks.iter().map(|mark| format!("{} {}", millisecond(mark.at), mark.text)).collect();
        let kinds: BTreeSet<MarkKind> = marks.iter().map(|mark| mark.kind).collect();
        let sign =
            if kinds.len() > 1 { marks.len().to_string() } else { letter(gravest).to_owned() };
        let class = match gravest {
            MarkKind::AgentDown | MarkKind::LeaseLost | MarkKind::LinkDown => "mark loss",
            MarkKind::AgentUp | MarkKind::LeaseLive | MarkKind::LinkUp => "mark come",
            MarkKind::Service => "mark",
        };
        let (middle, y) = (self.x(first.at), 8.0);
        let x = middle - MARK / 2.0;
        let _ = writeln!(
            svg,
            "<g class=\"{class}\" tabindex=\"0\" role=\"img\"><title>{}</title><rect x=\"{x:.1}\" y=\"{y}\" width=\"{MARK}\" height=\"{MARK}\" rx=\"4\"/><text x=\"{middle:.1}\" y=\"{:.1}\">{sign}</text></g>",
            escaped(&lines.join("\n")),
            y + 11.0
        );
    }
}

fn row_y(n: usize) -> f64 {
    STRIP + AXIS + ROW * n as f64
}

fn letter(kind: MarkKind) -> &'static str {
    match kind {
        MarkKind::AgentDown | MarkKind::AgentUp => "A",
        MarkKind::LeaseLive | MarkKind::LeaseLost => "L",
        MarkKind::LinkDown | MarkKind::LinkUp => "I",
        MarkKind::Service => "S",
    }
}

/// A colour for each holder: after those that were chosen, hues a golden angle apart.
fn colour(n: usize) -> String {
    match COLOURS.get(n) {
        Some(colour) => (*colour).to_owned(),
        None => format!("hsl({:.0} 45% 40%)", 30.0 + (n as f64 * 137.5) % 300.0),
    }
}

fn short(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    name.chars().take(NAME - 1).chain(['…']).collect()
}
