//! A small client of the Kubernetes API, for what a person would do with `kubectl`.
//!
//! It shares nothing with the programs' own client, so that the lab sees the API as a stranger does.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use thiserror::Error;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Talks HTTP/1.1 to one API server, each request on a connection of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    server: SocketAddr,
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
    /// A client of the server at that address.
    pub fn new(server: SocketAddr) -> Self {
        Self { server }
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
        let (status, text) = self.exchange(method, path, content_type, body).map_err(failed)?;
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

    fn exchange(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &str,
    ) -> io::Result<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.server, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let length = body.len();
        let server = self.server;
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
}

impl ObjectPath {
    /// The Service `name` in the namespace `default`.
    pub fn service(name: &str) -> Self {
        Self(format!("/api/v1/namespaces/default/services/{name}"))
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
            "ServiceGroup" => format!("/apis/purelb.io/v2/namespaces/{namespace}/servicegroups"),
            "LBNodeAgent" => format!("/apis/purelb.io/v2/namespaces/{namespace}/lbnodeagents"),
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
        assert!(matches!(path("{kind: Pod, metadata: {name: p}}"), Err(ClientError::Kind(_))));
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
