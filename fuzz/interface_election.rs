//! Arbitrary links and routes: two default routes never elect, and order never matters.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use purelb_core::host::{Family, Link, LinkConf, LinkIndex, LinkKind, Route, RouteKind};
use purelb_core::link::{Policy, elect};

#[derive(Arbitrary, Debug)]
struct Input {
    links: Vec<(u8, bool)>,
    routes: Vec<RouteInput>,
}

#[derive(Arbitrary, Debug)]
struct RouteInput {
    is_v6: bool,
    prefix_len: u8,
    is_reject: bool,
    link: Option<u8>,
    metric: u32,
}

fuzz_target!(|input: Input| {
    let links: Vec<Link> = input.links.iter().map(|(index, up)| link(*index, *up)).collect();
    let routes: Vec<Route> = input.routes.iter().filter_map(route).collect();
    let policy = Policy::default();
    for family in Family::BOTH {
        let counting = routes
            .iter()
            .filter(|route| route.family() == family && route.is_default())
            .filter(|route| {
                !links.iter().any(|l| Some(l.index) == route.link && l.name == "kube-lb0")
            })
            .count();
        let result = elect(family, &links, &routes, &policy);
        assert!(counting == 1 || result.is_err(), "{counting} default routes elected {result:?}");
        let backwards = elect(family, links.iter().rev(), routes.iter().rev(), &policy);
        assert_eq!(backwards, result);
    }
});

fn link(index: u8, up: bool) -> Link {
    Link {
        index: LinkIndex(index.into()),
        name: if index == 7 { "kube-lb0".into() } else { format!("eth{index}") },
        mac: None,
        kind: LinkKind::Other,
        up,
        carrier: up,
        loopback: index == 1,
        alias: String::new(),
        conf: LinkConf::default(),
    }
}

fn route(input: &RouteInput) -> Option<Route> {
    let family = if input.is_v6 { Family::V6 } else { Family::V4 };
    let any = family.everything();
    let destination = ipnet(any.addr(), input.prefix_len % (family.bits() + 1))?;
    Some(Route {
        destination,
        kind: if input.is_reject { RouteKind::Reject } else { RouteKind::Unicast },
        link: input.link.map(|link| LinkIndex(link.into())),
        gateway: None,
        source: None,
        metric: input.metric,
        tos: 0,
        protocol: 3,
    })
}

fn ipnet(ip: std::net::IpAddr, len: u8) -> Option<ipnet::IpNet> {
    ipnet::IpNet::new(ip, len).ok()
}
