//! The rules of allocation, each as a small story against a small API server.

mod allocator_world;

use std::time::Duration;

use allocator_world::*;
use purelb_core::group::{GroupSpec, ServiceGroup};
use purelb_core::service::Service;

const V4: &str = "192.0.2.100-192.0.2.103";
const V6: &str = "2001:db8::100-2001:db8::103";

#[test]
fn nothing_is_decided_before_every_kind_is_listed() {
    use purelb_core::allocator::{Allocator, Event, Settings};
    use purelb_core::machine::Machine;
    use purelb_core::store::Change;

    #[allow(clippy::disallowed_methods)]
    let now = std::time::Instant::now();
    let service = Service::new(key("web"), "u");
    let events = [
        Event::Services(Change::Listed(vec![service])),
        Event::Groups(Change::Listed(vec![local("default", &[V4])])),
        Event::ActiveSubnets(Default::default()),
        Event::Settings(Settings { default_announcer: true, ..Settings::default() }),
    ];
    for last in 0..events.len() {
        let mut allocator = Allocator::new();
        for (n, event) in events.iter().enumerate() {
            if n != last {
                allocator.handle_event(event.clone(), now);
                assert_eq!(allocator.poll_action(), None, "{event:?}");
            }
        }
        assert!(!allocator.is_ready());
        allocator.handle_event(events[last].clone(), now);
        assert!(allocator.poll_action().is_some());
    }
}

#[test]
fn a_plain_service_gets_the_lowest_address_of_default_and_our_annotations() {
    let mut world = World::with([local("default", &[V4, V6])]);
    world.create("web", plain);
    world.run();
    assert_eq!(world.addresses("web"), ["192.0.2.100"]);
    let annotations = world.annotations("web");
    assert_eq!(annotations.allocated_by.as_deref(), Some("PureLB"));
    assert_eq!(annotations.allocated_from.as_deref(), Some("default"));
    assert_eq!(annotations.pool_type.as_deref(), Some("local"));
    assert!(!annotations.skip_ipv6_dad);
    assert_eq!(world.patches.len(), 1, "one write carries all of it");
    assert_eq!(
        world.take_told(),
        ["ns/web: AddressAssigned: assigned 192.0.2.100 from group default"]
    );
    world.calm();
    assert_eq!((world.patches.len(), world.told.len()), (1, 0), "then there is rest");
}

#[test]
fn without_a_default_group_a_service_waits_until_there_is_one() {
    let mut world = World::new();
    world.create("web", plain);
    world.run();
    assert_eq!(
        world.take_told(),
        ["ns/web: AllocationFailed: unknown pool \"default\": there is no such ServiceGroup"]
    );
    world.group(local("default", &[V4]));
    world.run();
    assert_eq!(world.addresses("web"), ["192.0.2.100"]);
    assert_eq!(world.refusal("web"), "");
}

#[test]
fn a_full_group_refuses_with_its_ranges_and_the_next_release_serves_who_waits() {
    let mut world = World::with([local("default", &["192.0.2.100-192.0.2.101"])]);
    for name in ["a", "b", "c", "d"] {
        world.create(name, plain);
    }
    world.run();
    assert_eq!(world.addresses("c"), [] as [&str; 0]);
    assert_eq!(
        world.refusal("c"),
        "group default has no free IPv4 address: every address of 192.0.2.100-192.0.2.101 that can be given out is in use"
    );
    let refused = world.take_told().iter().filter(|line| line.contains("AllocationFailed")).count();
    assert_eq!(refused, 2, "each is told once");
    world.delete("a");
    world.run();
    assert_eq!(world.addresses("c"), ["192.0.2.100"], "by name, and the lowest address again");
    assert_eq!(world.addresses("d"), [] as [&str; 0]);
}

#[test]
fn ranges_are_used_in_declared_order() {
    let mut world =
        World::with([local("default", &["192.0.2.9-192.0.2.10", "192.0.2.1-192.0.2.2"])]);
    for name in ["a", "b", "c"] {
        world.create(name, plain);
    }
    world.run();
    assert_eq!(world.addresses("b"), ["192.0.2.10"]);
    assert_eq!(world.addresses("c"), ["192.0.2.1"]);
}

#[test]
fn network_broadcast_and_anycast_addresses_are_not_given_out() {
    let mut world =
        World::with([local("default", &["192.0.2.0/30@192.0.2.0/30", "2001:db8::/126"])]);
    for name in ["a", "b", "c"] {
        world.create(name, plain);
    }
    world.create("six", |s| s.v6());
    world.run();
    assert_eq!(world.addresses("a"), ["192.0.2.1"]);
    assert_eq!(world.addresses("b"), ["192.0.2.2"]);
    assert_eq!(world.addresses("c"), [] as [&str; 0]);
    assert_eq!(world.addresses("six"), ["2001:db8::1"]);
    world.create("ask", |s| s.asks("192.0.2.3"));
    world.run();
    assert_eq!(
        world.refusal("ask"),
        "192.0.2.3 is the broadcast address of 192.0.2.0/30 and cannot be a Service's"
    );
    world.calm();
    let status = world.group_status("default");
    assert_eq!((status.allocated_v4, status.available_v4), (2, Some(0)));
    assert_eq!((status.allocated_v6, status.available_v6), (1, Some(2)));
}

#[test]
fn a_remote_group_of_host_prefixes_gives_out_every_address() {
    let group = remote("default", &["192.0.2.0/30@192.0.2.0/30"]).aggregated("/32");
    let mut world = World::with([group]);
    for name in ["a", "b", "c", "d", "e"] {
        world.create(name, plain);
    }
    world.run();
    assert_eq!(world.addresses("a"), ["192.0.2.0"]);
    assert_eq!(world.addresses("d"), ["192.0.2.3"]);
    assert_eq!(world.addresses("e"), [] as [&str; 0]);
    assert_eq!(world.annotations("a").pool_type.as_deref(), Some("remote"));
}

#[test]
fn a_reserved_address_already_held_stays() {
    let mut world = World::with([local("default", &["192.0.2.0/24"])]);
    world.create("old", |s| s.branded("default").shows(&["192.0.2.255"]));
    world.run();
    world.restart();
    world.calm();
    assert_eq!(world.addresses("old"), ["192.0.2.255"]);
    let status = world.group_status("default");
    assert_eq!((status.allocated_v4, status.available_v4), (1, Some(254)));
}

#[test]
fn requested_addresses_win_over_the_group_named() {
    let mut world =
        World::with([local("default", &[V4]), local("other", &["198.51.100.1-198.51.100.9"])]);
    world.create("web", |s| s.of("default").asks(" 198.51.100.7 "));
    world.run();
    assert_eq!(world.addresses("web"), ["198.51.100.7"]);
    assert_eq!(world.annotations("web").allocated_from.as_deref(), Some("other"));
    assert!(world.told[0].contains("ConfigurationWarning: purelb.io/addresses decides"));
}

#[test]
fn a_requested_address_that_is_held_names_its_holder_and_follows_when_it_is_free() {
    let mut world = World::with([local("default", &[V4])]);
    world.create("one", |s| s.asks("192.0.2.102"));
    world.create("two", |s| s.asks("192.0.2.102"));
    world.run();
    assert_eq!(
        world.refusal("two"),
        "192.0.2.102 is held by ns/one: choose another, or give both the same purelb.io/allow-shared-ip and different ports"
    );
    world.delete("one");
    world.run();
    assert_eq!(world.addresses("two"), ["192.0.2.102"]);
}

#[test]
fn an_address_outside_every_group_is_refused() {
    let mut world = World::with([local("default", &[V4])]);
    world.create("web", |s| s.asks("203.0.113.9"));
    world.run();
    assert_eq!(world.refusal("web"), "203.0.113.9 is in no ServiceGroup that can be used");
}

#[test]
fn asking_for_another_address_moves_a_live_service_all_or_nothing() {
    let mut world = World::with([local("default", &[V4, V6])]);
    world.create("web", |s| s.dual());
    world.create("other", |s| s.v6().asks("2001:db8::102"));
    world.run();
    assert_eq!(world.addresses("web"), ["192.0.2.100", "2001:db8::100"]);
    world.edit("web", |s| s.asks("192.0.2.103,2001:db8::102"));
    world.run();
    assert_eq!(world.addresses("web"), ["192.0.2.100", "2001:db8::100"], "nothing");
    assert!(world.refusal("web").contains("2001:db8::102 is held by ns/other"));
    world.take_told();
    world.edit("web", |s| s.asks("192.0.2.103,2001:db8::103"));
    world.run();
    assert_eq!(world.addresses("web"), ["192.0.2.103", "2001:db8::103"], "all");
    assert_eq!(
        world.take_told(),
        [
            "ns/web: AddressReleased: released 192.0.2.100, 2001:db8::100: the Service asked for another",
            "ns/web: AddressAssigned: assigned 192.0.2.103 from group default, 2001:db8::103 from group default",
        ]
    );
    world.create("next", plain);
    world.run();
    assert_eq!(world.addresses("next"), ["192.0.2.100"], "what it left is free");
}

#[test]
fn taking_the_request_away_changes_nothing() {
    let mut world = World::with([local("default", &[V4])]);
    world.create("web", |s| s.asks("192.0.2.102"));
    world.run();
    world.edit("web", |s| s.with(|s| s.annotations.addresses = None));
    world.calm();
    assert_eq!(world.addresses("web"), ["192.0.2.102"]);
}

#[test]
fn load_balancer_ip_still_works_and_says_that_it_is_deprecated() {
    let mut world = World::with([local("default", &[V4])]);
    world.create("web", |s| s.with(|s| s.load_balancer_ip = Some("192.0.2.103".into())));
    world.run();
    assert_eq!(world.addresses("web"), ["192.0.2.103"]);
    assert_eq!(
        world.told[0],
        "ns/web: DeprecationWarning: spec.loadBalancerIP is deprecated: use the annotation purelb.io/addresses"
    );
    world.take_told();
    world.restart();
    world.calm();
    assert!(!world.told.iter().any(|line| line.contains("Deprecation")), "once, not at each start");
}

#[test]
fn dual_stack_addresses_stand_in_the_order_of_the_families() {
    let mut world = World::with([local("default", &[V4, V6])]);
    world.create("web", |s| s.dual().with(|s| s.families.reverse()));
    world.run();
    assert_eq!(world.addresses("web"), ["2001:db8::100", "192.0.2.100"]);
}

#[test]
fn prefer_dual_stack_takes_what_the_group_can_serve() {
    let mut world = World::with([local("default", &[V4])]);
    world.create("prefer", |s| s.preferring_dual());
    world.create("require", |s| s.dual());
    world.run();
    assert_eq!(world.addresses("prefer"), ["192.0.2.100"]);
    assert_eq!(world.refusal("prefer"), "");
    assert_eq!(world.addresses("require"), [] as [&str; 0]);
    assert_eq!(
        world.refusal("require"),
        "group default has no IPv6 range: add one, or make the Service PreferDualStack"
    );
    world.calm();
    assert_eq!(world.group_status("default").allocated_v4, 1, "the refused one holds nothing");
}

#[test]
fn prefer_dual_stack_with_one_family_full_says_so_and_waits_for_the_other() {
    let mut world = World::with([local("default", &[V4, "2001:db8::100-2001:db8::100"])]);
    world.create("six", |s| s.v6());
    world.create("web", |s| s.preferring_dual());
    world.run();
    assert_eq!(world.addresses("web"), ["192.0.2.100"]);
    assert!(world.refusal("web").contains("no free IPv6 address"));
    world.delete("six");
    world.run();
    assert_eq!(world.addresses("web"), ["192.0.2.100", "2001:db8::100"]);
}

#[test]
fn single_to_dual_adds_and_dual_to_single_releases() {
    let mut world = World::with([local("default", &[V4, V6])]);
    world.create("web", plain);
    world.run();
    world.edit("web", |s| s.dual());
    world.run();
    assert_eq!(world.addresses("web"), ["192.0.2.100", "2001:db8::100"]);
    world.edit("web", |s| s.v6());
    world.run();
    assert_eq!(world.addresses("web"), ["2001:db8::100"]);
    assert!(
        world
            .told
            .last()
            .unwrap()
            .contains("released 192.0.2.100: the Service no longer has that family")
    );
    world.edit("web", |s| s.dual());
    world.run();
    assert_eq!(world.addresses("web"), ["2001:db8::100", "192.0.2.100"], "added at the end");
}

#[test]
fn a_refused_second_family_leaves_the_first_alone() {
    let mut world = World::with([local("default", &[V4])]);
    world.create("web", plain);
    world.run();
    world.edit("web", |s| s.dual());
    world.run();
    assert_eq!(world.addresses("web"), ["192.0.2.100"]);
    assert!(world.refusal("web").contains("no IPv6 range"));
}

#[test]
fn a_second_family_comes_from_the_group_that_the_first_is_from() {
    let groups = [local("default", &["192.0.2.1-192.0.2.9"]), local("mine", &[V4, V6])];
    let mut world = World::with(groups);
    world.create("web", |s| s.of("mine"));
    world.run();
    world.edit("web", |s| s.dual().with(|s| s.annotations.service_group = None));
    world.run();
    assert_eq!(world.addresses("web"), ["192.0.2.100", "2001:db8::100"]);
    assert_eq!(world.annotations("web").allocated_from.as_deref(), Some("mine"));
}

#[test]
fn services_of_another_class_are_left_alone_and_what_they_show_is_taken() {
    let mut world = World::with([local("default", &[V4])]);
    world.create("foreign", |s| s.shows(&["192.0.2.100"]).of_class("example.com/lb"));
    world.create("ours", |s| s.of_class("purelb.io/purelbv2"));
    world.create("also", |s| s.of_class("purelb.io/purelb"));
    world.run();
    assert_eq!(world.annotations("foreign").allocated_by, None);
    assert_eq!(world.addresses("ours"), ["192.0.2.101"]);
    assert_eq!(world.addresses("also"), ["192.0.2.102"]);
    world.edit("foreign", |s| s.with(|s| s.ingress.clear()));
    world.create("next", plain);
    world.run();
    assert_eq!(world.addresses("next"), ["192.0.2.100"]);
}

#[test]
fn what_a_service_of_another_class_shows_is_its_own_once_nobody_else_has_it() {
    let mut world = World::with([local("default", &[V4])]);
    world.create("ours", plain);
    world.run();
    world
        .create("foreign", |s| s.shows(&["192.0.2.100", "192.0.2.102"]).of_class("example.com/lb"));
    world.create("also", |s| s.shows(&["192.0.2.100"]).of_class("example.com/lb"));
    world.run();
    assert_eq!(world.addresses("ours"), ["192.0.2.100"]);
    world.delete("ours");
    world.create("next", plain);
    world.run();
    assert_eq!(world.addresses("next"), ["192.0.2.101"]);
    for (gone, next) in [("also", "192.0.2.103"), ("foreign", "192.0.2.100")] {
        world.delete(gone);
        world.create("last", plain);
        world.run();
        assert_eq!(world.addresses("last"), [next], "without {gone}");
        world.delete("last");
        world.run();
    }
}

#[test]
fn without_being_the_default_only_services_of_our_class_are_served() {
    let mut world = World::with([local("default", &[V4])]);
    world.settings.default_announcer = false;
    world.restart();
    world.create("plain", plain);
    world.create("ours", |s| s.of_class("purelb.io/purelbv2"));
    world.run();
    assert_eq!(world.addresses("plain"), [] as [&str; 0]);
    assert_eq!(world.addresses("ours"), ["192.0.2.100"]);
}

#[test]
fn an_address_that_somebody_else_gave_is_left_alone() {
    let mut world = World::with([local("default", &[V4])]);
    world.create("web", |s| s.shows(&["203.0.113.5"]));
    world.run();
    assert_eq!(world.addresses("web"), ["203.0.113.5"]);
    assert_eq!(world.annotations("web").allocated_by, None);
    assert_eq!(
        world.take_told(),
        [
            "ns/web: ConfigurationWarning: 203.0.113.5 was not given by PureLB and is in no ServiceGroup: left alone"
        ]
    );
    world.group(local("legacy", &["203.0.113.0/24"]));
    world.run();
    assert_eq!(world.annotations("web").allocated_from.as_deref(), Some("legacy"), "adopted");
}

#[test]
fn a_service_being_deleted_gets_nothing_new_and_keeps_what_it_has() {
    let mut world = World::with([local("default", &[V4, V6])]);
    world.create("old", plain);
    world.run();
    world.edit("old", |s| s.dual().with(|s| s.is_deleting = true));
    world.create("new", |s| s.with(|s| s.is_deleting = true));
    world.run();
    assert_eq!(world.addresses("old"), ["192.0.2.100"]);
    assert_eq!(world.addresses("new"), [] as [&str; 0]);
    world.create("next", plain);
    world.run();
    assert_eq!(world.addresses("next"), ["192.0.2.101"]);
}

#[test]
fn a_headless_service_is_told_why_it_gets_nothing() {
    let mut world = World::with([local("default", &[V4])]);
    world.create("web", |s| s.with(|s| s.has_cluster_ip = false));
    world.run();
    assert!(world.refusal("web").contains("headless"));
}

#[test]
fn skip_ipv6_dad_follows_the_group() {
    let mut world = World::with([local("default", &[V4, V6]).skip_dad()]);
    world.create("web", |s| s.v6());
    world.run();
    assert!(world.annotations("web").skip_ipv6_dad);
    world.group(local("default", &[V4, V6]));
    world.run();
    assert!(!world.annotations("web").skip_ipv6_dad);
}

#[test]
fn re_evaluate_moves_a_service_to_the_group_that_it_asks_for_now() {
    let groups = [local("default", &[V4]), local("other", &["198.51.100.1-198.51.100.1"])];
    let mut world = World::with(groups);
    world.create("web", plain);
    world.run();
    world.take_told();
    world.edit("web", |s| s.of("other"));
    world.calm();
    assert_eq!(world.addresses("web"), ["192.0.2.100"]);
    assert_eq!(
        world.take_told(),
        [
            "ns/web: ConfigurationWarning: keeps its address of group default though it asks for other: set purelb.io/re-evaluate to \"true\" to move it"
        ]
    );
    world.edit("web", |s| s.with(|s| s.annotations.re_evaluate = true));
    world.calm();
    assert_eq!(world.addresses("web"), ["198.51.100.1"]);
    assert!(!world.annotations("web").re_evaluate);
    world.create("late", plain);
    world.run();
    world.edit("late", |s| s.of("other").with(|s| s.annotations.re_evaluate = true));
    world.calm();
    assert_eq!(world.addresses("late"), ["192.0.2.100"], "the other group is full: it stays");
    assert!(!world.annotations("late").re_evaluate);
}

#[test]
fn re_evaluate_on_a_service_that_is_where_it_should_be_is_only_removed() {
    let mut world = World::with([local("default", &[V4])]);
    world.create("web", |s| s.with(|s| s.annotations.re_evaluate = true));
    world.calm();
    assert_eq!(world.addresses("web"), ["192.0.2.100"]);
    assert!(!world.annotations("web").re_evaluate);
    assert_eq!(world.patches.len(), 1);
}

#[test]
fn status_shows_ranges_as_typed_and_namespaces_as_written() {
    let group = local("default", &["192.0.2.0/24", "2001:db8::/64"]);
    let mut world = World::with([group.for_namespaces(&["ns", "a", "ns"])]);
    world.create("web", |s| s.dual());
    world.calm();
    let status = world.group_status("default");
    assert_eq!(status.addresses, ["192.0.2.0/24", "2001:db8::/64"]);
    assert_eq!((status.announce.as_str(), status.ipam.as_str()), ("Local", "Cluster"));
    let namespaces: Vec<_> = status.bound_namespaces.iter().map(|ns| ns.as_str()).collect();
    assert_eq!(namespaces, ["ns", "a", "ns"]);
    assert_eq!((status.allocated_v4, status.available_v4), (1, Some(253)));
    assert_eq!((status.allocated_v6, status.available_v6), (1, Some(i64::MAX)));
}

#[test]
fn a_group_that_can_no_longer_be_used_offers_nothing_in_its_status() {
    let mut world = World::with([local("default", &["192.0.2.0/24"])]);
    world.create("web", plain);
    world.run();
    world.pass(Duration::from_secs(1));
    assert_eq!(world.group_status("default").available_v4, Some(253));
    let status = Some(world.group_status("default"));
    world.group(ServiceGroup { status, ..local("default", &["192.0.2.0/33"]) });
    world.pass(Duration::from_secs(1));
    let status = world.group_status("default");
    assert_eq!((status.allocated_v4, status.available_v4), (0, Some(0)));
    assert!(status.addresses.is_empty(), "{:?}", status.addresses);
    assert_eq!(world.addresses("web").len(), 1, "what is held stays");
}

#[test]
fn a_burst_of_services_is_few_status_writes() {
    let mut world = World::with([local("default", &["192.0.2.0/24"])]);
    let before = world.statuses;
    for n in 0..200 {
        world.create(&format!("s{n}"), plain);
        world.run();
    }
    world.calm();
    assert!(world.statuses - before <= 3, "{}", world.statuses - before);
    assert_eq!(world.group_status("default").allocated_v4, 200);
}

#[test]
fn an_edited_status_is_put_right() {
    let mut world = World::with([local("default", &[V4])]);
    world.calm();
    let mut group = world.groups[&"default".into()].clone();
    group.status = None;
    world.group(group);
    world.calm();
    assert_eq!(world.group_status("default").available_v4, Some(4));
}

#[test]
fn a_pool_that_overlaps_the_cluster_or_a_node_is_warned_about_once() {
    use purelb_core::allocator::ClusterRange;
    let mut world = World::new();
    world.settings.cluster_ranges.insert("192.0.2.96/28".parse().unwrap(), ClusterRange::Pods);
    world.settings.node_addresses.insert(ip("192.0.2.101"), "kn1".into());
    world.restart();
    world.group(local("default", &[V4]));
    world.calm();
    world.relist();
    world.calm();
    assert_eq!(
        world.take_told(),
        [
            "group default: Parsed: in use, announced local",
            "group default: ConfigurationWarning: 192.0.2.100-192.0.2.103 overlaps the cluster's pod range 192.0.2.96/28: choose another range",
            "group default: ConfigurationWarning: 192.0.2.100-192.0.2.103 holds 192.0.2.101, an address of node kn1: leave it out of the range",
        ]
    );
}

#[test]
fn a_group_that_makes_no_sense_says_why_and_its_services_too() {
    let mut world = World::with([]);
    let kind = GroupSpec::Malformed { error: "exactly one of local, remote, external".into() };
    let mut bad = local("default", &[V4]);
    bad.kind = kind;
    world.group(bad);
    world.create("web", plain);
    world.run();
    assert_eq!(
        world.take_told(),
        [
            "group default: ParseFailed: exactly one of local, remote, external",
            "ns/web: AllocationFailed: group default cannot be used: exactly one of local, remote, external",
        ]
    );
}

#[test]
fn a_failed_write_is_tried_again_after_a_pause_and_nothing_else_gets_the_address() {
    let mut world = World::with([local("default", &[V4])]);
    world.writes = Writes::Fail;
    world.create("web", plain);
    world.run();
    assert_eq!((world.patches.len(), world.addresses("web").len()), (1, 0));
    world.pass(Duration::from_millis(999));
    assert_eq!(world.patches.len(), 1, "not before its pause is over");
    world.pass(Duration::from_secs(7));
    assert_eq!(world.patches.len(), 4, "after one, two and four seconds");
    world.create("other", plain);
    world.writes = Writes::Work;
    world.calm();
    assert_eq!(world.addresses("web"), ["192.0.2.100"]);
    assert_eq!(world.addresses("other"), ["192.0.2.101"]);
    assert_eq!(world.told.iter().filter(|line| line.contains("assigned 192.0.2.100")).count(), 1);
}

#[test]
fn a_write_whose_outcome_is_lost_does_no_harm() {
    let mut world = World::with([local("default", &[V4])]);
    world.writes = Writes::LandUnnoticed;
    world.create("web", plain);
    world.calm();
    assert_eq!(world.addresses("web"), ["192.0.2.100"]);
    assert_eq!(world.patches.len(), 1);
}

#[test]
fn what_the_go_purelb_wrote_is_taken_over_without_a_write() {
    let mut world = World::new();
    world.group(local("default", &["192.0.2.100-192.0.2.120", "2001:db8:1::100-2001:db8:1::1ff"]));
    let mut routed =
        remote("routed", &["198.51.100.10-198.51.100.20", "2001:db8:2::/120@2001:db8:2::/64"]);
    if let GroupSpec::Remote { pools } = &mut routed.kind {
        pools.v6[0].aggregation = Some("/128".to_owned());
    }
    world.group(routed);
    let shared = |s: Service, port| {
        let s = s.branded("default").shows(&["192.0.2.110"]).shares("k1");
        s.asks("192.0.2.110").on(&[port])
    };
    let remote = |s: Service| {
        let s = s.branded("routed").of("routed");
        s.with(|s| s.annotations.pool_type = Some("remote".to_owned()))
    };
    world.create("plain", |s| s.branded("default").shows(&["192.0.2.100"]));
    world
        .create("dual", |s| s.branded("default").shows(&["192.0.2.101", "2001:db8:1::100"]).dual());
    world.create("legacy", |s| {
        let s = s.branded("default").shows(&["192.0.2.119"]);
        s.with(|s| s.load_balancer_ip = Some("192.0.2.119".to_owned()))
    });
    world.create("remote", |s| {
        remote(s).shows(&["198.51.100.10", "2001:db8:2::"]).preferring_dual()
    });
    world.create("shared-a", |s| shared(s, 80));
    world.create("shared-b", |s| shared(s, 443));
    world.create("wanted", |s| s.branded("default").shows(&["192.0.2.115"]).asks("192.0.2.115"));
    world.create("refused", |s| s.asks("203.0.113.9"));
    world.restart();
    world.calm();
    assert!(world.patches.is_empty(), "{:?}", world.patches);
    assert_eq!(world.refusal("refused"), "203.0.113.9 is in no ServiceGroup that can be used");
    let (default, routed) = (world.group_status("default"), world.group_status("routed"));
    assert_eq!((default.allocated_v4, default.available_v4), (5, Some(16)));
    assert_eq!((default.allocated_v6, default.available_v6), (1, Some(255)));
    assert_eq!((routed.allocated_v6, routed.available_v6), (1, Some(255)));
}

#[test]
fn both_families_follow_the_same_rules() {
    let play = |family: &str| {
        let (range, one) = match family {
            "v4" => ("192.0.2.1-192.0.2.4", "192.0.2."),
            _ => ("2001:db8::1-2001:db8::4", "2001:db8::"),
        };
        let of = |s: Service| if family == "v4" { s.v4() } else { s.v6() };
        let mut world = World::with([local("default", &[range])]);
        world.create("a", of);
        world.create("b", |s| of(s).asks(&format!("{one}3")));
        world.create("c", |s| of(s).shares("k").on(&[80]));
        world.create("d", |s| of(s).shares("k").on(&[80, 81]));
        world.create("e", of);
        world.create("f", of);
        world.delete("a");
        world.edit("b", |s| s.asks(&format!("{one}1")));
        world.calm();
        let texts = world.told.iter().map(|line| line.replace(one, "@").replace(family, "@"));
        texts.map(|line| line.replace("IPv4", "@").replace("IPv6", "@")).collect::<Vec<_>>()
    };
    assert_eq!(play("v4"), play("v6"));
}
