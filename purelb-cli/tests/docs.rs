//! What the documentation says of the tests is so.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The names of all functions in the Rust files below a folder.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(path).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            found.extend(names.map(str::to_owned));
        }
    }
}

#[test]
fn the_tests_that_are_named_in_the_pitfalls_exist() {
    let mut there = BTreeSet::new();
    for package in ["purelb-core", "purelb-netlink", "purelb-k8s", "purelb-cli"] {
        for folder in ["src", "tests"] {
            functions(&root().join(package).join(folder), &mut there);
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
