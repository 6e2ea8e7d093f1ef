//! A small client of the Kubernetes API, for what a person would do with `kubectl`.
//!
//! With the in-memory API it shares nothing with the programs' own client, so that the lab sees that
//! API as a stranger does. A real one takes TLS and a token, and is asked over the programs' client.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use purelb_k8s::error::ApiError;
use serde_json::Value;
use thiserror::Error;
use tokio::runtime::Handle;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Talks to one API server.
#[derive(Clone)]
pub struct Client(Way);

#[derive(Clone)]
enum Way {
    /// HTTP/1.0, each request on a connection of its own.
    Plain(SocketAddr),
    /// What is needed to get past a real server's door.
    Real(purelb_k8s::Client, Handle),
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Way::Plain(server) => write!(f, "Client({server})"),
            Way::Real(..) => f.write_str("Client(real)"),
        }
    }
}

/// Which object, by its place in the API: `/api/v1/namespaces/default/services/web`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectPath(String);

/// Why a request gave no result.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The text is not YAML.
    #[error("cannot read the object")]
    Yaml(#[source] Box<serde_saphyr::Error>),
    /// The object is of a kind the lab has no use for, or has no name.
    #[error("not an object the lab knows: {0}")]
    Kind(String),
    /// The server was not reached, or broke off.
    #[error("{method} {path}: {source}")]
    Io {
        /// Of the request.
        method: &'static str,
        /// Of the request.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The server answered with an error.
    #[error("{method} {path}: the API says {status}: {message}")]
    Status {
        /// Of the request.
        method: &'static str,
        /// Of the request.
        path: String,
        /// The HTTP status code.
        status: u16,
        /// The answer's text.
        message: String,
    },
}

impl Client {
    /// A client of the in-memory API at that address.
    pub fn new(server: SocketAddr) -> Self {
        Self(Way::Plain(server))
    }

    /// A client of a real API server, over a connection whose tasks run on `runtime`. Its methods
    /// must not be called on a thread of that runtime.
    pub fn over(connection: purelb_k8s::Client, runtime: Handle) -> Self {
        Self(Way::Real(connection, runtime))
    }

    /// The connection to a real API server, if that is what is asked.
    pub fn connection(&self) -> Option<purelb_k8s::Client> {
        match &self.0 {
            Way::Plain(_) => None,
            Way::Real(connection, _) => Some(connection.clone()),
        }
    }

    /// Applies (server-side apply, as `kubectl apply --server-side`) the objects of a YAML text.
    pub fn apply(&self, yaml: &str) -> Result<(), ClientError> {
        let objects: Vec<Value> =
            serde_saphyr::from_multiple(yaml).map_err(|error| ClientError::Yaml(error.into()))?;
        for object in objects {
            let ObjectPath(path) = ObjectPath::of(&object)?;
            let path = format!("{path}?fieldManager=purelb-lab&force=true&fieldValidation=Strict");
            let body = object.to_string();
            self.request("PATCH", &path, "application/apply-patch+yaml", &body)?;
        }
        Ok(())
    }

    /// Says what the status of an object is, in YAML, by a merge patch: a Node has more than one
    /// address of a type, which an apply takes for a mistake.
    pub fn set_status(&self, yaml: &str) -> Result<(), ClientError> {
        let object: Value =
            serde_saphyr::from_str(yaml).map_err(|error| ClientError::Yaml(error.into()))?;
        let ObjectPath(path) = ObjectPath::of(&object)?;
        let path = format!("{path}/status?fieldManager=purelb-lab");
        let body = object.to_string();
        self.request("PATCH", &path, "application/merge-patch+json", &body).map(drop)
    }

    /// Reads an object or a list.
    pub fn get(&self, path: &ObjectPath) -> Result<Value, ClientError> {
        self.request("GET", &path.0, "application/json", "")
    }

    /// Deletes an object.
    pub fn delete(&self, path: &ObjectPath) -> Result<(), ClientError> {
        self.request("DELETE", &path.0, "application/json", "").map(drop)
    }

    fn request(
        &self,
        method: &'static str,
        path: &str,
        content_type: &str,
        body: &str,
    ) -> Result<Value, ClientError> {
        let failed = |source: io::Error| ClientError::Io { method, path: path.to_owned(), source };
        let server = match &self.0 {
            Way::Plain(server) => *server,
            Way::Real(connection, runtime) => {
                let asked = ask(connection, method, path, content_type, body);
                let text = runtime.block_on(asked).map_err(|error| match error {
                    ApiError::Refused { code, reason: _, message } => {
                        ClientError::Status { method, path: path.to_owned(), status: code, message }
                    }
                    error @ (ApiError::TimedOut(_)
                    | ApiError::Transport { .. }
                    | ApiError::Unreadable { .. }) => failed(io::Error::other(error)),
                })?;
                return serde_json::from_str(&text).map_err(|error| failed(error.into()));
            }
        };
        let exchanged = exchange(server, method, path, content_type, body);
        let (status, text) = exchanged.map_err(failed)?;
        if !(200..300).contains(&status) {
            // A Kubernetes Status says what is wrong in its message.
            let message = serde_json::from_str::<Value>(&text)
                .ok()
                .and_then(|answer| answer["message"].as_str().map(str::to_owned))
                .unwrap_or(text);
            return Err(ClientError::Status { method, path: path.to_owned(), status, message });
        }
        serde_json::from_str(&text).map_err(|error| failed(error.into()))
    }
}

async fn ask(
    connection: &purelb_k8s::Client,
    method: &str,
    path: &str,
    content_type: &str,
    body: &str,
) -> Result<String, ApiError> {
    let request = http::Request::builder().method(method).uri(path);
    let request = request.header("content-type", content_type).body(body.as_bytes().to_vec())?;
    let asked = tokio::time::timeout(PATIENCE, connection.request_text(request)).await;
    Ok(asked.map_err(|_| ApiError::TimedOut(PATIENCE))??)
}

fn exchange(
    server: SocketAddr,
    method: &str,
    path: &str,
    content_type: &str,
    body: &str,
) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let length = body.len();
    // HTTP/1.0 asks for a plain body, ended by the connection's end.
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {server}\r\nAccept: application/json\r\n\
         Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    match (status, answer.split_once("\r\n\r\n")) {
        (Some(status), Some((_, body))) => Ok((status, body.to_owned())),
        (None, _) | (_, None) => Err(io::Error::other("not an HTTP answer")),
    }
}

impl ObjectPath {
    /// The Service `name` in the namespace `default`.
    pub fn service(name: &str) -> Self {
        Self(format!("/api/v1/namespaces/default/services/{name}"))
    }

    /// All Events of the namespace `default`.
    pub fn events() -> Self {
        Self("/apis/events.k8s.io/v1/namespaces/default/events".to_owned())
    }

    /// All nodes.
    pub fn nodes() -> Self {
        Self("/api/v1/nodes".to_owned())
    }

    /// The Lease by which the agent of `node` says that it lives.
    pub fn lease(node: &str) -> Self {
        Self(format!("/apis/coordination.k8s.io/v1/namespaces/purelb/leases/purelb-node-{node}"))
    }

    /// Where `object` belongs.
    fn of(object: &Value) -> Result<Self, ClientError> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let kind = text(&object["kind"]).unwrap_or_default();
        let name = text(&object["metadata"]["name"]);
        let namespace =
            text(&object["metadata"]["namespace"]).unwrap_or_else(|| "default".to_owned());
        let collection = match kind.as_str() {
            "Namespace" => "/api/v1/namespaces".to_owned(),
            "Node" => "/api/v1/nodes".to_owned(),
            "Service" => format!("/api/v1/namespaces/{namespace}/services"),
            "Pod" => format!("/api/v1/namespaces/{namespace}/pods"),
            "ServiceGroup" => format!("/apis/purelb.io/v2/namespaces/{namespace}/servicegroups"),
            "Lease" => format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"),
            "LBNodeAgent" => format!("/apis/purelb.io/v2/namespaces/{namespace}/lbnodeagents"),
            "EndpointSlice" => {
                format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")
            }
            _ => return Err(ClientError::Kind(kind)),
        };
        let Some(name) = name else {
            return Err(ClientError::Kind(format!("{kind} without name")));
        };
        Ok(Self(format!("{collection}/{name}")))
    }
}

/// The addresses in a Service's status, in its order.
pub fn ingress(service: &Value) -> Vec<IpAddr> {
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
    let addresses = ingress.into_iter().flatten().filter_map(|entry| entry["ip"].as_str());
    addresses.filter_map(|address| address.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_where_kubernetes_keeps_them() {
        let path = |yaml: &str| {
            let object: Value = serde_saphyr::from_str(yaml).unwrap();
            ObjectPath::of(&object).map(|path| path.0)
        };
        assert_eq!(path("{kind: Node, metadata: {name: node1}}").unwrap(), "/api/v1/nodes/node1");
        assert_eq!(
            path("{kind: ServiceGroup, metadata: {name: g, namespace: purelb}}").unwrap(),
            "/apis/purelb.io/v2/namespaces/purelb/servicegroups/g"
        );
        assert!(matches!(path("{kind: Secret, metadata: {name: p}}"), Err(ClientError::Kind(_))));
        assert!(matches!(path("{kind: Node, metadata: {}}"), Err(ClientError::Kind(_))));
    }

    #[test]
    fn ingress_addresses_come_in_the_status_order() {
        let service = serde_json::json!({"status": {"loadBalancer": {"ingress": [
            {"ip": "2001:db8:1::200"}, {"hostname": "example.org"}, {"ip": "192.0.2.200"}]}}});
        let expected: [IpAddr; 2] =
            ["2001:db8:1::200".parse().unwrap(), "192.0.2.200".parse().unwrap()];
        assert_eq!(ingress(&service), expected);
        assert!(ingress(&serde_json::json!({})).is_empty());
    }
}
