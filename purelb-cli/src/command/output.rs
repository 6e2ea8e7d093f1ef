//! How subcommands print: a table for people, JSON or YAML for programs.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::Serialize;

/// The option `-o` of every subcommand that shows something.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// How to print
    #[arg(short = 'o', long = "output", value_enum, default_value_t, global = true)]
    format: Format,
}

/// Words of tables that say how something stands, and the colours (of ECMA-48) that they have on a
/// terminal.
const COLOURS: [(&str, &[&str]); 3] = [
    ("32", &["OK", "PASS", "GAINS"]),
    ("33", &["IDLE", "KEEP", "WARN", "CHANGES"]),
    (
        "31",
        &[
            "ANNOUNCER-UNHEALTHY",
            "EXPIRED",
            "FAIL",
            "NO-ANNOUNCER",
            "NO-LEASE",
            "PENDING",
            "REFUSED",
        ],
    ),
];

/// What `-o` may say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For programs
    Json,
    /// For people
    #[default]
    Table,
    /// For programs, and easier on the eye
    Yaml,
}

/// Something that a subcommand shows: data, and the same as text.
pub trait Report: Serialize {
    /// Prints it for people.
    ///
    /// # Errors
    ///
    /// If the writer fails.
    fn print(&self, to: &mut dyn Write) -> io::Result<()>;
}

impl Output {
    /// Prints `report` as asked, in colours if a person looks at it on a terminal and `NO_COLOR` is not
    /// set. A reader that has gone is no error.
    pub fn show(self, report: &impl Report) {
        let mut text = Vec::new();
        let made = match self.format {
            Format::Json => serde_json::to_writer_pretty(&mut text, report)
                .map_err(io::Error::from)
                .and_then(|()| writeln!(text)),
            Format::Table => report.print(&mut text).map(|()| {
                let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                if io::stdout().is_terminal() && !is_plain {
                    text = painted(&String::from_utf8_lossy(&text)).into_bytes();
                }
            }),
            Format::Yaml => serde_saphyr::to_string(report)
                .map_err(io::Error::other)
                .and_then(|yaml| text.write_all(yaml.as_bytes())),
        };
        if let Err(error) = made.and_then(|()| io::stdout().lock().write_all(&text))
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            eprintln!("purelb: cannot print: {error}");
        }
    }
}

fn painted(text: &str) -> String {
    let paint = |piece: &str| {
        let word = piece.trim_end();
        let colour = COLOURS.iter().find(|(_, words)| words.contains(&word));
        match colour {
            Some((code, _)) => format!("\x1b[{code}m{word}\x1b[0m{}", &piece[word.len()..]),
            None => piece.to_owned(),
        }
    };
    text.split_inclusive([' ', '\n']).map(paint).collect()
}

/// Rows under headings, in columns as wide as their widest cell.
#[derive(Clone, Debug)]
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(headings: impl Into<Vec<&'static str>>) -> Self {
        Self { headings: headings.into(), rows: Vec::new() }
    }

    /// Adds a row. An empty cell shows as `-`, so that every line has as many words as there are
    /// columns without blanks.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        let cells = cells.into_iter().map(Into::into);
        self.rows.push(
            cells.map(|cell: String| if cell.is_empty() { "-".to_owned() } else { cell }).collect(),
        );
    }

    /// Prints it; without rows, nothing.
    ///
    /// # Errors
    ///
    /// If the writer fails.
    pub fn print(&self, to: &mut dyn Write) -> io::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut widths: Vec<usize> = self.headings.iter().map(|text| text.len()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let headings: Vec<String> = self.headings.iter().map(ToString::to_string).collect();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
            }
            writeln!(to, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// The exit status of what shows something: 0 if nothing is wrong with it, 1 if something is.
pub fn verdict(is_fine: bool) -> ExitCode {
    if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Joins what can be displayed, with a comma between.
pub fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_say_how_something_stands_have_colours_and_no_others() {
        let painted = painted("n1  OK      -\nn2  EXPIRED 1\nnot OKAY\n");
        assert_eq!(
            painted,
            "n1  \x1b[32mOK\x1b[0m      -\nn2  \x1b[31mEXPIRED\x1b[0m 1\nnot OKAY\n"
        );
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_no_cell_is_empty() {
        let mut table = Table::new(["NODE", "IP"]);
        table.row(["a-long-name", "192.0.2.1"]);
        table.row(["b", ""]);
        let mut text = Vec::new();
        table.print(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text, "NODE         IP\na-long-name  192.0.2.1\nb            -\n");
    }
}
