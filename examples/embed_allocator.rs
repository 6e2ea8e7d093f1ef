//! How does another controller embed the allocator? It tells what there is, carries out what is asked
//! for, and tells what came of it.
//!
//! ```console
//! $ cargo run -p purelb-examples --example embed_allocator
//! default/dns gets [192.0.2.100]
//! default/mail gets [192.0.2.101]
//! default/web: group default has no free IPv4 address: every address of 192.0.2.100-192.0.2.101 that can be given out is in use
//! default/dns: assigned 192.0.2.100 from group default
//! default/mail: assigned 192.0.2.101 from group default
//! ```

use std::collections::VecDeque;
use std::time::Instant;

use purelb_core::allocator::{Action, Allocator, Event, Notice, Settings, Written};
use purelb_core::group::{GroupSpec, PoolSpec, PoolsSpec, ServiceGroup};
use purelb_core::machine::Machine;
use purelb_core::name::ServiceKey;
use purelb_core::service::Service;
use purelb_core::store::Change;

fn main() {
    let mut allocator = Allocator::new();
    let settings = Settings { default_announcer: true, ..Settings::default() };
    let mut facts = VecDeque::from([
        Event::Settings(settings),
        Event::ActiveSubnets(Default::default()),
        Event::Groups(Change::Listed(vec![group()])),
        Event::Services(Change::Listed(["web", "dns", "mail"].map(service).into())),
    ]);
    while let Some(fact) = facts.pop_front() {
        allocator.handle_event(fact, Instant::now());
        while let Some(action) = allocator.poll_action() {
            match action {
                // A controller writes it, and its watch brings the Service with what was written.
                Action::Patch(patch) => {
                    println!("{} gets {:?}", patch.service, patch.ingress);
                    let (ticket, result) = (patch.ticket, Written::Accepted);
                    facts.push_back(Event::Written { ticket, result });
                }
                Action::Notice(Notice::Service { service, what, .. }) => {
                    println!("{service}: {what}");
                }
                Action::Notice(_)
                | Action::Ipam(_)
                | Action::ReEvaluated { .. }
                | Action::Release(_)
                | Action::Status(_) => {}
            }
        }
    }
}

/// Two addresses for whoever asks.
fn group() -> ServiceGroup {
    let pool = PoolSpec {
        field: "v4pool".into(),
        pool: "192.0.2.100-192.0.2.101".into(),
        subnet: "192.0.2.0/24".into(),
        ..PoolSpec::default()
    };
    let pools = PoolsSpec { v4: vec![pool], ..PoolsSpec::default() };
    ServiceGroup::new("default", "group", GroupSpec::Local { pools, skip_ipv6_dad: false })
}

fn service(name: &str) -> Service {
    let key = ServiceKey { namespace: "default".into(), name: name.into() };
    Service::new(key, name)
}
