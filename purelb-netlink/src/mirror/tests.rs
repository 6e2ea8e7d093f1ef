use super::*;

use purelb_core::host::{AddressFlags, LinkConf, LinkKind, Scope};

use crate::route::{Hop, Insertion};

fn link(index: u32, up: bool) -> Link {
    Link {
        index: LinkIndex(index),
        name: format!("eth{index}"),
        mac: None,
        kind: LinkKind::Other,
        up,
        carrier: up,
        loopback: false,
        alias: String::new(),
        conf: LinkConf::default(),
    }
}

fn address(index: u32, net: &str) -> Address {
    Address {
        link: LinkIndex(index),
        net: net.parse().unwrap(),
        broadcast: None,
        flags: AddressFlags::default(),
        scope: Scope::Global,
        mark: 0,
        valid: None,
    }
}

fn route(index: u32, net: &str, source: Option<&str>) -> (Destination, Entry) {
    let entry = Entry {
        kind: libc::RTN_UNICAST,
        protocol: 4,
        scope: libc::RT_SCOPE_LINK,
        source: source.map(|ip| ip.parse().unwrap()),
        nexthop_id: None,
        extras: 0,
        together: false,
        hops: vec![Hop { link: LinkIndex(index), gateway: None, dead: false }],
    };
    (Destination { net: net.parse().unwrap(), tos: 0, metric: 0 }, entry)
}

fn mirror(messages: Vec<Message>) -> Mirror {
    let mut mirror = Mirror::default();
    for message in messages {
        mirror.apply(message).unwrap();
    }
    mirror
}

fn is(index: u32, net: &str) -> Message {
    Message::AddressIs(address(index, net), None)
}

fn gone(index: u32, net: &str) -> Message {
    Message::AddressGone(address(index, net).key(), None)
}

fn to(index: u32, net: &str, source: Option<&str>) -> Message {
    let (to, entry) = route(index, net, source);
    Message::RouteIs(to, entry, Insertion { exclusive: true, ..Insertion::default() })
}

/// How many changes of each kind: links, addresses, routes.
fn count(changes: &[HostChange]) -> [usize; 3] {
    let mut count = [0; 3];
    for change in changes {
        match change {
            HostChange::Addresses(_) => count[1] += 1,
            HostChange::Links(_) => count[0] += 1,
            HostChange::Routes(_) => count[2] += 1,
            HostChange::Sighted(_) => panic!("no mirror tells of {change:?}"),
        }
    }
    count
}

#[test]
fn what_has_not_changed_is_no_news() {
    let mut mirror = mirror(vec![Message::LinkIs(link(1, true)), is(1, "192.0.2.7/24")]);
    assert_eq!(mirror.apply(Message::LinkIs(link(1, true))), Ok(vec![]));
    assert_eq!(mirror.apply(is(1, "192.0.2.7/24")), Ok(vec![]));
    assert_eq!(mirror.apply(gone(1, "192.0.2.8/24")), Ok(vec![]));
    assert_eq!(mirror.apply(Message::Other), Ok(vec![]));
}

#[test]
fn the_same_number_of_seconds_left_is_news() {
    let address = Address { valid: Some(5), ..address(1, "192.0.2.7/24") };
    let mut mirror = Mirror::default();
    for _ in 0..2 {
        let changes = mirror.apply(Message::AddressIs(address.clone(), None)).unwrap();
        assert_eq!(changes, [HostChange::Addresses(Change::Updated(address.clone()))]);
    }
}

#[test]
fn a_removed_link_takes_its_addresses_and_routes_along() {
    let mut mirror = mirror(vec![
        Message::LinkIs(link(1, true)),
        Message::LinkIs(link(2, true)),
        is(1, "192.0.2.7/24"),
        is(1, "2001:db8::7/64"),
        is(2, "192.0.2.7/24"),
        to(1, "192.0.2.0/24", None),
    ]);
    let changes = mirror.apply(Message::LinkGone(LinkIndex(1))).unwrap();
    assert_eq!(count(&changes), [1, 2, 1]);
    assert_eq!((mirror.links().count(), mirror.addresses().count()), (1, 1));
    assert!(mirror.routes().is_empty());
}

#[test]
fn routes_that_prefer_an_address_go_when_no_link_has_it() {
    let mut mirror = mirror(vec![
        Message::LinkIs(link(1, true)),
        Message::LinkIs(link(2, false)),
        is(1, "192.0.2.7/24"),
        is(1, "198.51.100.1/24"),
        is(2, "192.0.2.7/32"),
        to(1, "10.9.0.0/16", Some("192.0.2.7")),
    ]);
    assert_eq!(count(&mirror.apply(gone(1, "192.0.2.7/24")).unwrap()), [0, 1, 0]);
    assert_eq!(count(&mirror.apply(gone(2, "192.0.2.7/32")).unwrap()), [0, 1, 1]);
}

#[test]
fn the_last_ipv4_address_takes_the_ipv4_routes_of_its_link_along() {
    let mut mirror = mirror(vec![
        Message::LinkIs(link(1, true)),
        is(1, "192.0.2.7/24"),
        is(1, "192.0.2.8/24"),
        is(1, "2001:db8::7/64"),
        to(1, "10.9.0.0/16", None),
        to(1, "2001:db8:9::/64", None),
    ]);
    assert_eq!(count(&mirror.apply(gone(1, "192.0.2.7/24")).unwrap()), [0, 1, 0]);
    assert_eq!(count(&mirror.apply(gone(1, "192.0.2.8/24")).unwrap()), [0, 1, 1]);
    assert_eq!(mirror.routes().len(), 1);
}

#[test]
fn the_last_ipv6_address_of_a_link_that_is_up_may_mean_that_ipv6_is_disabled() {
    let start =
        vec![Message::LinkIs(link(1, true)), is(1, "2001:db8::7/64"), to(1, "2001:db8::/64", None)];
    assert!(mirror(start.clone()).apply(gone(1, "2001:db8::7/64")).is_ok());
    let more = [start, vec![to(1, "2001:db8:9::/64", None)]].concat();
    assert_eq!(mirror(more.clone()).apply(gone(1, "2001:db8::7/64")), Err(ListAgain));
    let mut down = mirror(more);
    down.apply(Message::LinkIs(link(1, false))).unwrap();
    assert!(down.apply(gone(1, "2001:db8::7/64")).is_ok());
}

#[test]
fn addresses_that_differ_in_their_peer_share_a_key() {
    let peer = |ip: &str| Some(ip.parse().unwrap());
    let (one, other) = (peer("192.0.2.1"), peer("192.0.2.2"));
    let at = address(1, "192.0.2.7/32");
    let mut mirror =
        mirror(vec![Message::AddressIs(at.clone(), one), Message::AddressIs(at.clone(), other)]);
    assert_eq!(mirror.addresses().count(), 1);
    assert_eq!(mirror.apply(Message::AddressGone(at.key(), one)), Ok(vec![]));
    let changes = mirror.apply(Message::AddressGone(at.key(), other)).unwrap();
    assert_eq!(changes, [HostChange::Addresses(Change::Deleted(at.key()))]);
}

#[test]
fn a_next_hop_that_lacks_carrier_alone_is_not_dead() {
    let no_carrier = Link { carrier: false, ..link(1, true) };
    let (net, mut entry) = route(1, "0.0.0.0/0", None);
    entry.hops[0].dead = true;
    let how = Insertion { exclusive: true, ..Insertion::default() };
    let dead = Message::RouteIs(net, entry, how);
    let disabled = mirror(vec![Message::LinkIs(no_carrier.clone()), dead.clone()]);
    assert_eq!(disabled.routes().len(), 0);
    let enabled = mirror(vec![Message::LinkIs(no_carrier), is(1, "192.0.2.7/24"), dead]);
    assert_eq!(enabled.routes().len(), 1);
}

#[test]
fn a_change_of_a_nexthop_object_in_use_means_to_list_again() {
    let (net, mut entry) = route(1, "0.0.0.0/0", None);
    entry.nexthop_id = Some(10);
    let how = Insertion { exclusive: true, ..Insertion::default() };
    let mut mirror =
        mirror(vec![Message::LinkIs(link(1, true)), Message::RouteIs(net, entry, how)]);
    assert_eq!(mirror.apply(Message::NexthopChanged(9)), Ok(vec![]));
    assert_eq!(mirror.apply(Message::NexthopChanged(10)), Err(ListAgain));
}

#[test]
fn a_listing_is_told_kind_by_kind_and_forgets_what_was() {
    let mut mirror = mirror(vec![Message::LinkIs(link(1, true)), is(1, "192.0.2.7/24")]);
    let mut listing = Listing::default();
    listing.take(Kind::Links, Message::LinkIs(link(2, true)));
    listing.take(Kind::Addresses, is(2, "2001:db8::7/64"));
    // A kernel without IPv6 answers with the routes of all families that it has.
    listing.take(Kind::Routes(Family::V6), to(2, "192.0.2.0/24", None));
    let [links, addresses, routes] = mirror.list(listing);
    assert_eq!(links, HostChange::Links(Change::Listed(vec![link(2, true)])));
    let listed = vec![address(2, "2001:db8::7/64")];
    assert_eq!(addresses, HostChange::Addresses(Change::Listed(listed)));
    assert_eq!(routes, HostChange::Routes(Change::Listed(vec![])));
}

#[test]
fn an_ipv6_address_that_stays_on_a_link_that_goes_down_is_tentative() {
    let no_dad = AddressFlags { no_dad: true, ..AddressFlags::default() };
    let vip = Address { flags: no_dad, ..address(1, "2001:db8::9/64") };
    let mut mirror = mirror(vec![
        Message::LinkIs(link(1, true)),
        is(1, "192.0.2.7/24"),
        is(1, "2001:db8::7/64"),
        Message::AddressIs(vip, None),
    ]);
    let changes = mirror.apply(Message::LinkIs(link(1, false))).unwrap();
    assert_eq!(count(&changes), [1, 1, 0]);
    let tentative = mirror.addresses().filter(|address| address.flags.tentative);
    assert!(tentative.map(|address| address.net.to_string()).eq(["2001:db8::7/64"]));
}
