//! Random histories: what owners, operators and bad luck can do.

use proptest::prelude::*;
use purelb_core::group::ServiceGroup;
use purelb_core::service::Service;

use crate::allocator_world::*;

pub const SERVICES: [&str; 6] = ["red/a", "red/b", "ns/a", "ns/b", "ns/c", "zz/a"];
pub const GROUPS: [&str; 4] = ["default", "even", "multi", "red"];

/// Ranges of a handful of addresses, many of them overlapping, with and without reserved ones.
const RANGES: [&str; 10] = [
    "192.0.2.0/30@192.0.2.0/30",
    "192.0.2.0/29",
    "192.0.2.5-192.0.2.6",
    "192.0.2.8-192.0.2.9",
    "192.0.2.12-192.0.2.14",
    "192.0.2.254-192.0.2.255",
    "2001:db8::/126",
    "2001:db8::2-2001:db8::5",
    "2001:db8::8-2001:db8::9",
    "2001:db8::c-2001:db8::e",
];

/// Addresses to ask for: some are in a range, some reserved, some nowhere.
const WISHES: [&str; 7] = [
    "192.0.2.1",
    "192.0.2.5",
    "192.0.2.8",
    "2001:db8::2",
    "2001:db8::9",
    "192.0.2.9,2001:db8::9",
    "203.0.113.1",
];

/// What happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// A Service is created or changed.
    Put(usize, Wants),
    /// A Service is deleted.
    Delete(usize),
    /// A Service changes its type, there or back.
    Retype(usize, bool),
    /// A group is created or changed.
    Group(usize, Offers),
    /// A group is deleted.
    DeleteGroup(usize),
    /// Somebody removes our annotations from a Service.
    Strip(usize),
    /// The allocator starts afresh.
    Restart,
    /// The watch lists everything again.
    Relist,
}

/// What the owner of a Service writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wants {
    pub families: u8,
    pub ports: Vec<u16>,
    pub sharing: Option<u8>,
    pub wish: Option<usize>,
    pub group: Option<usize>,
    pub multi: Option<bool>,
}

impl Wants {
    pub fn write(&self, service: Service) -> Service {
        let service = match self.families {
            0 => service.v4(),
            1 => service.v6(),
            2 => service.dual(),
            _ => service.preferring_dual(),
        };
        service.on(&self.ports).with(|service| {
            let annotations = &mut service.annotations;
            annotations.sharing = self.sharing.map(|key| format!("key{key}").into());
            annotations.addresses = self.wish.map(|wish| WISHES[wish].to_owned());
            annotations.service_group = self.group.map(|group| GROUPS[group].into());
            annotations.multi_pool = self.multi;
            service.is_load_balancer = true;
        })
    }
}

/// What an operator writes into a group.
#[derive(Clone, Debug)]
pub struct Offers {
    pub ranges: Vec<usize>,
    pub is_remote: bool,
    pub is_host_prefix: bool,
    pub fenced: bool,
}

impl Offers {
    /// As the group of this number: its name says how it spreads addresses and whom it serves.
    pub fn group(&self, number: usize) -> ServiceGroup {
        let ranges: Vec<_> = self.ranges.iter().map(|range| RANGES[*range]).collect();
        let name = GROUPS[number];
        let group = if self.is_remote { remote(name, &ranges) } else { local(name, &ranges) };
        let group = match name {
            "even" => group.balanced(),
            "multi" => group.multi(),
            "red" if self.fenced => group.for_namespaces(&["red"]).enforced(),
            "red" => group.for_namespaces(&["red"]),
            _ => group,
        };
        // A host prefix of one family is none of the other.
        let is_v4 = ranges.iter().all(|range| !range.contains(':'));
        if self.is_host_prefix && is_v4 { group.aggregated("/32") } else { group }
    }
}

pub fn step() -> impl Strategy<Value = Step> {
    let service = 0..SERVICES.len();
    let group = 0..GROUPS.len();
    prop_oneof![
        12 => (service.clone(), wants()).prop_map(|(service, wants)| Step::Put(service, wants)),
        4 => service.clone().prop_map(Step::Delete),
        1 => (service.clone(), any::<bool>()).prop_map(|(service, to)| Step::Retype(service, to)),
        5 => (group.clone(), offers()).prop_map(|(group, offers)| Step::Group(group, offers)),
        1 => group.prop_map(Step::DeleteGroup),
        1 => service.prop_map(Step::Strip),
        1 => Just(Step::Restart),
        1 => Just(Step::Relist),
    ]
}

fn wants() -> impl Strategy<Value = Wants> {
    let rarely = |odds: f64| prop::bool::weighted(odds);
    (
        0u8..4,
        prop::collection::vec(80u16..84, 1..3),
        prop::option::weighted(0.3, 0u8..2),
        prop::option::weighted(0.25, 0..WISHES.len()),
        prop::option::weighted(0.5, 0..GROUPS.len()),
        prop::option::weighted(0.1, rarely(0.7)),
    )
        .prop_map(|(families, ports, sharing, wish, group, multi)| Wants {
            families,
            ports,
            sharing,
            wish,
            group,
            multi,
        })
}

fn offers() -> impl Strategy<Value = Offers> {
    let ranges = prop::collection::vec(0..RANGES.len(), 1..5);
    (ranges, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(ranges, is_remote, is_host_prefix, fenced)| Offers {
            ranges,
            is_remote,
            is_host_prefix,
            fenced,
        },
    )
}

/// Does a step to a world; returns the Service that its owner touched.
pub fn apply(world: &mut World, step: &Step) -> Option<&'static str> {
    let exists =
        |world: &World, service: usize| world.services.contains_key(&key(SERVICES[service]));
    match step {
        Step::Put(service, wants) => {
            let name = SERVICES[*service];
            if exists(world, *service) {
                world.edit(name, |service| wants.write(service));
            } else {
                world.create(name, |service| wants.write(service));
            }
            Some(name)
        }
        Step::Delete(service) if exists(world, *service) => {
            world.delete(SERVICES[*service]);
            Some(SERVICES[*service])
        }
        Step::Retype(service, to) if exists(world, *service) => {
            let is_other = world.services[&key(SERVICES[*service])].is_load_balancer != *to;
            if is_other {
                world.retype(SERVICES[*service], *to);
            }
            Some(SERVICES[*service])
        }
        Step::Strip(service) if exists(world, *service) => {
            world.edit(SERVICES[*service], |service| {
                service.with(|service| {
                    let annotations = &mut service.annotations;
                    annotations.allocated_by = None;
                    annotations.allocated_from = None;
                    annotations.pool_type = None;
                })
            });
            None
        }
        Step::Delete(_) | Step::Retype(..) | Step::Strip(_) => None,
        Step::Group(number, offers) => {
            world.group(offers.group(*number));
            None
        }
        Step::DeleteGroup(number) => {
            world.delete_group(GROUPS[*number]);
            None
        }
        Step::Restart => {
            world.restart();
            None
        }
        Step::Relist => {
            world.relist();
            None
        }
    }
}
