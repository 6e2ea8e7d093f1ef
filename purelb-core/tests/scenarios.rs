//! The rules of allocation as stories: each file in `scenarios/` is prose and commands, with a
//! transcript of what the allocator did after each. They are read as documentation, and compared word
//! by word. `UPDATE_FIXTURES=1` writes the transcripts anew; read them before you believe them.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod allocator_world;
#[path = "scenarios/engine.rs"]
mod engine;

use std::path::{Path, PathBuf};

use engine::Story;

fn stories() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let files = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let mut stories: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|ext| ext == "txt")).collect();
    stories.sort();
    stories
}

fn play(name: &str, text: &str) -> Result<String, String> {
    let story = Story::parse(name, text).map_err(|error| error.to_string())?;
    story.play().map_err(|error| error.to_string())
}

#[test]
fn every_story_ends_as_it_is_written() {
    let update = std::env::var_os("UPDATE_FIXTURES").is_some();
    let mut complaints = Vec::new();
    for path in stories() {
        let name = path.file_name().unwrap().to_string_lossy();
        let written = std::fs::read_to_string(&path).unwrap();
        match play(&name, &written) {
            Ok(played) if played == written => {}
            Ok(played) if update => std::fs::write(&path, played).unwrap(),
            Ok(played) => complaints.push(engine::difference(&name, &written, &played)),
            Err(error) => complaints.push(error),
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_story_begins_with_the_rule_that_it_tells() {
    let stories = stories();
    assert!(stories.len() >= 20, "{} stories", stories.len());
    for path in stories {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# "), "{}", path.display());
    }
}

#[test]
fn a_transcript_replaces_the_old_one_and_nothing_else() {
    let text = "# Prose.\n\ngroup default local\n    192.0.2.1-192.0.2.2 in 192.0.2.0/24\n> old\n\n# The end.\nservice shop/web";
    let played = play("story", text).unwrap();
    let expected = "# Prose.

group default local
    192.0.2.1-192.0.2.2 in 192.0.2.0/24
> Normal Parsed group default: in use, announced local
> group default: allocatedIPv4 0, availableIPv4 2

# The end.
service shop/web
> Normal AddressAssigned shop/web: assigned 192.0.2.1 from group default
> shop/web: 192.0.2.1 [allocated-by PureLB, allocated-from default, pool-type local]
> group default: allocatedIPv4 1, availableIPv4 1
";
    assert_eq!(played, expected);
    assert_eq!(play("story", &played).unwrap(), expected, "a second time changes nothing");
}

#[test]
fn a_difference_is_told_with_file_line_and_both_texts() {
    let text = "service shop/web\n> nothing\n";
    let told = engine::difference("story", text, &play("story", text).unwrap());
    assert_eq!(
        told,
        "story:2: the transcript differs (UPDATE_FIXTURES=1 writes it anew)\n  written: > nothing\n  played:  > Warning AllocationFailed shop/web: unknown pool \"default\": there is no such ServiceGroup"
    );
}

#[test]
fn a_malformed_command_names_file_line_and_word() {
    for (text, told) in [
        ("\nbuy shop/web\n", "story:2: there is no command \"buy\""),
        ("# a\n> b\n", "story:2: a transcript without a command before it"),
        ("  shop/web", "story:1: a continuation without a command before it"),
        ("service web", "story:1: \"web\" is no namespace/name"),
        ("service", "story:1: something is missing at the end"),
        ("service a/b color=red", "story:1: a Service has no \"color=red\""),
        ("service a/b families=v5", "story:1: a Service has no \"families=v5\""),
        ("service a/b ports=tcp/http", "story:1: a Service has no \"ports=tcp/http\""),
        ("service a/b\nservice a/b", "story:2: a/b is there already"),
        ("edit a/b", "story:1: there is no a/b"),
        ("delete a/b", "story:1: there is no a/b"),
        ("delete group g", "story:1: there is no group g"),
        ("group g local", "story:1: something is missing at the end"),
        ("group g near 192.0.2.0/24 in 192.0.2.0/24", "story:1: \"near\" is no kind of group"),
        (
            "group g local 192.0.2.0/24 on 192.0.2.0/24",
            "story:1: \"on\" stands where \"in\" should",
        ),
        ("group g local a in b color=red", "story:1: a group has no \"color=red\""),
        ("subnets here", "story:1: \"here\" is no subnet"),
        ("restart now", "story:1: \"now\" is one word too many"),
        ("start", "story:1: the allocator runs already"),
        ("stop\nstop", "story:2: the allocator is stopped already"),
    ] {
        assert_eq!(play("story", text), Err(told.to_owned()), "{text:?}");
    }
}
