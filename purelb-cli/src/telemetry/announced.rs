//! The gauge of what a node announces.

use std::collections::BTreeSet;
use std::net::IpAddr;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use purelb_core::name::{NodeName, ServiceKey};

use super::agent::Announced;

/// The addresses that this node announces, as series of a gauge.
///
/// * [`add`](Self::add), [`remove`](Self::remove): one address of a Service.
/// * [`retain`](Self::retain): whole Services; those that are gone leave no series behind.
#[derive(Debug)]
pub struct AnnouncedGauge {
    gauge: Family<Announced, Gauge>,
    node: NodeName,
    shown: BTreeSet<(ServiceKey, IpAddr)>,
}

impl AnnouncedGauge {
    /// Of what `node` announces: nothing yet.
    pub fn new(gauge: Family<Announced, Gauge>, node: NodeName) -> Self {
        Self { gauge, node, shown: BTreeSet::new() }
    }

    /// The node has this address of a Service.
    pub fn add(&mut self, service: &ServiceKey, ip: IpAddr) {
        self.gauge.get_or_create(&self.labels(service, ip)).set(1);
        self.shown.insert((service.clone(), ip));
    }

    /// The node has it no more.
    pub fn remove(&mut self, service: &ServiceKey, ip: IpAddr) {
        self.gauge.remove(&self.labels(service, ip));
        self.shown.remove(&(service.clone(), ip));
    }

    /// Drops the series of every Service that is not to be kept.
    pub fn retain(&mut self, keep: impl Fn(&ServiceKey) -> bool) {
        let Self { gauge, node, shown } = self;
        shown.retain(|(service, ip)| {
            let is_kept = keep(service);
            if !is_kept {
                gauge.remove(&labels(node, service, *ip));
            }
            is_kept
        });
    }

    /// The labels of an address of a Service on this node.
    pub fn labels(&self, service: &ServiceKey, ip: IpAddr) -> Announced {
        labels(&self.node, service, ip)
    }
}

fn labels(node: &NodeName, service: &ServiceKey, ip: IpAddr) -> Announced {
    Announced { service: service.to_string(), node: node.to_string(), ip: ip.to_string() }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    /// A gauge that shows two addresses of one Service and one of another.
    fn three() -> (AnnouncedGauge, Registry) {
        let (family, mut registry) = (Family::default(), Registry::default());
        registry.register("announced", "", family.clone());
        let mut gauge = AnnouncedGauge::new(family, "n1".into());
        for (service, ip) in [("web", "192.0.2.1"), ("web", "2001:db8::1"), ("mail", "192.0.2.2")] {
            gauge.add(&ServiceKey::new("shop", service), ip.parse().unwrap());
        }
        (gauge, registry)
    }

    fn series(registry: &Registry) -> Vec<String> {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        let mut series: Vec<_> =
            text.lines().filter(|line| line.contains('{')).map(str::to_owned).collect();
        series.sort();
        series
    }

    #[test]
    fn every_address_is_a_series_and_a_withdrawn_one_is_none() {
        let (mut gauge, registry) = three();
        assert_eq!(series(&registry).len(), 3);
        gauge.remove(&ServiceKey::new("shop", "web"), "192.0.2.1".parse().unwrap());
        assert_eq!(
            series(&registry),
            [
                r#"announced{service="shop/mail",node="n1",ip="192.0.2.2"} 1"#,
                r#"announced{service="shop/web",node="n1",ip="2001:db8::1"} 1"#,
            ]
        );
    }

    #[test]
    fn a_service_that_is_gone_leaves_no_series_and_the_others_stay() {
        let (mut gauge, registry) = three();
        gauge.retain(|service| service.name.as_str() != "web");
        let left = [r#"announced{service="shop/mail",node="n1",ip="192.0.2.2"} 1"#];
        assert_eq!(series(&registry), left);
        gauge.retain(|_| false);
        assert_eq!(series(&registry), [""; 0]);
        gauge.add(&ServiceKey::new("shop", "mail"), "192.0.2.2".parse().unwrap());
        assert_eq!(series(&registry), left);
    }
}
