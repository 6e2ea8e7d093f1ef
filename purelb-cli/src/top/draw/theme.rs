//! Styles by what they mean.

use ratatui::style::{Color, Modifier, Style};

/// The colours of a terminal, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    /// The sixteen colours that every terminal has, as its owner likes them.
    #[default]
    Coloured,
    /// Without any, for those who ask for that (`NO_COLOR`).
    Plain,
}

impl Theme {
    /// All is well.
    pub fn good(self) -> Style {
        self.coloured(Color::Green)
    }

    /// To be watched.
    pub fn doubtful(self) -> Style {
        self.coloured(Color::Yellow)
    }

    /// Something is wrong.
    pub fn bad(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// Who or what.
    pub fn name(self) -> Style {
        self.coloured(Color::Cyan)
    }

    /// Of less weight.
    pub fn dim(self) -> Style {
        match self {
            Self::Coloured => Style::new().fg(Color::DarkGray),
            Self::Plain => Style::new().add_modifier(Modifier::DIM),
        }
    }

    /// Where keys go.
    pub fn focus(self) -> Style {
        self.coloured(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    fn coloured(self, colour: Color) -> Style {
        match self {
            Self::Coloured => Style::new().fg(colour),
            Self::Plain => Style::new(),
        }
    }
}
