//! What the documentation says of the programs and of the tests is so.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod monitoring {
    #![allow(dead_code, reason = "the dashboard is not looked at here")]

    pub(crate) mod exposed;
    pub(crate) mod promql;
}
mod pages;
mod reference;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;

use reference::source;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The names of all functions in the Rust files below a folder.
fn functions(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    for text in source::all(folder) {
        let names = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
        found.extend(names.map(str::to_owned));
    }
    found
}

#[test]
fn the_tests_that_are_named_in_the_pitfalls_exist() {
    let mut there = BTreeSet::new();
    for package in ["purelb-core", "purelb-netlink", "purelb-k8s", "purelb-cli"] {
        for folder in ["src", "tests"] {
            there.extend(functions(&format!("{package}/{folder}")));
        }
    }
    let text = fs::read_to_string(root().join("docs/pitfalls.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what"));
    let mut rows_with_tests = 0;
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        assert!(tests == "—" || tests == "the same" || tests.starts_with('`'), "{row}");
        for name in tests.split('`').skip(1).step_by(2) {
            assert!(there.contains(name), "no test has the name {name}");
            rows_with_tests += 1;
        }
    }
    assert!(rows_with_tests > 40, "{rows_with_tests}");
}

#[test]
fn the_reference_is_what_the_programs_say() {
    let path = root().join("docs/reference.md");
    let page = reference::page();
    if env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let differs = written.lines().zip(page.lines()).find(|(is, should)| is != should);
    assert!(
        written == page,
        "docs/reference.md differs{}; write it anew: UPDATE_FIXTURES=1 cargo test -p purelb-cli --test docs",
        differs.map(|(is, should)| format!(":\n- {is}\n+ {should}\n")).unwrap_or_default()
    );
}

#[test]
fn the_reference_tells_of_every_environment_variable_that_is_read() {
    let (page, variables) = (reference::page(), reference::variables());
    assert!(variables.contains("HOSTNAME"), "{variables:?}");
    for name in variables {
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn the_labels_of_the_reference_are_those_that_are_looked_at() {
    reference::marks_are_looked_at();
}

#[test]
fn links_between_pages_lead_somewhere() {
    let pages = pages::all(root());
    assert!(pages.len() > 15, "{pages:?}");
    for page in pages {
        assert_eq!(page.broken_links(), [""; 0], "{}", page.path.display());
    }
}

#[test]
fn the_commands_of_the_pages_are_those_that_there_are() {
    let mut seen = 0;
    for page in pages::all(root()) {
        for line in page.command_lines() {
            let missing = pages::missing_files(root(), &line);
            assert_eq!(missing, [""; 0], "{}: {line}", page.path.display());
            let Some(unknown) = pages::unknown_words(&line) else { continue };
            assert!(unknown.is_empty(), "{}: {line}: there is no {unknown:?}", page.path.display());
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen}");
    for wrong in ["purelb statsu", "purelb top --fast", "purelb explain -x web"] {
        assert!(pages::unknown_words(wrong).is_some_and(|unknown| !unknown.is_empty()), "{wrong}");
    }
}
