//! A tiny web server in each node that answers with the node's name, and the client that asks it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::background::Background;
use super::namespace::Namespace;

/// The port it answers on.
pub const PORT: u16 = 80;

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
            let answer = format!(
                "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{name}\n",
                name.len() + 1
            );
            tokio::spawn(tokio::time::timeout(PATIENCE, respond(stream, answer)));
        }
    });
    Ok(())
}

async fn respond(mut stream: tokio::net::TcpStream, answer: String) -> io::Result<()> {
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
    namespace.run(|| {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, PORT), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET / HTTP/1.0\r\nHost: lab\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.0 200 ") => {
                Ok(body.trim_end().to_owned())
            }
            Some(_) | None => Err(io::Error::other(format!("not the answer expected: {answer:?}"))),
        }
    })?
}
