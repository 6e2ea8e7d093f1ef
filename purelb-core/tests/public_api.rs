//! The public API of the library, as text: whoever changes it sees so in a diff, and decides on the version.
//!
//! `UPDATE_FIXTURES=1 cargo test -p purelb-core --test public_api` writes `public-api.txt` anew. The text is
//! of the default features; `sim` and `mutations` are tools of tests and promise nothing.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use public_api::PublicApi;

const CHECKED_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/public-api.txt");

/// The crates whose types may stand in the API. All but the last come with Rust.
const MAY_APPEAR: [&str; 5] = ["alloc", "core", "purelb_core", "std", "ipnet"];

/// The format of rustdoc's JSON that the crate `public-api`, in the version of `Cargo.toml`, reads.
const FORMAT: u32 = 57;

#[test]
fn the_public_api_is_the_one_that_is_checked_in() {
    let Some(api) = public_api() else { return };
    let text = text(&api);
    if env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(CHECKED_IN, &text).expect("the folder of the crate is written to");
    }
    let checked_in = fs::read_to_string(CHECKED_IN).unwrap_or_default();
    let changes = changes(&checked_in, &text);
    assert!(
        changes.is_empty(),
        "the public API differs from public-api.txt:\n{}\nIf that is meant, read in CONTRIBUTING.md what breaks, \
         and write the file: UPDATE_FIXTURES=1 cargo test -p purelb-core --test public_api",
        changes.join("\n")
    );
}

#[test]
fn no_type_of_another_crate_but_ipnet_is_in_the_public_api() {
    let Some(api) = public_api() else { return };
    let foreign: Vec<String> =
        api.items().map(ToString::to_string).filter(|item| names_others(item)).collect();
    assert!(foreign.is_empty(), "these name another crate's types:\n{}", foreign.join("\n"));
}

#[test]
fn types_of_others_are_told_from_paths_within_a_crate() {
    assert!(!names_others(
        "pub fn purelb_core::range::Range::new(ipnet::ipnet::IpNet) -> core::option::Option<u8>"
    ));
    assert!(names_others("pub fn purelb_core::range::Range::digest(&self) -> sha2::Sha256"));
    assert!(names_others("impl serde_core::ser::Serialize for purelb_core::range::Range"));
    assert!(names_others("pub fn purelb_core::f() -> &<T as tokio::Spawn>::Output"));
}

#[test]
fn what_is_new_and_what_is_gone_is_named() {
    let changes = changes("a\nb\n", "b\nc\n");
    assert_eq!(changes, ["- a", "+ c"]);
}

/// Whether a crate is named at the start of a path that is not in [`MAY_APPEAR`].
fn names_others(item: &str) -> bool {
    let within_a_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let paths = item.split(|c: char| !within_a_path(c)).filter(|word| !word.starts_with(':'));
    let mut crates = paths.filter_map(|path| path.split_once("::")).map(|(first, _)| first);
    crates.any(|name| name.starts_with(char::is_lowercase) && !MAY_APPEAR.contains(&name))
}

/// One item a line. Methods of traits of the standard library are told by the line of their `impl`.
fn text(api: &PublicApi) -> String {
    let mut lines = String::new();
    let mut of_standard_trait = false;
    for item in api.items().map(ToString::to_string) {
        if item.starts_with("impl") {
            let of_a_trait = item.contains(" for ");
            of_standard_trait = of_a_trait && !item.starts_with("impl purelb_core");
        }
        let is_method = item.starts_with("pub fn") && of_standard_trait;
        let is_the_compilers = item.contains("::StructuralPartialEq for ");
        if !is_method && !is_the_compilers {
            lines.push_str(&item);
            lines.push('\n');
        }
    }
    lines
}

fn changes(before: &str, after: &str) -> Vec<String> {
    let [before, after]: [BTreeSet<&str>; 2] = [before, after].map(|text| text.lines().collect());
    let gone = before.difference(&after).map(|line| format!("- {line}"));
    let new = after.difference(&before).map(|line| format!("+ {line}"));
    gone.chain(new).collect()
}

/// `None`, having said why, if this toolchain's rustdoc writes another format than is read here.
fn public_api() -> Option<PublicApi> {
    let json = rustdoc_json();
    let found = format_of(&json);
    if found != FORMAT {
        let why = format!(
            "rustdoc writes format {found} of its JSON, the crate public-api here reads {FORMAT}"
        );
        assert!(!is_required(), "public-api is required, but {why}");
        println!("skipped: {why}");
        return None;
    }
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .build();
    Some(api.expect("rustdoc wrote what it says it writes"))
}

#[expect(clippy::disallowed_methods, reason = "a test, not the core, asks what may not be skipped")]
fn is_required() -> bool {
    let required = env::var("PURELB_REQUIRE").unwrap_or_default();
    required.split(',').any(|name| name.trim() == "public-api")
}

/// Has rustdoc write what it knows. Its JSON is not stable: the environment variable says that we know.
fn rustdoc_json() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("public-api");
    let output = Command::new(env!("CARGO"))
        .args(["rustdoc", "--package", "purelb-core", "--lib", "--locked", "--target-dir"])
        .arg(&folder)
        .args(["--", "-Z", "unstable-options", "--output-format", "json", "--cap-lints", "allow"])
        .env("RUSTC_BOOTSTRAP", "1")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder.join("doc/purelb_core.json")
}

fn format_of(json: &Path) -> u32 {
    #[derive(serde::Deserialize)]
    struct Format {
        format_version: u32,
    }
    let text = fs::read_to_string(json).expect("rustdoc wrote it");
    let format: Format = serde_json::from_str(&text).expect("JSON of rustdoc");
    format.format_version
}
