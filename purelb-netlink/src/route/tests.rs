use super::*;

const LEFT: LinkIndex = LinkIndex(1);
const RIGHT: LinkIndex = LinkIndex(2);
const FIRST: Insertion = Insertion { exclusive: true, append: false, replace: false };
const APPEND: Insertion = Insertion { append: true, exclusive: false, replace: false };
const PREPEND: Insertion = Insertion { append: false, exclusive: false, replace: false };
const REPLACE: Insertion = Insertion { replace: true, append: false, exclusive: false };

fn to(net: &str) -> Destination {
    Destination { net: net.parse().unwrap(), tos: 0, metric: 0 }
}

fn hop(link: LinkIndex, gateway: &str) -> Hop {
    let gateway = (!gateway.is_empty()).then(|| gateway.parse().unwrap());
    Hop { link, gateway, dead: false }
}

fn via(hops: &[Hop]) -> Entry {
    Entry {
        kind: libc::RTN_UNICAST,
        protocol: 4,
        scope: libc::RT_SCOPE_UNIVERSE,
        source: None,
        nexthop_id: None,
        extras: 0,
        hops: hops.to_vec(),
        together: false,
    }
}

fn table(inserts: &[(&str, Entry, Insertion)]) -> RouteTable {
    let mut table = RouteTable::default();
    for (net, entry, how) in inserts {
        table.insert(to(net), entry.clone(), *how).unwrap();
    }
    table
}

/// Link and gateway of each route to `net`.
fn hops(table: &RouteTable, net: &str) -> Vec<String> {
    let net: IpNet = net.parse().unwrap();
    let routes = table.routes().into_iter().filter(|route| route.destination == net);
    routes
        .map(|route| {
            let link = route.link.map_or(0, |link| link.0);
            let gateway = route.gateway.map(|ip| ip.to_string()).unwrap_or_default();
            format!("{link} {gateway}").trim().to_owned()
        })
        .collect()
}

#[test]
fn a_replacement_takes_the_place_of_the_first() {
    let one = via(&[hop(LEFT, "192.0.2.1")]);
    let two = via(&[hop(LEFT, "192.0.2.2")]);
    let three = via(&[hop(LEFT, "192.0.2.3")]);
    let mut table = table(&[("0.0.0.0/0", one, FIRST), ("0.0.0.0/0", two, APPEND)]);
    let changes = table.insert(to("0.0.0.0/0"), three, REPLACE).unwrap();
    assert_eq!(hops(&table, "0.0.0.0/0"), ["1 192.0.2.2", "1 192.0.2.3"]);
    assert_eq!(changes.len(), 2, "one came, one went: {changes:?}");
}

#[test]
fn a_route_before_the_first_is_the_first() {
    let one = via(&[hop(LEFT, "192.0.2.1")]);
    let two = via(&[hop(LEFT, "192.0.2.2")]);
    let three = via(&[hop(LEFT, "192.0.2.3")]);
    let table = table(&[
        ("0.0.0.0/0", one, FIRST),
        ("0.0.0.0/0", two, PREPEND),
        ("0.0.0.0/0", three, REPLACE),
    ]);
    assert_eq!(hops(&table, "0.0.0.0/0"), ["1 192.0.2.1", "1 192.0.2.3"]);
}

#[test]
fn other_metrics_and_tos_are_other_destinations() {
    let mut table = table(&[("0.0.0.0/0", via(&[hop(LEFT, "192.0.2.1")]), FIRST)]);
    let other = Destination { metric: 5, ..to("0.0.0.0/0") };
    table.insert(other, via(&[hop(RIGHT, "192.0.2.1")]), FIRST).unwrap();
    let other = Destination { tos: 16, ..to("0.0.0.0/0") };
    table.insert(other, via(&[hop(RIGHT, "192.0.2.9")]), FIRST).unwrap();
    assert_eq!(table.routes().len(), 3);
}

#[test]
fn ipv4_routes_go_with_the_last_of_their_links() {
    let both = via(&[hop(LEFT, "192.0.2.1"), hop(RIGHT, "198.51.100.1")]);
    let mut table =
        table(&[("0.0.0.0/0", both, FIRST), ("10.9.0.0/16", via(&[hop(LEFT, "")]), FIRST)]);
    assert_eq!(table.link_down(LEFT).len(), 2);
    assert_eq!(hops(&table, "0.0.0.0/0"), ["2 198.51.100.1"]);
    assert!(hops(&table, "10.9.0.0/16").is_empty());
    // What was left comes back with the link; what was flushed does not.
    assert_eq!(table.link_up(LEFT).len(), 1);
    assert_eq!(hops(&table, "0.0.0.0/0").len(), 2);
    table.link_down(RIGHT);
    table.link_down(LEFT);
    assert!(table.routes().is_empty());
    assert!(table.link_up(LEFT).is_empty());
}

#[test]
fn a_removed_link_takes_ipv4_multipath_routes_along() {
    let both = via(&[hop(LEFT, "192.0.2.1"), hop(RIGHT, "198.51.100.1")]);
    let mut table = table(&[("0.0.0.0/0", both, FIRST)]);
    assert_eq!(table.link_gone(LEFT).len(), 2);
    assert!(table.routes().is_empty());
}

#[test]
fn an_ipv4_route_of_host_scope_outlives_its_link_but_not_the_last_address() {
    let mut entry = via(&[hop(LEFT, "")]);
    entry.scope = libc::RT_SCOPE_HOST;
    let mut table = table(&[("10.9.0.0/16", entry, FIRST)]);
    assert!(table.link_down(LEFT).is_empty());
    assert_eq!(table.v4_disabled(LEFT).len(), 1);
}

#[test]
fn the_siblings_of_an_ipv6_route_come_and_go_one_by_one() {
    let both = via(&[hop(LEFT, "fe80::1"), hop(RIGHT, "fe80::1")]);
    let three = via(&[hop(LEFT, "fe80::1"), hop(RIGHT, "fe80::1"), hop(RIGHT, "fe80::2")]);
    let mut table = table(&[("::/0", both, PREPEND)]);
    // The message about the third names all.
    assert_eq!(table.insert(to("::/0"), three, APPEND).unwrap().len(), 1);
    assert_eq!(table.remove(to("::/0"), via(&[hop(LEFT, "fe80::1")])).len(), 1);
    assert_eq!(hops(&table, "::/0"), ["2 fe80::1", "2 fe80::2"]);
    let rest = via(&[hop(RIGHT, "fe80::1"), hop(RIGHT, "fe80::2")]);
    assert_eq!(table.remove(to("::/0"), rest).len(), 2);
    assert!(table.routes().is_empty());
}

#[test]
fn an_ipv6_replacement_takes_the_place_of_its_sort() {
    let direct = via(&[hop(LEFT, "")]);
    let both = via(&[hop(LEFT, "fe80::1"), hop(RIGHT, "fe80::1")]);
    let start = [("::/0", direct, FIRST), ("::/0", both, APPEND)];
    let mut one = table(&start);
    one.insert(to("::/0"), via(&[hop(RIGHT, "fe80::9")]), REPLACE).unwrap();
    assert_eq!(hops(&one, "::/0"), ["1", "2 fe80::9"]);
    let mut other = table(&start);
    other.insert(to("::/0"), via(&[hop(RIGHT, "")]), REPLACE).unwrap();
    assert_eq!(hops(&other, "::/0"), ["1 fe80::1", "2", "2 fe80::1"]);
    // With none of its sort, the first, and all siblings of that.
    other.remove(to("::/0"), via(&[hop(RIGHT, "")]));
    other.insert(to("::/0"), via(&[hop(RIGHT, "")]), REPLACE).unwrap();
    assert_eq!(hops(&other, "::/0"), ["2"]);
}

#[test]
fn dead_siblings_wait_for_their_link_unless_all_are_dead() {
    let both = via(&[hop(LEFT, "fe80::1"), hop(RIGHT, "fe80::1")]);
    let mut table =
        table(&[("::/0", both, PREPEND), ("2001:db8::/64", via(&[hop(LEFT, "")]), FIRST)]);
    assert_eq!(table.link_down(LEFT).len(), 2);
    assert_eq!(hops(&table, "::/0"), ["2 fe80::1"]);
    table.link_up(LEFT);
    assert_eq!(table.routes().len(), 2, "the direct route is gone");
    table.link_down(LEFT);
    assert_eq!(table.link_down(RIGHT).len(), 1);
    assert!(table.link_up(LEFT).is_empty());
}

#[test]
fn rejecting_routes_are_told_without_a_link() {
    let mut entry = via(&[hop(LinkIndex(9), "")]);
    entry.kind = libc::RTN_UNREACHABLE;
    let table = table(&[("::/0", entry, FIRST)]);
    let routes = table.routes();
    assert_eq!((routes[0].kind, routes[0].link), (RouteKind::Reject, None));
    assert!(!routes[0].is_default());
}

#[test]
fn routes_by_a_gateway_are_kept_only_where_they_matter() {
    let by_gateway = via(&[hop(LEFT, "192.0.2.1")]);
    let mut table = RouteTable::default();
    assert_eq!(table.insert(to("10.9.0.0/16"), by_gateway.clone(), FIRST), Ok(vec![]));
    assert!(table.groups.is_empty());
    // Another route to the same place that is told: what came before it is not known.
    let direct = via(&[hop(LEFT, "")]);
    assert_eq!(table.insert(to("10.9.0.0/16"), direct.clone(), APPEND), Err(ListAgain));
    assert_eq!(table.insert(to("10.9.0.0/16"), by_gateway.clone(), APPEND), Ok(vec![]));
    // Once they are kept, the order is known.
    let listed = [by_gateway.clone(), direct].map(|entry| (to("10.9.0.0/16"), entry));
    let mut table = RouteTable::list(listed.to_vec());
    assert_eq!(table.insert(to("10.9.0.0/16"), by_gateway, REPLACE), Ok(vec![]));
    assert_eq!(hops(&table, "10.9.0.0/16"), ["1"]);
}

#[test]
fn what_is_told_twice_counts_once() {
    let one = via(&[hop(LEFT, "192.0.2.1")]);
    let two = via(&[hop(LEFT, "192.0.2.2")]);
    let start = [("0.0.0.0/0", one, FIRST), ("0.0.0.0/0", two.clone(), APPEND)];
    let mut table = table(&start);
    assert_eq!(table.insert(to("0.0.0.0/0"), two.clone(), APPEND), Ok(vec![]));
    assert_eq!(table.remove(to("0.0.0.0/0"), two.clone()).len(), 1);
    assert!(table.remove(to("0.0.0.0/0"), two).is_empty());
    assert_eq!(hops(&table, "0.0.0.0/0"), ["1 192.0.2.1"]);
}

#[test]
fn routes_that_look_alike_are_told_once_and_go_with_the_last() {
    let plain = via(&[hop(LEFT, "192.0.2.1")]);
    let with_mtu = Entry { extras: 1, ..plain.clone() };
    let start = [("0.0.0.0/0", plain.clone(), FIRST), ("0.0.0.0/0", with_mtu.clone(), APPEND)];
    let mut table = table(&start);
    assert_eq!(table.routes().len(), 1);
    assert!(table.remove(to("0.0.0.0/0"), with_mtu).is_empty());
    assert_eq!(table.remove(to("0.0.0.0/0"), plain).len(), 1);
}

#[test]
fn nexthop_objects_take_their_routes_along() {
    let group = Entry {
        nexthop_id: Some(10),
        ..via(&[hop(LEFT, "192.0.2.1"), hop(RIGHT, "198.51.100.1")])
    };
    let mut table = table(&[("0.0.0.0/0", group, FIRST)]);
    assert_eq!(table.routes().len(), 2);
    // On a link that goes down they are removed for good.
    table.link_down(LEFT);
    table.link_up(LEFT);
    assert_eq!(hops(&table, "0.0.0.0/0"), ["2 198.51.100.1"]);
    assert!(table.uses_nexthop(10));
    assert_eq!(table.nexthop_gone(10).len(), 1);
    assert!(table.routes().is_empty());
}

#[test]
fn a_nexthop_object_that_is_not_spelled_out_leads_somewhere_unknown() {
    let entry = Entry { nexthop_id: Some(10), ..via(&[]) };
    let table = table(&[("0.0.0.0/0", entry, FIRST)]);
    assert!(table.routes()[0].is_default());
    assert_eq!(table.routes()[0].link, None);
}

#[test]
fn what_replaces_routes_for_router_advertisements_is_clear_only_if_a_program_made_them() {
    let one = |gateway| Entry { protocol: 9, ..via(&[hop(LEFT, gateway)]) };
    let direct = via(&[hop(RIGHT, "")]);
    let start = [("::/0", one("fe80::1"), FIRST), ("::/0", one("fe80::2"), APPEND)];
    let mut unclear = table(&start);
    assert_eq!(unclear.insert(to("::/0"), direct.clone(), REPLACE), Err(ListAgain));
    // The only one is replaced in any case.
    unclear.remove(to("::/0"), one("fe80::2"));
    unclear.insert(to("::/0"), direct.clone(), REPLACE).unwrap();
    assert_eq!(hops(&unclear, "::/0"), ["2"]);
    // Told of together, they are siblings.
    let both = Entry { protocol: 9, ..via(&[hop(LEFT, "fe80::1"), hop(LEFT, "fe80::2")]) };
    let mut clear = table(&[("::/0", one("fe80::1"), FIRST), ("::/0", both, APPEND)]);
    clear.insert(to("::/0"), direct, REPLACE).unwrap();
    assert_eq!(hops(&clear, "::/0"), ["2"]);
}
