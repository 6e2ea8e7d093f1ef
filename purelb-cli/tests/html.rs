//! The page of recordings, in a real browser, and its picture in the docs.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

#[path = "common/png.rs"]
mod png;
#[path = "common/simulated.rs"]
mod simulated;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use png::Picture;
use purelb_cli::history::{History, html};
use purelb_cli::lab::require::skip_tier;
use purelb_cli::recording::Recording;
use serde::Deserialize;
use simulated::{ALL, recordings, story};

/// How wide and high the browser's window is.
const WINDOW: (usize, usize) = (1320, 900);

fn history() -> History {
    let sim = story(|sim, span| sim.run_for(span));
    let all: Vec<Recording> = recordings(&sim, ALL).into_values().collect();
    History::of(&all).unwrap()
}

/// What the page looks like to a browser: `UPDATE_FIXTURES=1` writes it anew; look at it before you
/// believe it.
#[test]
fn the_picture_in_the_docs_is_what_is_drawn() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/img/replay.svg");
    let found = html::picture(&history());
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(&path, &found).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "{} is not what is drawn: {found}", path.display());
}

/// Tells where the browser put what, by a script that the page itself does not have.
const MEASURE: &str = r##"<script>
const told = [...document.querySelectorAll(".plot g > rect")].map(rect => {
  const box = rect.getBoundingClientRect(), style = getComputedStyle(rect);
  return {kind: rect.parentNode.getAttribute("class") || "fold", fill: style.fill, x: box.x, y: box.y,
    width: box.width, height: box.height, title: rect.parentNode.querySelector("title").textContent};
});
const pre = document.createElement("pre");
pre.id = "measured";
pre.textContent = JSON.stringify({rects: told, words: document.querySelectorAll("#words tbody tr").length,
  paper: getComputedStyle(document.body).backgroundColor});
document.body.append(pre);
</script>"##;

#[derive(Deserialize)]
struct Measured {
    rects: Vec<Rect>,
    words: usize,
    paper: String,
}

#[derive(Deserialize)]
struct Rect {
    kind: String,
    fill: String,
    x: f64,
    y: f64,
    width: f64,
    height: f64,
    title: String,
}

/// A browser with a profile of its own, that prefers light or dark pages.
struct Browser<'a> {
    program: &'a str,
    folder: &'a Path,
    scheme: Scheme,
}

#[derive(Clone, Copy)]
enum Scheme {
    Dark = 0,
    Light = 1,
}

impl Browser<'_> {
    /// What it prints when it has opened the page with one more option.
    fn open(&self, option: &str, page: &Path) -> String {
        let (width, height) = WINDOW;
        let output = Command::new(self.program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", self.folder.join("profile").display()))
            .arg(format!("--window-size={width},{height}"))
            .arg(format!("--blink-settings=preferredColorScheme={}", self.scheme as u8))
            .arg(option)
            .arg(format!("file://{}", page.display()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Where it puts what of a page.
    fn measure(&self, page: &str) -> Measured {
        let path = self.folder.join("measured.html");
        fs::write(&path, page.replace("</body>", &format!("{MEASURE}</body>"))).unwrap();
        let dom = self.open("--dump-dom", &path);
        let (_, rest) = dom.split_once("<pre id=\"measured\">").expect(&dom);
        let json = rest.split_once("</pre>").unwrap().0;
        let json = json.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        serde_json::from_str(&json).unwrap()
    }

    fn picture(&self, page: &Path) -> Picture {
        let path = self.folder.join("shot.png");
        self.open(&format!("--screenshot={}", path.display()), page);
        Picture::read(&fs::read(path).unwrap())
    }
}

/// Chromium as Debian or another calls it.
fn browser() -> Option<&'static str> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    names.into_iter().find(|name| Command::new(name).arg("--version").output().is_ok())
}

/// `rgb(1, 2, 3)` as a browser tells a colour.
fn colour(text: &str) -> [u8; 3] {
    let numbers = text.strip_prefix("rgb(").and_then(|rest| rest.strip_suffix(')')).expect(text);
    let numbers: Vec<u8> = numbers.split(", ").map(|number| number.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

#[test]
fn a_browser_shows_the_holders_in_their_colours_and_gaps_between_them() {
    let Some(program) = browser() else { return skip_tier("chromium", "there is no chromium") };
    let history = history();
    let page = html::page(&history);
    assert!(!page.contains("<script") && !page.contains("http://") && !page.contains("https://"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page.html");
    fs::write(&path, &page).unwrap();
    for (scheme, paper) in [(Scheme::Light, [255, 255, 255]), (Scheme::Dark, [20, 23, 31])] {
        let browser = Browser { program, folder: folder.path(), scheme };
        let measured = browser.measure(&page);
        assert_eq!(colour(&measured.paper), paper);
        everything_is_there(&history, &measured);
        let picture = browser.picture(&path);
        assert_eq!((picture.width, picture.height), WINDOW);
        assert_eq!(picture.pixel(2, 2), paper);
        bars_have_their_colours(&picture, &measured);
        gaps_are_red(&picture, &measured);
    }
}

fn everything_is_there(history: &History, measured: &Measured) {
    let spans: usize = history.tracks.iter().map(|track| track.spans.len()).sum();
    let is_bar = |rect: &&Rect| !rect.kind.starts_with("mark") && rect.kind != "fold";
    let bars: Vec<&Rect> = measured.rects.iter().filter(is_bar).collect();
    assert_eq!((bars.len(), measured.words), (spans, spans));
    assert!(bars.iter().all(|rect| rect.width >= 1.0 && rect.height > 10.0));
    // A row of its own for every address.
    let mut rows: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for bar in bars {
        let (ip, _) = bar.title.split_once(": ").unwrap();
        rows.entry(ip).or_default().insert(bar.y as u64);
    }
    let ips: BTreeSet<String> = history.tracks.iter().map(|track| track.ip.to_string()).collect();
    assert!(rows.keys().copied().eq(ips.iter().map(String::as_str)), "{rows:?}");
    let heights: BTreeSet<_> = rows.values().flatten().collect();
    assert!(rows.values().all(|row| row.len() == 1) && heights.len() == rows.len(), "{rows:?}");
}

fn bars_have_their_colours(picture: &Picture, measured: &Measured) {
    let mut colours: BTreeMap<&str, BTreeSet<[u8; 3]>> = BTreeMap::new();
    for bar in measured.rects.iter().filter(|rect| rect.kind == "held" && rect.width > 30.0) {
        // Near its end, where no letters are.
        let found =
            picture.pixel((bar.x + bar.width - 5.0) as usize, (bar.y + bar.height / 2.0) as usize);
        assert_eq!(found, colour(&bar.fill), "{}", bar.title);
        let (_, holder) = bar.title.lines().next().unwrap().split_once(": ").unwrap();
        colours.entry(holder).or_default().insert(found);
    }
    let all: BTreeSet<_> = colours.values().flatten().collect();
    assert!(colours.len() == 3 && all.len() == 3, "a colour for each holder: {colours:?}");
}

fn gaps_are_red(picture: &Picture, measured: &Measured) {
    let gaps = measured.rects.iter().filter(|rect| rect.kind == "nobody");
    let mut count = 0;
    for gap in gaps {
        let xs = gap.x as usize..(gap.x + gap.width).ceil() as usize;
        let is_red = |[red, green, blue]: [u8; 3]| red > 150 && red > green + 50 && red > blue + 50;
        let y = (gap.y + gap.height / 2.0) as usize;
        assert!(xs.clone().any(|x| is_red(picture.pixel(x, y))), "{}", gap.title);
        count += 1;
    }
    assert!(count >= 3, "{count}");
}
