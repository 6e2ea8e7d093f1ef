//! A few failures of each kind, before a witness on the wire; the whole campaign is in
//! `docs/fail-over.md`.
//!
//! Needs iproute2 and the right to make network namespaces, as root or through a user namespace.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use purelb_cli::lab::require;

/// Runs a campaign with these arguments; whether all went as it should, and what it printed. `None`
/// where no lab can be made.
fn campaign(name: &str, arguments: &[&str]) -> Option<(bool, String)> {
    let directory = Directory::new(name);
    let records = directory.0.join("campaign.jsonl");
    let run = || {
        Command::new(env!("CARGO_BIN_EXE_purelb"))
            .args(["lab", "campaign", "--records"])
            .arg(&records)
            .args(arguments)
            .env("XDG_RUNTIME_DIR", &directory.0)
            .output()
            .expect("the program can be started")
    };
    let output = run();
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    let lacks = ["cannot create a user namespace", "cannot create a network namespace", "iproute2"];
    if lacks.iter().any(|lack| printed.contains(lack)) {
        require::skip(printed.trim());
        return None;
    }
    if output.status.success() {
        // All trials are in the file: there is nothing left to do but to print the same table.
        let again = run();
        let table = String::from_utf8_lossy(&again.stdout).into_owned();
        assert!(again.status.success() && printed.ends_with(&table), "{table}\n{printed}");
    }
    Some((output.status.success(), printed))
}

/// A directory for one test, removed in the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let name = format!("purelb-campaign-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("the directory for temporary files is ours");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn two_nodes_never_answer_for_one_address_whatever_becomes_of_an_agent() {
    let arguments = ["--trials", "2", "--labs", "2", "--services", "5"];
    let Some((is_good, printed)) = campaign("fenced", &arguments) else { return };
    assert!(is_good, "{printed}");
    for fault in ["kill", "freeze", "partition", "stop", "return"] {
        let line = printed.lines().find(|line| line.starts_with(&format!("| {fault} |")));
        let cells: Vec<&str> = line.unwrap_or_default().split('|').map(str::trim).collect();
        let [_, _, trials, doubles, ..] = cells[..] else { panic!("{printed}") };
        assert!(trials.parse::<u32>().is_ok_and(|trials| trials >= 2), "{printed}");
        assert_eq!(doubles, "0", "{printed}");
    }
}

#[test]
fn without_the_fence_the_witness_sees_two_nodes_answer() {
    let arguments = ["--trials", "1", "--labs", "1", "--services", "5", "--fence-off"];
    let Some((is_good, printed)) = campaign("unfenced", &arguments) else { return };
    assert!(is_good, "{printed}");
    assert!(printed.contains("fence switched off"), "{printed}");
}
