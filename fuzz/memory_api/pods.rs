//! What stands behind pods, and requests to it.

use std::fmt::Write;
use std::sync::Arc;

use arbitrary::Arbitrary;
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use purelb_k8s::memory::{Container, Exec, PodLog, PodRuntime, Run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LOG_QUERIES: [&str; 8] = [
    "tailLines=1",
    "limitBytes=3",
    "sinceSeconds=60",
    "sinceTime=2026-01-01T00:00:00Z",
    "timestamps=true",
    "previous=true",
    "follow=true",
    "tailLines=-1",
];

const EXEC_QUERIES: [&str; 8] = [
    "command=cat",
    "command=fail",
    "stdin=true",
    "stdout=true",
    "stderr=true",
    "tty=true",
    "command=missing",
    "container=b",
];

/// To the log of a pod, or to run a command in it.
#[derive(Arbitrary, Debug)]
pub(super) struct Request {
    is_exec: bool,
    has_container: bool,
    queries: [bool; 8],
    /// Messages after the handshake: their opcodes and what they hold.
    messages: Vec<(u8, Vec<u8>)>,
}

impl Request {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let all = if self.is_exec { EXEC_QUERIES } else { LOG_QUERIES };
        let chosen = all.into_iter().zip(self.queries).filter(|(_, chosen)| *chosen);
        let mut queries: Vec<&str> = chosen.map(|(query, _)| query).collect();
        if self.has_container {
            queries.push("container=a");
        }
        let what = if self.is_exec { "exec" } else { "log" };
        let mut text = format!(
            "GET /api/v1/namespaces/default/pods/a/{what}?{} HTTP/1.1\r\nhost: api\r\n",
            queries.join("&")
        );
        let _ = match self.is_exec {
            true => write!(
                text,
                "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                 sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
                 sec-websocket-protocol: v5.channel.k8s.io\r\n\r\n"
            ),
            false => write!(text, "connection: close\r\n\r\n"),
        };
        let mut bytes = text.into_bytes();
        if self.is_exec {
            self.messages.iter().for_each(|(opcode, held)| frame(*opcode, held, &mut bytes));
        }
        bytes
    }
}

/// A WebSocket frame (RFC 6455 §5.2) of at most 125 bytes, masked with zeros.
fn frame(opcode: u8, held: &[u8], bytes: &mut Vec<u8>) {
    let held = &held[..held.len().min(125)];
    bytes.extend([0x80 | (opcode & 0xf), 0x80 | held.len() as u8, 0, 0, 0, 0]);
    bytes.extend(held);
}

/// Containers that have printed two lines, and commands that print what they read.
pub(super) struct Echo(PodLog);

impl Echo {
    pub(super) fn new() -> Arc<Self> {
        let log = PodLog::new();
        ["one", "two"].into_iter().for_each(|line| log.append(Timestamp::UNIX_EPOCH, line));
        log.end();
        Arc::new(Self(log))
    }
}

impl PodRuntime for Echo {
    fn log(&self, container: &Container, run: Run) -> Option<PodLog> {
        (container.name == "a" && run == Run::Present).then(|| self.0.clone())
    }

    fn exec(&self, _: &Container, exec: Exec) -> BoxFuture<'static, Result<i32, String>> {
        async move {
            if exec.command.iter().any(|word| word == "missing") {
                return Err("no such program".to_owned());
            }
            let mut read = Vec::new();
            if let Some(mut stdin) = exec.stdin {
                let _ = stdin.read_to_end(&mut read).await;
            }
            for mut output in [exec.stdout, exec.stderr].into_iter().flatten() {
                let _ = output.write_all(&read).await;
            }
            Ok(i32::from(exec.command.iter().any(|word| word == "fail")))
        }
        .boxed()
    }
}
