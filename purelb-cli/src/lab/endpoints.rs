//! What a control plane without controllers lacks: EndpointSlices for the Services that have a
//! selector.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use futures::{AsyncBufReadExt, StreamExt};
use http::Request;
use purelb_k8s::Client;
use purelb_k8s::error::ApiError;
use serde::Deserialize;
use serde_json::{Value, json};

use super::pods::{APP, Pod};

/// How long is waited after something went wrong.
const PAUSE: Duration = Duration::from_millis(500);

/// What there is to know of a pod here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    name: String,
    node: String,
    addresses: [IpAddr; 2],
}

impl Endpoint {
    /// A pod as an endpoint.
    pub fn of(pod: &Pod) -> Self {
        let (name, node) = (pod.namespace.name().to_owned(), pod.node.clone());
        Self { name, node, addresses: [pod.v4.into(), pod.v6.into()] }
    }

    fn is_selected(&self, selector: &BTreeMap<String, String>) -> bool {
        selector.iter().all(|(key, value)| match key.as_str() {
            "app" => value == APP,
            "host" => *value == self.node,
            _ => false,
        })
    }
}

#[derive(Debug, Deserialize)]
struct Service {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
    namespace: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    selector: BTreeMap<String, String>,
    ip_families: Vec<String>,
    ports: Vec<Port>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    #[serde(default)]
    name: String,
    protocol: String,
    port: u16,
    #[serde(default)]
    target_port: Value,
}

/// Keeps the EndpointSlices of all Services, for ever.
pub async fn keep(client: Client, endpoints: Vec<Endpoint>) {
    loop {
        // The server ends a watch every few minutes.
        let _ = follow(&client, &endpoints).await;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn follow(client: &Client, endpoints: &[Endpoint]) -> Result<(), ApiError> {
    // Begins with what is there.
    let request = Request::get("/api/v1/services?watch=1").body(Vec::new())?;
    let mut lines = client.request_stream(request).await?.lines();
    while let Some(Ok(line)) = lines.next().await {
        let event: Value = serde_json::from_str(&line)?;
        let Ok(service) = serde_json::from_value::<Service>(event["object"].clone()) else {
            continue;
        };
        if service.spec.selector.is_empty() {
            continue;
        }
        for (path, slice) in slices(&service, endpoints) {
            let request = match event["type"].as_str() {
                Some("DELETED") => Request::delete(path).body(Vec::new())?,
                Some(_) | None => Request::patch(path)
                    .header("content-type", "application/apply-patch+yaml")
                    .body(slice.to_string().into_bytes())?,
            };
            match client.request_text(request).await.map_err(ApiError::from) {
                Err(error) if !error.is_not_found() => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
    }
    Ok(())
}

/// A slice for each family of the Service, with its place in the API.
fn slices(service: &Service, endpoints: &[Endpoint]) -> Vec<(String, Value)> {
    let Metadata { name, namespace } = &service.metadata;
    let ports: Vec<_> = service.spec.ports.iter().map(port).collect();
    let families = service.spec.ip_families.iter();
    let slice = |family: &String| {
        let slice = format!("{name}-{}", family.to_lowercase());
        let endpoints: Vec<_> = endpoints
            .iter()
            .filter(|endpoint| endpoint.is_selected(&service.spec.selector))
            .map(|endpoint| endpoint.in_slice(family))
            .collect();
        let path = format!(
            "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices/{slice}\
             ?fieldManager=purelb-lab&force=true"
        );
        let object = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": slice, "namespace": namespace, "labels": {
                "kubernetes.io/service-name": name,
                "endpointslice.kubernetes.io/managed-by": "purelb-lab",
            }},
            "addressType": family, "ports": ports, "endpoints": endpoints,
        });
        (path, object)
    };
    families.map(slice).collect()
}

impl Endpoint {
    fn in_slice(&self, family: &str) -> Value {
        let is_wanted = |address: &&IpAddr| address.is_ipv6() == (family == "IPv6");
        let addresses: Vec<_> = self.addresses.iter().filter(is_wanted).collect();
        json!({
            "addresses": addresses, "conditions": {"ready": true, "serving": true},
            "nodeName": self.node,
            "targetRef": {"kind": "Pod", "namespace": "default", "name": self.name},
        })
    }
}

/// A port as a slice has it. Names of ports mean nothing here: the pods' ports have none.
fn port(port: &Port) -> Value {
    let number = port.target_port.as_u64().unwrap_or_else(|| port.port.into());
    json!({"name": port.name, "protocol": port.protocol, "port": number})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_holds_the_selected_pods_of_its_family() {
        let endpoint = |n: u8| Endpoint {
            name: format!("pod{n}"),
            node: format!("node{n}"),
            addresses: [[10, 244, n, 2].into(), format!("fd00:244:0:{n}::2").parse().unwrap()],
        };
        let service = json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "selector": {"app": "web", "host": "node2"}, "ipFamilies": ["IPv6", "IPv4"],
                "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}],
            },
        });
        let service: Service = serde_json::from_value(service).unwrap();
        let slices = slices(&service, &[endpoint(1), endpoint(2)]);
        assert_eq!(slices.len(), 2);
        let (path, slice) = &slices[0];
        assert!(path.contains("/endpointslices/web-ipv6?"), "{path}");
        assert_eq!(slice["addressType"], "IPv6");
        assert_eq!(slice["endpoints"].as_array().unwrap().len(), 1);
        assert_eq!(slice["endpoints"][0]["addresses"], json!(["fd00:244:0:2::2"]));
        assert_eq!(slice["ports"], json!([{"name": "", "protocol": "TCP", "port": 8080}]));
        let strangers = BTreeMap::from([("app".to_owned(), "db".to_owned())]);
        assert!(!endpoint(1).is_selected(&strangers));
    }
}
