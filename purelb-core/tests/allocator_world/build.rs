//! Groups and Services in few words.

use std::collections::BTreeSet;
use std::net::IpAddr;

use purelb_core::group::{GroupSpec, PoolSpec, PoolsSpec, ServiceGroup};
use purelb_core::host::Family;
use purelb_core::name::ServiceKey;
use purelb_core::service::{FamilyPolicy, Port, Protocol, Service};

/// The Service `namespace/name`; without a slash in namespace `ns`.
pub fn key(name: &str) -> ServiceKey {
    match name.split_once('/') {
        Some((namespace, name)) => ServiceKey::new(namespace, name),
        None => ServiceKey::new("ns", name),
    }
}

/// A local group. Each range may name its subnet after an `@`; otherwise it is the /24 or /64 around
/// its first address.
pub fn local(name: &str, ranges: &[&str]) -> ServiceGroup {
    let kind = GroupSpec::Local { pools: pools(ranges), skip_ipv6_dad: false };
    ServiceGroup::new(name, "", kind)
}

/// A remote group of such ranges.
pub fn remote(name: &str, ranges: &[&str]) -> ServiceGroup {
    ServiceGroup::new(name, "", GroupSpec::Remote { pools: pools(ranges) })
}

/// An external group whose sidecar listens at `/run/<name>`.
pub fn external(name: &str) -> ServiceGroup {
    let kind = GroupSpec::External {
        announce: "remote".into(),
        provider: "netbox".into(),
        socket: format!("/run/{name}"),
    };
    ServiceGroup::new(name, "", kind)
}

pub trait GroupExt {
    fn multi(self) -> Self;
    fn balanced(self) -> Self;
    fn skip_dad(self) -> Self;
    fn aggregated(self, aggregation: &str) -> Self;
    fn for_namespaces(self, namespaces: &[&str]) -> Self;
    fn enforced(self) -> Self;
    fn namespace_default(self) -> Self;
}

impl GroupExt for ServiceGroup {
    fn multi(mut self) -> Self {
        pools_mut(&mut self).multi_pool = true;
        self
    }

    fn balanced(mut self) -> Self {
        pools_mut(&mut self).balance_pools = true;
        self
    }

    fn skip_dad(mut self) -> Self {
        if let GroupSpec::Local { skip_ipv6_dad, .. } = &mut self.kind {
            *skip_ipv6_dad = true;
        }
        self
    }

    fn aggregated(mut self, aggregation: &str) -> Self {
        let pools = pools_mut(&mut self);
        for pool in pools.v4.iter_mut().chain(&mut pools.v6) {
            pool.aggregation = Some(aggregation.to_owned());
        }
        self
    }

    fn for_namespaces(mut self, namespaces: &[&str]) -> Self {
        self.namespaces = namespaces.iter().map(|name| (*name).into()).collect();
        self
    }

    fn enforced(mut self) -> Self {
        self.enforce_namespaces = true;
        self
    }

    fn namespace_default(mut self) -> Self {
        self.namespace_default = true;
        self
    }
}

fn pools_mut(group: &mut ServiceGroup) -> &mut PoolsSpec {
    match &mut group.kind {
        GroupSpec::Local { pools, .. } | GroupSpec::Remote { pools } => pools,
        GroupSpec::External { .. } | GroupSpec::Malformed { .. } => panic!("it has no pools"),
    }
}

fn pools(ranges: &[&str]) -> PoolsSpec {
    let mut pools = PoolsSpec::default();
    for range in ranges {
        let (pool, subnet) = match range.split_once('@') {
            Some((pool, subnet)) => (pool, subnet.to_owned()),
            None => (*range, around(range)),
        };
        let list = if pool.contains(':') { &mut pools.v6 } else { &mut pools.v4 };
        let family = if pool.contains(':') { "v6pools" } else { "v4pools" };
        list.push(PoolSpec {
            field: format!("{family}[{}]", list.len()),
            pool: pool.to_owned(),
            subnet,
            aggregation: None,
        });
    }
    pools
}

fn around(range: &str) -> String {
    let first = range.split(['-', '/']).next().unwrap_or_default();
    let length = if first.contains(':') { 64 } else { 24 };
    format!("{first}/{length}")
}

pub trait ServiceExt: Sized {
    /// Any other change.
    fn with(self, change: impl FnOnce(&mut Self)) -> Self;
    fn of_class(self, class: &str) -> Self;
    fn asks(self, addresses: &str) -> Self;
    fn of(self, group: &str) -> Self;
    fn shares(self, key: &str) -> Self;
    fn unshared(self) -> Self;
    fn on(self, ports: &[u16]) -> Self;
    fn v4(self) -> Self;
    fn v6(self) -> Self;
    fn dual(self) -> Self;
    fn preferring_dual(self) -> Self;
    fn multi(self, on: bool) -> Self;
    fn shows(self, addresses: &[&str]) -> Self;
    fn branded(self, from: &str) -> Self;
}

impl ServiceExt for Service {
    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn of_class(mut self, class: &str) -> Self {
        self.class = Some(class.to_owned());
        self
    }

    fn asks(mut self, addresses: &str) -> Self {
        self.annotations.addresses = Some(addresses.to_owned());
        self
    }

    fn of(mut self, group: &str) -> Self {
        self.annotations.service_group = Some(group.into());
        self
    }

    fn shares(mut self, key: &str) -> Self {
        self.annotations.sharing = Some(key.into());
        self
    }

    fn unshared(mut self) -> Self {
        self.annotations.sharing = None;
        self
    }

    fn on(mut self, ports: &[u16]) -> Self {
        let port = |number: &u16| Port { protocol: Protocol::Tcp, number: *number };
        self.ports = ports.iter().map(port).collect();
        self
    }

    fn v4(mut self) -> Self {
        self.families = vec![Family::V4];
        self.family_policy = FamilyPolicy::SingleStack;
        self
    }

    fn v6(mut self) -> Self {
        self.families = vec![Family::V6];
        self.family_policy = FamilyPolicy::SingleStack;
        self
    }

    fn dual(mut self) -> Self {
        self.families = vec![Family::V4, Family::V6];
        self.family_policy = FamilyPolicy::RequireDualStack;
        self
    }

    fn preferring_dual(mut self) -> Self {
        self.families = vec![Family::V4, Family::V6];
        self.family_policy = FamilyPolicy::PreferDualStack;
        self
    }

    fn multi(mut self, on: bool) -> Self {
        self.annotations.multi_pool = Some(on);
        self
    }

    fn shows(mut self, addresses: &[&str]) -> Self {
        self.ingress = ips(addresses);
        self
    }

    fn branded(mut self, from: &str) -> Self {
        self.annotations.allocated_by = Some("PureLB".to_owned());
        self.annotations.allocated_from = Some(from.to_owned());
        self.annotations.pool_type = Some("local".to_owned());
        self
    }
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| ip(text)).collect()
}

/// A Service that asks for nothing in particular.
pub fn plain(service: Service) -> Service {
    service
}

/// Texts in any order.
pub fn unordered(texts: &[String]) -> BTreeSet<&str> {
    texts.iter().map(String::as_str).collect()
}
