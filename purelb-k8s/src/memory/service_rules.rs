//! What may not be in a Service.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ServiceSpec;
use serde_json::json;

use super::refusal::Complaint;
use super::service::{EXTERNAL_NAME, LOAD_BALANCER, is_external, is_headless, type_of};

const DUAL_STACK: [&str; 2] = ["PreferDualStack", "RequireDualStack"];

/// Checks a Service with its defaults against the rules of a real API server that people meet.
pub(super) fn check(old: Option<&ServiceSpec>, spec: &ServiceSpec) -> Result<(), Vec<Complaint>> {
    let mut complaints = Vec::new();
    check_words(spec, &mut complaints);
    check_ports(spec, &mut complaints);
    check_load_balancer(old, spec, &mut complaints);
    check_families(old, spec, &mut complaints);
    if complaints.is_empty() { Ok(()) } else { Err(complaints) }
}

fn check_words(spec: &ServiceSpec, complaints: &mut Vec<Complaint>) {
    let mut one_of = |field: &str, value: Option<&String>, known: &[&str]| {
        if let Some(value) = value.filter(|v| !known.contains(&v.as_str())) {
            complaints.push(Complaint::unsupported(field, &json!(value), known));
        }
    };
    one_of(
        "spec.type",
        spec.type_.as_ref(),
        &["ClusterIP", EXTERNAL_NAME, LOAD_BALANCER, "NodePort"],
    );
    one_of("spec.sessionAffinity", spec.session_affinity.as_ref(), &["ClientIP", "None"]);
    let policies = &["Cluster", "Local"];
    one_of("spec.externalTrafficPolicy", spec.external_traffic_policy.as_ref(), policies);
    one_of("spec.internalTrafficPolicy", spec.internal_traffic_policy.as_ref(), policies);
    let policies = &["PreferDualStack", "RequireDualStack", "SingleStack"];
    one_of("spec.ipFamilyPolicy", spec.ip_family_policy.as_ref(), policies);
    for (n, family) in spec.ip_families.iter().flatten().enumerate() {
        one_of(&format!("spec.ipFamilies[{n}]"), Some(family), &["IPv4", "IPv6"]);
    }
    if spec.external_traffic_policy.is_some() && !is_external(spec) {
        let value = json!(spec.external_traffic_policy);
        let why = "may only be set for externally-accessible services";
        complaints.push(Complaint::invalid("spec.externalTrafficPolicy", &value, why));
    }
    if type_of(spec) == EXTERNAL_NAME {
        check_external_name(spec, complaints);
    }
}

fn check_external_name(spec: &ServiceSpec, complaints: &mut Vec<Complaint>) {
    if spec.external_name.as_deref().is_none_or(str::is_empty) {
        complaints.push(Complaint::required("spec.externalName", ""));
    }
    let is_any = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    for (field, is_set) in [
        ("spec.clusterIPs", spec.cluster_ip.is_some() || is_any(&spec.cluster_ips)),
        ("spec.ipFamilies", is_any(&spec.ip_families)),
        ("spec.ipFamilyPolicy", spec.ip_family_policy.is_some()),
    ] {
        if is_set {
            let why = "may not be set for ExternalName services";
            complaints.push(Complaint::forbidden(field, why));
        }
    }
}

fn check_ports(spec: &ServiceSpec, complaints: &mut Vec<Complaint>) {
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !is_headless(spec) && type_of(spec) != EXTERNAL_NAME {
        complaints.push(Complaint::required("spec.ports", ""));
    }
    let mut names = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    for (n, port) in ports.iter().enumerate() {
        let field = |name: &str| format!("spec.ports[{n}].{name}");
        match port.name.as_deref() {
            None | Some("") if ports.len() > 1 => {
                complaints.push(Complaint::required(field("name"), ""));
            }
            Some(name) if !name.is_empty() && !names.insert(name) => {
                complaints.push(Complaint::duplicate(field("name"), &json!(name)));
            }
            None | Some(_) => {}
        }
        if !(1..=65_535).contains(&port.port) {
            let why = "must be between 1 and 65535, inclusive";
            complaints.push(Complaint::invalid(field("port"), &json!(port.port), why));
        }
        let known = ["SCTP", "TCP", "UDP"];
        if port.protocol.as_deref().is_some_and(|p| !known.contains(&p)) {
            let value = json!(port.protocol);
            complaints.push(Complaint::unsupported(field("protocol"), &value, &known));
        }
        if port.node_port.is_some_and(|p| p != 0 && !(1..=65_535).contains(&p)) {
            let why = "must be between 1 and 65535, inclusive";
            complaints.push(Complaint::invalid(field("nodePort"), &json!(port.node_port), why));
        }
        if !numbers.insert((port.protocol.as_deref(), port.port)) {
            let value = json!({"port": port.port, "protocol": port.protocol});
            complaints.push(Complaint::duplicate(format!("spec.ports[{n}]"), &value));
        }
    }
}

fn check_load_balancer(
    old: Option<&ServiceSpec>,
    spec: &ServiceSpec,
    complaints: &mut Vec<Complaint>,
) {
    if type_of(spec) != LOAD_BALANCER {
        if spec.load_balancer_class.is_some() {
            let why = "may only be used when `type` is 'LoadBalancer'";
            complaints.push(Complaint::forbidden("spec.loadBalancerClass", why));
        }
        if spec.allocate_load_balancer_node_ports.is_some() {
            let why = "may only be used when `type` is 'LoadBalancer'";
            complaints.push(Complaint::forbidden("spec.allocateLoadBalancerNodePorts", why));
        }
        return;
    }
    if is_headless(spec) {
        let why = "may not be set to 'None' for LoadBalancer services";
        complaints.push(Complaint::invalid("spec.clusterIPs[0]", &json!(spec.cluster_ip), why));
    }
    let was = old.filter(|old| type_of(old) == LOAD_BALANCER);
    if was.is_some_and(|old| old.load_balancer_class != spec.load_balancer_class) {
        let value = json!(spec.load_balancer_class);
        let why = "may not change once set";
        complaints.push(Complaint::invalid("spec.loadBalancerClass", &value, why));
    }
}

fn check_families(old: Option<&ServiceSpec>, spec: &ServiceSpec, complaints: &mut Vec<Complaint>) {
    let families = spec.ip_families.as_deref().unwrap_or_default();
    let addresses = spec.cluster_ips.as_deref().unwrap_or_default();
    let old_policy = old.and_then(|old| old.ip_family_policy.as_deref());
    let policy = spec.ip_family_policy.as_deref();
    let dual = policy.is_some_and(|policy| DUAL_STACK.contains(&policy));
    // Going back to one family may leave the second one in the write; it is dropped then.
    let goes_back = old_policy.is_some_and(|policy| DUAL_STACK.contains(&policy));
    if !dual && !goes_back && (families.len() > 1 || addresses.len() > 1) {
        let why = "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs or \
                   families are specified";
        complaints.push(Complaint::invalid("spec.ipFamilyPolicy", &json!(policy), why));
    }
    let why = match (spec.cluster_ip.as_deref(), addresses.first()) {
        (None | Some(""), Some(_)) => Some("must be empty when `clusterIP` is not specified"),
        (Some(ip), Some(first)) if ip != first => Some("first value must match `clusterIP`"),
        (Some(_), Some(_)) | (_, None) => None,
    };
    if let Some(why) = why {
        complaints.push(Complaint::invalid("spec.clusterIPs", &json!(addresses), why));
    }
    if let [first, second] = families
        && first == second
    {
        complaints.push(Complaint::duplicate("spec.ipFamilies[1]", &json!(second)));
    }
    let Some(old) = old.filter(|old| type_of(old) != EXTERNAL_NAME) else { return };
    if type_of(spec) == EXTERNAL_NAME {
        return;
    }
    let old_address = old.cluster_ips.iter().flatten().next();
    let new_address = spec.cluster_ip.as_ref().or_else(|| addresses.first());
    if old_address.is_some() && new_address != old_address {
        let why = "may not change once set";
        complaints.push(Complaint::invalid("spec.clusterIPs[0]", &json!(new_address), why));
    }
    let old_family = old.ip_families.iter().flatten().next();
    if old_family.is_some() && families.first() != old_family {
        let why = "may not change once set";
        complaints.push(Complaint::invalid("spec.ipFamilies[0]", &json!(families.first()), why));
    }
}
