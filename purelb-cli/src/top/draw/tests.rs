//! Whole frames are what they were, and the pictures in the docs are such frames.
//!
//! `UPDATE_FIXTURES=1` writes them anew; look at them before you believe them.

use std::fs;
use std::path::{Path, PathBuf};

use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent};
use ratatui::layout::Rect;

use super::*;
use crate::report::fixture::{objects, service, snapshot};
use crate::top::model::Fact;
use crate::top::screen::{still, text};
use crate::top::source::simulator::Simulator;
use crate::top::source::{OwnTime, Source};
use crate::top::svg::svg;

/// Compares with a file, or writes it.
fn compare(path: &Path, found: &str) {
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, found).unwrap();
    }
    let wanted = fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == wanted,
        "{} is not what is drawn (UPDATE_FIXTURES=1 writes it anew):\n{found}",
        path.display()
    );
}

fn frame_is(name: &str, buffer: &Buffer) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/top");
    compare(&folder.join(format!("{name}.txt")), &format!("{buffer:#?}\n"));
}

fn picture_is(name: &str, buffer: &Buffer) {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/img");
    compare(&folder.join(format!("top-{name}.svg")), &svg(buffer));
}

fn simulation(seed: u64) -> Setting {
    Setting {
        title: format!("simulation of seed {seed}"),
        theme: Theme::Coloured,
        has_own_time: true,
    }
}

fn cluster(theme: Theme) -> Setting {
    Setting { title: "cluster, namespace purelb".to_owned(), theme, has_own_time: false }
}

/// The history of a seed after so many seconds.
fn simulated(seed: u64, seconds: f64) -> Model {
    let mut source = Simulator::new(seed);
    let mut model = source.begin().unwrap();
    source.advance(std::time::Duration::from_secs_f64(seconds), &mut model).unwrap();
    model.refresh();
    assert_eq!(source.position().as_secs_f64(), seconds);
    model
}

/// The small cluster of the other reports' tests, so many seconds after it was looked at.
fn looked_at(more: Vec<serde_json::Value>, seconds: u64) -> Model {
    let mut objects = objects();
    objects.extend(more);
    let seen = snapshot(objects);
    let at = seen.taken;
    let mut model = Model::new(at);
    model.handle_fact(Fact::Looked(Box::new(seen)), at);
    model.handle_time(at.checked_add(std::time::Duration::from_secs(seconds)).unwrap());
    model.refresh();
    model
}

fn pressed(keys: &[KeyCode]) -> State {
    let mut state = State::default();
    for key in keys {
        state.handle_key(KeyEvent::from(*key));
    }
    state
}

#[test]
fn frames_are_drawn_as_they_were() {
    let none = State::default();
    let model = looked_at(vec![service("asks", None, "missing", "local", None)], 1);
    frame_is("small-terminal", &still(&model, &none, &cluster(Theme::Coloured), 80, 24));
    frame_is("too-small", &still(&model, &none, &cluster(Theme::Coloured), 79, 24));
    frame_is("plain", &still(&model, &none, &cluster(Theme::Plain), 100, 30));
    let silent = looked_at(Vec::new(), 30);
    frame_is("silence", &still(&silent, &none, &cluster(Theme::Coloured), 80, 24));
    let model = simulated(1, 25.0);
    frame_is("wide", &still(&model, &none, &simulation(1), 150, 36));
    let filter = [KeyCode::Char('/'), KeyCode::Char('D'), KeyCode::Char('u'), KeyCode::Char('a')];
    frame_is("typing", &still(&model, &pressed(&filter), &simulation(1), 100, 30));
    let alone = pressed(&[KeyCode::Tab, KeyCode::Enter, KeyCode::Char('p'), KeyCode::Char('j')]);
    frame_is("alone", &still(&model, &alone, &simulation(1), 80, 24));
    let help = pressed(&[KeyCode::Char('?')]);
    frame_is("help", &still(&model, &help, &simulation(1), 80, 24));
}

#[test]
fn pictures_in_the_docs_are_what_is_drawn() {
    let none = State::default();
    picture_is("simulation", &still(&simulated(8, 54.0), &none, &simulation(8), 110, 34));
}

#[test]
fn rows_that_have_no_room_are_scrolled_to_and_not_drawn() {
    let more = (0..500).map(|n| {
        let ip = format!("198.51.100.{}", n % 200 + 20);
        service(&format!("far-{n:03}"), Some(&ip), "routed", "remote", None)
    });
    let model = looked_at(more.collect(), 1);
    let mut state = pressed(&[KeyCode::End]);
    state.settle(furthest(Rect::new(0, 0, 80, 24), &model, &state));
    assert!(state.first(Panel::Addresses) > 490);
    let text = text(&still(&model, &state, &cluster(Theme::Plain), 80, 24));
    assert!(text.contains("shop/web") && !text.contains("shop/far-000"), "{text}");
}
