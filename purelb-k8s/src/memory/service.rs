//! What an API server itself decides about a Service: defaults, cluster addresses, node ports, and
//! what a change of type takes along.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    ClientIPConfig, LoadBalancerStatus, Service, ServicePort, ServiceSpec, SessionAffinityConfig,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::allotment::{self, Allotment};
use super::refusal::Complaint;
use super::service_rules;

/// Fills in what follows from the Service alone.
pub(super) fn default(value: &mut Value) {
    with_typed(value, |service| {
        let spec = service.spec.get_or_insert_default();
        default_spec(spec);
        let is_load_balancer = type_of(spec) == LOAD_BALANCER;
        let balancer = service.status.get_or_insert_default().load_balancer.get_or_insert_default();
        if is_load_balancer {
            for ingress in balancer.ingress.iter_mut().flatten().filter(|i| i.ip.is_some()) {
                ingress.ip_mode.get_or_insert_with(|| "VIP".to_owned());
            }
        }
    });
}

/// Decides what depends on the Service's last version and on the other Services.
///
/// # Errors
///
/// What is wrong with the Service.
pub(super) fn prepare(
    allotment: &mut Allotment,
    old: Option<&Value>,
    value: &mut Value,
) -> Result<(), Vec<Complaint>> {
    let old: Option<Service> = old.and_then(|old| serde_json::from_value(old.clone()).ok());
    let old_spec = old.and_then(|old| old.spec);
    with_typed(value, |service| {
        let spec = service.spec.get_or_insert_default();
        if let Some(old) = &old_spec {
            carry_over(old, spec);
            drop_what_the_type_had(old, spec);
        }
        if type_of(spec) != LOAD_BALANCER {
            service.status.get_or_insert_default().load_balancer =
                Some(LoadBalancerStatus::default());
        }
        service_rules::check(old_spec.as_ref(), spec)?;
        choose_families(spec)?;
        give_addresses(allotment, old_spec.as_ref(), spec)?;
        give_ports(allotment, old_spec.as_ref(), spec)
    })
}

pub(super) const LOAD_BALANCER: &str = "LoadBalancer";
pub(super) const EXTERNAL_NAME: &str = "ExternalName";
const SINGLE_STACK: &str = "SingleStack";

/// Works on the Service behind an object. It has been decoded as one before, so it decodes again.
fn with_typed<R>(value: &mut Value, work: impl FnOnce(&mut Service) -> R) -> R {
    let mut service: Service = serde_json::from_value(value.take()).unwrap_or_default();
    let result = work(&mut service);
    *value = serde_json::to_value(service).unwrap_or_default();
    result
}

pub(super) fn type_of(spec: &ServiceSpec) -> &str {
    spec.type_.as_deref().unwrap_or("ClusterIP")
}

pub(super) fn is_external(spec: &ServiceSpec) -> bool {
    matches!(type_of(spec), LOAD_BALANCER | "NodePort")
        || spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty())
}

pub(super) fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some("None")
}

fn wants_node_ports(spec: &ServiceSpec) -> bool {
    match type_of(spec) {
        "NodePort" => true,
        LOAD_BALANCER => spec.allocate_load_balancer_node_ports != Some(false),
        _ => false,
    }
}

pub(super) fn wants_health_port(spec: &ServiceSpec) -> bool {
    type_of(spec) == LOAD_BALANCER && spec.external_traffic_policy.as_deref() == Some("Local")
}

fn default_spec(spec: &mut ServiceSpec) {
    spec.type_.get_or_insert_with(|| "ClusterIP".to_owned());
    spec.cluster_ip.take_if(|ip| ip.is_empty());
    match spec.session_affinity.get_or_insert_with(|| "None".to_owned()).as_str() {
        "ClientIP" => {
            let config = spec.session_affinity_config.get_or_insert_default();
            let config: &mut SessionAffinityConfig = config;
            let client: &mut ClientIPConfig = config.client_ip.get_or_insert_default();
            client.timeout_seconds.get_or_insert(10_800);
        }
        _ => spec.session_affinity_config = None,
    }
    for port in spec.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".to_owned());
        let unset = match &port.target_port {
            None | Some(IntOrString::Int(0)) => true,
            Some(IntOrString::String(name)) => name.is_empty(),
            Some(IntOrString::Int(_)) => false,
        };
        if unset {
            port.target_port = Some(IntOrString::Int(port.port));
        }
    }
    if is_external(spec) {
        spec.external_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
    }
    if type_of(spec) != EXTERNAL_NAME {
        spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
    }
    if type_of(spec) == LOAD_BALANCER {
        spec.allocate_load_balancer_node_ports.get_or_insert(true);
    }
}

/// What a replacing write left out but the Service has.
fn carry_over(old: &ServiceSpec, new: &mut ServiceSpec) {
    if type_of(new) != EXTERNAL_NAME && type_of(old) != EXTERNAL_NAME {
        let no_list = new.cluster_ips.as_ref().is_none_or(Vec::is_empty);
        if no_list && (new.cluster_ip.is_none() || new.cluster_ip == old.cluster_ip) {
            new.cluster_ip.clone_from(&old.cluster_ip);
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
        if new.ip_families.as_ref().is_none_or(Vec::is_empty) {
            new.ip_families.clone_from(&old.ip_families);
        }
        if new.ip_family_policy.is_none() {
            new.ip_family_policy.clone_from(&old.ip_family_policy);
        }
    }
    if wants_node_ports(old) && wants_node_ports(new) {
        let mut used: BTreeSet<i32> =
            new.ports.iter().flatten().filter_map(|p| p.node_port).collect();
        for port in new.ports.iter_mut().flatten().filter(|p| p.node_port.unwrap_or(0) == 0) {
            let same = |o: &&ServicePort| o.port == port.port && o.protocol == port.protocol;
            let had = old.ports.iter().flatten().find(same).and_then(|o| o.node_port);
            port.node_port = had.filter(|had| used.insert(*had));
        }
    }
    if wants_health_port(old) && wants_health_port(new) && new.health_check_node_port.is_none() {
        new.health_check_node_port = old.health_check_node_port;
    }
}

/// A change of type takes along what only the old type had, unless the write changed that too.
fn drop_what_the_type_had(old: &ServiceSpec, new: &mut ServiceSpec) {
    if type_of(old) != EXTERNAL_NAME && type_of(new) == EXTERNAL_NAME {
        if old.cluster_ip == new.cluster_ip {
            (new.cluster_ip, new.cluster_ips) = (None, None);
        }
        if old.ip_families == new.ip_families {
            new.ip_families = None;
        }
        if old.ip_family_policy == new.ip_family_policy {
            new.ip_family_policy = None;
        }
        if old.internal_traffic_policy == new.internal_traffic_policy {
            new.internal_traffic_policy = None;
        }
    }
    if wants_node_ports(old) && !wants_node_ports(new) {
        for port in new.ports.iter_mut().flatten() {
            let had = |o: &ServicePort| o.port == port.port && o.node_port == port.node_port;
            if old.ports.iter().flatten().any(had) {
                port.node_port = None;
            }
        }
    }
    if wants_health_port(old)
        && !wants_health_port(new)
        && old.health_check_node_port == new.health_check_node_port
    {
        new.health_check_node_port = None;
    }
    if type_of(old) == LOAD_BALANCER && type_of(new) != LOAD_BALANCER {
        if old.allocate_load_balancer_node_ports == new.allocate_load_balancer_node_ports {
            new.allocate_load_balancer_node_ports = None;
        }
        if old.load_balancer_class == new.load_balancer_class {
            new.load_balancer_class = None;
        }
    }
    if is_external(old)
        && !is_external(new)
        && old.external_traffic_policy == new.external_traffic_policy
    {
        new.external_traffic_policy = None;
    }
}

/// The families, IPv4 first unless the Service says otherwise.
fn choose_families(spec: &mut ServiceSpec) -> Result<(), Vec<Complaint>> {
    if type_of(spec) == EXTERNAL_NAME {
        return Ok(());
    }
    match (&spec.cluster_ip, &spec.cluster_ips) {
        (Some(ip), None) => spec.cluster_ips = Some(vec![ip.clone()]),
        (None, Some(ips)) => spec.cluster_ip = ips.first().cloned(),
        (None, None) | (Some(_), Some(_)) => {}
    }
    let policy = spec.ip_family_policy.get_or_insert_with(|| SINGLE_STACK.to_owned()).clone();
    let families = spec.ip_families.get_or_insert_default();
    if families.is_empty() {
        let asked = spec.cluster_ips.iter().flatten().filter_map(|ip| ip.parse().ok());
        families.extend(asked.map(|ip: IpAddr| family_of(ip).to_owned()));
    }
    if families.is_empty() {
        families.push("IPv4".to_owned());
    }
    if policy == SINGLE_STACK {
        families.truncate(1);
        if let Some(ips) = &mut spec.cluster_ips {
            ips.truncate(1);
        }
    } else if let [only] = families.as_slice() {
        let other = if only == "IPv4" { "IPv6" } else { "IPv4" };
        families.push(other.to_owned());
    }
    Ok(())
}

fn family_of(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn give_addresses(
    allotment: &mut Allotment,
    old: Option<&ServiceSpec>,
    spec: &mut ServiceSpec,
) -> Result<(), Vec<Complaint>> {
    if type_of(spec) == EXTERNAL_NAME {
        return Ok(());
    }
    if is_headless(spec) {
        spec.cluster_ips = Some(vec!["None".to_owned()]);
        return Ok(());
    }
    let asked = spec.cluster_ips.take().unwrap_or_default();
    let held: Vec<&String> =
        old.and_then(|o| o.cluster_ips.as_ref()).into_iter().flatten().collect();
    let mut given = Vec::new();
    for (n, family) in spec.ip_families.iter().flatten().enumerate() {
        let field = format!("spec.clusterIPs[{n}]");
        let is_of_family = |ip: &&String| ip.parse().is_ok_and(|ip| family_of(ip) == family);
        let kept = held.get(n).copied().filter(is_of_family);
        match asked.get(n).filter(|ip| !ip.is_empty()).or(kept) {
            Some(ip) => {
                let wrong = |why: &str| vec![Complaint::invalid(field.as_str(), &json!(ip), why)];
                let address: IpAddr = ip.parse().map_err(|_| {
                    wrong("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
                })?;
                if family_of(address) != family {
                    return Err(wrong(&format!(
                        "expected an {family} value as indicated by `ipFamilies[{n}]`"
                    )));
                }
                if !allotment::in_range(address) {
                    return Err(wrong(
                        "failed to allocate IP: the provided IP is not in the valid range",
                    ));
                }
                if allotment.is_taken(address) && !held.contains(&ip) {
                    return Err(wrong("failed to allocate IP: provided IP is already allocated"));
                }
                given.push(ip.clone());
            }
            None => {
                let Some(address) = allotment.free_address(family == "IPv6") else {
                    return Err(vec![Complaint::forbidden(field, "range is full")]);
                };
                given.push(address.to_string());
            }
        }
    }
    spec.cluster_ip = given.first().cloned();
    spec.cluster_ips = Some(given);
    Ok(())
}

fn give_ports(
    allotment: &mut Allotment,
    old: Option<&ServiceSpec>,
    spec: &mut ServiceSpec,
) -> Result<(), Vec<Complaint>> {
    let port_of = |port: Option<i32>| port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0);
    let ports_of = |spec: &ServiceSpec| -> BTreeSet<u16> {
        let ports = spec.ports.iter().flatten().map(|p| p.node_port);
        ports.chain([spec.health_check_node_port]).filter_map(port_of).collect()
    };
    let held = old.map(ports_of).unwrap_or_default();
    let mut taken = ports_of(spec);
    if let Some(port) = taken.iter().find(|p| allotment.is_port_taken(**p) && !held.contains(p)) {
        let why = "provided port is already allocated";
        return Err(vec![Complaint::invalid("spec.ports[0].nodePort", &json!(port), why)]);
    }
    let mut free = |field: &str| {
        let port = allotment.free_port(&taken).ok_or_else(|| {
            vec![Complaint::forbidden(field, "failed to allocate a nodePort: range is full")]
        })?;
        taken.insert(port);
        Ok::<_, Vec<Complaint>>(Some(i32::from(port)))
    };
    if wants_node_ports(spec) {
        for (n, port) in spec.ports.iter_mut().flatten().enumerate() {
            if port_of(port.node_port).is_none() {
                port.node_port = free(&format!("spec.ports[{n}].nodePort"))?;
            }
        }
    }
    if wants_health_port(spec) && port_of(spec.health_check_node_port).is_none() {
        spec.health_check_node_port = free("spec.healthCheckNodePort")?;
    }
    Ok(())
}
