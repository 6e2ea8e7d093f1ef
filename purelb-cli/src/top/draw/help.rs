//! What the keys do.

use ratatui::Frame;
use ratatui::layout::{Constraint, Flex, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Padding, Paragraph};

use super::frame::Setting;
use super::span;

/// The keys of every view.
const KEYS: [(&str, &str); 8] = [
    ("q, ctrl-c", "quit"),
    ("tab, shift-tab", "the next panel, the one before"),
    ("↑ ↓, k j", "scroll it; page up and down, home and end as well"),
    ("enter", "only this panel, or all of them again"),
    ("/", "only rows with a text, in every panel"),
    ("esc", "all rows again; all panels again"),
    ("p, space", "stand still, go on"),
    ("?, h", "this"),
];

/// Those of a source that has its own time.
const TIME_KEYS: [(&str, &str); 2] = [
    ("+ -", "twice as fast, half as fast"),
    ("← →", "while it stands still: a second back, a second ahead"),
];

/// What is to be known of the columns.
const WORDS: [(&str, &str); 4] = [
    ("LEASE", "what is left of it; an agent renews it after a third"),
    ("SINCE", "> is since before this view began"),
    ("GAP", "for how long the API named nobody who holds the address:"),
    ("", "from its release, or the end of its holder's lease"),
];

/// Lays them over everything else.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, setting: &Setting) {
    let time_keys = if setting.has_own_time { TIME_KEYS.as_slice() } else { &[] };
    let theme = setting.theme;
    let line = |(key, meaning): &(&'static str, &'static str)| {
        Line::from(vec![span(format!("{key:<16}"), theme.focus()), Span::raw(*meaning)])
    };
    let lines: Vec<Line<'_>> =
        KEYS.iter().chain(time_keys).chain([&("", "")]).chain(&WORDS).map(line).collect();
    let height = Constraint::Length(lines.len() as u16 + 2);
    let [area] = Layout::vertical([height]).flex(Flex::Center).areas(area);
    let [area] = Layout::horizontal([Constraint::Length(76)]).flex(Flex::Center).areas(area);
    let block = Block::bordered()
        .border_style(theme.focus())
        .title("Keys and columns")
        .padding(Padding::horizontal(1));
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(block), area);
}
