//! Which Services an earlier leader might still be writing to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::host::Family;
use crate::name::{GroupName, ServiceKey};
use crate::service::Service;

/// The Services among `services` (all there are) that an allocator with other facts than ours may have
/// wanted to write to, because what they show is not all that they could be given.
///
/// Of any other Service every allocator says what it shows, whatever groups, leases and other Services
/// it knew of: an assignment ends only with its Service's own wish, and that is a new version of the
/// Service. So these, and only these, must be changed before a request that was sent long ago can no
/// longer hurt. `growing` are the groups whose Services may be given more addresses later (`multiPool`).
pub fn unsettled(
    services: &[Service],
    growing: &BTreeSet<GroupName>,
    default_announcer: bool,
) -> BTreeSet<ServiceKey> {
    let mut shown: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for ip in services.iter().flat_map(|service| &service.ingress) {
        *shown.entry(*ip).or_default() += 1;
    }
    let is_alone = |ip: &IpAddr| shown.get(ip) == Some(&1);
    let is_settled = |service: &Service| {
        is_complete(service)
            && service.ingress.iter().all(is_alone)
            && group(service).is_some_and(|group| !growing.contains(&group))
    };
    services
        .iter()
        .filter(|service| service.is_ours(default_announcer) || service.is_branded())
        .filter(|service| !is_settled(service))
        .map(|service| service.key.clone())
        .collect()
}

/// Whether a Service shows one address of each family that it asks for, and asks for nothing else.
fn is_complete(service: &Service) -> bool {
    let annotations = &service.annotations;
    let of = |family| service.ingress.iter().filter(move |ip| Family::of(**ip) == family).count();
    let has_each = !service.families.is_empty()
        && service.ingress.len() == service.families.len()
        && service.families.iter().all(|family| of(*family) == 1);
    has_each
        && service.is_load_balancer
        && service.is_branded()
        && annotations.multi_pool != Some(true)
        && !annotations.re_evaluate
        && wished(service).is_none_or(|wished| wished == shown(service))
}

/// The one group that a Service's addresses are from.
fn group(service: &Service) -> Option<GroupName> {
    let from = service.annotations.allocated_from.as_deref()?;
    (!from.contains(',')).then(|| GroupName::from(from))
}

fn shown(service: &Service) -> BTreeSet<Option<IpAddr>> {
    service.ingress.iter().copied().map(Some).collect()
}

/// The addresses that a Service asks for by name; what is no address is `None`.
fn wished(service: &Service) -> Option<BTreeSet<Option<IpAddr>>> {
    let annotation = service.annotations.addresses.as_deref();
    let text = annotation.or(service.load_balancer_ip.as_deref())?;
    Some(text.split(',').map(|part| part.trim().parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::BRAND;

    fn service(name: &str, ingress: &[&str]) -> Service {
        let mut service = Service::new(ServiceKey::new("shop", name), name);
        service.ingress = ingress.iter().map(|ip| ip.parse().unwrap()).collect();
        service.annotations.allocated_by = Some(BRAND.to_owned());
        service.annotations.allocated_from = Some("default".to_owned());
        service
    }

    fn names(services: &[Service]) -> Vec<String> {
        let growing = BTreeSet::from([GroupName::from("spread")]);
        unsettled(services, &growing, true).into_iter().map(|key| key.name.to_string()).collect()
    }

    #[test]
    fn a_service_that_shows_all_it_asks_for_is_settled() {
        let mut both = service("both", &["192.0.2.1", "2001:db8::1"]);
        both.families = vec![Family::V4, Family::V6];
        let mut asks = service("asks", &["192.0.2.2"]);
        asks.annotations.addresses = Some(" 192.0.2.2 ".to_owned());
        assert_eq!(names(&[both, asks, service("one", &["192.0.2.3"])]), [""; 0]);
    }

    #[test]
    fn a_service_that_could_be_given_anything_else_is_not() {
        let with = |name: &str, change: &dyn Fn(&mut Service)| {
            let mut service = service(name, &[&format!("192.0.2.{}", name.len())]);
            change(&mut service);
            service
        };
        let all = [
            with("a", &|service| service.ingress.clear()),
            with("bb", &|service| service.families.push(Family::V6)),
            with("ccc", &|service| service.annotations.re_evaluate = true),
            with("dddd", &|service| service.annotations.multi_pool = Some(true)),
            with("eeeee", &|service| service.annotations.addresses = Some("192.0.2.99".into())),
            with("ffffff", &|service| service.annotations.allocated_from = Some("spread".into())),
            with("ggggggg", &|service| service.annotations.allocated_from = None),
            with("hhhhhhhh", &|service| service.annotations.allocated_by = None),
            with("iiiiiiiii", &|service| service.ingress.push("192.0.2.200".parse().unwrap())),
        ];
        assert_eq!(names(&all).len(), all.len(), "{:?}", names(&all));
    }

    #[test]
    fn services_that_show_one_address_are_not_settled_and_others_services_are_left_alone() {
        let mut foreign = service("foreign", &[]);
        foreign.class = Some("example.com/other".to_owned());
        foreign.annotations.allocated_by = None;
        let all = [service("a", &["192.0.2.1"]), service("b", &["192.0.2.1"]), foreign];
        assert_eq!(names(&all), ["a", "b"]);
    }
}
