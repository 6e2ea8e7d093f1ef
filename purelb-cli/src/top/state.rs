//! What the viewer has chosen with keys.

use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Everything that is the viewer's choice.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The panel that scrolls.
    pub focus: Panel,
    /// Only that panel is shown.
    pub is_alone: bool,
    /// Only rows with this text are shown.
    pub filter: String,
    /// The filter is being typed.
    pub is_typing: bool,
    /// Nothing moves.
    pub is_paused: bool,
    /// The keys are explained.
    pub shows_help: bool,
    /// Which doubling of the speed of a source that has its own time.
    pub doublings: i32,
    /// The first row shown, of each panel.
    pub scrolled: [usize; Panel::ALL.len()],
}

/// A panel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Panel {
    /// Who has which address.
    #[default]
    Addresses,
    /// What went from where to where.
    Moves,
    /// Leases.
    Nodes,
    /// How full they are.
    Pools,
}

impl Panel {
    /// All of them, from top to bottom.
    pub const ALL: [Self; 4] = [Self::Nodes, Self::Addresses, Self::Moves, Self::Pools];

    /// Its place among all.
    pub fn index(self) -> usize {
        match self {
            Self::Nodes => 0,
            Self::Addresses => 1,
            Self::Moves => 2,
            Self::Pools => 3,
        }
    }

    fn turned(self, by: usize) -> Self {
        Self::ALL[(self.index() + by) % Self::ALL.len()]
    }
}

/// What a key asks of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To go one step back in time.
    Back,
    /// To go one step ahead in time.
    Ahead,
    /// To end.
    Quit,
}

/// The doublings of speed there are.
const DOUBLINGS: std::ops::RangeInclusive<i32> = -4..=8;

/// How many rows a page is.
const PAGE: isize = 10;

impl State {
    /// How much faster than time a source goes that has its own.
    pub fn speed(&self) -> f64 {
        f64::from(self.doublings).exp2()
    }

    /// How much passes there in `span`.
    pub fn passing(&self, span: Duration) -> Duration {
        span.mul_f64(self.speed())
    }

    /// The first row that a panel shows.
    pub fn first(&self, panel: Panel) -> usize {
        self.scrolled[panel.index()]
    }

    /// A key was pressed.
    #[expect(clippy::wildcard_enum_match_arm, reason = "most keys mean nothing")]
    pub fn handle_key(&mut self, key: KeyEvent) -> Option<Wish> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return (key.code == KeyCode::Char('c')).then_some(Wish::Quit);
        }
        if self.is_typing {
            self.type_filter(key.code);
            return None;
        }
        if std::mem::take(&mut self.shows_help) {
            return None;
        }
        match key.code {
            KeyCode::Char('q') => return Some(Wish::Quit),
            KeyCode::Left if self.is_paused => return Some(Wish::Back),
            KeyCode::Right if self.is_paused => return Some(Wish::Ahead),
            KeyCode::Char('?' | 'h') => self.shows_help = true,
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Esc if self.filter.is_empty() => self.is_alone = false,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Enter => self.is_alone = !self.is_alone,
            KeyCode::Tab => self.focus = self.focus.turned(1),
            KeyCode::BackTab => self.focus = self.focus.turned(Panel::ALL.len() - 1),
            KeyCode::Char('+' | '=') => self.doublings = (self.doublings + 1).min(*DOUBLINGS.end()),
            KeyCode::Char('-') => self.doublings = (self.doublings - 1).max(*DOUBLINGS.start()),
            KeyCode::Down | KeyCode::Char('j') => self.scroll(1),
            KeyCode::Up | KeyCode::Char('k') => self.scroll(-1),
            KeyCode::PageDown => self.scroll(PAGE),
            KeyCode::PageUp => self.scroll(-PAGE),
            KeyCode::Home | KeyCode::Char('g') => self.scrolled[self.focus.index()] = 0,
            KeyCode::End | KeyCode::Char('G') => self.scrolled[self.focus.index()] = usize::MAX,
            _ => {}
        }
        None
    }

    /// No panel is scrolled further than its last row: `most` is the greatest first row of each.
    pub fn settle(&mut self, most: [usize; Panel::ALL.len()]) {
        for (first, most) in self.scrolled.iter_mut().zip(most) {
            *first = (*first).min(most);
        }
    }

    fn scroll(&mut self, by: isize) {
        let first = &mut self.scrolled[self.focus.index()];
        *first = first.saturating_add_signed(by);
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "most keys mean nothing")]
    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(letter) => self.filter.push(letter),
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(state: &mut State, keys: &str) -> Option<Wish> {
        let press = |key| state.handle_key(KeyEvent::from(KeyCode::Char(key)));
        keys.chars().map(press).last().flatten()
    }

    fn key(state: &mut State, code: KeyCode) -> Option<Wish> {
        state.handle_key(KeyEvent::from(code))
    }

    #[test]
    fn q_ends_but_not_while_a_filter_is_typed() {
        let mut state = State::default();
        assert_eq!(press(&mut state, "/q"), None);
        assert_eq!(state.filter, "q");
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(state.handle_key(interrupt), Some(Wish::Quit));
        key(&mut state, KeyCode::Enter);
        assert_eq!(press(&mut state, "q"), Some(Wish::Quit));
    }

    #[test]
    fn escape_clears_the_filter_first_and_then_shows_all_panels() {
        let mut state = State::default();
        press(&mut state, "/web");
        key(&mut state, KeyCode::Backspace);
        key(&mut state, KeyCode::Enter);
        key(&mut state, KeyCode::Enter);
        assert_eq!((state.filter.as_str(), state.is_alone), ("we", true));
        key(&mut state, KeyCode::Esc);
        assert_eq!((state.filter.as_str(), state.is_alone), ("", true));
        key(&mut state, KeyCode::Esc);
        assert!(!state.is_alone);
    }

    #[test]
    fn a_panel_scrolls_within_its_rows() {
        let mut state = State::default();
        press(&mut state, "kjj");
        assert_eq!(state.first(Panel::Addresses), 2);
        press(&mut state, "G");
        state.settle([0, 7, 0, 0]);
        assert_eq!(state.first(Panel::Addresses), 7);
        key(&mut state, KeyCode::PageUp);
        assert_eq!(state.first(Panel::Addresses), 0);
        key(&mut state, KeyCode::Tab);
        assert_eq!(state.focus, Panel::Moves);
        key(&mut state, KeyCode::BackTab);
        key(&mut state, KeyCode::BackTab);
        assert_eq!(state.focus, Panel::Nodes);
    }

    #[test]
    fn time_is_stepped_through_only_while_it_stands_still() {
        let mut state = State::default();
        assert_eq!(key(&mut state, KeyCode::Left), None);
        press(&mut state, "p");
        assert_eq!(key(&mut state, KeyCode::Left), Some(Wish::Back));
        assert_eq!(key(&mut state, KeyCode::Right), Some(Wish::Ahead));
    }

    #[test]
    fn speed_doubles_and_halves_within_bounds() {
        let mut state = State::default();
        press(&mut state, "++-");
        assert_eq!(state.speed(), 2.0);
        press(&mut state, "--------");
        assert_eq!(state.passing(Duration::from_secs(1)), Duration::from_micros(62_500));
        press(&mut state, "++++++++++++++++++++");
        assert_eq!(state.speed(), 256.0);
    }

    #[test]
    fn any_key_closes_the_help_and_does_nothing_else() {
        let mut state = State::default();
        press(&mut state, "?");
        assert!(state.shows_help);
        assert_eq!(press(&mut state, "q"), None);
        assert!(!state.shows_help);
    }
}
