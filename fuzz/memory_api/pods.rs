//! What stands behind pods, and requests to it.

use std::sync::Arc;

use arbitrary::Arbitrary;
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use purelb_k8s::memory::{Container, Exec, PodLog, PodRuntime, Run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::changes::at;
use crate::http::Call;
use crate::kinds::path_of;
use crate::world::World;

/// Parameters, and whether a client mostly has them.
type Usage = [(&'static str, bool); 9];

const LOG_USAGE: Usage = [
    ("tailLines=1", false),
    ("limitBytes=3", false),
    ("sinceSeconds=60", false),
    ("sinceTime=1970-01-01T00:00:01Z", false),
    ("timestamps=true", false),
    ("previous=true", false),
    ("follow=true", false),
    ("tailLines=-1", false),
    ("sinceTime=yesterday", false),
];

const EXEC_USAGE: Usage = [
    ("command=cat", true),
    ("stdin=true", true),
    ("stdout=true", true),
    ("stderr=true", true),
    ("tty=true", false),
    ("command=fail", false),
    ("command=missing", false),
    ("container=c", false),
    ("stdin=1", false),
];

/// The containers that a client may name.
const CONTAINERS: [&str; 4] = ["", "a", "b", "none"];

/// What is offered for a conversation: mostly what it takes.
const UPGRADES: [&str; 5] = [
    "upgrade: websocket\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
     sec-websocket-protocol: v5.channel.k8s.io\r\n",
    "upgrade: WebSocket\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
     sec-websocket-protocol: channel.k8s.io, v4.channel.k8s.io\r\n",
    "upgrade: websocket\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
     sec-websocket-protocol: channel.k8s.io\r\n",
    "upgrade: SPDY/3.1\r\n",
    "upgrade: websocket\r\n",
];

/// To the log of a pod, or to run a command in it.
#[derive(Arbitrary, Debug)]
pub(crate) struct Request {
    subject: u8,
    is_exec: bool,
    container: u8,
    /// Which parameters are not as usual.
    unusual: [bool; 9],
    upgrade: u8,
    messages: Vec<Message>,
}

/// What a client says after the handshake.
#[derive(Arbitrary, Debug)]
enum Message {
    Input(Vec<u8>),
    EndOfInput,
    Resize(u8, u8),
    Goodbye,
    /// A frame by its opcode and content.
    Frame(u8, Vec<u8>),
}

impl Request {
    pub(crate) fn run(&self, world: &mut World) {
        let pods: Vec<String> = world.objects("Pod").map(path_of).collect();
        let path = match pods.len() {
            0 => "/api/v1/namespaces/default/pods/a",
            count => &pods[at(self.subject, count)],
        };
        if self.is_exec {
            let answer = world.send(&self.exec(path));
            assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 "), "{answer:?}");
        } else {
            let query = self.query(&LOG_USAGE);
            world.call(&Call { query, ..Call::get(format!("{path}/log")) });
        }
    }

    fn query(&self, usage: &Usage) -> String {
        let given = usage.iter().zip(self.unusual);
        let given = given.filter(|((_, is_usual), is_unusual)| is_usual != is_unusual);
        let mut given: Vec<String> = given.map(|((query, _), _)| (*query).to_owned()).collect();
        match CONTAINERS[at(self.container, CONTAINERS.len())] {
            "" => {}
            name => given.push(format!("container={name}")),
        }
        given.join("&")
    }

    fn exec(&self, path: &str) -> Vec<u8> {
        let (query, upgrade) =
            (self.query(&EXEC_USAGE), UPGRADES[at(self.upgrade, UPGRADES.len())]);
        let mut bytes = format!(
            "GET {path}/exec?{query} HTTP/1.1\r\nhost: api\r\nconnection: upgrade\r\n\
             sec-websocket-version: 13\r\n{upgrade}\r\n"
        )
        .into_bytes();
        self.messages.iter().for_each(|message| message.write(&mut bytes));
        bytes
    }
}

impl Message {
    fn write(&self, bytes: &mut Vec<u8>) {
        const BINARY: u8 = 2;
        const CLOSE: u8 = 8;
        match self {
            Self::Input(input) => frame(BINARY, &[&[0], input.as_slice()].concat(), bytes),
            Self::EndOfInput => frame(BINARY, &[255, 0], bytes),
            Self::Resize(width, height) => {
                let size = format!("\x04{{\"Width\":{width},\"Height\":{height}}}");
                frame(BINARY, size.as_bytes(), bytes);
            }
            Self::Goodbye => frame(CLOSE, &1000_u16.to_be_bytes(), bytes),
            Self::Frame(opcode, held) => frame(*opcode, held, bytes),
        }
    }
}

/// A WebSocket frame (RFC 6455 §5.2) of at most 125 bytes, masked with zeros.
fn frame(opcode: u8, held: &[u8], bytes: &mut Vec<u8>) {
    let held = &held[..held.len().min(125)];
    bytes.extend([0x80 | (opcode & 0xf), 0x80 | held.len() as u8, 0, 0, 0, 0]);
    bytes.extend(held);
}

/// Containers that have printed two lines, and commands that print what they read. Container `a` has ended,
/// `b` has run once before.
pub(crate) struct Echo {
    ended: PodLog,
    running: PodLog,
}

impl Echo {
    pub(crate) fn new() -> Arc<Self> {
        let echo = Self { ended: PodLog::new(), running: PodLog::default() };
        for log in [&echo.ended, &echo.running] {
            log.append(Timestamp::UNIX_EPOCH, "\u{e9}\u{e9}");
            log.append(Timestamp::now(), "two");
        }
        echo.ended.end();
        Arc::new(echo)
    }
}

impl PodRuntime for Echo {
    fn log(&self, container: &Container, run: Run) -> Option<PodLog> {
        match (container.name.as_str(), run) {
            ("a", Run::Present) | ("b", Run::Previous) => Some(self.ended.clone()),
            ("b", Run::Present) => Some(self.running.clone()),
            _ => None,
        }
    }

    fn exec(&self, container: &Container, exec: Exec) -> BoxFuture<'static, Result<i32, String>> {
        let described = format!("{exec:?} in {container}");
        async move {
            if exec.command.iter().any(|word| word == "missing") {
                return Err(format!("no such program: {described}"));
            }
            let mut read = Vec::new();
            if let Some(mut stdin) = exec.stdin {
                let _ = stdin.read_to_end(&mut read).await;
            }
            let size = exec.terminal.map(|size| format!("{:?}", *size.borrow()));
            read.extend(size.unwrap_or_default().bytes());
            for mut output in [exec.stdout, exec.stderr].into_iter().flatten() {
                let _ = output.write_all(&read).await;
            }
            Ok(i32::from(exec.command.iter().any(|word| word == "fail")))
        }
        .boxed()
    }
}
