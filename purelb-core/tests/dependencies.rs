//! What the library brings along: little, and nothing that does I/O.

use std::collections::BTreeSet;
use std::process::Command;

/// Its own dependencies are the first three of `Cargo.toml`; the others are theirs. Update this list only
/// with a reason for what is new.
const KNOWN: [&str; 16] = [
    "block-buffer",
    "cfg-if",
    "cpufeatures",
    "crypto-common",
    "digest",
    "generic-array",
    "ipnet",
    "proc-macro2",
    "purelb-core",
    "quote",
    "sha2",
    "syn",
    "thiserror",
    "thiserror-impl",
    "typenum",
    "unicode-ident",
];

#[test]
fn it_depends_on_what_is_listed_here_and_on_nothing_else() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--package", "purelb-core", "--edges", "normal", "--prefix", "none"])
        .args(["--target", "x86_64-unknown-linux-gnu", "--locked", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs this test");
    let text = String::from_utf8_lossy(&tree.stdout);
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let found: BTreeSet<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(found, BTreeSet::from(KNOWN));
}
