//! What is around the panels.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Alignment, Rect};
use ratatui::text::{Line, Span};

use super::text::{clock, seconds};
use super::{SMALLEST, Theme, bold, paragraph, span};
use crate::top::holdings::MoveEnd;
use crate::top::model::{Holder, Model, NodeStanding};
use crate::top::state::State;

/// A silence of the API that is worth a word; agents renew their leases more often.
const SILENCE: Duration = Duration::from_secs(4);

/// What is always so while a view lasts.
#[derive(Clone, Debug)]
pub struct Setting {
    /// What is looked at.
    pub title: String,
    /// Colours or none.
    pub theme: Theme,
    /// Whether its time is its own.
    pub has_own_time: bool,
}

/// Says that there is not enough room, and how much would be.
pub(super) fn too_small(frame: &mut Frame<'_>, area: Rect) {
    let (columns, rows) = SMALLEST;
    let lines = vec![
        Line::from(format!("this terminal is {} × {}", area.width, area.height)),
        Line::from(format!("purelb top needs {columns} × {rows}")),
        Line::from("q: quit"),
    ];
    paragraph(frame, area, lines);
}

/// What is looked at, when, and what is to be known above all.
pub(super) fn head(
    frame: &mut Frame<'_>,
    area: Rect,
    model: &Model,
    state: &State,
    setting: &Setting,
) {
    let theme = setting.theme;
    let title = Line::from(vec![
        span("purelb top", theme.focus()),
        Span::raw(format!("  {}", setting.title)),
    ]);
    let time = match (setting.has_own_time, state.is_paused) {
        (true, false) => format!("{}  at {}×", clock(model.now()), state.speed()),
        (true, true) => clock(model.now()),
        (false, _) => format!("{} UTC", clock(model.now())),
    };
    let pause = if state.is_paused { "paused  " } else { "" };
    let time = Line::from(vec![span(pause, bold(theme.doubtful())), Span::raw(time)]);
    let right = Rect { height: 1, ..area };
    paragraph(frame, area, vec![title, summary(model, theme)]);
    frame.render_widget(time.alignment(Alignment::Right), right);
}

fn summary(model: &Model, theme: Theme) -> Line<'static> {
    if model.silence() > SILENCE {
        let silence = seconds(model.silence().as_secs_f64());
        let text = format!("nothing heard of the API for {silence}: this is how things stood then");
        return Line::from(span(text, theme.bad()));
    }
    let is_live = |standing| match standing {
        NodeStanding::Ok | NodeStanding::Idle | NodeStanding::Keep => true,
        NodeStanding::Expired | NodeStanding::NoLease => false,
    };
    let (nodes, rows) = (model.nodes(), model.addresses());
    let live = nodes.iter().filter(|row| is_live(row.line.standing)).count();
    let given = rows.iter().filter(|row| row.holder != Holder::Unassigned).count();
    let nobodys = rows.iter().filter(|row| matches!(row.holder, Holder::Nobody(_))).count();
    let moving = model.moves().filter(|one| one.end == MoveEnd::Pending).count();
    let style = |is_well: bool| if is_well { theme.good() } else { theme.doubtful() };
    let mut line = vec![
        span(format!("{live} of {} leases live", nodes.len()), style(live == nodes.len())),
        Span::raw(format!("  {given} addresses")),
        span(format!("  {nobodys} of nobody"), style(nobodys == 0)),
        span(format!("  {moving} moving"), style(moving == 0)),
    ];
    if !model.ongoing().is_empty() {
        line.push(span(format!("  now: {}", model.ongoing().join(", ")), theme.doubtful()));
    }
    Line::from(line)
}

/// The keys, or the filter.
pub(super) fn foot(frame: &mut Frame<'_>, area: Rect, state: &State, setting: &Setting) {
    let theme = setting.theme;
    let line = if state.is_typing {
        Line::from(vec![
            span("only rows with: ", theme.focus()),
            Span::raw(format!("{}▏", state.filter)),
            span("   enter: done   esc: all rows", theme.dim()),
        ])
    } else {
        let own_time = match (setting.has_own_time, state.is_paused) {
            (false, _) => "",
            (true, false) => "+- speed  ",
            (true, true) => "←→ step  ",
        };
        let keys = "q quit  tab panel  ↑↓ scroll  enter alone  / filter  p pause";
        Line::from(span(format!("{keys}  {own_time}? help"), theme.dim()))
    };
    paragraph(frame, area, vec![line]);
}
