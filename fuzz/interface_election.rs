//! Arbitrary links, routes and addresses: two default routes never elect unless a policy says so, the virtual
//! interface is never local, a subnet is one of an address that is there, and order never matters.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use purelb_core::config::{LocalInterface, MultipleDefaultRoutes, Pattern};
use purelb_core::host::{
    Address, AddressFlags, Family, Link, LinkConf, LinkIndex, LinkKind, OUR_MARK, Route, RouteKind,
    Scope,
};
use purelb_core::link::{Policy, elect, local_links, subnets};

#[derive(Arbitrary, Debug)]
struct Input {
    links: Vec<(u8, bool)>,
    routes: Vec<RouteInput>,
    addresses: Vec<AddressInput>,
    policy: PolicyInput,
}

#[derive(Arbitrary, Debug)]
struct AddressInput {
    ip: std::net::IpAddr,
    prefix_len: u8,
    link: u8,
    is_ours: bool,
    is_tentative: bool,
    is_link: bool,
}

#[derive(Arbitrary, Debug)]
struct PolicyInput {
    matches: Option<u8>,
    listed: Vec<u8>,
    several: u8,
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
        by_policy(family, &links, &routes, &input.policy.policy());
        let addresses: Vec<Address> = input.addresses.iter().filter_map(address).collect();
        for link in &links {
            let found = subnets(family, link.index, &addresses, &routes);
            let backwards =
                subnets(family, link.index, addresses.iter().rev(), routes.iter().rev());
            assert_eq!(backwards, found);
            let mut of_host = addresses.iter().filter(|a| a.link == link.index && !a.is_ours());
            assert!(found.iter().all(|net| of_host.clone().any(|a| net.contains(&a.ip()))));
            assert!(found.is_empty() || of_host.next().is_some());
        }
    }
});

/// What holds whatever the policy.
fn by_policy(family: Family, links: &[Link], routes: &[Route], policy: &Policy) {
    assert!(!policy.describe().is_empty());
    let found = local_links(family, links, routes, policy);
    assert_eq!(local_links(family, links.iter().rev(), routes.iter().rev(), policy), found);
    for (n, index) in found.links.iter().enumerate() {
        assert!(!found.links[..n].contains(index), "{index} twice");
        assert!(links.iter().any(|link| link.index == *index && link.name != "kube-lb0"));
    }
    match &found.unidentified {
        Some(why) => assert!(!why.describe(links).is_empty()),
        None => assert!(!found.links.is_empty()),
    }
}

impl PolicyInput {
    fn policy(&self) -> Policy {
        let name = |number: &u8| format!("eth{}", number % 16);
        Policy {
            local_interface: match &self.matches {
                Some(number) if number % 4 == 0 => {
                    LocalInterface::Matching(Pattern::new(".", |_| true))
                }
                Some(number) => LocalInterface::Matching(Pattern::exactly(&name(number))),
                None => LocalInterface::DefaultRoute,
            },
            interfaces: self.listed.iter().map(name).chain(["kube-lb0".to_owned()]).collect(),
            multiple_default_routes: match self.several % 3 {
                0 => MultipleDefaultRoutes::LowestMetric,
                1 => MultipleDefaultRoutes::SameInterface,
                _ => Policy::default().multiple_default_routes,
            },
            ..Policy::default()
        }
    }
}

fn address(input: &AddressInput) -> Option<Address> {
    let family = Family::of(input.ip);
    Some(Address {
        link: LinkIndex(input.link.into()),
        net: ipnet(input.ip, input.prefix_len % (family.bits() + 1))?,
        broadcast: None,
        flags: AddressFlags { tentative: input.is_tentative, ..AddressFlags::default() },
        scope: if input.is_link { Scope::Link } else { Scope::Global },
        mark: if input.is_ours { OUR_MARK } else { 0 },
        valid: None,
    })
}

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
