//! Interface election over arbitrary link and route tables.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;
use purelb_core::config::{LocalInterface, MultipleDefaultRoutes, Pattern, VIRTUAL_INTERFACE};
use purelb_core::host::{
    Address, AddressFlags, Family, Link, LinkConf, LinkIndex, LinkKind, OUR_MARK, Route, RouteKind,
    Scope,
};
use purelb_core::link::{Policy, Unidentified, elect, local_links, subnets};

const NAMES: [&str; 6] = ["eth0", "eth1", "bond0", "lo", VIRTUAL_INTERFACE, "cni0"];

fn links() -> impl Strategy<Value = Vec<Link>> {
    proptest::sample::subsequence(NAMES.to_vec(), 0..=NAMES.len()).prop_map(|names| {
        let link = |name: &&str| Link {
            index: index_of(name),
            name: (*name).into(),
            mac: None,
            kind: LinkKind::Other,
            up: true,
            carrier: true,
            loopback: *name == "lo",
            alias: String::new(),
            conf: LinkConf::default(),
        };
        names.iter().map(link).collect()
    })
}

fn index_of(name: &str) -> LinkIndex {
    let position = NAMES.iter().position(|known| *known == name).unwrap();
    LinkIndex(u32::try_from(position).unwrap() + 1)
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

/// Any route: half of them defaults, of either family, over links that may not be there.
fn route() -> impl Strategy<Value = Route> {
    let kind = prop_oneof![4 => Just(RouteKind::Unicast), 1 => Just(RouteKind::Reject)];
    let link = proptest::option::weighted(0.9, 1_u32..8);
    (family(), any::<bool>(), kind, link, 0_u32..4, any::<u8>()).prop_map(
        |(family, is_default, kind, link, metric, low)| {
            let (net, gateway): (IpNet, IpAddr) = match family {
                Family::V4 => ("10.0.0.0/8".parse().unwrap(), [192, 0, 2, low].into()),
                Family::V6 => ("2001:db8::/32".parse().unwrap(), "fe80::1".parse().unwrap()),
            };
            Route {
                destination: if is_default { family.everything() } else { net },
                kind,
                link: link.map(LinkIndex),
                gateway: Some(gateway),
                source: None,
                metric,
                tos: 0,
                protocol: 3,
            }
        },
    )
}

fn routes() -> impl Strategy<Value = Vec<Route>> {
    proptest::collection::vec(route(), 0..6).prop_map(|mut routes| {
        routes.sort();
        routes.dedup();
        routes
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let multiple = prop_oneof![
        Just(MultipleDefaultRoutes::LowestMetric),
        Just(MultipleDefaultRoutes::SameInterface),
        Just(MultipleDefaultRoutes::VirtualInterface),
    ];
    let interface = prop_oneof![
        3 => Just(LocalInterface::DefaultRoute),
        1 => proptest::sample::select(NAMES.to_vec())
            .prop_map(|name| LocalInterface::Matching(Pattern::exactly(name))),
    ];
    let listed = proptest::sample::subsequence(NAMES.to_vec(), 0..3);
    (multiple, interface, listed).prop_map(|(multiple, local_interface, listed)| Policy {
        local_interface,
        interfaces: listed.into_iter().map(str::to_owned).collect(),
        multiple_default_routes: multiple,
        ..Policy::default()
    })
}

/// The default routes of a family that count, found without the code under test.
fn counting(family: Family, routes: &[Route]) -> Vec<&Route> {
    routes
        .iter()
        .filter(|route| Family::of(route.destination.addr()) == family)
        .filter(|route| route.destination.prefix_len() == 0 && route.kind == RouteKind::Unicast)
        .filter(|route| route.link != Some(index_of(VIRTUAL_INTERFACE)))
        .collect()
}

fn with_virtual(mut links: Vec<Link>) -> Vec<Link> {
    if !links.iter().any(|link| link.name == VIRTUAL_INTERFACE) {
        let mut link = links.first().cloned().unwrap_or_else(|| Link {
            index: index_of("eth0"),
            name: String::new(),
            mac: None,
            kind: LinkKind::Dummy,
            up: true,
            carrier: true,
            loopback: false,
            alias: String::new(),
            conf: LinkConf::default(),
        });
        link.index = index_of(VIRTUAL_INTERFACE);
        link.name = VIRTUAL_INTERFACE.into();
        link.loopback = false;
        links.push(link);
    }
    links
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn two_default_routes_never_elect_where_the_policy_is_the_virtual_interface(
        family in family(), links in links(), routes in routes(),
    ) {
        let links = with_virtual(links);
        let result = elect(family, &links, &routes, &Policy::default());
        match counting(family, &routes).as_slice() {
            [] => prop_assert_eq!(result, Err(Unidentified::NoDefaultRoute { family })),
            [one] => match one.link.filter(|link| links.iter().any(|l| l.index == *link)) {
                Some(link) => prop_assert_eq!(result, Ok(link)),
                None => prop_assert_eq!(result, Err(Unidentified::NoLink { route: (*one).clone() })),
            },
            many => match result {
                Err(Unidentified::ManyDefaultRoutes { routes, .. }) => {
                    prop_assert_eq!(routes.len(), many.len(), "every route in the way is named");
                }
                other => prop_assert!(false, "{:?}", other),
            },
        }
    }

    #[test]
    fn permuting_the_tables_changes_nothing(
        family in family(),
        (links, shuffled_links) in links().prop_flat_map(|l| (Just(l.clone()), Just(l).prop_shuffle())),
        (routes, shuffled_routes) in
            routes().prop_flat_map(|r| (Just(r.clone()), Just(r).prop_shuffle())),
        policy in policy(),
    ) {
        prop_assert_eq!(
            elect(family, &links, &routes, &policy),
            elect(family, &shuffled_links, &shuffled_routes, &policy)
        );
        prop_assert_eq!(
            local_links(family, &links, &routes, &policy),
            local_links(family, &shuffled_links, &shuffled_routes, &policy)
        );
    }

    #[test]
    fn an_unrelated_route_changes_nothing(
        family in family(), links in links(), routes in routes(), extra in route(), policy in policy(),
    ) {
        let links = with_virtual(links);
        prop_assume!(!counting(family, std::slice::from_ref(&extra)).contains(&&extra));
        let before = elect(family, &links, &routes, &policy);
        let mut more = routes;
        more.push(extra);
        prop_assert_eq!(elect(family, &links, &more, &policy), before);
    }

    #[test]
    fn the_override_wins_whatever_the_routes_are(
        family in family(), links in links(), routes in routes(),
        name in proptest::sample::select(NAMES.to_vec()),
    ) {
        let local_interface = LocalInterface::Matching(Pattern::exactly(name));
        let policy = Policy { local_interface, ..Policy::default() };
        let result = elect(family, &links, &routes, &policy);
        let may = links.iter().any(|link| link.name == name)
            && name != "lo" && name != VIRTUAL_INTERFACE;
        if may {
            prop_assert_eq!(result, Ok(index_of(name)));
        } else {
            let is_reason = matches!(result, Err(Unidentified::NothingMatches { .. }));
            prop_assert!(is_reason);
        }
    }

    #[test]
    fn whatever_is_elected_exists_and_is_not_virtual(
        family in family(), links in links(), routes in routes(), policy in policy(),
    ) {
        let links = with_virtual(links);
        let found = local_links(family, &links, &routes, &policy);
        for index in found.links {
            let link = links.iter().find(|link| link.index == index);
            prop_assert!(link.is_some_and(|link| link.name != VIRTUAL_INTERFACE));
        }
    }

    #[test]
    fn the_lowest_metric_elects_only_without_a_tie(
        family in family(), links in links(), routes in routes(),
    ) {
        let links = with_virtual(links);
        let policy = Policy {
            multiple_default_routes: MultipleDefaultRoutes::LowestMetric,
            ..Policy::default()
        };
        let counting = counting(family, &routes);
        let lowest = counting.iter().map(|route| route.metric).min();
        let best = counting.iter().filter(|route| Some(route.metric) == lowest).count();
        let result = elect(family, &links, &routes, &policy);
        let is_ambiguous = matches!(result, Err(Unidentified::ManyDefaultRoutes { .. }));
        prop_assert_eq!(is_ambiguous, best > 1);
    }
}

fn address(net: &str) -> Address {
    Address {
        link: LinkIndex(1),
        net: net.parse().unwrap(),
        broadcast: None,
        flags: AddressFlags::default(),
        scope: Scope::Global,
        mark: 0,
        valid: None,
    }
}

fn on_link(net: &str) -> Route {
    Route {
        destination: net.parse().unwrap(),
        kind: RouteKind::Unicast,
        link: Some(LinkIndex(1)),
        gateway: None,
        source: None,
        metric: 256,
        tos: 0,
        protocol: 2,
    }
}

#[test]
fn only_addresses_of_the_host_make_subnets() {
    let mut ours = address("192.0.2.100/24");
    ours.mark = OUR_MARK;
    let mut failed = address("2001:db8:9::1/64");
    failed.flags.dad_failed = true;
    let mut linklocal = address("fe80::1/64");
    linklocal.scope = Scope::Link;
    let table = [ours, failed, linklocal, address("198.51.100.9/25"), address("2001:db8:1::9/64")];
    let find = |family| subnets(family, LinkIndex(1), &table, &[]);
    assert_eq!(find(Family::V4), ["198.51.100.0/25".parse().unwrap()].into());
    assert_eq!(find(Family::V6), ["2001:db8:1::/64".parse().unwrap()].into());
}

#[test]
fn a_host_prefix_takes_its_subnet_from_the_on_link_route_of_the_same_link() {
    let table = [address("2001:db8:8bf5:1:1::2/128")];
    let find = |routes: &[Route]| subnets(Family::V6, LinkIndex(1), &table, routes);
    assert!(find(&[]).is_empty());
    assert_eq!(
        find(&[on_link("2001:db8:8bf5:1::/64"), on_link("fe80::/64")]),
        ["2001:db8:8bf5:1::/64".parse().unwrap()].into()
    );
    let mut elsewhere = on_link("2001:db8:8bf5:1::/64");
    elsewhere.link = Some(LinkIndex(2));
    assert!(find(&[elsewhere]).is_empty());
}
