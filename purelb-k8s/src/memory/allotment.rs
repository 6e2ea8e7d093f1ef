//! The cluster's own addresses and node ports, and which Service has which.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use serde_json::Value;

/// Cluster addresses of IPv4 Services: 10.96.0.0/16.
const V4: u32 = u32::from_be_bytes([10, 96, 0, 0]);
/// Cluster addresses of IPv6 Services: fd00:96::/112.
const V6: u128 = 0xfd00_0096 << 96;
/// Offsets that are given out; what is before them is for addresses that somebody asks for.
const DYNAMIC: RangeInclusive<u16> = 0x100..=0xfffe;
const NODE_PORTS: RangeInclusive<u16> = 30_000..=32_767;

/// What is taken, kept equal to the stored Services by claim and release.
#[derive(Debug, Default)]
pub(super) struct Allotment {
    addresses: BTreeSet<IpAddr>,
    ports: BTreeSet<u16>,
    /// Where the next search starts, so that nothing is reused at once.
    next_offset: u16,
    next_port: u16,
}

/// Whether an address is one that a Service may have as its cluster address.
pub(super) fn in_range(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => u32::from(v4) >> 16 == V4 >> 16,
        IpAddr::V6(v6) => u128::from(v6) >> 16 == V6 >> 16,
    }
}

impl Allotment {
    pub(super) fn is_taken(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    pub(super) fn is_port_taken(&self, port: u16) -> bool {
        self.ports.contains(&port)
    }

    /// A free cluster address; it is taken only once a Service that has it is stored.
    pub(super) fn free_address(&mut self, v6: bool) -> Option<IpAddr> {
        let address = |offset: u16| match v6 {
            false => IpAddr::V4(Ipv4Addr::from(V4 | u32::from(offset))),
            true => IpAddr::V6(Ipv6Addr::from(V6 | u128::from(offset))),
        };
        let offset = from_next(DYNAMIC, self.next_offset)
            .find(|offset| !self.addresses.contains(&address(*offset)))?;
        self.next_offset = offset.wrapping_add(1);
        Some(address(offset))
    }

    /// A free node port; it is taken only once a Service that has it is stored.
    pub(super) fn free_port(&mut self, also_taken: &BTreeSet<u16>) -> Option<u16> {
        let port = from_next(NODE_PORTS, self.next_port)
            .find(|port| !self.ports.contains(port) && !also_taken.contains(port))?;
        self.next_port = port.wrapping_add(1);
        Some(port)
    }

    pub(super) fn claim(&mut self, service: Option<&Value>) {
        self.addresses.extend(addresses_of(service));
        self.ports.extend(ports_of(service));
    }

    pub(super) fn release(&mut self, service: Option<&Value>) {
        for address in addresses_of(service) {
            self.addresses.remove(&address);
        }
        for port in ports_of(service) {
            self.ports.remove(&port);
        }
    }
}

/// A range once around, from somewhere in it.
fn from_next(range: RangeInclusive<u16>, next: u16) -> impl Iterator<Item = u16> {
    let next = next.clamp(*range.start(), *range.end());
    (next..=*range.end()).chain(*range.start()..next)
}

fn addresses_of(service: Option<&Value>) -> impl Iterator<Item = IpAddr> {
    let addresses = service.and_then(|s| s["spec"]["clusterIPs"].as_array()).into_iter().flatten();
    addresses.filter_map(|address| address.as_str()?.parse().ok())
}

fn ports_of(service: Option<&Value>) -> impl Iterator<Item = u16> {
    let spec = service.map(|s| &s["spec"]);
    let ports = spec.and_then(|spec| spec["ports"].as_array()).into_iter().flatten();
    let health = spec.map(|spec| &spec["healthCheckNodePort"]);
    ports
        .map(|port| &port["nodePort"])
        .chain(health)
        .filter_map(|port| u16::try_from(port.as_u64()?).ok())
}
