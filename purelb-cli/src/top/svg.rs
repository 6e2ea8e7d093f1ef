//! A frame as a picture.

use std::fmt::Write;

use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::Position;
use ratatui::style::{Color, Modifier};

/// The size of a cell, and of the margin around all of them, in pixels.
const CELL: (f64, f64) = (8.4, 18.0);
const MARGIN: f64 = 14.0;

/// Where letters stand in their cell, and lines are drawn, from its top.
const BASELINE: f64 = 13.5;
const MIDDLE: f64 = 9.0;

/// The colours of the picture where nothing says otherwise.
const BACKGROUND: &str = "#14171f";
const FOREGROUND: &str = "#d5d9e2";

/// A frame as an SVG document, in the colours of a dark terminal. Equal frames make equal documents.
pub fn svg(buffer: &Buffer) -> String {
    let area = buffer.area();
    let width = f64::from(area.width) * CELL.0 + 2.0 * MARGIN;
    let height = f64::from(area.height) * CELL.1 + 2.0 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.1} {height:.1}\" \
         font-family=\"'DejaVu Sans Mono', Menlo, Consolas, monospace\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n"
    );
    for y in 0..area.height {
        for run in runs(buffer, y) {
            run.draw(&mut svg);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Neighbouring cells of one line that look alike.
struct Run {
    column: u16,
    line: u16,
    text: String,
    look: Look,
}

/// How a cell looks.
#[derive(Clone, Copy, PartialEq)]
struct Look {
    colour: Color,
    is_bold: bool,
    kind: Kind,
}

/// What is drawn of a cell.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Blank,
    Letters,
    /// A horizontal line of this width.
    Line(f64),
}

impl Look {
    fn of(cell: &Cell) -> Self {
        let kind = match cell.symbol() {
            " " => Kind::Blank,
            "─" => Kind::Line(1.0),
            "━" => Kind::Line(5.0),
            _ => Kind::Letters,
        };
        Self { colour: cell.fg, is_bold: cell.modifier.contains(Modifier::BOLD), kind }
    }
}

/// A blank between two words of one look is part of them, so that a sentence is one piece of text.
fn runs(buffer: &Buffer, line: u16) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut blanks = 0;
    for column in 0..buffer.area().width {
        let Some(cell) = buffer.cell(Position::new(column, line)) else { continue };
        let look = Look::of(cell);
        if look.kind == Kind::Blank {
            blanks += 1;
            continue;
        }
        match runs.last_mut() {
            Some(run)
                if run.look == look
                    && (blanks == 0 || look.kind == Kind::Letters && blanks == 1) =>
            {
                run.text.extend(std::iter::repeat_n(' ', blanks));
                run.text.push_str(cell.symbol());
            }
            _ => runs.push(Run { column, line, text: cell.symbol().to_owned(), look }),
        }
        blanks = 0;
    }
    runs
}

impl Run {
    fn draw(&self, svg: &mut String) {
        let cells = self.text.chars().count() as f64;
        let (x, y) =
            (f64::from(self.column) * CELL.0 + MARGIN, f64::from(self.line) * CELL.1 + MARGIN);
        let (width, colour) = (cells * CELL.0, colour(self.look.colour));
        // Writing into a string does not fail.
        let _ = match self.look.kind {
            Kind::Blank => Ok(()),
            Kind::Line(thickness) => writeln!(
                svg,
                "<path d=\"M{x:.1} {:.1}h{width:.1}\" stroke=\"{colour}\" stroke-width=\"{thickness}\"/>",
                y + MIDDLE
            ),
            Kind::Letters => {
                let weight = if self.look.is_bold { " font-weight=\"bold\"" } else { "" };
                writeln!(
                    svg,
                    "<text x=\"{x:.1}\" y=\"{:.1}\" textLength=\"{width:.1}\" fill=\"{colour}\"{weight}>{}</text>",
                    y + BASELINE,
                    escaped(&self.text)
                )
            }
        };
    }
}

/// A text as the content of an element of XML or HTML.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a theme has no other colours")]
fn colour(colour: Color) -> &'static str {
    match colour {
        Color::Cyan => "#6fc7e8",
        Color::DarkGray => "#757d90",
        Color::Green => "#7fcf8a",
        Color::Red => "#ff7b72",
        Color::Yellow => "#e8c66b",
        _ => FOREGROUND,
    }
}

#[cfg(test)]
mod tests {
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    use super::*;

    #[test]
    fn words_bars_and_colours_are_each_drawn_once() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 12, 1));
        buffer.set_string(0, 0, "a <b  ━━─", Style::new().fg(Color::Red));
        let svg = svg(&buffer);
        assert_eq!(svg.matches("<text").count(), 1, "{svg}");
        assert!(svg.contains("textLength=\"33.6\" fill=\"#ff7b72\">a &lt;b</text>"), "{svg}");
        assert!(svg.contains("M64.4 23.0h16.8\" stroke=\"#ff7b72\" stroke-width=\"5\""), "{svg}");
        assert_eq!(svg.matches("<path").count(), 2, "{svg}");
    }
}
