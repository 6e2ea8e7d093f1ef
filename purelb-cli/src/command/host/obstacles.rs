//! What on a machine works against PureLB.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::process::Command;

use purelb_core::host::{Family, Link, LinkIndex};
use purelb_core::link::{Policy, local_links};
use purelb_core::node::HostFacts;
use serde::Serialize;
use serde_json::Value;

/// The link on which kube-proxy in IPVS mode puts every Service address.
const IPVS: &str = "kube-ipvs0";

/// Something that works against PureLB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Obstacle {
    pub(super) kind: Kind,
    /// What there is, and what comes of it.
    pub(super) what: String,
    /// What to do about it.
    pub(super) mend: String,
}

/// The kinds of obstacle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) enum Kind {
    /// A firewall drops ARP.
    ArpDropped,
    /// An address of PureLB is on the machine a second time, put there by somebody else.
    Foreign,
    /// IPv4 or IPv6 packets are not forwarded.
    ForwardingOff,
    /// kube-proxy in IPVS mode makes every node answer ARP for every address.
    IpvsAnswers,
    /// The kernel keeps no mark on addresses: the agent tells its own by pool and interface.
    NoMark,
    /// Reverse-path filtering drops packets that come another way than answers go.
    ReversePathFilter,
}

/// Settings of a machine beside its links, addresses and routes.
#[derive(Clone, Debug, Default)]
pub(super) struct Tuning {
    /// `net.ipv4.conf.NAME.KEY`, for `all` and for each link, as the path below `conf`.
    conf: BTreeMap<String, i32>,
    /// `net.ipv4.ip_forward` and its like; absent where the kernel has not got the family.
    forwarding: BTreeMap<Family, bool>,
    /// What of the firewall drops ARP, in its own words.
    arp_drops: Vec<String>,
    /// The kernel's release, such as `6.1.0`.
    release: String,
}

impl Tuning {
    /// Reads the settings of this machine. What cannot be read counts as harmless.
    pub(super) fn read(facts: &HostFacts) -> Self {
        let number = |path: &str| -> Option<i32> {
            fs::read_to_string(format!("/proc/sys/net/{path}")).ok()?.trim().parse().ok()
        };
        let names = facts.links.iter().map(|link| link.name.as_str()).chain(["all"]);
        let keys =
            names.flat_map(|name| ["arp_ignore", "rp_filter"].map(|key| format!("{name}/{key}")));
        let conf = keys.filter_map(|key| Some((key.clone(), number(&format!("ipv4/conf/{key}"))?)));
        let forwarding = [
            (Family::V4, number("ipv4/ip_forward")),
            (Family::V6, number("ipv6/conf/all/forwarding")),
        ];
        Self {
            conf: conf.collect(),
            forwarding: forwarding
                .into_iter()
                .filter_map(|(family, value)| Some((family, value? != 0)))
                .collect(),
            arp_drops: arp_drops(),
            release: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default(),
        }
    }

    /// The setting that counts for a link: the higher of its own and that of `all`.
    fn effective(&self, link: &str, key: &str) -> i32 {
        let of = |name: &str| self.conf.get(&format!("{name}/{key}")).copied().unwrap_or_default();
        of(link).max(of("all"))
    }
}

/// Finds what works against PureLB, the worst first.
pub(super) fn find(facts: &HostFacts, policy: &Policy, tuning: &Tuning) -> Vec<Obstacle> {
    let local = |family| {
        let found = local_links(family, &facts.links, &facts.routes, policy);
        found.links.into_iter().filter_map(|index| by_index(facts, index)).collect::<Vec<_>>()
    };
    let cards = local(Family::V4);
    let mut found = Vec::new();
    found.extend(ipvs(facts, &cards, tuning));
    found.extend(foreign(facts));
    found.extend(tuning.arp_drops.iter().map(|rule| Obstacle {
        kind: Kind::ArpDropped,
        what: format!("the firewall drops ARP: {rule}"),
        mend: "Let ARP pass on the interfaces with local addresses".to_owned(),
    }));
    found.extend(forwarding(&local, tuning));
    found.extend(cards.iter().filter(|link| tuning.effective(&link.name, "rp_filter") == 1).map(
        |link| Obstacle {
            kind: Kind::ReversePathFilter,
            what: format!(
                "net.ipv4.conf.{}.rp_filter is strict (1): packets for an address on {} that come \
                 another way than the answer goes are dropped",
                link.name, policy.virtual_interface
            ),
            mend: "If clients reach addresses by more than one interface, set it to 2 (loose)".to_owned(),
        },
    ));
    if !tuning.release.is_empty() && !keeps_marks(&tuning.release) {
        found.push(Obstacle {
            kind: Kind::NoMark,
            what: format!(
                "this kernel ({}) keeps no mark on addresses (IFA_PROTO): PureLB runs, but takes for its \
                 own what lies inside a pool, is on an interface that it uses and looks as it would \
                 have put it there, and removes that if no Service has it",
                tuning.release.trim()
            ),
            mend: "Put no addresses of other programs into pools, or use Linux 5.18 or later".to_owned(),
        });
    }
    found
}

fn by_index(facts: &HostFacts, index: LinkIndex) -> Option<&Link> {
    facts.links.iter().find(|link| link.index == index)
}

fn ipvs(facts: &HostFacts, cards: &[&Link], tuning: &Tuning) -> Option<Obstacle> {
    facts.links.iter().find(|link| link.name == IPVS)?;
    let answering: Vec<&str> = cards
        .iter()
        .map(|link| link.name.as_str())
        .filter(|name| tuning.effective(name, "arp_ignore") == 0)
        .collect();
    (!answering.is_empty()).then(|| Obstacle {
        kind: Kind::IpvsAnswers,
        what: format!(
            "kube-proxy runs in IPVS mode and {} has arp_ignore 0: this machine answers ARP for every \
             Service address, elected or not",
            answering.join(", ")
        ),
        mend: "Set strictARP: true in the configuration of kube-proxy".to_owned(),
    })
}

/// Addresses of ours that somebody else has put on another link too.
fn foreign(facts: &HostFacts) -> Vec<Obstacle> {
    let ours: Vec<IpAddr> =
        facts.addresses.iter().filter(|address| address.is_ours()).map(|a| a.ip()).collect();
    let twins = facts.addresses.iter().filter(|address| {
        !address.is_ours() && ours.contains(&address.ip()) && facts.link_name(address.link) != IPVS
    });
    twins
        .map(|address| {
            let name = facts.link_name(address.link);
            Obstacle {
                kind: Kind::Foreign,
                what: format!("{} is on {name} too, put there by somebody else", address.net),
                mend: format!(
                    "Find out who, and take it off: ip addr del {} dev {name}",
                    address.net
                ),
            }
        })
        .collect()
}

fn forwarding<'a>(local: &impl Fn(Family) -> Vec<&'a Link>, tuning: &Tuning) -> Vec<Obstacle> {
    let off = tuning.forwarding.iter().filter(|(family, on)| !**on && !local(**family).is_empty());
    off.map(|(family, _)| {
        let key = match family {
            Family::V4 => "net.ipv4.ip_forward",
            Family::V6 => "net.ipv6.conf.all.forwarding",
        };
        Obstacle {
            kind: Kind::ForwardingOff,
            what: format!("{key} is 0: packets for a pod on another node go no further than here"),
            mend: format!("Set it on every node: sysctl -w {key}=1"),
        }
    })
    .collect()
}

/// Whether a kernel of this release keeps `IFA_PROTO`.
fn keeps_marks(release: &str) -> bool {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) >= (5, 18),
        _ => true,
    }
}

/// What of nftables drops ARP, if `nft` is there to tell.
fn arp_drops() -> Vec<String> {
    let listed = Command::new("nft").args(["-j", "list", "ruleset"]).output();
    let Ok(listed) = listed else { return Vec::new() };
    serde_json::from_slice(&listed.stdout).map(|ruleset| arp_drops_of(&ruleset)).unwrap_or_default()
}

/// Chains of family `arp` that drop by policy, and rules there that drop.
fn arp_drops_of(ruleset: &Value) -> Vec<String> {
    let items = ruleset["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
    let place = |item: &Value, chain: &str| {
        let word = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
        format!("table arp {}, chain {}", word("table"), word(chain))
    };
    let mut found = Vec::new();
    for item in items {
        let chain = &item["chain"];
        if chain["family"] == "arp" && chain["policy"] == "drop" {
            found.push(format!("{}: policy drop", place(chain, "name")));
        }
        let rule = &item["rule"];
        let drops = |statement: &Value| statement.get("drop").is_some();
        if rule["family"] == "arp"
            && rule["expr"].as_array().is_some_and(|all| all.iter().any(drops))
        {
            found.push(format!("{}: a rule that drops", place(rule, "chain")));
        }
    }
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use purelb_core::host::OUR_MARK;

    use super::super::tests::{address, facts, link};
    use super::*;

    fn kinds(facts: &HostFacts, tuning: &Tuning) -> Vec<Kind> {
        find(facts, &Policy::default(), tuning).iter().map(|obstacle| obstacle.kind).collect()
    }

    fn conf(key: &str, value: i32) -> Tuning {
        Tuning { conf: [(key.to_owned(), value)].into(), ..Tuning::default() }
    }

    #[test]
    fn ipvs_without_strict_arp_answers_for_every_address() {
        let mut facts = facts();
        facts.links.push(link(7, IPVS));
        assert_eq!(kinds(&facts, &Tuning::default()), [Kind::IpvsAnswers]);
        assert_eq!(kinds(&facts, &conf("all/arp_ignore", 1)), []);
        assert_eq!(kinds(&facts, &conf("eth0/arp_ignore", 1)), []);
    }

    #[test]
    fn an_address_of_ours_that_others_put_on_another_link_is_named() {
        let mut facts = facts();
        facts.addresses.push(address(3, "192.0.2.240/32", 0));
        assert_eq!(kinds(&facts, &Tuning::default()), [Kind::Foreign]);
        facts.addresses.push(address(3, "192.0.2.241/32", OUR_MARK));
        assert_eq!(kinds(&facts, &Tuning::default()), [Kind::Foreign], "ours is not foreign");
    }

    #[test]
    fn forwarding_matters_for_a_family_with_a_local_interface() {
        let off = |family| Tuning { forwarding: [(family, false)].into(), ..Tuning::default() };
        assert_eq!(kinds(&facts(), &off(Family::V4)), [Kind::ForwardingOff]);
        assert_eq!(kinds(&facts(), &off(Family::V6)), []);
    }

    #[test]
    fn strict_reverse_path_filtering_is_named_and_loose_is_not() {
        assert_eq!(kinds(&facts(), &conf("all/rp_filter", 1)), [Kind::ReversePathFilter]);
        assert_eq!(kinds(&facts(), &conf("eth0/rp_filter", 2)), []);
    }

    #[test]
    fn an_old_kernel_is_said_to_run_the_agent_and_to_cost_what_is_in_a_pool() {
        let old = Tuning { release: "5.10.0-28-amd64\n".to_owned(), ..Tuning::default() };
        let found = find(&facts(), &Policy::default(), &old);
        let [Obstacle { kind: Kind::NoMark, what, mend }] = &found[..] else { panic!("{found:?}") };
        assert!(what.contains("(5.10.0-28-amd64)") && what.contains("PureLB runs"), "{what}");
        assert!(what.contains("inside a pool") && mend.contains("pools"), "{what}: {mend}");
    }

    #[test]
    fn old_kernels_are_told_by_their_release() {
        for (release, keeps) in
            [("5.10.0-28-amd64", false), ("5.18.0", true), ("6.1.0-43-amd64", true), ("?", true)]
        {
            assert_eq!(keeps_marks(release), keeps, "{release}");
        }
    }

    #[test]
    fn a_firewall_that_drops_arp_is_found_by_policy_and_by_rule() {
        let ruleset = serde_json::json!({"nftables": [
            {"metainfo": {"json_schema_version": 1}},
            {"chain": {"family": "arp", "table": "filter", "name": "input", "policy": "drop"}},
            {"chain": {"family": "inet", "table": "filter", "name": "input", "policy": "drop"}},
            {"rule": {"family": "arp", "table": "t", "chain": "c", "expr": [{"drop": null}]}},
            {"rule": {"family": "arp", "table": "t", "chain": "d", "expr": [{"accept": null}]}},
        ]});
        assert_eq!(
            arp_drops_of(&ruleset),
            [
                "table arp filter, chain input: policy drop",
                "table arp t, chain c: a rule that drops"
            ]
        );
    }
}
