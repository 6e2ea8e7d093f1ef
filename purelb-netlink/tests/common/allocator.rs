//! The real allocator, as far as it takes to give Services their addresses.

use std::collections::BTreeMap;
use std::time::Instant;

use purelb_core::allocator::{Action, Allocator, Event, Settings, Written};
use purelb_core::group::ServiceGroup;
use purelb_core::machine::Machine;
use purelb_core::name::ServiceKey;
use purelb_core::service::{BRAND, Service};
use purelb_core::store::{Change, Object};

/// Each of these Services as the API shows it once the allocator has answered, in their order.
pub(crate) fn allocate(groups: &[ServiceGroup], services: &[Service]) -> Vec<Service> {
    let now = Instant::now();
    let mut allocator = Allocator::new();
    let mut answered: BTreeMap<ServiceKey, Service> =
        services.iter().map(|service| (service.key(), service.clone())).collect();
    let settings = Settings { default_announcer: true, ..Settings::default() };
    for event in [
        Event::Settings(settings),
        Event::ActiveSubnets(Default::default()),
        Event::Groups(Change::Listed(groups.to_vec())),
        Event::Services(Change::Listed(services.to_vec())),
    ] {
        allocator.handle_event(event, now);
    }
    while let Some(action) = allocator.poll_action() {
        let ticket = match action {
            Action::Patch(patch) => {
                let service = answered.get_mut(&patch.service).unwrap();
                service.ingress = patch.ingress;
                service.annotations.allocated_by = Some(BRAND.to_owned());
                patch.ticket
            }
            Action::Notice(notice) => {
                println!("{notice}");
                continue;
            }
            Action::Status(status) => status.ticket,
            Action::Ipam(_) | Action::ReEvaluated { .. } | Action::Release(_) => unreachable!(),
        };
        allocator.handle_event(Event::Written { ticket, result: Written::Accepted }, now);
    }
    services.iter().map(|service| answered[&service.key()].clone()).collect()
}
