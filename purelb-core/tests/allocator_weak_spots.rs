//! Every weak spot of the Go PureLB's allocator that concerns allocation, as a story that ends well.
//! The numbers are those of the fact sheet's list.

mod allocator_world;

use std::time::Duration;

use allocator_world::*;
use purelb_core::allocator::{IpamError, Notice};
use purelb_core::name::GroupName;
use purelb_core::service::Annotations;

const V4: &str = "192.0.2.100-192.0.2.103";
const V6: &str = "2001:db8::100-2001:db8::103";
const NONE: [&str; 0] = [];

#[test]
fn spot_01_containment_is_overlap_whichever_group_sorts_first() {
    let (wide, narrow) = (&["192.0.2.0/24"][..], &["192.0.2.100-192.0.2.110"][..]);
    for (first, second) in [(wide, narrow), (narrow, wide)] {
        let mut world = World::new();
        world.group(local("b", second));
        world.group(local("a", first));
        world.run();
        let refused = world.told.iter().filter(|line| line.contains("ParseFailed"));
        let refused: Vec<_> = refused.filter(|line| line.contains("of group a")).collect();
        assert_eq!(refused.len(), 1, "{:?}", world.told);
        assert!(refused[0].starts_with("group b:"));
    }
}

#[test]
fn spot_01_ranges_of_one_group_must_not_overlap_either() {
    let mut world = World::new();
    world.group(local("a", &["192.0.2.0/24", "192.0.2.7-192.0.2.9"]));
    world.run();
    assert!(world.told[0].contains("ParseFailed: spec.local.v4pools[1].pool overlaps"));
}

#[test]
fn spot_01_three_way_overlap_always_names_the_group_that_sorts_first() {
    let mut world = World::new();
    for name in ["c", "b", "a"] {
        world.group(local(name, &["192.0.2.0/28", "198.51.100.0/28"]));
    }
    world.restart();
    world.run();
    for line in world.told.iter().filter(|line| line.contains("ParseFailed")) {
        assert!(line.contains("of group a:"), "{line}");
    }
}

#[test]
fn spot_02_and_03_a_group_edit_between_write_and_watch_loses_no_assignment() {
    let mut world = World::with([local("default", &[V4])]);
    world.create("one", plain);
    // The write is asked for and carried out; the watch has not delivered it when the group changes.
    assert!(world.deliver());
    while let Some(action) = purelb_core::machine::Machine::poll_action(&mut world.allocator) {
        world.carry_out(action);
    }
    let late = std::mem::take(&mut world.facts);
    world.group(local("default", &[V4, V6]));
    world.create("two", plain);
    world.run();
    assert_eq!(world.addresses("two"), ["192.0.2.101"]);
    world.facts.extend(late);
    world.calm();
    assert_eq!(world.addresses("one"), ["192.0.2.100"]);
}

#[test]
fn spot_03_a_list_from_before_our_write_takes_nothing_back() {
    let mut world = World::with([local("default", &[V4])]);
    world.create("one", plain);
    world.relist();
    let stale = world.facts.pop_back().unwrap();
    world.run();
    world.facts.push_back(stale);
    world.create("two", plain);
    world.run();
    assert_eq!(world.addresses("one"), ["192.0.2.100"]);
    world.relist();
    world.calm();
    assert_eq!(world.addresses("two"), ["192.0.2.101"]);
    assert_eq!(world.addresses("one"), ["192.0.2.100"]);
}

#[test]
fn spot_04_two_services_found_with_one_address_are_parted_and_told() {
    let mut world = World::with([local("default", &[V4])]);
    world.create("b", |s| s.branded("default").shows(&["192.0.2.101"]));
    world.create("a", |s| s.shows(&["192.0.2.101"]));
    world.create("c", |s| s.branded("default").shows(&["192.0.2.101"]).on(&[80]));
    world.restart();
    world.calm();
    assert_eq!(world.addresses("b"), ["192.0.2.101"], "branded, and first by name");
    assert_eq!(world.addresses("a"), ["192.0.2.100"]);
    assert_eq!(world.addresses("c"), ["192.0.2.102"]);
    let told = world.told.iter().filter(|line| line.contains("AddressConflict")).count();
    assert_eq!(told, 2);
}

#[test]
fn spot_05_a_lost_annotation_is_repaired_and_the_address_stays() {
    let mut world = World::with([local("default", &[V4])]);
    world.create("web", plain);
    world.calm();
    for restart in [false, true] {
        world.edit("web", |s| s.with(|s| s.annotations = Annotations::default()));
        if restart {
            world.restart();
        }
        world.create(&format!("other{restart}"), plain);
        world.calm();
        assert_eq!(world.addresses("web"), ["192.0.2.100"]);
        assert!(world.services[&key("web")].is_branded());
        assert_eq!(world.annotations("web").allocated_from.as_deref(), Some("default"));
    }
}

#[test]
fn spot_05_a_brand_without_an_address_of_ours_gives_nothing() {
    let mut world =
        World::with([local("default", &[V4]), local("victim", &["203.0.113.1-203.0.113.9"])]);
    world.create("web", |s| s.branded("victim"));
    world.run();
    assert_eq!(world.addresses("web"), ["192.0.2.100"]);
    assert_eq!(world.annotations("web").allocated_from.as_deref(), Some("default"));
    world.edit("web", |s| s.with(|s| s.annotations.allocated_from = Some("victim".into())));
    world.calm();
    assert_eq!(world.annotations("web").allocated_from.as_deref(), Some("default"));
}

#[test]
fn spot_06_a_request_that_half_fails_gives_nothing_and_keeps_what_was_there() {
    let mut world = World::with([local("default", &[V4, V6])]);
    world.create("holder", |s| s.v6().asks("2001:db8::101"));
    world.create("new", |s| s.dual().asks("192.0.2.103,2001:db8::101"));
    world.run();
    assert_eq!(world.addresses("new"), NONE);
    world.create("third", |s| s.asks("192.0.2.103"));
    world.run();
    assert_eq!(world.addresses("third"), ["192.0.2.103"], "the first half was not kept");
}

#[test]
fn spot_07_the_late_end_of_a_service_frees_nothing_of_its_successor() {
    let mut world = World::with([local("default", &["192.0.2.100-192.0.2.100"])]);
    world.create("web", plain);
    world.run();
    // Deleted and created again between two looks: one change with another uid.
    world.services.remove(&key("web"));
    world.create("web", plain);
    world.create("waiting", plain);
    world.run();
    assert_eq!(world.addresses("web"), ["192.0.2.100"]);
    assert_eq!(world.addresses("waiting"), NONE);
}

#[test]
fn spot_09_each_group_counts_its_own_addresses_alone() {
    let mut world = World::with([local("a", &["192.0.2.1-192.0.2.9"]), remote("b", &[V6])]);
    world.create("web", |s| s.dual().asks("192.0.2.1,2001:db8::100"));
    world.calm();
    let (a, b) = (world.group_status("a"), world.group_status("b"));
    assert_eq!((a.allocated_v4, a.allocated_v6, a.available_v6), (1, 0, Some(0)));
    assert_eq!((b.allocated_v4, b.allocated_v6, b.available_v4), (0, 1, Some(0)));
    assert_eq!(
        world.annotations("web").pool_type.as_deref(),
        Some("local"),
        "of the first address"
    );
}

#[test]
fn spot_10_a_pinned_single_address_on_a_dual_stack_service_does_not_grow() {
    let mut world = World::with([local("default", &[V4, V6])]);
    world.create("web", |s| s.preferring_dual().asks("192.0.2.101"));
    world.calm();
    assert_eq!(world.addresses("web"), ["192.0.2.101"]);
    assert_eq!(world.patches.len(), 1);
    world.create("strict", |s| s.dual().asks("192.0.2.102"));
    world.calm();
    assert_eq!(world.addresses("strict"), NONE);
    assert!(world.refusal("strict").contains("no IPv6 address is asked for"));
}

#[test]
fn spot_10_a_sidecar_that_gives_one_family_of_two_is_not_asked_for_ever() {
    let mut world = World::new();
    let mut sidecar = Sidecar::of(&[]);
    sidecar.scripted = Some(ips(&["203.0.113.1"]));
    world.sidecars.insert("/run/far".into(), sidecar);
    world.group(external("far"));
    world.create("web", |s| s.of("far").preferring_dual());
    world.calm();
    assert_eq!(world.addresses("web"), ["203.0.113.1"]);
    let asked =
        world.sidecars["/run/far"].calls.iter().filter(|call| call.starts_with("Alloc")).count();
    assert_eq!(asked, 1);
}

#[test]
fn spot_10_an_address_shown_twice_is_put_right() {
    let mut world = World::with([local("default", &[V4])]);
    world.create("web", |s| s.branded("default").shows(&["192.0.2.101", "192.0.2.101"]));
    world.calm();
    assert_eq!(world.addresses("web"), ["192.0.2.101"]);
}

#[test]
fn spot_11_a_port_clash_in_a_64_is_found_at_once() {
    let mut world = World::with([local("default", &["2001:db8::/64"])]);
    world.create("a", |s| s.v6().shares("k").on(&[80]));
    world.create("b", |s| s.v6().shares("k").on(&[80]));
    world.run();
    assert!(world.refusal("b").contains("port TCP/80 on 2001:db8::1 already in use by ns/a"));
}

#[test]
fn spot_12_ranges_of_the_wrong_family_are_refused_with_their_field() {
    let mut group = local("default", &[V4]);
    if let purelb_core::group::GroupSpec::Local { pools, .. } = &mut group.kind {
        pools.v4[0].pool = "2001:db8::/64".into();
        pools.v4[0].subnet = "2001:db8::/64".into();
    }
    let mut world = World::new();
    world.group(group);
    world.run();
    assert!(world.told[0].contains("spec.local.v4pools[0].pool holds IPv6 addresses"));
}

#[test]
fn spot_12_a_service_without_families_gets_one_address_and_keeps_it() {
    for (ranges, address) in [(&[V4, V6][..], "192.0.2.100"), (&[V6][..], "2001:db8::100")] {
        let mut world = World::with([local("default", ranges)]);
        world.create("web", |s| s.with(|s| s.families.clear()));
        world.calm();
        world.relist();
        world.calm();
        assert_eq!(world.addresses("web"), [address]);
        assert_eq!(world.patches.len(), 1);
    }
}

#[test]
fn spot_13_a_service_that_is_not_ours_is_never_written() {
    let mut world = World::with([local("default", &[V4])]);
    world.create("cluster-ip", |s| s.with(|s| s.is_load_balancer = false));
    world.relist();
    world.calm();
    assert!(world.patches.is_empty());
}

#[test]
fn spot_14_a_change_of_type_frees_the_address_and_cleans_up() {
    let mut world = World::with([local("default", &[V4])]);
    world.create("web", plain);
    world.run();
    world.retype("web", false);
    world.create("next", plain);
    world.calm();
    assert_eq!(world.addresses("next"), ["192.0.2.100"]);
    let annotations = world.annotations("web");
    assert_eq!((&annotations.allocated_by, &annotations.allocated_from), (&None, &None));
    assert!(world.told.contains(
        &"ns/web: AddressReleased: released 192.0.2.100: the Service is no longer a LoadBalancer".to_owned()
    ));
    world.retype("web", true);
    world.calm();
    assert_eq!(world.addresses("web"), ["192.0.2.101"]);
}

#[test]
fn spot_14_a_change_of_type_seen_as_a_deletion_cleans_up_too() {
    let mut world = World::with([local("default", &[V4])]);
    world.create("web", plain);
    world.run();
    world.retype("web", false);
    world.facts.clear();
    world.facts.push_back(purelb_core::allocator::Event::Services(
        purelb_core::store::Change::Deleted(key("web")),
    ));
    world.run();
    assert!(!world.services[&key("web")].is_branded());
    assert!(world.told.last().unwrap().contains("AddressReleased"));
}

#[test]
fn spot_15_a_class_that_goes_with_the_type_does_not_hide_the_change() {
    let mut world = World::with([local("default", &[V4])]);
    world.settings.default_announcer = false;
    world.restart();
    world.create("web", |s| s.of_class("purelb.io/purelbv2"));
    world.run();
    assert_eq!(world.addresses("web"), ["192.0.2.100"]);
    world.retype("web", false);
    world.calm();
    assert!(!world.services[&key("web")].is_branded());
    assert!(!world.allocator.ledger().is_taken(ip("192.0.2.100")));
}

#[test]
fn spot_16_an_old_sharing_key_binds_nobody() {
    let mut world = World::with([local("default", &[V4])]);
    world.create("a", |s| s.shares("k").on(&[80]));
    world.run();
    world.edit("a", |s| s.unshared());
    world.create("b", |s| s.shares("k").on(&[81]));
    world.run();
    assert_eq!(world.addresses("a"), ["192.0.2.100"]);
    assert_eq!(world.addresses("b"), ["192.0.2.101"]);
}

#[test]
fn spot_17_a_port_taken_from_a_sharer_costs_the_taker_its_address() {
    let mut world = World::with([local("default", &[V4])]);
    world.create("a", |s| s.shares("k").on(&[80]));
    world.create("b", |s| s.shares("k").on(&[81]));
    world.run();
    world.edit("a", |s| s.on(&[81]));
    world.run();
    assert_eq!(world.addresses("b"), ["192.0.2.100"]);
    assert_eq!(world.addresses("a"), NONE);
    assert!(world.refusal("a").contains("port TCP/81 on 192.0.2.100 already in use by ns/b"));
    world.create("c", |s| s.shares("k").on(&[80]));
    world.run();
    assert_eq!(world.addresses("c"), ["192.0.2.100"], "the port that was left is free");
}

#[test]
fn spot_18_a_release_goes_to_the_sidecar_that_gave_whatever_the_annotation_says() {
    let mut world = World::new();
    world.sidecars.insert("/run/far".into(), Sidecar::of(&["203.0.113.1-203.0.113.9"]));
    world.sidecars.insert("/run/near".into(), Sidecar::of(&[]));
    world.group(external("far"));
    world.group(external("near"));
    world.create("web", |s| s.of("far"));
    world.run();
    world.edit("web", |s| s.with(|s| s.annotations.allocated_from = Some("near".into())));
    world.delete("web");
    world.calm();
    assert!(world.sidecars["/run/far"].given.is_empty());
    assert_eq!(world.sidecars["/run/near"].calls, ["Stats"]);
}

#[test]
fn spot_19_a_group_created_anew_gets_its_status_again() {
    let mut world = World::with([local("default", &[V4])]);
    world.calm();
    world.groups.remove(&GroupName::from("default"));
    world.group(local("default", &[V4]));
    world.calm();
    assert_eq!(world.group_status("default").available_v4, Some(4));
}

#[test]
fn spot_23_a_dead_sidecar_delays_nobody_else() {
    let mut world = World::new();
    let dead = Sidecar { hangs: true, ..Sidecar::default() };
    world.sidecars.insert("/run/dead".into(), dead);
    world.sidecars.insert("/run/far".into(), Sidecar::of(&["203.0.113.1-203.0.113.9"]));
    world.group(external("dead"));
    world.group(external("far"));
    world.group(local("default", &[V4]));
    world.create("a", |s| s.of("dead"));
    world.create("b", plain);
    world.create("c", |s| s.of("far"));
    world.run();
    assert_eq!(world.addresses("b"), ["192.0.2.100"]);
    assert_eq!(world.addresses("c"), ["203.0.113.1"]);
    world.delete("b");
    world.run();
    assert_eq!(world.sidecars["/run/dead"].calls, ["Stats", "Allocate for ns/a"]);
}

#[test]
fn spot_23_an_unavailable_sidecar_is_named_in_the_refusal() {
    let mut world = World::new();
    let dead = Sidecar { fails: Some(IpamError::Unavailable), ..Sidecar::default() };
    world.sidecars.insert("/run/dead".into(), dead);
    world.group(external("dead"));
    world.create("a", |s| s.of("dead"));
    world.pass(Duration::from_secs(5));
    assert_eq!(
        world.refusal("a"),
        "the sidecar of group dead gave no address: nobody answers on its socket"
    );
}

#[test]
fn spot_25_and_26_a_new_subnet_counts_at_once_and_however_it_is_written() {
    let group = local(
        "default",
        &["192.0.2.9-192.0.2.9@192.0.2.7/24", "2001:db8::9-2001:db8::9@2001:DB8:0::/64"],
    );
    let mut world = World::with([group.multi()]);
    world.create("web", |s| s.preferring_dual());
    world.run();
    assert_eq!(world.addresses("web"), NONE);
    world.subnets(&["192.0.2.0/24", "2001:db8::/64"]);
    world.run();
    assert_eq!(world.addresses("web"), ["192.0.2.9", "2001:db8::9"]);
}

#[test]
fn spot_21_and_22_the_gauges_follow_every_edit_of_a_group() {
    let mut world = World::with([local("default", &["192.0.2.100-192.0.2.109"])]);
    world.create("web", plain);
    world.calm();
    let last = |world: &World| {
        let mut usages = world.notices.iter().filter_map(|notice| match notice {
            Notice::Usage { group, usage } if group.as_str() == "default" => Some(*usage),
            Notice::Usage { .. } | Notice::Group { .. } | Notice::Service { .. } => None,
        });
        usages.next_back().flatten().map(|usage| (usage.v4.allocated, usage.v4.available))
    };
    assert_eq!(last(&world), Some((1, Some(9))));
    world.group(local("default", &["192.0.2.101-192.0.2.102"]));
    world.calm();
    assert_eq!(last(&world), Some((0, Some(2))));
    let status = world.group_status("default");
    assert_eq!((status.allocated_v4, status.available_v4), (0, Some(2)));
    world.delete_group("default");
    world.calm();
    assert_eq!(last(&world), None);
}

#[test]
fn spot_24_no_live_subnet_takes_nothing_from_a_multi_pool_service() {
    let mut world = World::with([local("default", &["192.0.2.8-192.0.2.9"]).multi()]);
    world.subnets(&["192.0.2.0/24"]);
    world.create("web", plain);
    world.calm();
    world.subnets(&[]);
    world.edit("web", |s| s.on(&[8080]));
    world.calm();
    world.restart();
    world.calm();
    assert_eq!(world.addresses("web"), ["192.0.2.8"]);
    assert_eq!(world.refusal("web"), "");
}

#[test]
fn spot_28_a_64_and_a_whole_family_have_their_exact_size() {
    let mut world =
        World::with([local("default", &["2001:db8::/64"]), remote("all", &["8000::/1@8000::/1"])]);
    world.create("web", |s| s.v6());
    world.calm();
    assert_eq!(world.group_status("default").available_v6, Some(i64::MAX));
    let sizes = world.notices.iter().filter_map(|notice| match notice {
        Notice::Usage { group, usage: Some(usage) } => Some((group.as_str(), usage.v6.available)),
        Notice::Group { .. } | Notice::Service { .. } | Notice::Usage { .. } => None,
    });
    let sizes: Vec<_> = sizes.collect();
    assert!(sizes.contains(&("default", Some((1 << 64) - 2))), "{sizes:?}");
    assert!(sizes.contains(&("all", Some((1 << 127) - 1))), "{sizes:?}");
}

#[test]
fn spot_29_a_reversed_range_is_refused() {
    let mut world = World::new();
    world.group(local("default", &["192.0.2.9-192.0.2.1"]));
    world.run();
    assert!(
        world.told[0].contains("ParseFailed: spec.local.v4pools[0].pool: the range is reversed")
    );
}

#[test]
fn spot_30_a_broken_group_is_not_reported_as_unknown() {
    let mut world = World::with([local("broken", &["192.0.2.9-192.0.2.1"])]);
    world.create("web", |s| s.of("broken"));
    world.create("typo", |s| s.of("brokn"));
    world.run();
    assert!(world.refusal("web").starts_with("group broken cannot be used:"));
    assert!(world.refusal("typo").starts_with("unknown pool \"brokn\""));
}

#[test]
fn spot_31_a_metric_label_is_never_what_a_tenant_wrote() {
    let mut world = World::with([local("default", &[V4])]);
    world.create("web", |s| s.of("made-up"));
    world.run();
    let refusal = world.allocator.refusal(&key("web")).unwrap();
    assert_eq!((refusal.metric_reason(), refusal.group()), ("unknown_pool", None));
}

#[test]
fn spot_32_an_assignment_is_told_once_and_after_it_is_written() {
    let mut world = World::with([local("default", &[V4])]);
    world.writes = Writes::Fail;
    world.create("web", plain);
    world.pass(Duration::from_secs(30));
    assert!(world.told.is_empty(), "{:?}", world.told);
    world.writes = Writes::Work;
    world.calm();
    assert_eq!(
        world.take_told(),
        ["ns/web: AddressAssigned: assigned 192.0.2.100 from group default"]
    );
}

#[test]
fn spot_33_an_absent_family_is_not_called_exhausted() {
    let mut world = World::with([local("default", &[V4])]);
    world.create("web", |s| s.v6());
    world.run();
    assert_eq!(world.allocator.refusal(&key("web")).unwrap().metric_reason(), "family_not_served");
}

#[test]
fn spot_36_an_allocation_is_counted_in_its_own_group_alone() {
    let mut world = World::with([local("default", &[V4]), local("other", &["198.51.100.0/24"])]);
    world.calm();
    world.notices.clear();
    world.statuses = 0;
    world.create("web", plain);
    world.calm();
    assert_eq!(world.statuses, 1);
    let is_other = |notice: &Notice| match notice {
        Notice::Usage { group, .. } | Notice::Group { group, .. } => group.as_str() == "other",
        Notice::Service { .. } => false,
    };
    assert!(!world.notices.iter().any(is_other), "{:?}", world.notices);
}

#[test]
fn spot_37_a_relist_of_many_services_writes_nothing() {
    let mut world = World::with([local("default", &["192.0.2.0/24"])]);
    for n in 0..100 {
        world.create(&format!("s{n}"), plain);
    }
    world.calm();
    let (patches, statuses) = (world.patches.len(), world.statuses);
    world.restart();
    world.calm();
    world.relist();
    world.calm();
    assert_eq!((world.patches.len(), world.statuses), (patches, statuses));
}

#[test]
fn spot_39_the_deletion_of_one_service_disturbs_no_other() {
    let mut world = World::with([local("default", &[V4])]);
    world.create("a", plain);
    world.create("b", plain);
    world.calm();
    let patches = world.patches.len();
    world.delete("a");
    world.calm();
    assert_eq!(world.patches.len(), patches);
}

#[test]
fn spot_40_a_start_with_many_services_refuses_none_and_writes_each_once() {
    let mut world = World::new();
    world.group(local("default", &["192.0.2.0/24"]));
    for n in 0..100 {
        world.create(&format!("s{n}"), plain);
    }
    world.restart();
    world.calm();
    assert_eq!(world.patches.len(), 100);
    assert!(!world.told.iter().any(|line| line.contains("Failed")), "{:?}", world.told);
}

#[test]
fn spot_42_knowing_a_sharing_key_opens_no_fence() {
    let red = local("red", &[V4]).for_namespaces(&["red"]).enforced();
    let mut world = World::with([local("default", &["198.51.100.0/24"]), red]);
    world.create("red/web", |s| s.shares("secret").on(&[80]));
    world.create("blue/guess", |s| s.shares("secret").on(&[81]));
    world.create("blue/named", |s| s.shares("secret").on(&[82]).of("red"));
    world.create("blue/asked", |s| s.shares("secret").on(&[83]).asks("192.0.2.100"));
    world.calm();
    assert_eq!(world.addresses("red/web"), ["192.0.2.100"]);
    assert_eq!(world.addresses("blue/guess"), ["198.51.100.1"]);
    for denied in ["blue/named", "blue/asked"] {
        assert_eq!(world.addresses(denied), NONE);
        assert!(world.refusal(denied).contains("kept for the namespaces it lists"));
    }
}

#[test]
fn spot_43_growth_obeys_the_rules_of_the_first_allocation() {
    let ranges = ["192.0.2.1-192.0.2.2", "198.51.100.1-198.51.100.9"];
    let mut world = World::with([remote("default", &ranges)]);
    world.create("pinned", |s| s.asks("198.51.100.5"));
    world.create("shared", |s| s.shares("k").on(&[80]));
    world.run();
    world.edit("pinned", |s| s.multi(true));
    world.edit("shared", |s| s.multi(true));
    world.calm();
    assert_eq!(world.addresses("pinned"), ["198.51.100.5"]);
    assert_eq!(world.addresses("shared"), ["192.0.2.1"]);
    assert!(world.refusal("shared").contains("mutually exclusive"));
}

#[test]
fn spot_44_requests_are_trimmed_counted_and_checked_against_the_families() {
    let mut world = World::with([local("default", &[V4, V6])]);
    world.create("trimmed", |s| s.dual().asks("192.0.2.101 , 2001:db8::101"));
    world.create("twice", |s| s.asks("192.0.2.102,192.0.2.102"));
    world.create("many", |s| s.asks("192.0.2.102,192.0.2.103"));
    world.create("family", |s| s.asks("2001:db8::102"));
    world.run();
    assert_eq!(world.addresses("trimmed"), ["192.0.2.101", "2001:db8::101"]);
    assert_eq!(world.refusal("twice"), "192.0.2.102 is asked for twice");
    assert_eq!(
        world.refusal("many"),
        "more than one IPv4 address is asked for: a Service has one of each family"
    );
    assert_eq!(
        world.refusal("family"),
        "2001:db8::102 is IPv6, which is not among the Service's ipFamilies"
    );
}

#[test]
fn spot_45_a_terminating_service_gets_nothing() {
    let mut world = World::with([local("default", &[V4])]);
    world.create("web", |s| s.with(|s| s.is_deleting = true));
    world.calm();
    assert_eq!((world.addresses("web").len(), world.patches.len()), (0, 0));
}

mod only_its_owner_ends_an_assignment {
    use super::*;

    fn held() -> World {
        let mut world = World::with([local("default", &[V4, V6])]);
        world.create("web", |s| s.dual());
        world.calm();
        world.take_told();
        world
    }

    fn stays(mut world: World) {
        for _ in 0..2 {
            world.calm();
            assert_eq!(world.addresses("web"), ["192.0.2.100", "2001:db8::100"]);
            assert!(world.services[&key("web")].is_branded());
            world.restart();
        }
    }

    #[test]
    fn shrinking_its_group_does_not() {
        let mut world = held();
        world.group(local("default", &["192.0.2.102-192.0.2.103", V6]));
        stays(world);
    }

    #[test]
    fn deleting_its_group_does_not() {
        let mut world = held();
        world.delete_group("default");
        stays(world);
    }

    #[test]
    fn breaking_its_group_does_not() {
        let mut world = held();
        world.group(local("default", &["192.0.2.9-192.0.2.1"]));
        stays(world);
    }

    #[test]
    fn another_group_that_takes_over_its_range_does_not() {
        let mut world = held();
        world.group(local("a-first", &[V4]));
        world.create("new", |s| s.of("a-first"));
        world.run();
        assert_eq!(world.addresses("new"), ["192.0.2.101"], "what is held is not given out again");
        stays(world);
    }

    #[test]
    fn renaming_the_group_in_the_annotation_does_not() {
        let mut world = held();
        world.edit("web", |s| s.of("elsewhere"));
        stays(world);
    }

    #[test]
    fn somebody_clearing_the_status_does_not() {
        let mut world = held();
        world.edit("web", |s| s.with(|s| s.ingress.clear()));
        stays(world);
    }
}
