//! The panels: which rows they have, and how each is drawn.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::text::{bar, clock, count, seconds};
use super::{Listing, Theme, bold, span};
use crate::command::output::list;
use crate::report::pools::PoolReport;
use crate::report::services::Standing;
use crate::top::holdings::{Move, MoveEnd};
use crate::top::model::{AddressRow, Holder, Model, NodeRow, NodeStanding};
use crate::top::state::{Panel, State};

/// How wide bars are, in columns.
const BAR: usize = 10;

/// The rows of every panel that the filter admits.
pub(super) struct Rows<'a> {
    model: &'a Model,
    nodes: Vec<&'a NodeRow>,
    addresses: Vec<&'a AddressRow>,
    moves: Vec<&'a Move>,
    pools: Vec<PoolRow<'a>>,
}

/// A range, or a group that cannot be used and why.
enum PoolRow<'a> {
    Range(&'a PoolReport),
    Refused(&'a str, &'a str),
}

impl<'a> Rows<'a> {
    pub(super) fn new(model: &'a Model, state: &State) -> Self {
        let wanted = state.filter.to_lowercase();
        let admits = |text: &dyn Fn() -> String| {
            wanted.is_empty() || text().to_lowercase().contains(&wanted)
        };
        let ranges = model.pools().iter().map(PoolRow::Range);
        let refused = model.refused().iter().map(|one| PoolRow::Refused(&one.group, &one.why));
        Self {
            model,
            nodes: model.nodes().iter().filter(|row| admits(&|| node_text(row))).collect(),
            addresses: {
                model.addresses().iter().filter(|row| admits(&|| address_text(row))).collect()
            },
            moves: model.moves().filter(|row| admits(&|| move_text(row))).collect(),
            pools: ranges.chain(refused).filter(|row| admits(&|| row.text())).collect(),
        }
    }

    /// How many there are in each panel.
    pub(super) fn lengths(&self) -> [usize; Panel::ALL.len()] {
        Panel::ALL.map(|panel| match panel {
            Panel::Addresses => self.addresses.len(),
            Panel::Moves => self.moves.len(),
            Panel::Nodes => self.nodes.len(),
            Panel::Pools => self.pools.len(),
        })
    }

    pub(super) fn draw(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        panel: Panel,
        state: &State,
        theme: Theme,
    ) {
        let first = state.first(panel);
        let listing = self.listing(panel, state, theme);
        let now = self.model.now();
        match panel {
            Panel::Addresses => {
                let rows = self.addresses.iter().skip(first);
                let began = self.model.began();
                let age = |row: &AddressRow| {
                    let span =
                        seconds(now.duration_since(row.since.unwrap_or(began)).as_secs_f64());
                    if row.since.is_some() { span } else { format!(">{span}") }
                };
                let rows = rows.map(|row| address_cells(row, &age(row), theme));
                listing.draw(frame, area, rows, theme);
            }
            Panel::Moves => {
                let rows = self.moves.iter().skip(first);
                let rows = rows.map(|row| move_cells(row, row.gap(now), theme));
                listing.draw(frame, area, rows, theme);
            }
            Panel::Nodes => {
                let rows = self.nodes.iter().skip(first);
                let rows = rows.map(|row| node_cells(row, self.model.lease(&row.line.node), theme));
                listing.draw(frame, area, rows, theme);
            }
            Panel::Pools => {
                let rows = self.pools.iter().skip(first);
                listing.draw(frame, area, rows.map(|row| row.cells(theme)), theme);
            }
        }
    }

    fn listing(&self, panel: Panel, state: &State, theme: Theme) -> Listing<'static> {
        use Constraint::{Fill, Length, Max};
        let (name, headings, widths) = match panel {
            Panel::Addresses => (
                "Addresses",
                vec!["ADDRESS", "SERVICE", "GROUP", "HOLDER", "SINCE"],
                vec![Length(self.address_width()), Fill(2), Fill(1), Fill(2), Length(7)],
            ),
            Panel::Moves => (
                "Moves",
                vec!["TIME", "ADDRESS", "FROM → TO", "GAP", "SERVICE"],
                vec![Length(10), Length(self.address_width()), Fill(2), Length(7), Fill(1)],
            ),
            Panel::Nodes => (
                "Nodes",
                vec!["NODE", "STATE", "LEASE", "HOLDS", "SUBNETS"],
                vec![Fill(1), Length(8), Length(BAR as u16 + 9), Length(5), Fill(3)],
            ),
            Panel::Pools => (
                "Pools",
                vec!["GROUP", "TYPE", "RANGE", "USED", ""],
                vec![Max(16), Length(6), Fill(2), Length(BAR as u16), Fill(1)],
            ),
        };
        let length = self.lengths()[panel.index()];
        let style = if state.focus == panel { theme.focus() } else { bold(Style::new()) };
        let mut title =
            vec![span(format!(" {name} "), style), span(format!("{length} "), theme.dim())];
        if !state.filter.is_empty() {
            title.push(span(format!("with {:?} ", state.filter), theme.doubtful()));
        }
        let title = Line::from(title);
        Listing { title, headings, widths, has_focus: state.focus == panel }
    }

    /// As many columns as the widest address of the whole cluster needs.
    fn address_width(&self) -> u16 {
        let addresses = self.model.addresses().iter().filter_map(|row| row.line.ip);
        let has_v6 = addresses.clone().any(|ip| ip.is_ipv6());
        let width = |ip: std::net::IpAddr| ip.to_string().len() as u16;
        let widest = if has_v6 { addresses.map(width).max() } else { None };
        widest.unwrap_or_default().max(15)
    }
}

fn node_text(row: &NodeRow) -> String {
    let line = &row.line;
    let reason = row.reason.as_deref().unwrap_or_default();
    format!("{} {} {} {reason}", line.node, line.standing, list(&line.subnets))
}

fn node_cells(row: &NodeRow, lease: Option<(f64, f64)>, theme: Theme) -> Vec<Line<'_>> {
    let line = &row.line;
    let style = match line.standing {
        NodeStanding::Ok => theme.good(),
        NodeStanding::Idle | NodeStanding::Keep => theme.doubtful(),
        NodeStanding::Expired | NodeStanding::NoLease => theme.bad(),
    };
    let serves = match &row.reason {
        Some(reason) => Line::from(span(reason, theme.doubtful())),
        None => Line::from(list(&line.subnets)),
    };
    vec![
        Line::from(span(line.node.as_str(), theme.name())),
        Line::from(span(line.standing.to_string(), style)),
        lease_cell(lease, theme),
        Line::from(format!("{:>5}", row.holds)),
        serves,
    ]
}

fn lease_cell(lease: Option<(f64, f64)>, theme: Theme) -> Line<'static> {
    let Some((left, lasts)) = lease else { return Line::from(span("none", theme.bad())) };
    if left <= 0.0 {
        let ago = format!("ran out {} ago", seconds(-left));
        return Line::from(span(ago, theme.bad()));
    }
    let share = left / lasts.max(f64::EPSILON);
    let style = match share {
        ..0.2 => theme.bad(),
        ..0.5 => theme.doubtful(),
        _ => theme.good(),
    };
    let mut line = Line::from(bar(share, BAR, style, theme).to_vec());
    line.push_span(Span::raw(format!(" {:>7}", seconds(left))));
    line
}

fn address_text(row: &AddressRow) -> String {
    let line = &row.line;
    let ip = line.ip.map(|ip| ip.to_string()).unwrap_or_default();
    let group = line.group.as_deref().unwrap_or_default();
    format!("{ip} {}/{} {group} {}", line.namespace, line.name, holder(&row.holder))
}

fn address_cells<'a>(row: &'a AddressRow, age: &str, theme: Theme) -> Vec<Line<'a>> {
    let line = &row.line;
    let service = Line::from(format!("{}/{}", line.namespace, line.name));
    let group = Line::from(line.group.as_deref().unwrap_or("-"));
    let Some(ip) = line.ip else {
        let detail = line.detail.as_deref().unwrap_or_default();
        let none = Line::from(span("none yet", theme.bad()));
        return vec![none, service, group, Line::from(span(detail, theme.doubtful()))];
    };
    let style = match (&row.holder, line.status) {
        (Holder::Nobody(_) | Holder::Unassigned, _) => theme.bad(),
        (Holder::EveryNode(0), _) => theme.bad(),
        (Holder::EveryNode(_) | Holder::Node(..), Standing::Ok) => theme.name(),
        (
            Holder::EveryNode(_) | Holder::Node(..),
            Standing::AnnouncerUnhealthy | Standing::NoAnnouncer | Standing::Pending,
        ) => theme.doubtful(),
    };
    vec![
        Line::from(ip.to_string()),
        service,
        group,
        Line::from(span(holder(&row.holder), style)),
        Line::from(format!("{age:>7}")),
    ]
}

fn holder(holder: &Holder) -> String {
    match holder {
        Holder::EveryNode(1) => "kube-lb0 on 1 node".to_owned(),
        Holder::EveryNode(nodes) => format!("kube-lb0 on {nodes} nodes"),
        Holder::Node(node, interface) => format!("{node} {interface}"),
        Holder::Nobody(Some(node)) => format!("nobody; {node}'s turn"),
        Holder::Nobody(None) => "nobody".to_owned(),
        Holder::Unassigned => String::new(),
    }
}

fn move_text(row: &Move) -> String {
    let (from, to) = ends(row);
    format!("{} {} {from} {to}", row.ip, row.service)
}

fn ends(row: &Move) -> (&str, &str) {
    let from = row.from.as_ref().map_or("new", |node| node.as_str());
    let to = match &row.end {
        MoveEnd::Arrived(node, _) => node.as_str(),
        MoveEnd::Gone(_) => "deleted",
        MoveEnd::Pending => "…",
    };
    (from, to)
}

fn move_cells(row: &Move, gap: Option<f64>, theme: Theme) -> Vec<Line<'_>> {
    let (from, to) = ends(row);
    let is_pending = row.end == MoveEnd::Pending;
    let strong = if is_pending { theme.bad() } else { theme.name() };
    let came = if row.from.is_some() { theme.name() } else { theme.dim() };
    let gap = match gap {
        Some(0.0) => "none".to_owned(),
        Some(gap) => seconds(gap),
        None => String::new(),
    };
    let path = [span(from, came), span(" → ", theme.dim()), span(to, strong)];
    let gap_style = if is_pending { theme.bad() } else { Style::new() };
    vec![
        Line::from(span(row.at().map(clock).unwrap_or_default(), theme.dim())),
        Line::from(row.ip.to_string()),
        Line::from(path.to_vec()),
        Line::from(span(format!("{gap:>7}"), gap_style)),
        Line::from(row.service.to_string()),
    ]
}

impl PoolRow<'_> {
    fn text(&self) -> String {
        match self {
            Self::Range(pool) => format!("{} {} {}", pool.group, pool.announce, pool.range),
            Self::Refused(group, why) => format!("{group} {why}"),
        }
    }

    fn cells(&self, theme: Theme) -> Vec<Line<'_>> {
        let pool = match self {
            Self::Range(pool) => pool,
            Self::Refused(group, why) => {
                return vec![
                    Line::from(*group),
                    Line::from(span("none", theme.bad())),
                    Line::from(span(*why, theme.bad())),
                ];
            }
        };
        let (used, group) = (count(&pool.used), Line::from(pool.group.as_str()));
        let kind = Line::from(pool.announce.as_str());
        let range = Line::from(pool.range.as_str());
        let (Some(size), Some(percent)) = (&pool.size, pool.percent()) else {
            return vec![group, kind, range, Line::from(""), Line::from(format!("{used} used"))];
        };
        let style = match percent {
            ..80.0 => theme.good(),
            ..100.0 => theme.doubtful(),
            _ => theme.bad(),
        };
        let bar = Line::from(bar(percent / 100.0, BAR, style, theme).to_vec());
        vec![group, kind, range, bar, Line::from(format!("{used} of {}", count(size)))]
    }
}
