//! Requests over HTTP/1.1, and what is answered.

use std::fmt::{self, Write};

use serde_json::Value;

/// A request that is the only one of its connection.
#[derive(Clone, Default)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) accept: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
}

impl Call {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self { method: "GET", path: path.into(), accept: "application/json", ..Self::default() }
    }

    /// Whether it asks to change nothing.
    pub(crate) fn is_rehearsal(&self) -> bool {
        self.query.contains("dryRun=All")
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!(
            "{} {}?{} HTTP/1.1\r\nhost: api\r\nconnection: close\r\naccept: {}\r\n\
             content-type: {}\r\ncontent-length: {}\r\n\r\n",
            self.method,
            self.path,
            self.query,
            self.accept,
            self.content_type,
            self.body.len(),
        )
        .into_bytes();
        bytes.extend(&self.body);
        bytes
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bytes().escape_ascii())
    }
}

/// Parameters of a URL; those without a value are left out.
pub(crate) fn query(parameters: &[(&str, &str)]) -> String {
    let given = parameters.iter().filter(|(_, value)| !value.is_empty());
    given.map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&")
}

fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' => encoded.push(char::from(byte)),
            b' ' => encoded.push('+'),
            _ => _ = write!(encoded, "%{byte:02X}"),
        }
        encoded
    })
}

/// What came back for a [`Call`].
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// `None` if nothing was answered. A body that is sent in chunks may be cut off.
    ///
    /// # Panics
    ///
    /// If it is no answer of HTTP/1.1.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        let end = position(bytes, b"\r\n\r\n").expect("a head that ends");
        let (head, body) = (String::from_utf8_lossy(&bytes[..end]), &bytes[end + 4..]);
        let mut lines = head.split("\r\n");
        let code = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3));
        let headers: Vec<_> =
            lines.map(|line| line.split_once(": ").expect("a name and a value")).collect();
        let header = |name| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
        let body = match (header("content-length"), header("transfer-encoding")) {
            (Some(length), None) => {
                assert_eq!(length, body.len().to_string(), "the body is as long as the head says");
                body.to_vec()
            }
            (None, Some("chunked")) => joined(body),
            (None, None) => body.to_vec(),
            both => panic!("a body has one length: {both:?}"),
        };
        let code = code.and_then(|code| code.parse().ok()).expect("a status code");
        Some(Self { code, body })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the answer is JSON")
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.body.escape_ascii())
    }
}

/// The chunks of a body (RFC 9112 §7.1) that came.
fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = position(chunks, b"\r\n") {
        let length = std::str::from_utf8(&chunks[..end]).expect("a length");
        let length = usize::from_str_radix(length, 16).expect("a length in hexadecimal digits");
        let rest = &chunks[end + 2..];
        let Some((chunk, rest)) = rest.split_at_checked(length) else { break };
        body.extend(chunk);
        chunks = rest.strip_prefix(b"\r\n").unwrap_or_default();
    }
    body
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
