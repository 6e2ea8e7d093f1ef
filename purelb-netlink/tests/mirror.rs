//! The mirror against the kernel: after any sequence of changes, told of by notifications alone, it
//! holds what a fresh dump holds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod common;

use std::time::{Duration, Instant};

use common::{as_superuser, in_fresh_namespace, skip, try_ip};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use purelb_core::host::{Address, Family, Link, LinkConf, Route};
use purelb_core::store::Store;
use purelb_netlink::mirror::Mirror;
use purelb_netlink::{HostChange, Watch, snapshot};

/// What a machine would know from the facts alone.
#[derive(Default)]
struct Facts {
    links: Store<Link>,
    addresses: Store<Address>,
    routes: Store<Route>,
}

impl Facts {
    fn take(&mut self, change: HostChange) {
        match change {
            HostChange::Addresses(change) => drop(self.addresses.apply(change)),
            HostChange::Links(change) => drop(self.links.apply(change)),
            HostChange::Routes(change) => drop(self.routes.apply(change)),
            HostChange::Sighted(_) => {}
        }
    }

    /// A dump leaves out what stands between the siblings of an IPv6 route (`fib6_dump_node` goes
    /// from the first to the last). The mirror knows it.
    fn is_hidden_from_dumps(&self, route: &Route) -> bool {
        let siblings = self.routes.iter().filter(|one| {
            one.gateway.is_some()
                && (one.destination, one.metric) == (route.destination, route.metric)
        });
        route.family() == Family::V6 && route.gateway.is_none() && siblings.count() > 1
    }

    /// The first difference to a dump, if there is one.
    fn difference(&self, dump: &Mirror) -> Option<String> {
        // Seconds that are left pass.
        let timeless =
            |address: &Address| Address { valid: address.valid.map(|_| 0), ..address.clone() };
        let mut addresses: Vec<_> = dump.addresses().map(timeless).collect();
        addresses.sort_by_key(purelb_core::store::Object::key);
        let mut routes = dump.routes();
        let hidden: Vec<_> =
            self.routes.iter().filter(|route| self.is_hidden_from_dumps(route)).cloned().collect();
        routes.extend(hidden);
        routes.sort();
        routes.dedup();
        // Nobody is told of a sysctl that is written by hand, or of the alias of a link that is down.
        let unset = |link: &Link| {
            let alias = if link.up { link.alias.clone() } else { String::new() };
            Link { alias, conf: LinkConf::default(), ..link.clone() }
        };
        let links: [Vec<_>; 2] =
            [self.links.iter().map(unset).collect(), dump.links().map(unset).collect()];
        let known: Vec<_> = self.addresses.iter().map(timeless).collect();
        let known_routes: Vec<_> = self.routes.iter().cloned().collect();
        difference("links", &links[0], &links[1])
            .or_else(|| difference("addresses", &known, &addresses))
            .or_else(|| difference("routes", &known_routes, &routes))
    }
}

fn difference<T: PartialEq + std::fmt::Debug>(
    what: &str,
    known: &[T],
    there: &[T],
) -> Option<String> {
    let only = |one: &[T], other: &[T]| {
        one.iter().filter(|x| !other.contains(x)).map(|x| format!("\n  {x:?}")).collect::<String>()
    };
    let differ =
        || format!("{what}: known only:{}\n there only:{}", only(known, there), only(there, known));
    (known != there).then(differ)
}

/// Takes in facts until they equal a fresh dump.
async fn agree(watch: &mut Watch, facts: &mut Facts) -> Result<(), String> {
    let start = Instant::now();
    loop {
        while let Ok(change) = tokio::time::timeout(Duration::from_millis(1), watch.next()).await {
            facts.take(change.unwrap());
        }
        let Some(difference) = facts.difference(&snapshot().unwrap()) else { return Ok(()) };
        // Carrier and duplicate address detection change things by themselves.
        if start.elapsed() > Duration::from_secs(2) {
            return Err(difference);
        }
    }
}

/// Runs one command; most of the random ones fail, and that is as good.
fn run(command: &str) {
    match command.strip_prefix("sysctl ") {
        Some(setting) => {
            let (key, value) = setting.split_once('=').unwrap();
            let _ = std::fs::write(format!("/proc/sys/net/{key}"), value);
        }
        None => drop(try_ip(command)),
    }
}

async fn follows(commands: &[String], may_list_again: bool) -> Result<(), String> {
    run("sysctl ipv6/conf/default/accept_dad=0");
    for n in 0..3 {
        run(&format!("link add l{n} type veth peer name p{n}"));
        run(&format!("link set l{n} up"));
        run(&format!("link set p{n} up"));
        run(&format!("addr add 10.0.{n}.1/24 dev l{n}"));
        run(&format!("addr add 2001:db8:{n}::1/64 dev l{n} nodad"));
    }
    let mut watch = Watch::open().unwrap();
    let mut facts = Facts::default();
    agree(&mut watch, &mut facts).await?;
    for (number, command) in commands.iter().enumerate() {
        run(command);
        agree(&mut watch, &mut facts)
            .await
            .map_err(|difference| format!("after {number}, {command}: {difference}"))?;
    }
    match watch.listings() {
        listings if listings > 1 && !may_list_again => Err(format!("listed {listings} times")),
        _ => Ok(()),
    }
}

fn one_of(choices: &[&str]) -> impl Strategy<Value = String> + use<> {
    prop::sample::select(choices.iter().map(|&choice| choice.to_owned()).collect::<Vec<_>>())
}

/// A link up, down, or changed.
fn link_command() -> impl Strategy<Value = String> {
    (
        0..3_usize,
        one_of(&["up", "down", "down", "alias x", "arp off", "arp on", "mtu 1400"]),
        one_of(&["l", "l", "p"]),
    )
        .prop_map(|(n, what, side)| format!("link set {side}{n} {what}"))
}

fn link_life_command() -> impl Strategy<Value = String> {
    (
        0..3_usize,
        one_of(&[
            "link del lN",
            "link add lN type veth peer name pN",
            "link set lN up",
            "link set pN up",
            "link set lN down",
            "link set lN name mN",
            "link set mN name lN",
            "link add br type bridge",
            "link set lN master br",
            "link set lN nomaster",
            "link del br",
            "sysctl ipv6/conf/lN/disable_ipv6=1",
            "sysctl ipv6/conf/lN/disable_ipv6=0",
            "sysctl ipv6/conf/lN/keep_addr_on_down=1",
            "sysctl ipv4/conf/lN/promote_secondaries=1",
            "sysctl ipv4/conf/lN/ignore_routes_with_linkdown=1",
        ]),
    )
        .prop_map(|(n, command)| command.replace('N', &n.to_string()))
}

fn address_command() -> impl Strategy<Value = String> {
    let address = one_of(&[
        "10.0.N.1/24",
        "10.0.N.2/24",
        "10.0.N.3/32",
        "10.0.N.1/16",
        "192.0.2.9/24",
        "192.0.2.9 peer 192.0.2.10/32",
        "192.0.2.9 peer 192.0.2.11/32",
        "2001:db8:N::1/64",
        "2001:db8:N::2/64",
        "2001:db8:9::9/128",
        "fe80::9/64",
    ]);
    let verb = one_of(&["add", "del", "del", "replace"]);
    let options =
        one_of(&["", "", "noprefixroute", "valid_lft 100 preferred_lft 100", "nodad", "metric 7"]);
    (0..3_usize, verb, address, options).prop_map(|(n, verb, address, options)| {
        format!("addr {verb} {address} dev l{n} {options}").replace('N', &n.to_string())
    })
}

/// With `mixed`, also routes that need a gateway and others to one destination other than the default.
fn route_command(mixed: bool) -> impl Strategy<Value = String> {
    let verb = one_of(&[
        "add", "append", "append", "prepend", "replace", "replace", "change", "del", "del",
    ]);
    let v4 = (
        one_of(&["default", "default", "10.9.0.0/16", "10.0.0.0/24"]),
        one_of(&[
            "via 10.0.N.254 dev lN onlink",
            "via 10.0.N.253 dev lN onlink",
            "dev lN",
            "dev lN scope host",
            "via inet6 fe80::7 dev lN onlink",
            "nexthop via 10.0.N.254 dev lN onlink nexthop via 10.0.M.254 dev lM onlink",
            "nexthop via 10.0.N.254 dev lN onlink weight 3 nexthop dev lM",
            "nhid 1",
            "nhid 10",
        ]),
        one_of(&["", "", "src 10.0.0.1", "src 192.0.2.9", "mtu 1400", "proto dhcp", "tos 0x10"]),
    );
    let v6 = (
        one_of(&["-6 default", "-6 default", "-6 2001:db8:f::/48", "-6 2001:db8:1::/64"]),
        one_of(&[
            "via fe80::1 dev lN",
            "via fe80::2 dev lN",
            "dev lN",
            "nexthop via fe80::1 dev lN nexthop via fe80::2 dev lM",
            "nexthop via fe80::3 dev lN nexthop via fe80::1 dev lM nexthop via fe80::4 dev lM",
            "nhid 21",
            "nhid 20",
        ]),
        one_of(&["", "", "src 2001:db8:0::1", "src 2001:db8:9::9", "mtu 1400", "proto ra"]),
    );
    let rejected = one_of(&[
        "unreachable default",
        "blackhole default",
        "prohibit 10.9.0.0/16",
        "-6 unreachable default",
        "-6 blackhole 2001:db8:f::/48",
    ]);
    let shaped = prop_oneof![
        4 => v4.prop_map(|(to, hops, options)| format!("{to} {hops} {options}")),
        4 => v6.prop_map(|(to, hops, options)| format!("{to} {hops} {options}")),
        1 => rejected,
    ];
    let shaped = shaped.prop_filter("mixed", move |route| {
        let plain = route.contains("default") || !route.contains("via") && !route.contains("nhid");
        // What a dump hides of IPv6 is known for default routes only.
        (plain || mixed && !route.starts_with("-6")) && (mixed || !route.contains("proto ra"))
    });
    (0..3_usize, 0..3_usize, verb, shaped, one_of(&["", "", "metric 5", "metric 7"])).prop_map(
        |(n, m, verb, shaped, metric)| {
            let (family, rest) = match shaped.strip_prefix("-6 ") {
                Some(rest) => ("-6 ", rest),
                None => ("", shaped.as_str()),
            };
            let (kind, rest) = match rest.split_once(' ') {
                Some((kind @ ("unreachable" | "blackhole" | "prohibit"), rest)) => (kind, rest),
                _ => ("", rest),
            };
            // `ip` wants what concerns the whole route before the next hops.
            let (to, hops) = rest.split_once(' ').unwrap_or((rest, ""));
            let (to, hops) = (format!("{to} {metric}"), hops);
            format!("{family}route {verb} {kind} {to} {hops}")
                .replace('N', &n.to_string())
                .replace('M', &m.to_string())
        },
    )
}

fn nexthop_command() -> impl Strategy<Value = String> {
    (
        0..3_usize,
        one_of(&[
            "nexthop add id 1 via 10.0.N.254 dev lN onlink",
            "nexthop replace id 1 via 10.0.N.253 dev lN onlink",
            "nexthop add id 2 via 10.0.N.254 dev lN onlink",
            "nexthop add id 10 group 1/2",
            "nexthop replace id 10 group 1/2",
            "nexthop replace id 10 group 2",
            "nexthop add id 21 via fe80::1 dev lN",
            "nexthop add id 22 via fe80::2 dev lN",
            "nexthop add id 20 group 21/22",
            "nexthop del id 1",
            "nexthop del id 2",
            "nexthop del id 10",
            "nexthop del id 21",
            "nexthop del id 20",
            "route append default nhid 1 metric 9",
            "route append default nhid 10 metric 9",
            "-6 route append default nhid 20 metric 9",
            "-6 route append default nhid 21 metric 9",
        ]),
    )
        .prop_map(|(n, command)| command.replace('N', &n.to_string()))
}

fn holds(commands: impl Strategy<Value = String>, length: usize, may_list_again: bool) {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: 120,
        ..Config::with_cases(cases.unwrap_or(24))
    };
    let commands = prop::collection::vec(commands, 1..length);
    as_superuser(|| {
        if let Err(why) = in_fresh_namespace(async {}) {
            return skip(&why);
        }
        let result = TestRunner::new(config).run(&commands, |commands| {
            in_fresh_namespace(follows(&commands, may_list_again))
                .and_then(|result| result)
                .map_err(TestCaseError::fail)
        });
        if let Err(error) = result {
            panic!("{error}");
        }
    });
}

#[test]
fn the_mirror_follows_links_addresses_and_routes_without_a_dump() {
    holds(
        prop_oneof![2 => link_command(), 2 => address_command(), 5 => route_command(false)],
        40,
        false,
    );
}

#[test]
fn the_mirror_follows_links_that_come_and_go() {
    holds(
        prop_oneof![
            1 => link_command(),
            3 => link_life_command(),
            2 => address_command(),
            2 => route_command(false)
        ],
        40,
        // IPv6 disabled on a link says too little.
        true,
    );
}

#[test]
fn the_mirror_follows_routes_of_all_kinds() {
    holds(
        prop_oneof![1 => link_command(), 1 => address_command(), 8 => route_command(true)],
        40,
        true,
    );
}

#[test]
fn the_mirror_follows_nexthop_objects() {
    holds(
        prop_oneof![
            1 => link_command(),
            6 => nexthop_command(),
            2 => route_command(true),
            1 => link_life_command(),
        ],
        40,
        true,
    );
}
