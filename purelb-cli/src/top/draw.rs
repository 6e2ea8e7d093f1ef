//! A frame: a pure function of the model and of what the viewer has chosen.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table};

use super::model::Model;
use super::state::{Panel, State};

mod frame;
mod help;
mod panels;
mod text;
mod theme;

#[cfg(test)]
mod tests;

pub use frame::Setting;
pub use theme::Theme;

use panels::Rows;

/// The smallest terminal that has room for every panel: columns and rows.
pub const SMALLEST: (u16, u16) = (80, 24);

/// From how many columns on panels stand side by side.
const WIDE: u16 = 130;

/// Rows of a panel that are not its content: its title and its headings.
const FRAME: u16 = 2;

/// Rows above and below the panels.
const AROUND: u16 = 3;

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, model: &Model, state: &State, setting: &Setting) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        return frame::too_small(frame, area);
    }
    let rows = Rows::new(model, state);
    let [head, body, foot] = parts(area);
    frame::head(frame, head, model, state, setting);
    for (panel, area) in places(body, state, rows.lengths()) {
        rows.draw(frame, area, panel, state, setting.theme);
    }
    frame::foot(frame, foot, state, setting);
    if state.shows_help {
        help::draw(frame, area, setting);
    }
}

/// The greatest first row of each panel, such that none has empty lines that could show something.
pub fn furthest(area: Rect, model: &Model, state: &State) -> [usize; Panel::ALL.len()] {
    let lengths = Rows::new(model, state).lengths();
    let [_, body, _] = parts(area);
    let mut furthest = [0; Panel::ALL.len()];
    for (panel, area) in places(body, state, lengths) {
        let room = usize::from(area.height.saturating_sub(FRAME));
        furthest[panel.index()] = lengths[panel.index()].saturating_sub(room);
    }
    furthest
}

/// How many rows a frame needs to show everything.
pub fn height(model: &Model, state: &State) -> u16 {
    let rows: usize = Rows::new(model, state).lengths().iter().map(|rows| rows.max(&1)).sum();
    let frames = FRAME * Panel::ALL.len() as u16 + AROUND;
    u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(frames).max(SMALLEST.1)
}

fn parts(area: Rect) -> [Rect; 3] {
    let heights = [Constraint::Length(2), Constraint::Fill(1), Constraint::Length(1)];
    Layout::vertical(heights).areas(area)
}

/// Where each panel is that is shown.
fn places(body: Rect, state: &State, lengths: [usize; Panel::ALL.len()]) -> Vec<(Panel, Rect)> {
    if state.is_alone {
        return vec![(state.focus, body)];
    }
    let wanted = |panel: Panel| {
        u16::try_from(lengths[panel.index()]).unwrap_or(u16::MAX).max(1).saturating_add(FRAME)
    };
    let (nodes, pools) = (wanted(Panel::Nodes), wanted(Panel::Pools));
    if body.width >= WIDE {
        let columns = [Constraint::Percentage(55), Constraint::Fill(1)];
        let [left, right] = Layout::horizontal(columns).spacing(2).areas(body);
        let most = body.height / 2;
        let above = [Constraint::Length(nodes.min(most)), Constraint::Fill(1)];
        let [nodes, addresses] = Layout::vertical(above).areas(left);
        let below = [Constraint::Fill(1), Constraint::Length(pools.min(most))];
        let [moves, pools] = Layout::vertical(below).areas(right);
        return Panel::ALL.into_iter().zip([nodes, addresses, moves, pools]).collect();
    }
    let needed = Panel::ALL.into_iter().map(wanted).fold(0, u16::saturating_add);
    if needed <= body.height {
        let heights = [nodes, wanted(Panel::Addresses)].map(Constraint::Length);
        let heights = [heights[0], heights[1], Constraint::Fill(1), Constraint::Length(pools)];
        let areas: [Rect; 4] = Layout::vertical(heights).areas(body);
        return Panel::ALL.into_iter().zip(areas).collect();
    }
    let most = body.height / 4;
    let heights = [
        Constraint::Length(nodes.min(most)),
        Constraint::Fill(3),
        Constraint::Fill(2),
        Constraint::Length(pools.min(most)),
    ];
    let areas: [Rect; 4] = Layout::vertical(heights).areas(body);
    Panel::ALL.into_iter().zip(areas).collect()
}

/// Rows under a title and headings: those from `first` on for which there is room.
struct Listing<'a> {
    title: Line<'a>,
    headings: Vec<&'static str>,
    widths: Vec<Constraint>,
    has_focus: bool,
}

impl Listing<'_> {
    fn draw<'a>(
        self,
        frame: &mut Frame<'_>,
        area: Rect,
        rows: impl Iterator<Item = Vec<Line<'a>>>,
        theme: Theme,
    ) {
        let room = usize::from(area.height.saturating_sub(FRAME));
        let rows = rows.take(room).map(|cells| Row::new(cells.into_iter().map(Cell::from)));
        let border = if self.has_focus { theme.focus() } else { theme.dim() };
        let block = Block::new().borders(Borders::TOP).border_style(border).title(self.title);
        let headings = Row::new(self.headings).style(theme.dim());
        let table = Table::new(rows, self.widths).header(headings).column_spacing(2).block(block);
        frame.render_widget(table, area);
    }
}

fn span<'a>(text: impl Into<std::borrow::Cow<'a, str>>, style: Style) -> Span<'a> {
    Span::styled(text, style)
}

fn paragraph(frame: &mut Frame<'_>, area: Rect, lines: Vec<Line<'_>>) {
    frame.render_widget(Paragraph::new(lines), area);
}

fn bold(style: Style) -> Style {
    style.add_modifier(Modifier::BOLD)
}
