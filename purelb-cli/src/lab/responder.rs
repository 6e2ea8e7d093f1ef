//! Tiny servers that answer with the name of where they are, and the clients that ask them: one in
//! each node, or in each pod.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::background::Background;
use super::namespace::Namespace;

/// The port it answers on.
pub const PORT: u16 = 80;

/// The port that pods answer on.
pub const POD_PORT: u16 = 8080;

/// How long one request may take in all its parts together.
const PATIENCE: Duration = Duration::from_millis(500);

/// Serves HTTP on port 80 of every address of `namespace`, IPv4 and IPv6, until `background` ends.
/// The answer is the namespace's name.
pub fn serve(background: &Background, namespace: &Namespace) -> io::Result<()> {
    // One socket takes both families: net.ipv6.bindv6only is 0 in a new namespace.
    let listener = namespace.run(|| TcpListener::bind(("::", PORT)))??;
    listener.set_nonblocking(true)?;
    let listener = background.enter(|| tokio::net::TcpListener::from_std(listener))?;
    let name = namespace.name().to_owned();
    background.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(tokio::time::timeout(PATIENCE, respond(stream, name.clone())));
        }
    });
    Ok(())
}

/// Serves HTTP and UDP on port 8080 of every address of a pod. The answer, to whatever is sent, is
/// the pod's name and the address that the request came from: `pod1 192.0.2.100`.
pub fn serve_pod(background: &Background, pod: &Namespace) -> io::Result<()> {
    let (listener, socket) = pod.run(|| -> io::Result<_> {
        Ok((TcpListener::bind(("::", POD_PORT))?, UdpSocket::bind(("::", POD_PORT))?))
    })??;
    listener.set_nonblocking(true)?;
    socket.set_nonblocking(true)?;
    let (listener, socket) = background.enter(|| -> io::Result<_> {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        Ok((listener, tokio::net::UdpSocket::from_std(socket)?))
    })?;
    let name = pod.name().to_owned();
    let answer = move |from: SocketAddr| format!("{name} {}", from.ip().to_canonical());
    let datagrams = answer.clone();
    background.spawn(async move {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer).await {
            // Who asked does so again.
            let _ = socket.send_to(datagrams(from).as_bytes(), from).await;
        }
    });
    background.spawn(async move {
        while let Ok((stream, from)) = listener.accept().await {
            tokio::spawn(tokio::time::timeout(PATIENCE, respond(stream, answer(from))));
        }
    });
    Ok(())
}

/// Answers an HTTP request with a line of text.
async fn respond(mut stream: tokio::net::TcpStream, line: String) -> io::Result<()> {
    let answer = format!(
        "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{line}\n",
        line.len() + 1
    );
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") && request.len() < 8192 {
        let mut part = [0; 1024];
        match stream.read(&mut part).await? {
            0 => break,
            length => request.extend_from_slice(&part[..length]),
        }
    }
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// Asks `http://address/` from inside `namespace`; the body of the answer without its line end.
pub fn ask(namespace: &Namespace, address: IpAddr) -> io::Result<String> {
    namespace.run(|| ask_here(SocketAddr::new(address, PORT), Transport::Tcp))?
}

/// What carries a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// HTTP, over a connection of its own.
    Tcp,
    /// A datagram, from a port of its own.
    Udp,
}

/// Asks from the network namespace of this thread; the answer without its line end.
pub fn ask_here(address: SocketAddr, transport: Transport) -> io::Result<String> {
    match transport {
        Transport::Tcp => {
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.write_all(b"GET / HTTP/1.0\r\nHost: lab\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            match answer.split_once("\r\n\r\n") {
                Some((head, body)) if head.starts_with("HTTP/1.0 200 ") => {
                    Ok(body.trim_end().to_owned())
                }
                Some(_) | None => {
                    Err(io::Error::other(format!("not the answer expected: {answer:?}")))
                }
            }
        }
        Transport::Udp => {
            let any: IpAddr = match address {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(address)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.send(b"?")?;
            let mut buffer = [0; 128];
            let length = socket.recv(&mut buffer)?;
            Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
        }
    }
}
