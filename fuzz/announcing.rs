//! Any text is an announcing annotation; what is understood of it survives being printed, and claiming and
//! giving up addresses touches no others.

#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use purelb_core::announcement::{Announcing, Slot};
use purelb_core::host::Family;
use purelb_core::name::ServiceKey;
use purelb_core::node::Note;
use purelb_core::service::Service;

/// Claimed and given up in any annotation.
const OURS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fuzz_target!(|text: &str| {
    let announcing = Announcing::parse(text);
    assert_eq!(Announcing::parse(&announcing.to_string()), announcing);
    assert_eq!(announcing.is_empty(), announcing.to_string().is_empty());
    let note = Note::parse(text);
    assert_eq!(Note::parse(&note.to_string()).to_string(), note.to_string());

    let mut service = Service::new(ServiceKey::new("a", "b"), "uid");
    service.annotations.announcing_v4 = Some(text.to_owned());
    assert_eq!(Announcing::of(&service, Family::V4), announcing);
    assert!(Announcing::of(&service, Family::V6).is_empty());

    let slot = Slot { node: "node".into(), interface: "eth0".to_owned() };
    let ingress: Vec<IpAddr> = text.split([',', ' ']).filter_map(|ip| ip.parse().ok()).collect();
    let all = [&ingress[..], &[OURS]].concat();
    let claimed = announcing.claimed(OURS, slot.clone(), &all);
    assert_eq!(claimed.slot(OURS), Some(&slot));
    let released = claimed.released(OURS, &slot.node);
    assert_eq!(released.slot(OURS), None);
    let others = ingress.iter().filter(|ip| ip.to_canonical() != OURS);
    for ip in others {
        assert_eq!(released.slot(*ip), announcing.slot(*ip));
    }
    assert_eq!(claimed.released(OURS, &"another".into()), claimed);
    let own = claimed.only_of(&slot.node, &all);
    assert_eq!(own.slot(OURS), Some(&slot));
    assert_eq!(own.merged(&claimed), claimed);
});
