//! Telling what happens, and who saw it.

use std::fmt::{self, Display};
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Who saw a fact: never the program that brought it about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Witness {
    /// `ip`, run in the namespace named, or in each of them.
    Ip(String),
    /// The client's own socket.
    Client,
    /// A packet socket in the client's namespace.
    Wire,
    /// A read of `/proc/sys`, in the namespace named.
    Sysctl(String),
    /// The log file of the program named.
    Log(String),
    /// An HTTP client of the API that is not the programs' own.
    Api,
    /// The kernel's word to a parent about its child.
    Parent,
}

impl Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(place) => write!(f, "ip in {place}"),
            Self::Client => f.write_str("the client's socket"),
            Self::Wire => f.write_str("a capture at the client"),
            Self::Sysctl(place) => write!(f, "/proc/sys in {place}"),
            Self::Log(program) => write!(f, "{program}'s log"),
            Self::Api => f.write_str("the API"),
            Self::Parent => f.write_str("the lab's process"),
        }
    }
}

/// Prints the story to standard output, with colour if that is a terminal.
///
/// What cannot be printed is lost without notice: a reader who went away does not change what is
/// true.
#[derive(Debug)]
pub struct Story {
    out: io::Stdout,
    terminal: bool,
    began: Instant,
    steps: usize,
    facts: usize,
}

impl Story {
    /// A story that begins now.
    #[expect(clippy::new_without_default, reason = "a beginning in time is no default")]
    pub fn new() -> Self {
        let out = io::stdout();
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let terminal = out.is_terminal() && colours;
        Self { out, terminal, began: Instant::now(), steps: 0, facts: 0 }
    }

    /// How long ago the story began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// How many facts were seen.
    pub fn facts(&self) -> usize {
        self.facts
    }

    /// Begins a step.
    pub fn step(&mut self, title: &str) {
        self.steps += 1;
        let (bold, plain) = self.colour("1");
        let number = self.steps;
        self.line(&format!("\n{bold}{number}. {title}{plain}"));
    }

    /// Says what is done, or why.
    pub fn say(&mut self, text: &str) {
        self.line(&format!("   {text}"));
    }

    /// Says what is being waited for, until something else is said. Shown on a terminal alone.
    pub fn wait_for(&mut self, fact: &str) {
        if self.terminal {
            let _ = write!(self.out, " … {fact}").and_then(|()| self.out.flush());
        }
    }

    /// A fact was seen.
    pub fn seen(&mut self, fact: &str, witness: &Witness, took: Duration) {
        self.facts += 1;
        let ((green, plain), (dim, _)) = (self.colour("32"), self.colour("2"));
        let took = took.as_secs_f64();
        self.line(&format!(" {green}✓{plain} {fact}  {dim}[{witness}, {took:.2} s]{plain}"));
    }

    /// A fact was not seen.
    pub fn missed(&mut self, fact: &str, witness: &Witness, why: &dyn Display) {
        let (red, plain) = self.colour("31");
        self.line(&format!(" {red}✗{plain} {fact}  [{witness}]\n   {why}"));
    }

    /// Shows what a command printed.
    pub fn show(&mut self, place: &str, command: &str, output: &str) {
        let (dim, plain) = self.colour("2");
        self.line(&format!("   {dim}{place}${plain} {command}"));
        for line in output.lines() {
            self.line(&format!("   {dim}|{plain} {line}"));
        }
    }

    /// Shows lines of a program's log.
    pub fn log(&mut self, program: &str, lines: &[String]) {
        let (yellow, plain) = self.colour("33");
        for line in lines {
            self.line(&format!("   {yellow}{program} |{plain} {line}"));
        }
    }

    /// Ends the story with a sentence.
    pub fn end(&mut self, sentence: &str) {
        let (bold, plain) = self.colour("1");
        self.line(&format!("\n{bold}{sentence}{plain}"));
    }

    fn line(&mut self, text: &str) {
        // On a terminal the line may hold what was being waited for.
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        let _ = writeln!(self.out, "{clear}{text}").and_then(|()| self.out.flush());
    }

    fn colour(&self, code: &str) -> (String, &'static str) {
        if self.terminal { (format!("\x1b[{code}m"), "\x1b[0m") } else { (String::new(), "") }
    }
}
