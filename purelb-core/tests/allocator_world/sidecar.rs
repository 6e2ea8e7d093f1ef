//! An IPAM sidecar: one range per family, idempotent, as its protocol asks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use purelb_core::allocator::{IpamAnswer, IpamCall, IpamError};
use purelb_core::host::Family;
use purelb_core::name::ServiceKey;
use purelb_core::range::AddressRange;
use purelb_core::usage::{FamilyUsage, Usage};

#[derive(Clone, Debug, Default)]
pub struct Sidecar {
    pub ranges: Vec<AddressRange>,
    pub given: BTreeMap<(ServiceKey, Family), IpAddr>,
    /// Every call, in order.
    pub calls: Vec<String>,
    /// What it says to everything, while set.
    pub fails: Option<IpamError>,
    /// It never answers.
    pub hangs: bool,
    /// What it answers to `Allocate`, instead of thinking.
    pub scripted: Option<Vec<IpAddr>>,
}

impl Sidecar {
    pub fn of(ranges: &[&str]) -> Self {
        let ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
        Self { ranges, ..Self::default() }
    }

    pub fn call(&mut self, call: &IpamCall) -> Option<Result<IpamAnswer, IpamError>> {
        self.calls.push(call.to_string());
        if self.hangs {
            return None;
        }
        if let Some(error) = &self.fails {
            return Some(Err(error.clone()));
        }
        Some(match call {
            IpamCall::Allocate { service, families, .. } => self.allocate(service, families),
            IpamCall::Release { service, ip } => {
                self.given.retain(|(holder, _), held| {
                    holder != service || ip.is_some_and(|ip| ip != *held)
                });
                Ok(IpamAnswer::Released)
            }
            IpamCall::Stats => Ok(IpamAnswer::Stats {
                usage: Usage { v4: self.usage(Family::V4), v6: self.usage(Family::V6) },
                addresses: self.ranges.iter().map(ToString::to_string).collect(),
            }),
        })
    }

    fn allocate(
        &mut self,
        service: &ServiceKey,
        families: &[Family],
    ) -> Result<IpamAnswer, IpamError> {
        if let Some(scripted) = &self.scripted {
            return Ok(IpamAnswer::Allocated(scripted.clone()));
        }
        let mut ips = Vec::new();
        for family in families {
            let at = (service.clone(), *family);
            if !self.given.contains_key(&at) {
                let ranges = self.ranges.iter().filter(|range| range.family() == *family);
                let mut all = ranges.flat_map(|range| (0..).map_while(|n| range.nth(n)));
                let free = all.find(|ip| !self.given.values().any(|given| given == ip));
                self.given.insert(at.clone(), free.ok_or(IpamError::Exhausted)?);
            }
            ips.push(self.given[&at]);
        }
        Ok(IpamAnswer::Allocated(ips))
    }

    fn usage(&self, family: Family) -> FamilyUsage {
        let allocated = self.given.keys().filter(|(_, of)| *of == family).count() as u128;
        let sizes = self.ranges.iter().filter(|range| range.family() == family);
        let size: u128 = sizes.map(AddressRange::size).sum();
        FamilyUsage { allocated, available: Some(size - allocated) }
    }
}
