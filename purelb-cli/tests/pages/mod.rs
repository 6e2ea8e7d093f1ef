//! The pages of the documentation: where their links lead, and the commands that they show.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;
use purelb_cli::command::programs;

/// A page, by its path from the top of the tree.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) path: PathBuf,
    text: String,
}

/// All pages at the top and in `docs`.
pub(crate) fn all(root: &Path) -> Vec<Page> {
    let mut pages = Vec::new();
    for folder in ["", "docs"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path).unwrap();
                pages.push(Page { path, text });
            }
        }
    }
    pages
}

impl Page {
    /// The links that lead nowhere in the tree.
    pub(crate) fn broken_links(&self) -> Vec<String> {
        let folder = self.path.parent().unwrap();
        let prose = self.text.split("```").step_by(2);
        let targets = prose
            .flat_map(|text| text.split("](").skip(1))
            .filter_map(|rest| rest.split(')').next());
        let broken = targets.filter(|target| {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { self.path.clone() } else { folder.join(file) };
            !target.contains("://") && (!path.exists() || !has_heading(&path, heading))
        });
        broken.map(str::to_owned).collect()
    }

    /// The command lines in its blocks of code, and in code within its text if they begin with `purelb`.
    pub(crate) fn command_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (number, part) in self.text.split("```").enumerate() {
            if number % 2 == 0 {
                let indented = part.lines().filter_map(|line| line.strip_prefix("    "));
                let inline =
                    part.split('`').skip(1).step_by(2).filter(|code| code.starts_with("purelb "));
                lines.extend(indented.chain(inline).map(str::to_owned));
            } else {
                lines.extend(part.lines().map(|line| line.trim_start_matches("$ ").to_owned()));
            }
        }
        let commands =
            lines.iter().flat_map(|line| line.split(" && ")).flat_map(|line| line.split(" | "));
        commands.map(|command| command.trim().to_owned()).collect()
    }
}

/// The folders that commands are given files of.
const GIVEN: [&str; 4] = [".ci/", "deploy/", "docs/", "examples/"];

/// The files of this tree that a command line names and that are not there.
pub(crate) fn missing_files(root: &Path, line: &str) -> Vec<String> {
    let words =
        line.split_whitespace().filter(|word| GIVEN.iter().any(|start| word.starts_with(start)));
    words.filter(|word| !root.join(word).exists()).map(str::to_owned).collect()
}

fn has_heading(path: &Path, anchor: &str) -> bool {
    if anchor.is_empty() {
        return true;
    }
    let text = fs::read_to_string(path).unwrap();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| line.trim_start_matches('#').trim()).any(|heading| slug(heading) == anchor)
}

/// What a heading is linked by.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// How a command line of ours begins, and which program takes the words after it.
const BEGINNINGS: [(&str, &str); 6] = [
    ("cargo run --locked -- ", "purelb"),
    ("cargo run --release --locked -- ", "purelb"),
    ("kubectl purelb ", "purelb"),
    ("target/release/purelb ", "purelb"),
    ("allocator ", "allocator"),
    ("purelb ", "purelb"),
];

/// What of a command line is not known to the program that it calls; nothing if it calls none of ours.
pub(crate) fn unknown_words(line: &str) -> Option<BTreeSet<String>> {
    let (words, name) =
        BEGINNINGS.iter().find_map(|(start, name)| Some((line.strip_prefix(start)?, name)))?;
    let mut program = programs().into_iter().find(|program| program.get_name() == *name)?;
    program.build();
    let words = words.split(" #").next()?.split_whitespace();
    let words = words.take_while(|word| *word != "--" && !word.starts_with('>'));
    let (mut command, mut unknown, mut is_named) = (&program, BTreeSet::new(), false);
    for word in words {
        if let Some(child) = command.find_subcommand(word) {
            (command, is_named) = (child, true);
        } else if !knows(command, word) || (!is_named && !word.starts_with('-')) {
            unknown.insert(word.to_owned());
            break;
        }
    }
    Some(unknown)
}

/// Whether a command takes that word, which may be a flag.
fn knows(command: &Command, word: &str) -> bool {
    let name = word.trim_end_matches([',', '.', ']']).trim_start_matches('[');
    let name = name.split('=').next().unwrap_or(name);
    if let Some(long) = name.strip_prefix("--") {
        return command.get_arguments().any(|argument| argument.get_long() == Some(long));
    }
    match name.strip_prefix('-').map(|short| short.chars().collect::<Vec<_>>()) {
        Some(letters) if letters.len() == 1 => {
            command.get_arguments().any(|argument| argument.get_short() == Some(letters[0]))
        }
        Some(_) | None => true,
    }
}
