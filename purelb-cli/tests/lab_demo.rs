//! The lab, as a person at a terminal has it: the built `purelb` is run, looked at, and ended in
//! every way it can end.
//!
//! Needs iproute2 and the right to make network namespaces, as root or through a user namespace.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use purelb_cli::lab::require;
use rustix::process::{Pid, Signal, getuid, kill_process};

/// The user and group id of `nobody`.
const NOBODY: u32 = 65534;

/// The longest that the whole tour may take.
const TOUR: Duration = Duration::from_secs(120);

/// A directory for one test's labs, removed in the end.
struct Place {
    path: PathBuf,
    user: Option<u32>,
}

impl Place {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("purelb-test-{test}-{}", std::process::id()));
        fs::create_dir_all(path.join("run")).expect("the directory for temporary files is ours");
        Self { path, user: None }
    }

    /// The same, for an ordinary user, with a copy of the program that this user can reach.
    fn for_nobody(test: &str) -> Self {
        let mut place = Self::new(test);
        place.user = Some(NOBODY);
        let run = place.path.join("run");
        std::os::unix::fs::chown(&run, Some(NOBODY), Some(NOBODY)).expect("root may do that");
        fs::copy(env!("CARGO_BIN_EXE_purelb"), place.path.join("purelb")).expect("it was built");
        place
    }

    fn purelb(&self, arguments: &[&str]) -> Command {
        let mut command = match self.user {
            None => Command::new(env!("CARGO_BIN_EXE_purelb")),
            Some(user) => {
                let mut command = Command::new(self.path.join("purelb"));
                command.uid(user).gid(user);
                command
            }
        };
        command
            .args(arguments)
            .current_dir("/")
            .env("XDG_RUNTIME_DIR", self.path.join("run"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.purelb(arguments).output().expect("the program can be started")
    }

    fn start(&self, arguments: &[&str]) -> Running {
        let mut child = self.purelb(arguments).spawn().expect("the program can be started");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        Running { child, output, printed: String::new() }
    }

    /// What the labs of this test have left, but for the directory that holds them.
    fn left(&self) -> Vec<PathBuf> {
        files(&self.path.join("run/purelb-lab"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A `purelb` that runs; killed when the test ends before it.
struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
    printed: String,
}

impl Running {
    /// Reads its output until a line contains `text`. False if it ends before.
    fn reads(&mut self, text: &str) -> bool {
        let mut line = String::new();
        while self.output.read_line(&mut line).expect("the output is text") > 0 {
            self.printed.push_str(&line);
            if line.contains(text) {
                return true;
            }
            line.clear();
        }
        false
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is our child");
    }

    /// Waits for its end, and fails the test if that takes longer than `limit`.
    fn ends(mut self, limit: Duration) -> (ExitStatus, String) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                break status;
            }
            assert!(start.elapsed() < limit, "still running; so far:\n{}", self.printed);
            thread::sleep(Duration::from_millis(20));
        };
        let _ = self.output.read_to_string(&mut self.printed);
        let stderr = self.child.stderr.as_mut().expect("it is piped");
        let _ = stderr.read_to_string(&mut self.printed);
        (status, std::mem::take(&mut self.printed))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether labs can be made here, by root or an ordinary user.
fn available(place: &Place) -> bool {
    let mut lab = place.start(&["lab", "up"]);
    if lab.reads("The lab is up") {
        lab.signal(Signal::TERM);
        lab.ends(Duration::from_secs(20));
        return true;
    }
    let (_, printed) = lab.ends(Duration::from_secs(20));
    let lacks = ["cannot create a user namespace", "cannot create a network namespace", "iproute2"];
    assert!(lacks.iter().any(|lack| printed.contains(lack)), "the lab is broken: {printed}");
    require::skip(printed.trim());
    false
}

/// The processes that a lab with the process id `lab` has started.
fn programs_of(lab: u32) -> Vec<PathBuf> {
    let mark = format!("PURELB_LAB_PID={lab}");
    let is_marked = |process: &PathBuf| {
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes())
    };
    files(Path::new("/proc")).into_iter().filter(is_marked).collect()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// Checks that within a moment nothing is left of a lab.
fn nothing_is_left(place: &Place, lab: u32) {
    let start = Instant::now();
    while !programs_of(lab).is_empty() && start.elapsed() < Duration::from_secs(5) {
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(programs_of(lab), [""; 0].map(PathBuf::from), "processes of the lab");
    assert_eq!(place.left(), [""; 0].map(PathBuf::from), "files of the lab");
}

fn tour(place: &Place) {
    let lab = place.start(&["lab", "demo"]);
    let id = lab.child.id();
    let (status, story) = lab.ends(TOUR);
    assert!(status.success(), "{status}:\n{story}");
    let key_lines = [
        "the client reaches a node over both families",
        "the status of \"web\" has 192.0.2.240 and 2001:db8:1::240",
        "every node has 198.51.100.1/24 on kube-lb0",
        "and no other, has 192.0.2.240/24 on eth0, secondary",
        "and no other, has 2001:db8:1::240/64 on eth0",
        "ip addr show dev kube-lb0",
        "killing the agent of",
        "gratuitous ARP",
        "the agent says that it cannot identify the interface",
        "has 192.0.2.240/32 on kube-lb0, and no longer on eth0",
        "has 192.0.2.240 on eth0 again",
        "no node has any of their addresses on any interface",
        "eth0 is on each node as it was before the agents came",
        "The lab is removed",
    ];
    for line in key_lines {
        assert!(story.contains(line), "{line:?} is missing in:\n{story}");
    }
    assert!(!story.contains('\x1b'), "colour where there is no terminal");
    the_readme_shows(&story);
    nothing_is_left(place, id);
}

/// What the README quotes of the tour is in it, but for the times.
fn the_readme_shows(story: &str) {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("## What you will see").expect("a section");
    let quoted = rest.split("```").nth(1).expect("a block");
    let story: Vec<String> = story.lines().map(without_times).collect();
    let facts: Vec<String> =
        quoted.lines().filter(|line| line.starts_with(" ✓")).map(without_times).collect();
    assert!(facts.len() > 5, "{facts:?}");
    for fact in facts {
        assert!(story.contains(&fact), "the README has {fact:?}, which is missing in:\n{story:#?}");
    }
}

/// A line with every number of seconds made the same.
fn without_times(line: &str) -> String {
    let mut words: Vec<&str> = line.split(' ').collect();
    for at in 1..words.len() {
        let is_unit = words[at].trim_end_matches([']', ',']) == "s";
        if is_unit && words[at - 1].parse::<f64>().is_ok() {
            words[at - 1] = "…";
        }
    }
    words.join(" ")
}

#[test]
fn the_demo_tells_its_whole_story_and_leaves_nothing() {
    let place = Place::new("demo");
    if available(&place) {
        tour(&place);
    }
}

#[test]
fn an_ordinary_user_sees_the_same_story() {
    if !getuid().is_root() {
        println!("skipped: the other tests are run by an ordinary user already");
        return;
    }
    let place = Place::for_nobody("nobody");
    fs::set_permissions(&place.path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    if available(&place) {
        tour(&place);
    }
}

#[test]
fn ctrl_c_in_the_middle_removes_the_lab() {
    let place = Place::new("interrupt");
    if !available(&place) {
        return;
    }
    let mut lab = place.start(&["lab", "demo"]);
    let id = lab.child.id();
    assert!(lab.reads("applying the Services"), "{}", lab.printed);
    assert_eq!(programs_of(id).len(), 4, "an allocator and three agents");
    lab.signal(Signal::INT);
    let (status, story) = lab.ends(Duration::from_secs(10));
    assert_eq!(status.code(), Some(130), "{story}");
    assert!(story.contains("Interrupted; the lab is removed."), "{story}");
    nothing_is_left(&place, id);
}

#[test]
fn a_killed_lab_takes_its_programs_along() {
    let place = Place::new("kill");
    if !available(&place) {
        return;
    }
    let mut lab = place.start(&["lab", "up"]);
    let id = lab.child.id();
    assert!(lab.reads("The lab is up"), "{}", lab.printed);
    lab.signal(Signal::KILL);
    lab.ends(Duration::from_secs(10));
    // It could remove nothing itself; who asks next finds no lab, and sweeps up.
    let output = place.run(&["lab", "down"]);
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("no lab is running"), "{complaint}");
    nothing_is_left(&place, id);
}

#[test]
fn two_labs_are_entered_and_ended_apart() {
    let place = Place::new("two");
    if !available(&place) {
        return;
    }
    let mut labs = [place.start(&["lab", "up"]), place.start(&["lab", "up"])];
    let ids = labs.each_ref().map(|lab| lab.child.id());
    for lab in &mut labs {
        assert!(lab.reads("The lab is up"), "{}", lab.printed);
    }
    let output = place.run(&["lab", "exec", "node1", "--", "true"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("several labs are running"));

    let lab = ids[0].to_string();
    let add = ["lab", "exec", "--lab", &lab, "node2", "--"];
    let add = [&add[..], &["ip", "addr", "add", "192.0.2.77/24", "dev", "eth0"]].concat();
    assert!(place.run(&add).status.success());
    for (id, expected) in ids.into_iter().zip([true, false]) {
        let lab = id.to_string();
        let show = ["lab", "exec", "--lab", &lab, "node2", "--", "ip", "addr", "show"];
        let output = place.run(&show);
        assert!(output.status.success());
        let printed = String::from_utf8_lossy(&output.stdout);
        assert_eq!(printed.contains("192.0.2.77/24"), expected, "{printed}");
    }

    for (lab, id) in labs.into_iter().zip(ids) {
        let output = place.run(&["lab", "down", "--lab", &id.to_string()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(programs_of(id), [""; 0].map(PathBuf::from), "down waits for the end");
        let (status, printed) = lab.ends(Duration::from_secs(10));
        assert!(status.success(), "{status}: {printed}");
    }
    assert_eq!(place.left(), [""; 0].map(PathBuf::from));
}
