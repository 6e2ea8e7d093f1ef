//! The announcing annotations of Services, written by the node agents.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{Method, Request, header};
use kube::Client;
use purelb_core::host::Family;
use purelb_core::node::Announcement;
use serde_json::{Value, json};

use crate::annotation::{ANNOUNCING_V4, ANNOUNCING_V6};
use crate::error::ApiError;
use crate::list_watch::within;

/// How long a write may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Writes the announcing annotations of one Service, and nothing else of it, in one request.
///
/// # Errors
///
/// With a [conflict](ApiError::is_conflict) if the Service is no longer the version that the
/// annotations were computed from: another write is due when the newer one is seen.
pub async fn announce(client: Client, write: Announcement) -> Result<(), ApiError> {
    within(TIMEOUT, async {
        client.request_text(request(&write)?).await?;
        Ok(())
    })
    .await
}

fn request(write: &Announcement) -> Result<Request<Vec<u8>>, ApiError> {
    let annotations: BTreeMap<&str, Value> =
        write.values.iter().map(|(family, value)| (key(*family), json!(value))).collect();
    let body = json!({
        "metadata": { "resourceVersion": write.version.as_str(), "annotations": annotations },
    });
    let (namespace, name) = (&write.service.namespace, &write.service.name);
    let path = format!("/api/v1/namespaces/{namespace}/services/{name}");
    Ok(Request::builder()
        .method(Method::PATCH)
        .uri(format!("{path}?fieldManager=purelb-lbnodeagent"))
        .header(header::CONTENT_TYPE, "application/merge-patch+json")
        .body(body.to_string().into_bytes())?)
}

fn key(family: Family) -> &'static str {
    match family {
        Family::V4 => ANNOUNCING_V4,
        Family::V6 => ANNOUNCING_V6,
    }
}

#[cfg(test)]
mod tests {
    use purelb_core::name::ServiceKey;

    use super::*;

    #[test]
    fn one_request_sets_and_removes_on_condition_of_the_version() {
        let values = [(Family::V4, Some("n,eth0,192.0.2.1".to_owned())), (Family::V6, None)];
        let write = Announcement {
            service: ServiceKey::new("default", "web"),
            version: "42".into(),
            values: values.into(),
        };
        let request = request(&write).unwrap();
        assert_eq!(request.uri().path(), "/api/v1/namespaces/default/services/web");
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(
            body,
            json!({"metadata": {
                "resourceVersion": "42",
                "annotations": {
                    "purelb.io/announcing-IPv4": "n,eth0,192.0.2.1",
                    "purelb.io/announcing-IPv6": null,
                },
            }})
        );
    }
}
