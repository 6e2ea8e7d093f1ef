//! `purelb host`: what PureLB would make of this machine, without Kubernetes.

mod obstacles;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use purelb_core::config::{LocalInterface, MultipleDefaultRoutes};
use purelb_core::host::{Address, Family};
use purelb_core::link::{Policy, elect, local_links, subnets};
use purelb_core::node::HostFacts;
use serde::Serialize;

use super::output::{Output, Report, Table, list, verdict};
use obstacles::{Obstacle, Tuning};

/// Shows which interface of this machine would be the local one, and why; what PureLB has put on it;
/// and what on it works against PureLB
///
/// Reads links, addresses, routes and sysctls of this machine, changes nothing, and needs no
/// Kubernetes. Exit status: 0 if the interface is identified for every family that has a default
/// route or an override, and nothing works against PureLB; 1 otherwise; 2 for a wrong command line.
#[derive(Debug, Args)]
pub struct Host {
    /// As `localInterface` of an LBNodeAgent: `default`, or a regular expression over names
    #[arg(long, value_name = "REGEX", default_value = "default")]
    local_interface: String,
    /// As `interfaces` of an LBNodeAgent: names, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    interfaces: Vec<String>,
    /// As `multipleDefaultRoutes` of an LBNodeAgent
    #[arg(long, value_name = "RULE", value_enum, default_value_t)]
    multiple_default_routes: Many,
    /// As `dummyInterface` of an LBNodeAgent
    #[arg(long, value_name = "NAME", default_value = purelb_core::config::VIRTUAL_INTERFACE)]
    dummy_interface: String,
    #[command(flatten)]
    output: Output,
}

/// `multipleDefaultRoutes`, as the resource spells it.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Many {
    #[default]
    #[value(name = "VirtualInterface")]
    VirtualInterface,
    #[value(name = "SameInterface")]
    SameInterface,
    #[value(name = "LowestMetric")]
    LowestMetric,
}

/// Runs `purelb host`.
pub fn run(host: Host) -> ExitCode {
    let local_interface =
        match purelb_k8s::convert::lb_node_agent::local_interface(&host.local_interface) {
            Ok(local_interface) => local_interface,
            Err(error) => {
                eprintln!("purelb host: {error}");
                return ExitCode::from(2);
            }
        };
    let policy = Policy {
        local_interface,
        interfaces: host.interfaces,
        virtual_interface: host.dummy_interface,
        multiple_default_routes: match host.multiple_default_routes {
            Many::LowestMetric => MultipleDefaultRoutes::LowestMetric,
            Many::SameInterface => MultipleDefaultRoutes::SameInterface,
            Many::VirtualInterface => MultipleDefaultRoutes::VirtualInterface,
        },
    };
    let mirror = match purelb_netlink::snapshot() {
        Ok(mirror) => mirror,
        Err(error) => {
            eprintln!("purelb host: cannot read this machine's network: {error}");
            return ExitCode::FAILURE;
        }
    };
    let facts = HostFacts {
        links: mirror.links().cloned().collect(),
        addresses: mirror.addresses().cloned().collect(),
        routes: mirror.routes(),
    };
    let report = HostReport::judge(&facts, &policy, &Tuning::read(&facts));
    host.output.show(&report);
    verdict(report.is_fine())
}

/// What PureLB makes of a machine.
#[derive(Debug, Serialize)]
struct HostReport {
    families: Vec<FamilyReport>,
    ours: Vec<OursReport>,
    against: Vec<Obstacle>,
}

/// Interface election for one family.
#[derive(Debug, Serialize)]
struct FamilyReport {
    family: Family,
    /// The interfaces that may carry local addresses, the preferred one first.
    interfaces: Vec<InterfaceReport>,
    /// Why the local interface is not identified, if so.
    unidentified: Option<String>,
    /// Where an address of the local subnet goes instead, if the interface is not identified.
    instead: Option<String>,
}

#[derive(Debug, Serialize)]
struct InterfaceReport {
    name: String,
    /// By which rule it carries local addresses.
    why: String,
    /// Addresses in these are local here.
    subnets: Vec<String>,
    /// Whether it is up and has carrier: only then its subnets are served.
    is_operational: bool,
}

/// An address with our mark.
#[derive(Debug, Serialize)]
struct OursReport {
    address: String,
    interface: String,
    /// Seconds until the kernel removes it; absent: never.
    seconds_left: Option<u32>,
}

impl HostReport {
    fn judge(facts: &HostFacts, policy: &Policy, tuning: &Tuning) -> Self {
        let families = Family::BOTH.map(|family| FamilyReport::judge(family, facts, policy));
        let ours = facts.addresses.iter().filter(|address| address.is_ours());
        Self {
            families: families.into(),
            ours: ours.map(|address| OursReport::new(address, facts)).collect(),
            against: obstacles::find(facts, policy, tuning),
        }
    }

    /// A family without any default route is one that this machine does not use.
    fn is_fine(&self) -> bool {
        let is_used = |report: &&FamilyReport| report.instead.is_some();
        !self.families.iter().any(|report| is_used(&report))
            && self.families.iter().any(|report| report.unidentified.is_none())
            && self.against.is_empty()
    }
}

impl FamilyReport {
    fn judge(family: Family, facts: &HostFacts, policy: &Policy) -> Self {
        let found = local_links(family, &facts.links, &facts.routes, policy);
        let elected = elect(family, &facts.links, &facts.routes, policy).ok();
        let interfaces = found.links.iter().map(|index| {
            let link = facts.links.iter().find(|link| link.index == *index);
            InterfaceReport {
                name: facts.link_name(*index),
                why: match (&policy.local_interface, elected == Some(*index)) {
                    (LocalInterface::DefaultRoute, false) => "listed in interfaces".to_owned(),
                    (LocalInterface::DefaultRoute | LocalInterface::Matching(_), _) => {
                        policy.describe()
                    }
                },
                subnets: subnets(family, *index, &facts.addresses, &facts.routes)
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
                is_operational: link.is_some_and(|link| link.is_operational()),
            }
        });
        let is_ambiguous = found.unidentified.as_ref().is_some_and(|why| why.is_ambiguous());
        Self {
            family,
            interfaces: interfaces.collect(),
            unidentified: found.unidentified.as_ref().map(|why| why.describe(&facts.links)),
            instead: is_ambiguous.then(|| policy.virtual_interface.clone()),
        }
    }
}

impl OursReport {
    fn new(address: &Address, facts: &HostFacts) -> Self {
        Self {
            address: address.net.to_string(),
            interface: facts.link_name(address.link),
            seconds_left: address.valid,
        }
    }
}

impl Report for HostReport {
    fn print(&self, to: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(["FAMILY", "LOCAL INTERFACE", "SUBNETS", "WHY"]);
        for report in &self.families {
            if report.interfaces.is_empty() {
                let instead = report.instead.clone().map(|name| format!("none: {name} instead"));
                let family = report.family.to_string();
                let why = report.unidentified.clone().unwrap_or_default();
                table.row([family, instead.unwrap_or_default(), String::new(), why]);
            }
            if let (false, Some(why)) = (report.interfaces.is_empty(), &report.unidentified) {
                writeln!(to, "{}: {why}; listed interfaces serve.", report.family)?;
            }
            for interface in &report.interfaces {
                let state = if interface.is_operational { "" } else { " (down)" };
                table.row([
                    report.family.to_string(),
                    format!("{}{state}", interface.name),
                    list(&interface.subnets),
                    interface.why.clone(),
                ]);
            }
        }
        table.print(to)?;
        if !self.ours.is_empty() {
            writeln!(to)?;
            let mut table = Table::new(["OURS", "INTERFACE", "LIFETIME"]);
            for ours in &self.ours {
                let left = ours.seconds_left.map(|seconds| format!("{seconds}s"));
                let left = left.unwrap_or_else(|| "forever".to_owned());
                table.row([ours.address.clone(), ours.interface.clone(), left]);
            }
            table.print(to)?;
        }
        for obstacle in &self.against {
            writeln!(to, "\nAgainst PureLB: {}.", obstacle.what)?;
            writeln!(to, "  {}.", obstacle.mend)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use purelb_core::host::{
        AddressFlags, Link, LinkConf, LinkIndex, LinkKind, OUR_MARK, Route, RouteKind, Scope,
    };

    use super::*;

    pub(super) fn link(index: u32, name: &str) -> Link {
        Link {
            index: LinkIndex(index),
            name: name.to_owned(),
            mac: None,
            kind: LinkKind::Other,
            up: true,
            carrier: true,
            loopback: false,
            alias: String::new(),
            conf: LinkConf::default(),
        }
    }

    pub(super) fn address(link: u32, net: &str, mark: u8) -> Address {
        Address {
            link: LinkIndex(link),
            net: net.parse().unwrap(),
            broadcast: None,
            flags: AddressFlags::default(),
            scope: Scope::Global,
            mark,
            valid: (mark == OUR_MARK).then_some(3),
        }
    }

    pub(super) fn default_route(link: u32, gateway: &str) -> Route {
        Route {
            destination: "0.0.0.0/0".parse().unwrap(),
            kind: RouteKind::Unicast,
            link: Some(LinkIndex(link)),
            gateway: Some(gateway.parse().unwrap()),
            source: None,
            metric: 100,
            tos: 0,
            protocol: 3,
        }
    }

    pub(super) fn facts() -> HostFacts {
        HostFacts {
            links: vec![link(2, "eth0"), link(3, "eth1"), link(9, "kube-lb0")],
            addresses: vec![
                address(2, "192.0.2.11/24", 0),
                address(2, "192.0.2.240/24", OUR_MARK),
                address(3, "203.0.113.11/24", 0),
            ],
            routes: vec![default_route(2, "192.0.2.1")],
        }
    }

    fn text(report: &HostReport) -> String {
        let mut text = Vec::new();
        report.print(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn one_default_route_names_the_interface_and_the_rule() {
        let report = HostReport::judge(&facts(), &Policy::default(), &Tuning::default());
        assert_eq!(
            text(&report),
            "FAMILY  LOCAL INTERFACE  SUBNETS       WHY\n\
             IPv4    eth0             192.0.2.0/24  the default route leaves by it\n\
             IPv6    -                -             no IPv6 default route\n\
             \n\
             OURS            INTERFACE  LIFETIME\n\
             192.0.2.240/24  eth0       3s\n"
        );
        assert!(report.is_fine());
    }

    #[test]
    fn two_default_routes_are_named_and_are_not_fine() {
        let mut facts = facts();
        facts.routes.push(default_route(3, "203.0.113.1"));
        let report = HostReport::judge(&facts, &Policy::default(), &Tuning::default());
        let text = text(&report);
        assert!(text.contains("none: kube-lb0 instead"), "{text}");
        assert!(text.contains("default via 203.0.113.1 dev eth1 metric 100"), "{text}");
        assert!(!report.is_fine());
    }

    #[test]
    fn listed_interfaces_serve_beside_an_unidentified_one() {
        let mut facts = facts();
        facts.routes.push(default_route(3, "203.0.113.1"));
        let policy = Policy { interfaces: vec!["eth1".into()], ..Policy::default() };
        let report = HostReport::judge(&facts, &policy, &Tuning::default());
        assert_eq!(report.families[0].interfaces[0].name, "eth1");
        assert_eq!(report.families[0].interfaces[0].why, "listed in interfaces");
        assert!(!report.is_fine());
    }
}
