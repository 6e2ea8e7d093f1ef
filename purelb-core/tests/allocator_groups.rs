//! Which group, how many addresses, and who may share: the rules beyond one address from `default`.

mod allocator_world;

use std::time::Duration;

use allocator_world::*;
use purelb_core::allocator::{How, IpamError, Notice, ServiceNotice};

const V4: &str = "192.0.2.100-192.0.2.103";
const V6: &str = "2001:db8::100-2001:db8::103";
const NONE: [&str; 0] = [];

mod sharing {
    use super::*;

    #[test]
    fn services_with_one_key_and_different_ports_share_both_families() {
        let mut world = World::with([local("default", &[V4, V6])]);
        world.create("a", |s| s.dual().shares("k").on(&[80]));
        world.create("b", |s| s.dual().shares("k").on(&[443]));
        world.calm();
        assert_eq!(world.addresses("a"), ["192.0.2.100", "2001:db8::100"]);
        assert_eq!(world.addresses("b"), world.addresses("a"));
        let status = world.group_status("default");
        assert_eq!((status.allocated_v4, status.allocated_v6), (1, 1), "shared counts once");
    }

    #[test]
    fn a_port_clash_is_refused_though_other_addresses_are_free() {
        let mut world = World::with([local("default", &[V4])]);
        world.create("a", |s| s.shares("k").on(&[80]));
        world.create("b", |s| s.shares("k").on(&[443, 80]));
        world.run();
        assert_eq!(world.addresses("b"), NONE);
        assert_eq!(
            world.refusal("b"),
            "port TCP/80 on 192.0.2.100 already in use by ns/a, which shares that address"
        );
        world.edit("a", |s| s.on(&[81]));
        world.run();
        assert_eq!(world.addresses("b"), ["192.0.2.100"], "as soon as the port is free");
    }

    #[test]
    fn other_keys_and_no_key_do_not_share() {
        let mut world = World::with([local("default", &[V4])]);
        world.create("a", |s| s.shares("k").on(&[80]));
        world.create("b", |s| s.shares("j").on(&[81]));
        world.create("c", |s| s.on(&[82]));
        world.create("d", |s| s.on(&[83]).asks("192.0.2.100"));
        world.run();
        assert_eq!(world.addresses("b"), ["192.0.2.101"]);
        assert_eq!(world.addresses("c"), ["192.0.2.102"]);
        assert!(world.refusal("d").contains("192.0.2.100 is held by ns/a"));
    }

    #[test]
    fn the_only_user_may_change_its_key_in_place() {
        let mut world = World::with([local("default", &[V4])]);
        world.create("a", |s| s.shares("k").on(&[80]));
        world.run();
        world.edit("a", |s| s.shares("j"));
        world.create("b", |s| s.shares("k").on(&[81]));
        world.create("c", |s| s.shares("j").on(&[81]));
        world.run();
        assert_eq!(world.addresses("a"), ["192.0.2.100"]);
        assert_eq!(world.addresses("b"), ["192.0.2.101"], "the old key binds nothing any more");
        assert_eq!(world.addresses("c"), ["192.0.2.100"]);
    }

    #[test]
    fn one_of_several_users_that_drops_the_key_moves_out() {
        let mut world = World::with([local("default", &[V4])]);
        world.create("a", |s| s.shares("k").on(&[80]));
        world.create("b", |s| s.shares("k").on(&[81]));
        world.run();
        world.edit("a", |s| s.unshared());
        world.run();
        assert_eq!(world.addresses("a"), ["192.0.2.101"]);
        assert_eq!(world.addresses("b"), ["192.0.2.100"]);
    }

    #[test]
    fn the_key_is_free_when_its_last_user_is_gone() {
        let mut world = World::with([local("default", &[V4])]);
        world.create("a", |s| s.shares("k").on(&[80]).asks("192.0.2.102"));
        world.create("b", |s| s.shares("k").on(&[81]));
        world.run();
        assert_eq!(world.addresses("b"), ["192.0.2.102"]);
        world.delete("a");
        world.create("c", |s| s.shares("k").on(&[82]));
        world.run();
        assert_eq!(world.addresses("c"), ["192.0.2.102"], "one user keeps it");
        world.delete("b");
        world.delete("c");
        world.create("d", |s| s.shares("k").on(&[82]));
        world.run();
        assert_eq!(world.addresses("d"), ["192.0.2.100"]);
    }

    #[test]
    fn a_full_group_still_has_room_for_a_sharer() {
        let mut world = World::with([local("default", &["192.0.2.100-192.0.2.100"])]);
        world.create("a", |s| s.shares("k").on(&[80]));
        world.create("b", plain);
        world.create("c", |s| s.shares("k").on(&[81]));
        world.run();
        assert_eq!(world.addresses("b"), NONE);
        assert_eq!(world.addresses("c"), ["192.0.2.100"]);
    }

    #[test]
    fn who_changes_is_who_yields_and_never_a_sharer_that_looks_first() {
        let mut world = World::with([local("default", &[V4, "2001:db8::100-2001:db8::100"])]);
        world.create("six", |s| s.v6());
        world.create("a", |s| s.preferring_dual().shares("k").on(&[80]));
        world.create("b", |s| s.shares("k").on(&[81]));
        world.run();
        assert!(
            world.refusal("a").contains("no free IPv6"),
            "so it looks whenever something changes"
        );
        world.edit("b", |s| s.on(&[80]));
        world.run();
        assert_eq!(world.addresses("a"), ["192.0.2.100"]);
        assert_eq!(world.addresses("b"), NONE);
    }

    #[test]
    fn one_that_is_leaving_is_not_in_the_way_of_one_that_stays() {
        let mut world = World::with([local("default", &[V4])]);
        world.create("a", |s| s.shares("k").on(&[80]));
        world.create("b", |s| s.shares("k").on(&[81]));
        world.run();
        world.writes = Writes::Fail;
        world.edit("a", |s| s.unshared());
        world.group(local("default", &[V4, V6]));
        world.run();
        world.create("c", |s| s.shares("k").on(&[82]));
        world.run();
        assert_eq!(
            world.addresses("c"),
            NONE,
            "the API still shows it on a Service without the key"
        );
        world.writes = Writes::Work;
        world.calm();
        assert_eq!(world.addresses("b"), ["192.0.2.100"]);
        assert_eq!(world.addresses("a"), ["192.0.2.101"]);
        assert_eq!(world.addresses("c"), ["192.0.2.100"]);
    }

    #[test]
    fn a_terminating_sharer_costs_nobody_his_address() {
        let mut world = World::with([local("default", &[V4])]);
        world.create("a", |s| s.shares("k").on(&[80]));
        world.create("b", |s| s.shares("k").on(&[81]));
        world.run();
        world.edit("b", |s| s.on(&[80]).with(|s| s.is_deleting = true));
        world.group(local("default", &[V4, V6]));
        world.calm();
        assert_eq!(world.addresses("a"), ["192.0.2.100"]);
    }

    #[test]
    fn a_key_binds_within_a_group() {
        let mut world =
            World::with([local("default", &[V4]), local("x", &["198.51.100.1-198.51.100.9"])]);
        world.create("a", |s| s.shares("k").on(&[80]));
        world.create("b", |s| s.shares("k").on(&[80]).of("x"));
        world.run();
        assert_eq!(world.addresses("b"), ["198.51.100.1"]);
    }
}

mod spread {
    use super::*;

    const RANGES: [&str; 2] = ["192.0.2.1-192.0.2.2", "198.51.100.1-198.51.100.9"];

    #[test]
    fn balanced_takes_from_the_range_with_the_fewest_in_use() {
        let mut world = World::with([local("default", &RANGES).balanced()]);
        for name in ["a", "b", "c", "d", "e", "f"] {
            world.create(name, plain);
        }
        world.run();
        let all: Vec<_> =
            ["a", "b", "c", "d", "e", "f"].map(|name| world.addresses(name)[0].clone()).into();
        assert_eq!(
            all,
            [
                "192.0.2.1",
                "198.51.100.1",
                "192.0.2.2",
                "198.51.100.2",
                "198.51.100.3",
                "198.51.100.4"
            ]
        );
        world.delete("a");
        world.create("g", plain);
        world.run();
        assert_eq!(world.addresses("g"), ["192.0.2.1"], "the emptier range");
        let is_balanced = |notice: &Notice| {
            matches!(
                notice,
                Notice::Service { what: ServiceNotice::Assigned { how: How::Balanced, .. }, .. }
            )
        };
        assert_eq!(world.notices.iter().filter(|notice| is_balanced(notice)).count(), 7);
    }

    #[test]
    fn balanced_families_are_balanced_each_on_its_own() {
        let mut world = World::with([local("default", &[RANGES[0], RANGES[1], V6]).balanced()]);
        world.create("a", |s| s.dual());
        world.create("b", |s| s.dual());
        world.run();
        assert_eq!(world.addresses("a"), ["192.0.2.1", "2001:db8::100"]);
        assert_eq!(world.addresses("b"), ["198.51.100.1", "2001:db8::101"]);
    }

    #[test]
    fn a_sharing_key_is_not_balanced() {
        let mut world = World::with([local("default", &RANGES).balanced()]);
        world.create("a", plain);
        world.create("b", |s| s.shares("k").on(&[80]));
        world.run();
        assert_eq!(world.addresses("b"), ["192.0.2.2"]);
    }

    #[test]
    fn multi_pool_gives_one_address_of_each_range_that_a_node_serves() {
        let mut world = World::with([local("default", &RANGES).multi()]);
        world.subnets(&["192.0.2.7/24"]);
        world.create("web", plain);
        world.run();
        assert_eq!(world.addresses("web"), ["192.0.2.1"], "subnets compare as networks");
        world.subnets(&["192.0.2.0/24", "198.51.100.0/24"]);
        world.run();
        assert_eq!(world.addresses("web"), ["192.0.2.1", "198.51.100.1"], "it grows by itself");
        world.subnets(&[]);
        world.calm();
        assert_eq!(world.addresses("web"), ["192.0.2.1", "198.51.100.1"], "and never shrinks");
        let patches = world.patches.len();
        world.relist();
        world.calm();
        assert_eq!(world.patches.len(), patches, "three passes, one answer");
    }

    #[test]
    fn multi_pool_without_a_live_subnet_is_refused() {
        let mut world = World::with([local("default", &RANGES).multi()]);
        world.create("web", plain);
        world.run();
        assert_eq!(world.addresses("web"), NONE);
        assert_eq!(
            world.refusal("web"),
            "no live node is in a subnet of group default: an address there could not be announced"
        );
    }

    #[test]
    fn remote_multi_pool_needs_no_live_subnet() {
        let mut world = World::with([remote("default", &[RANGES[0], RANGES[1], V6]).multi()]);
        world.create("web", |s| s.dual());
        world.run();
        assert_eq!(world.addresses("web"), ["192.0.2.1", "198.51.100.1", "2001:db8::100"]);
    }

    #[test]
    fn a_full_range_is_passed_over_and_made_good_when_it_has_room() {
        let mut world =
            World::with([remote("default", &["192.0.2.1-192.0.2.1", RANGES[1]]).multi()]);
        world.create("one", |s| s.multi(false));
        world.create("web", plain);
        world.run();
        assert_eq!(world.addresses("one"), ["192.0.2.1"], "the annotation switches it off");
        assert_eq!(world.addresses("web"), ["198.51.100.1"]);
        let is_partial = |notice: &Notice| {
            matches!(
                notice,
                Notice::Service {
                    what: ServiceNotice::Assigned { how: How::Multi { partial: true }, .. },
                    ..
                }
            )
        };
        assert!(world.notices.iter().any(is_partial));
        world.delete("one");
        world.run();
        assert_eq!(world.addresses("web"), ["198.51.100.1", "192.0.2.1"]);
    }

    #[test]
    fn the_annotation_switches_it_on() {
        let mut world = World::with([remote("default", &RANGES)]);
        world.create("web", |s| s.multi(true));
        world.run();
        assert_eq!(world.addresses("web"), ["192.0.2.1", "198.51.100.1"]);
        world.edit("web", |s| s.multi(false));
        world.calm();
        assert_eq!(world.addresses("web").len(), 2, "switching it off takes nothing away");
    }

    #[test]
    fn what_excludes_each_other_is_refused() {
        let groups =
            [remote("default", &RANGES), remote("even", &["203.0.113.1-203.0.113.9"]).balanced()];
        let mut world = World::with(groups);
        world.create("shared", |s| s.multi(true).shares("k"));
        world.create("even", |s| s.multi(true).of("even"));
        world.run();
        assert!(world.refusal("shared").contains("mutually exclusive"));
        assert!(world.refusal("even").contains("mutually exclusive"));
        world.group(remote("both", &["203.0.113.20-203.0.113.29"]).balanced().multi());
        world.run();
        assert!(
            world
                .told
                .last()
                .unwrap()
                .contains("ParseFailed: multiPool and balancePools are mutually exclusive")
        );
    }

    #[test]
    fn addresses_of_two_groups_do_not_grow() {
        let mut world = World::with([remote("a", &RANGES), remote("b", &[V6])]);
        world.create("web", |s| s.dual().asks("192.0.2.1,2001:db8::100"));
        world.run();
        assert_eq!(world.annotations("web").allocated_from.as_deref(), Some("a, b"));
        world.edit("web", |s| s.multi(true).with(|s| s.annotations.addresses = None));
        world.run();
        assert_eq!(world.addresses("web").len(), 2);
        assert!(world.refusal("web").contains("those held are from a, b"));
    }

    #[test]
    fn a_dropped_family_goes_with_all_its_addresses() {
        let mut world = World::with([remote("default", &[RANGES[0], RANGES[1], V6]).multi()]);
        world.create("web", |s| s.dual());
        world.run();
        world.edit("web", |s| s.v6());
        world.run();
        assert_eq!(world.addresses("web"), ["2001:db8::100"]);
    }
}

mod namespaces {
    use super::*;

    fn world() -> World {
        World::with([
            local("default", &["192.0.2.1-192.0.2.9"]),
            local("red", &["198.51.100.1-198.51.100.9"]).for_namespaces(&["red", "red"]),
            local("blue", &["203.0.113.1-203.0.113.9"]).for_namespaces(&["blue"]).enforced(),
        ])
    }

    #[test]
    fn a_namespace_uses_the_one_group_that_lists_it() {
        let mut world = world();
        world.create("red/web", plain);
        world.create("blue/web", plain);
        world.create("other/web", plain);
        world.run();
        assert_eq!(world.addresses("red/web"), ["198.51.100.1"]);
        assert_eq!(world.addresses("blue/web"), ["203.0.113.1"]);
        assert_eq!(world.addresses("other/web"), ["192.0.2.1"]);
    }

    #[test]
    fn an_open_group_may_be_named_by_anybody() {
        let mut world = world();
        world.create("other/web", |s| s.of("red"));
        world.create("red/web", |s| s.of("default"));
        world.run();
        assert_eq!(world.addresses("other/web"), ["198.51.100.1"]);
        assert_eq!(world.addresses("red/web"), ["192.0.2.1"]);
    }

    #[test]
    fn a_fence_holds_both_ways_by_name_and_by_address() {
        let mut world = world();
        world.create("blue/out", |s| s.of("default"));
        world.create("blue/pin", |s| s.asks("192.0.2.5"));
        world.create("red/in", |s| s.of("blue"));
        world.create("red/pin", |s| s.asks("203.0.113.5"));
        world.run();
        let confined = "namespace blue may only use blue, and group default does not list it";
        assert_eq!(world.refusal("blue/out"), confined);
        assert_eq!(world.refusal("blue/pin"), confined);
        let excluded = "group blue is kept for the namespaces it lists, and red is not among them";
        assert_eq!(world.refusal("red/in"), excluded);
        assert_eq!(world.refusal("red/pin"), excluded);
    }

    #[test]
    fn a_fence_goes_around_every_group_of_a_confined_namespace() {
        let mut world = world();
        world.group(local("annex", &["203.0.113.20-203.0.113.29"]).for_namespaces(&["blue"]));
        world.create("red/in", |s| s.of("annex"));
        world.create("blue/web", |s| s.of("annex"));
        world.run();
        assert!(world.refusal("red/in").contains("kept for the namespaces it lists"));
        assert_eq!(world.addresses("blue/web"), ["203.0.113.20"]);
    }

    #[test]
    fn several_groups_without_one_default_are_ambiguous() {
        let mut world = world();
        world.group(local("red2", &["198.51.100.20-198.51.100.29"]).for_namespaces(&["red"]));
        world.group(local("blue2", &["203.0.113.20-203.0.113.29"]).for_namespaces(&["blue"]));
        world.run();
        world.take_told();
        world.create("red/web", plain);
        world.create("blue/web", plain);
        world.run();
        assert_eq!(world.addresses("red/web"), ["192.0.2.1"], "no fence: default it is");
        assert!(
            world.told[0].contains("ConfigurationWarning: namespace red is listed by red, red2")
        );
        assert!(world.refusal("blue/web").contains("namespace blue is listed by blue, blue2"));
        world.group(
            local("blue2", &["203.0.113.20-203.0.113.29"])
                .for_namespaces(&["blue"])
                .namespace_default(),
        );
        world.run();
        assert_eq!(world.addresses("blue/web"), ["203.0.113.20"]);
    }

    #[test]
    fn a_fence_put_up_later_takes_nothing_away() {
        let mut world = world();
        world.create("red/web", |s| s.of("default"));
        world.run();
        world.group(
            local("red", &["198.51.100.1-198.51.100.9"]).for_namespaces(&["red"]).enforced(),
        );
        world.calm();
        assert_eq!(world.addresses("red/web"), ["192.0.2.1"]);
    }

    #[test]
    fn a_group_that_cannot_be_used_still_fences() {
        let mut world = world();
        world.group(
            local("blue", &["203.0.113.9-203.0.113.1"]).for_namespaces(&["blue"]).enforced(),
        );
        world.create("blue/web", plain);
        world.create("blue/out", |s| s.of("default"));
        world.run();
        assert!(world.refusal("blue/web").contains("the range is reversed"));
        assert!(world.refusal("blue/out").contains("namespace blue may only use blue"));
    }

    #[test]
    fn a_denied_request_leaves_what_a_service_has() {
        let mut world = world();
        world.create("red/web", plain);
        world.run();
        world.edit("red/web", |s| s.asks("203.0.113.5"));
        world.calm();
        assert_eq!(world.addresses("red/web"), ["198.51.100.1"]);
    }
}

mod sidecars {
    use super::*;

    fn world() -> World {
        let mut world = World::new();
        world.sidecars.insert(
            "/run/far".into(),
            Sidecar::of(&["203.0.113.1-203.0.113.9", "2001:db8:f::1-2001:db8:f::9"]),
        );
        world.group(external("far"));
        world.group(local("default", &[V4]));
        world.run();
        world.told.clear();
        world
    }

    fn far(world: &mut World) -> &mut Sidecar {
        world.sidecars.get_mut("/run/far").expect("it was put there")
    }

    #[test]
    fn a_sidecar_gives_and_its_figures_are_shown() {
        let mut world = world();
        world.create("web", |s| s.of("far").dual());
        world.calm();
        assert_eq!(world.addresses("web"), ["203.0.113.1", "2001:db8:f::1"]);
        assert_eq!(world.annotations("web").allocated_from.as_deref(), Some("far"));
        assert_eq!(world.annotations("web").pool_type.as_deref(), Some("remote"));
        let status = world.group_status("far");
        assert_eq!(status.ipam, "netbox");
        assert_eq!((status.allocated_v4, status.available_v4), (1, Some(8)));
        let allocates =
            far(&mut world).calls.iter().filter(|call| call.starts_with("Allocate")).count();
        assert_eq!(allocates, 1);
    }

    #[test]
    fn deleting_a_service_tells_its_sidecar() {
        let mut world = world();
        world.create("web", |s| s.of("far"));
        world.run();
        world.delete("web");
        world.calm();
        assert!(far(&mut world).given.is_empty());
        assert_eq!(world.group_status("far").allocated_v4, 0);
    }

    #[test]
    fn what_is_given_to_a_service_that_is_somebody_elses_by_then_goes_back() {
        let mut world = world();
        world.create("web", |s| s.of("far"));
        assert!(world.deliver());
        world.edit("web", |s| s.of_class("example.com/lb"));
        assert!(world.step());
        assert_eq!(far(&mut world).given.len(), 1);
        world.calm();
        assert!(far(&mut world).given.is_empty());
        assert_eq!(world.allocator.ledger().addresses().count(), 0);
        world.edit("web", |s| s.with(|s| s.class = None));
        world.calm();
        assert_eq!(world.addresses("web"), ["203.0.113.1"]);
    }

    #[test]
    fn a_service_that_becomes_somebody_elses_gives_back_what_it_does_not_show() {
        let mut world = world();
        world.create("web", |s| s.of("far"));
        world.calm();
        world.edit("web", |s| s.of_class("example.com/lb").with(|s| s.ingress.clear()));
        world.calm();
        assert!(far(&mut world).given.is_empty());
    }

    #[test]
    fn a_failed_release_is_said_once_and_tried_until_it_works() {
        let mut world = world();
        world.create("web", |s| s.of("far"));
        world.run();
        far(&mut world).fails = Some(IpamError::Unavailable);
        world.delete("web");
        world.pass(Duration::from_secs(60));
        let failed = world.told.iter().filter(|line| line.contains("ReleaseFailed")).count();
        assert_eq!(failed, 1);
        far(&mut world).fails = None;
        world.calm();
        assert!(far(&mut world).given.is_empty());
    }

    #[test]
    fn a_service_created_anew_waits_for_the_release_of_the_old_one() {
        let mut world = world();
        world.create("web", |s| s.of("far"));
        world.run();
        far(&mut world).fails = Some(IpamError::Unavailable);
        world.delete("web");
        world.create("web", |s| s.of("far"));
        world.run();
        assert_eq!(world.addresses("web"), NONE);
        far(&mut world).fails = None;
        world.calm();
        assert_eq!(world.addresses("web"), ["203.0.113.1"]);
        assert_eq!(far(&mut world).given.len(), 1, "the release came first");
    }

    #[test]
    fn a_sidecar_that_refuses_is_asked_again_and_says_why() {
        let mut world = world();
        far(&mut world).fails = Some(IpamError::Exhausted);
        world.create("web", |s| s.of("far"));
        world.run();
        assert_eq!(
            world.refusal("web"),
            "the sidecar of group far gave no address: it has no free address"
        );
        world.pass(Duration::from_secs(30));
        let said = world.told.iter().filter(|line| line.contains("AllocationFailed")).count();
        assert_eq!(said, 1);
        far(&mut world).fails = None;
        world.pass(Duration::from_secs(60));
        assert_eq!(world.addresses("web"), ["203.0.113.1"]);
    }

    #[test]
    fn what_a_sidecar_gives_beyond_what_is_wanted_goes_back() {
        let mut world = world();
        far(&mut world).scripted = Some(ips(&["203.0.113.1", "2001:db8:f::1", "203.0.113.1"]));
        world.create("web", |s| s.of("far"));
        world.calm();
        assert_eq!(world.addresses("web"), ["203.0.113.1"]);
        let calls = &far(&mut world).calls;
        assert!(calls.contains(&"Release 2001:db8:f::1 of ns/web".to_owned()), "{calls:?}");
    }

    #[test]
    fn an_address_that_somebody_has_is_not_taken_from_a_sidecar() {
        let mut world = world();
        world.create("a", plain);
        far(&mut world).scripted = Some(ips(&["192.0.2.100"]));
        world.create("web", |s| s.of("far"));
        world.run();
        assert_eq!(world.addresses("web"), NONE);
        assert_eq!(
            world.refusal("web"),
            "the sidecar of group far gave 192.0.2.100, which ns/a has"
        );
    }

    #[test]
    fn a_required_family_that_a_sidecar_lacks_means_none_at_all() {
        let mut world = world();
        far(&mut world).scripted = Some(ips(&["203.0.113.1"]));
        world.create("web", |s| s.of("far").dual());
        world.create("prefer", |s| s.of("far").preferring_dual());
        world.run();
        assert_eq!(world.addresses("web"), NONE);
        assert_eq!(world.refusal("web"), "the sidecar of group far gave no IPv6 address");
        assert_eq!(world.addresses("prefer"), ["203.0.113.1"]);
    }

    #[test]
    fn dropping_a_family_releases_that_address_alone() {
        let mut world = world();
        world.create("web", |s| s.of("far").dual());
        world.run();
        world.edit("web", |s| s.v4());
        world.calm();
        assert_eq!(world.addresses("web"), ["203.0.113.1"]);
        assert_eq!(far(&mut world).given.len(), 1);
        world.edit("web", |s| s.dual());
        world.calm();
        assert_eq!(world.addresses("web"), ["203.0.113.1", "2001:db8:f::1"]);
    }

    #[test]
    fn a_restart_asks_no_sidecar_for_what_a_service_has() {
        let mut world = world();
        world.create("web", |s| s.of("far"));
        world.calm();
        far(&mut world).calls.clear();
        world.restart();
        world.calm();
        assert_eq!(world.addresses("web"), ["203.0.113.1"]);
        assert_eq!(far(&mut world).calls, ["Stats"]);
        world.delete("web");
        world.calm();
        assert!(far(&mut world).given.is_empty());
    }

    #[test]
    fn a_pinned_address_is_never_looked_for_in_an_external_group() {
        let mut world = world();
        world.create("web", |s| s.asks("203.0.113.5"));
        world.run();
        assert!(world.refusal("web").contains("in no ServiceGroup"));
    }

    #[test]
    fn one_address_per_range_is_not_to_be_had_from_a_sidecar() {
        let mut world = world();
        world.create("web", |s| s.of("far").multi(true));
        world.run();
        assert!(world.refusal("web").contains("group far is external"));
    }

    #[test]
    fn re_evaluate_moves_a_service_to_a_sidecar() {
        let mut world = world();
        world.create("web", plain);
        world.run();
        world.edit("web", |s| s.of("far").with(|s| s.annotations.re_evaluate = true));
        world.calm();
        assert_eq!(world.addresses("web"), ["203.0.113.1"]);
        assert!(!world.annotations("web").re_evaluate);
    }
}
