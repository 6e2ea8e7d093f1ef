//! What is wanted of a Service's status and annotations, beside what they show.

use std::net::IpAddr;

use crate::allocator::action::{ALLOCATED_BY, ALLOCATED_FROM, Marks, POOL_TYPE, SKIP_IPV6_DAD};
use crate::allocator::assign::group_of;
use crate::allocator::catalog::Catalog;
use crate::allocator::ledger::Held;
use crate::group::Announce;
use crate::name::GroupName;
use crate::service::Service;

/// The whole answer for a Service.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) ingress: Vec<IpAddr>,
    pub(crate) marks: Option<Marks>,
}

impl Answer {
    /// The answer for a Service that has `held`. What a group that is gone cannot say any more, the
    /// annotations that are there may.
    pub(crate) fn new(service: &Service, held: &[Held], catalog: &Catalog) -> Self {
        let ingress: Vec<IpAddr> = held.iter().map(|held| held.ip).collect();
        let names: Vec<_> = held.iter().map(|held| group_of(held, catalog)).collect();
        let Some(first) = names.first() else { return Self::default() };
        let groups: Vec<_> = names.iter().flatten().filter_map(|n| catalog.group(n)).collect();
        let announce = first.as_ref().and_then(|name| catalog.group(name)).map(|g| g.announce);
        let observed = &service.annotations;
        let allocated_from = if names.iter().all(|name| name == first) {
            first.as_ref().map(GroupName::to_string)
        } else {
            let each = names.iter().map(|name| name.as_ref().map_or("", GroupName::as_str));
            Some(each.collect::<Vec<_>>().join(", "))
        };
        let skip_ipv6_dad = if groups.is_empty() {
            observed.skip_ipv6_dad
        } else {
            groups.iter().any(|group| group.skip_ipv6_dad)
        };
        let marks = Marks {
            allocated_from: allocated_from.or_else(|| observed.allocated_from.clone()),
            pool_type: announce.or_else(|| pool_type(service)),
            skip_ipv6_dad,
        };
        Self { ingress, marks: Some(marks) }
    }

    /// Whether the Service shows it.
    pub(crate) fn shows(&self, service: &Service) -> bool {
        self.ingress == service.ingress && self.marks == marks_of(service)
    }

    /// Annotations of ours that the Service has and the answer has not.
    pub(crate) fn remove(&self, service: &Service) -> Vec<&'static str> {
        let observed = Branding::of(service);
        let wanted = self.marks.as_ref().map(Branding::from).unwrap_or_default();
        let excess = Branding {
            allocated_by: observed.allocated_by && !wanted.allocated_by,
            allocated_from: observed.allocated_from && !wanted.allocated_from,
            pool_type: observed.pool_type && !wanted.pool_type,
            skip_ipv6_dad: observed.skip_ipv6_dad && !wanted.skip_ipv6_dad,
        };
        excess.names()
    }
}

/// Which of our annotations there are.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Branding {
    allocated_by: bool,
    allocated_from: bool,
    pool_type: bool,
    skip_ipv6_dad: bool,
}

impl Branding {
    /// Those that a Service bears.
    pub(crate) fn of(service: &Service) -> Self {
        let annotations = &service.annotations;
        Self {
            allocated_by: annotations.allocated_by.is_some(),
            allocated_from: annotations.allocated_from.is_some(),
            pool_type: annotations.pool_type.is_some(),
            skip_ipv6_dad: annotations.skip_ipv6_dad,
        }
    }

    pub(crate) fn is_any(self) -> bool {
        self.allocated_by || self.allocated_from || self.pool_type || self.skip_ipv6_dad
    }

    /// Their names.
    pub(crate) fn names(self) -> Vec<&'static str> {
        let all = [
            (ALLOCATED_BY, self.allocated_by),
            (ALLOCATED_FROM, self.allocated_from),
            (POOL_TYPE, self.pool_type),
            (SKIP_IPV6_DAD, self.skip_ipv6_dad),
        ];
        all.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
    }
}

impl From<&Marks> for Branding {
    fn from(marks: &Marks) -> Self {
        Self {
            allocated_by: true,
            allocated_from: marks.allocated_from.is_some(),
            pool_type: marks.pool_type.is_some(),
            skip_ipv6_dad: marks.skip_ipv6_dad,
        }
    }
}

/// The marks that a Service bears, if it is branded.
fn marks_of(service: &Service) -> Option<Marks> {
    service.is_branded().then(|| Marks {
        allocated_from: service.annotations.allocated_from.clone(),
        pool_type: pool_type(service),
        skip_ipv6_dad: service.annotations.skip_ipv6_dad,
    })
}

fn pool_type(service: &Service) -> Option<Announce> {
    match service.annotations.pool_type.as_deref() {
        Some("local") => Some(Announce::Local),
        Some("remote") => Some(Announce::Remote),
        Some(_) | None => None,
    }
}

/// The addresses that a Service shows, each once, with the group that each is probably from: the one
/// whose range holds it, or else the one that `allocated-from` names.
pub(crate) fn shown(service: &Service, catalog: &Catalog) -> Vec<Held> {
    let mut ips: Vec<IpAddr> = Vec::new();
    for ip in &service.ingress {
        if !ips.contains(ip) {
            ips.push(*ip);
        }
    }
    let from = service.annotations.allocated_from.as_deref().unwrap_or_default();
    let names: Vec<&str> = from.split(',').map(str::trim).collect();
    let named = |n: usize| {
        let name = match names.len() {
            1 => names.first(),
            many if many == ips.len() => names.get(n),
            _ => None,
        };
        name.filter(|name| !name.is_empty()).map(|name| GroupName::from(*name))
    };
    let held = ips.iter().enumerate().map(|(n, ip)| Held {
        ip: *ip,
        group: match catalog.find(*ip) {
            Some((group, _)) => Some(group.name.clone()),
            None => named(n),
        },
    });
    held.collect()
}
