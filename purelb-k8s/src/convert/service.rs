//! Services.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as k8s;
use purelb_core::host::Family;
use purelb_core::name::{ResourceVersion, ServiceKey, Uid};
use purelb_core::service::{Annotations, FamilyPolicy, Port, Protocol, Service, TrafficPolicy};

use crate::annotation;

/// A Service as the core sees it. What is unreadable in it, such as an ingress without an address,
/// is left out.
pub fn service(object: &k8s::Service) -> Service {
    let metadata = &object.metadata;
    let spec = object.spec.as_ref();
    let text =
        |field: fn(&k8s::ServiceSpec) -> Option<&String>| spec.and_then(field).map(String::as_str);
    Service {
        key: ServiceKey::new(
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default(),
        ),
        uid: Uid::from(metadata.uid.as_deref().unwrap_or_default()),
        version: ResourceVersion::from(metadata.resource_version.as_deref().unwrap_or_default()),
        is_load_balancer: text(|spec| spec.type_.as_ref()) == Some("LoadBalancer"),
        class: text(|spec| spec.load_balancer_class.as_ref()).map(str::to_owned),
        has_cluster_ip: text(|spec| spec.cluster_ip.as_ref())
            .is_some_and(|ip| ip.parse::<IpAddr>().is_ok()),
        families: families(spec.and_then(|spec| spec.ip_families.as_deref()).unwrap_or_default()),
        family_policy: match text(|spec| spec.ip_family_policy.as_ref()) {
            Some("PreferDualStack") => FamilyPolicy::PreferDualStack,
            Some("RequireDualStack") => FamilyPolicy::RequireDualStack,
            Some(_) | None => FamilyPolicy::SingleStack,
        },
        ports: spec
            .and_then(|spec| spec.ports.as_ref())
            .into_iter()
            .flatten()
            .filter_map(port)
            .collect(),
        traffic_policy: match text(|spec| spec.external_traffic_policy.as_ref()) {
            Some("Local") => TrafficPolicy::Local,
            Some(_) | None => TrafficPolicy::Cluster,
        },
        load_balancer_ip: text(|spec| spec.load_balancer_ip.as_ref())
            .filter(|ip| !ip.is_empty())
            .map(str::to_owned),
        ingress: ingress(object.status.as_ref()),
        is_deleting: metadata.deletion_timestamp.is_some(),
        annotations: metadata.annotations.as_ref().map(annotations).unwrap_or_default(),
    }
}

/// Our annotations among those of a Service.
pub fn annotations(all: &BTreeMap<String, String>) -> Annotations {
    let text = |key| all.get(key).map(String::as_str);
    let owned = |key| text(key).map(str::to_owned);
    Annotations {
        service_group: text(annotation::SERVICE_GROUP).map(Into::into),
        addresses: owned(annotation::ADDRESSES),
        sharing: text(annotation::ALLOW_SHARED_IP).filter(|key| !key.is_empty()).map(Into::into),
        multi_pool: text(annotation::MULTI_POOL).map(|value| value == "true"),
        re_evaluate: text(annotation::RE_EVALUATE) == Some("true"),
        endpoint_affinity: text(annotation::NODE_AFFINITY) == Some("service-endpoints"),
        allocated_by: owned(annotation::ALLOCATED_BY),
        allocated_from: owned(annotation::ALLOCATED_FROM),
        pool_type: owned(annotation::POOL_TYPE),
        skip_ipv6_dad: text(annotation::SKIP_IPV6_DAD) == Some("true"),
        announcing_v4: owned(annotation::ANNOUNCING_V4),
        announcing_v6: owned(annotation::ANNOUNCING_V6),
    }
}

fn families(names: &[String]) -> Vec<Family> {
    let mut families = Vec::new();
    for name in names {
        let family = match name.as_str() {
            "IPv4" => Family::V4,
            "IPv6" => Family::V6,
            _ => continue,
        };
        if !families.contains(&family) {
            families.push(family);
        }
    }
    families
}

fn port(port: &k8s::ServicePort) -> Option<Port> {
    let protocol = match port.protocol.as_deref() {
        Some("SCTP") => Protocol::Sctp,
        Some("TCP") | None => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some(_) => return None,
    };
    Some(Port { protocol, number: u16::try_from(port.port).ok()? })
}

fn ingress(status: Option<&k8s::ServiceStatus>) -> Vec<IpAddr> {
    let mut ips: Vec<IpAddr> = status
        .and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref())
        .into_iter()
        .flatten()
        .filter_map(|ingress| ingress.ip.as_deref()?.parse().ok())
        .map(|ip: IpAddr| ip.to_canonical())
        .collect();
    // Collecting leaves room for four.
    ips.shrink_to_fit();
    ips
}
