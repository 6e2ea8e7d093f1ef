//! A built program that runs, with what it logs.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::{in_time, processor_time, until};

/// A running program; dropping it kills it.
pub(crate) struct Program {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    pub(crate) port: u16,
}

impl Program {
    /// Starts `executable` with arguments and environment, and nothing else of ours.
    pub(crate) fn start(
        executable: &str,
        kubeconfig: &Path,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(executable);
        command.arg("--kubeconfig").arg(kubeconfig).args(args).env_clear();
        command.envs(env.iter().copied());
        Self::run(command)
    }

    /// Runs a command that ends in the arguments of one of our programs.
    pub(crate) fn run(mut command: Command) -> Self {
        let port = free_port();
        let mut child = command
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it was built");
        let stdout = child.stdout.take().expect("it is piped");
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        tokio::spawn(async move {
            let mut reader = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = reader.next_line().await {
                lines.lock().unwrap().push(line);
            }
        });
        Self { child, log, port }
    }

    /// Everything that it has logged.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Whether it has logged a line with all of these in it.
    pub(crate) fn has_said(&self, parts: &[&str]) -> bool {
        self.log.lock().unwrap().iter().any(|line| parts.iter().all(|part| line.contains(part)))
    }

    /// Waits for a line with this in it.
    pub(crate) async fn says(&self, text: &str) {
        until(text, || self.has_said(&[text])).await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    pub(crate) fn pid(&self) -> Pid {
        let id = self.child.id().expect("it still runs");
        Pid::from_raw(id.try_into().unwrap()).unwrap()
    }

    /// The processor time that it has used, in hundredths of a second.
    pub(crate) fn processor_time(&self) -> u64 {
        processor_time(self.child.id().expect("it still runs"))
    }

    pub(crate) async fn end(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        in_time("its end", self.child.wait()).await.expect("a status")
    }

    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("it runs");
    }

    /// What it answers to a request at its own port.
    pub(crate) async fn ask(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.expect("it serves");
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        text
    }

    /// The value of a metric in its own words, such as `purelb_allocator_leader`.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.ask("GET", "/metrics").await;
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.trim().parse().ok()
    }

    /// The first line of the log with this message.
    pub(crate) fn line(&self, message: &str) -> Option<Value> {
        self.log()
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|line| line["message"].as_str().is_some_and(|text| text.contains(message)))
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound socket").port()
}
