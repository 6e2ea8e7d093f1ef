//! The benchmark runs, and a burst of Services costs no more requests than it has to; how long it takes is
//! for `docs/benchmarks.md`.
//!
//! Needs iproute2 and the right to make network namespaces, as root or through a user namespace.

use std::process::Command;

use purelb_cli::lab::require;

/// The cells of each row that `purelb lab bench` prints for these cases: what, and how it came out.
/// `None` where no lab can be made.
fn bench(cases: &[&str]) -> Option<Vec<(String, String)>> {
    let directory = tempfile::tempdir().expect("the directory for temporary files is ours");
    let output = Command::new(env!("CARGO_BIN_EXE_purelb"))
        .args(["lab", "bench"])
        .args(cases)
        .env("XDG_RUNTIME_DIR", directory.path())
        .output()
        .expect("the program can be started");
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    let lacks = ["cannot create a user namespace", "cannot create a network namespace", "iproute2"];
    if lacks.iter().any(|lack| complaints.contains(lack)) {
        require::skip(complaints.trim());
        return None;
    }
    assert!(output.status.success(), "{complaints}");
    let table = String::from_utf8(output.stdout).expect("text");
    let rows = table.lines().skip(2).map(|line| {
        let mut cells = line.split('|').skip(1).map(|cell| cell.trim().to_owned());
        (cells.next().expect("what"), cells.next().expect("how it came out"))
    });
    Some(rows.collect())
}

fn row<'a>(rows: &'a [(String, String)], what: &str) -> &'a str {
    let found = rows.iter().find(|(row, _)| row.contains(what));
    found.map_or_else(|| panic!("no {what:?} in {rows:?}"), |(_, measured)| measured.as_str())
}

/// How many requests of a kind, such as `patch services`, one of the two kinds of programs made.
fn requests(writes: &str, program: &str, kind: &str) -> usize {
    let of_program = writes.split("; ").find(|part| part.starts_with(program));
    let counts = of_program.and_then(|part| part.split_once(": ")).map(|(_, counts)| counts);
    let mut counts = counts.unwrap_or_default().split(", ");
    let count = counts.find_map(|count| count.strip_prefix(kind)?.strip_prefix(' '));
    count.map_or(0, |count| count.parse().expect("a number"))
}

#[test]
fn each_service_of_a_burst_is_answered_once_and_told_of_once() {
    let Some(rows) = bench(&["burst300", "deleted"]) else { return };
    let writes = row(&rows, "API writes per Service");
    assert_eq!(requests(writes, "allocator", "patch services/status"), 300, "{writes}");
    for (program, kind) in [
        ("allocator", "create events"),
        ("allocator", "patch events"),
        ("agents", "create events"),
        ("agents", "patch events"),
        ("agents", "patch services"),
    ] {
        assert!(requests(writes, program, kind) <= 300, "{kind}: {writes}");
    }
    assert!(row(&rows, "each, from its creation").contains("(n = 300)"), "{rows:?}");
    assert!(row(&rows, "deleted by hand").contains("(n = 100)"), "{rows:?}");
}
