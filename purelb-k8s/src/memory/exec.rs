//! Commands in containers, by the WebSocket form of Kubernetes' remote command protocol.
//!
//! Each message begins with the number of its channel. The client sends 0 (standard input), 4 (the size of
//! its terminal) and, since v5, 255 (a channel is closed); it gets 1 (standard output), 2 (standard
//! error), and last 3: a `Status` with how the command ended.

use std::sync::Arc;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex};
use tokio::sync::{Mutex, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::query::Query;
use super::refusal::{self, Refusal};
use super::runtime::{Container, Exec, PodRuntime, TerminalSize};

/// What is spoken here, the best first.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// How many bytes of a stream are on their way at most.
const BUFFER: usize = 64 * 1024;

type Socket = WebSocketStream<TokioIo<Upgraded>>;
type Sink = Mutex<SplitSink<Socket, Message>>;

/// Which streams of a command a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    command: Vec<String>,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Wish {
    pub(super) fn parse(query: &Query) -> Result<Self, Refusal> {
        let command: Vec<String> = query.texts("command").map(ToOwned::to_owned).collect();
        if command.is_empty() {
            return Err(refusal::bad_request("you must specify at least 1 command for the pod"));
        }
        let [stdin, stdout, stderr, tty] =
            ["stdin", "stdout", "stderr", "tty"].map(|stream| query.is_set(stream));
        if !(stdin || stdout || stderr) {
            let why = "you must specify at least 1 of stdin, stdout, stderr";
            return Err(refusal::bad_request(why));
        }
        Ok(Self { command, stdin, stdout, stderr: stderr && !tty, tty })
    }
}

/// A request that asks to be turned into a conversation.
#[derive(Debug)]
pub(super) struct Upgrade {
    protocol: &'static str,
    accept: HeaderValue,
    connection: OnUpgrade,
}

impl Upgrade {
    /// Takes the connection out of a request.
    pub(super) fn take(parts: &mut Parts) -> Result<Self, Refusal> {
        let text = |name: &HeaderName| {
            let values = parts.headers.get_all(name).into_iter();
            values.filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(",")
        };
        let key = text(&SEC_WEBSOCKET_KEY);
        if !text(&UPGRADE).eq_ignore_ascii_case("websocket") || key.is_empty() {
            return Err(refusal::bad_request("Upgrade request required"));
        }
        let offered = text(&SEC_WEBSOCKET_PROTOCOL);
        let protocol = PROTOCOLS.into_iter().find(|p| offered.split(',').any(|o| o.trim() == *p));
        let protocol = protocol.ok_or_else(|| {
            refusal::bad_request(format!("none of {} is offered", PROTOCOLS.join(" and ")))
        })?;
        let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
        let accept = accept.map_err(|_| refusal::bad_request("a key that is no text"))?;
        let connection = parts.extensions.remove::<OnUpgrade>();
        let connection = connection.ok_or_else(|| {
            refusal::bad_request("Upgrade request required: only HTTP/1.1 has them")
        })?;
        Ok(Self { protocol, accept, connection })
    }

    /// What the client is told; the conversation begins thereafter.
    pub(super) fn answer<B>(&self, nothing: B) -> Response<B> {
        let mut response = Response::new(nothing);
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept.clone());
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(self.protocol));
        response
    }

    /// Runs the command and carries its streams, until it has ended or the client is gone.
    pub(super) async fn converse(
        self,
        runtime: Arc<dyn PodRuntime>,
        container: Container,
        wish: Wish,
    ) {
        let upgraded = match self.connection.await {
            Ok(upgraded) => TokioIo::new(upgraded),
            Err(error) => {
                tracing::debug!(%container, %error, "the client is gone before its command ran");
                return;
            }
        };
        let socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, None).await;
        if let Err(error) = carry(socket, &*runtime, &container, wish).await {
            tracing::debug!(%container, %error, "a command's connection broke off");
        }
    }
}

async fn carry(
    socket: Socket,
    runtime: &dyn PodRuntime,
    container: &Container,
    wish: Wish,
) -> Result<(), Error> {
    let (sink, mut source) = socket.split();
    let sink = Mutex::new(sink);
    // Of each only one direction is used; it ends when its writer is dropped.
    let pipe = |wanted: bool| wanted.then(|| duplex(BUFFER)).unzip();
    let ((stdin, to_stdin), (from_stdout, stdout), (from_stderr, stderr)) =
        (pipe(wish.stdin), pipe(wish.stdout), pipe(wish.stderr));
    let (size, terminal) = watch::channel(TerminalSize::default());
    let running = runtime.exec(
        container,
        Exec {
            command: wish.command,
            stdin: stdin.map(|stdin| Box::new(stdin) as _),
            stdout: stdout.map(|stdout| Box::new(stdout) as _),
            stderr: stderr.map(|stderr| Box::new(stderr) as _),
            terminal: wish.tty.then_some(terminal),
        },
    );
    let work = async {
        let streams = futures::future::try_join(
            speak(from_stdout, STDOUT, &sink),
            speak(from_stderr, STDERR, &sink),
        );
        let (end, streams) = futures::join!(running, streams);
        streams.map(|_| end)
    };
    let end = tokio::select! {
        end = work => end?,
        heard = listen(&mut source, to_stdin, &size) => return heard,
    };
    let mut sink = sink.into_inner();
    sink.send(message(STATUS, status(end).to_string().as_bytes())).await?;
    // Without a code the clients take it for an accident.
    let goodbye = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
    sink.send(Message::Close(Some(goodbye))).await?;
    // The client says goodbye too; until then it may still be reading.
    while let Some(Ok(_)) = source.next().await {}
    Ok(())
}

/// Carries what the command prints to the client.
async fn speak(
    from: Option<impl AsyncRead + Unpin>,
    channel: u8,
    sink: &Sink,
) -> Result<(), Error> {
    let Some(mut from) = from else { return Ok(()) };
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer).await? {
            0 => return Ok(()),
            length => sink.lock().await.send(message(channel, &buffer[..length])).await?,
        }
    }
}

/// Carries what the client sends to the command, until it is gone.
async fn listen(
    source: &mut SplitStream<Socket>,
    mut stdin: Option<impl AsyncWrite + Unpin>,
    size: &watch::Sender<TerminalSize>,
) -> Result<(), Error> {
    while let Some(message) = source.next().await {
        let message = message?.into_data();
        match message.split_first() {
            // A command that reads no more is no reason to end it.
            Some((&STDIN, bytes)) => {
                if let Some(stdin) = &mut stdin {
                    let _ = stdin.write_all(bytes).await;
                }
            }
            Some((&CLOSE, [STDIN])) => stdin = None,
            Some((&RESIZE, bytes)) => {
                let wanted: Value = serde_json::from_slice(bytes).unwrap_or_default();
                let side = |name: &str| wanted[name].as_u64().and_then(|n| u16::try_from(n).ok());
                if let (Some(columns), Some(rows)) = (side("Width"), side("Height")) {
                    size.send_replace(TerminalSize { columns, rows });
                }
            }
            // Kubernetes' clients begin with an empty message.
            Some(_) | None => {}
        }
    }
    Ok(())
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut message = Vec::with_capacity(1 + bytes.len());
    message.push(channel);
    message.extend_from_slice(bytes);
    Message::binary(message)
}

/// How a command ended, as a `v1 Status`.
fn status(end: Result<i32, String>) -> Value {
    match end {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => json!({
            "metadata": {},
            "status": "Failure",
            "reason": "NonZeroExitCode",
            "message": format!(
                "command terminated with non-zero exit code: exit status {code}"
            ),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(why) => json!({
            "metadata": {},
            "status": "Failure",
            "reason": "InternalError",
            "code": 500,
            "message": format!("error executing command in container: {why}"),
        }),
    }
}
