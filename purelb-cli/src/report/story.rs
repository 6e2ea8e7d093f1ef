//! The chain of facts behind each address of a Service: which group and why, which node and why, which
//! interface and why, and what the kernel shows.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::net::IpAddr;

use purelb_core::allocator::{Catalog, Provenance};
use purelb_core::group::Announce;
use purelb_core::host::{Family, LinkIndex};
use purelb_core::link::Policy;
use purelb_core::name::{NodeName, ServiceKey};
use purelb_core::node::{Verdict, View};
use purelb_core::place::Virtual;
use purelb_core::service::{FamilyPolicy, Service, TrafficPolicy};
use purelb_k8s::snapshot::Snapshot;
use serde::Serialize;

use super::election;
use super::engine::{Allocation, Engine};
use super::place::{NoCandidate, Place, nodes};
use crate::command::output::{Report, list};

/// What the agents that were asked know and have decided, or why one did not say.
pub type Views = BTreeMap<NodeName, Result<View, String>>;

/// A Service and the facts behind its addresses.
#[derive(Debug, Serialize)]
pub struct Story {
    /// The Service.
    pub service: String,
    /// What it asks for: families, policies.
    pub asks: String,
    /// Which group its next address would be from and why, or why it would get none.
    pub group: String,
    /// The nodes with a ready endpoint of it.
    pub endpoints: Vec<NodeName>,
    /// How it stands with the allocator, if not everything is in order.
    pub lacks: Option<String>,
    /// Its addresses.
    pub addresses: Vec<AddressStory>,
    #[serde(skip)]
    is_brief: bool,
}

/// An address and the facts behind it.
#[derive(Debug, Serialize)]
pub struct AddressStory {
    /// The address.
    pub ip: IpAddr,
    /// Where it is from.
    pub from: String,
    /// Other Services that have it too.
    pub shared_with: Vec<String>,
    /// Where it belongs by the leases.
    pub place: Place,
    /// The nodes that are no candidates, each with the reason.
    pub others: Vec<Other>,
    /// Who says that it announces it, as `node interface`.
    pub announced: Option<String>,
    #[serde(skip)]
    announcer: Option<NodeName>,
    /// Whether that is who should.
    pub matches: bool,
    /// What nodes that were asked say of it.
    pub hosts: Vec<HostStory>,
}

/// A node that is no candidate.
#[derive(Debug, Serialize)]
pub struct Other {
    /// The node.
    pub node: NodeName,
    /// Why not.
    pub why: String,
}

/// What a node says of an address.
#[derive(Debug, Serialize)]
pub struct HostStory {
    /// The node.
    pub node: NodeName,
    /// The facts, a sentence each.
    pub facts: Vec<String>,
}

impl Story {
    /// Tells of the Service `key`; `None` if there is no such LoadBalancer.
    pub fn new(key: &ServiceKey, snapshot: &Snapshot) -> Option<Self> {
        let service = snapshot.services.iter().find(|service| service.key == *key)?;
        let engine = Engine::new(snapshot);
        let held = engine.held(service);
        let ips = if held.is_empty() {
            service.ingress.clone()
        } else {
            held.iter().map(|held| held.ip).collect()
        };
        Some(Self {
            service: key.to_string(),
            asks: asks(service),
            group: group(service, engine.allocator().catalog()),
            endpoints: snapshot.endpoint_nodes(key).into_iter().collect(),
            lacks: lacks(service, engine.allocation(service, snapshot)),
            addresses: ips
                .into_iter()
                .filter(|ip| service.ingress.contains(ip))
                .map(|ip| address(ip, service, snapshot, &engine))
                .collect(),
            is_brief: false,
        })
    }

    /// The nodes that should have, or say that they have, an address of it.
    pub fn concerned(&self) -> BTreeSet<NodeName> {
        let of =
            |address: &AddressStory| [address.place.winner().cloned(), address.announcer.clone()];
        self.addresses.iter().flat_map(of).flatten().collect()
    }

    /// With what the agents of these nodes say of each address.
    #[must_use]
    pub fn told_by(mut self, views: &Views) -> Self {
        for address in &mut self.addresses {
            let ip = address.ip;
            let tell = |(node, view): (&NodeName, &Result<View, String>)| HostStory {
                node: node.clone(),
                facts: match view {
                    Ok(view) => facts(ip, view),
                    Err(why) => vec![format!("not known: {why}")],
                },
            };
            address.hosts = views.iter().map(tell).collect();
        }
        self
    }

    /// Without reasons, when printed for people.
    #[must_use]
    pub fn brief(self) -> Self {
        Self { is_brief: true, ..self }
    }

    /// Whether the Service has all it asks for, and every address is announced by whom it should be.
    pub fn is_fine(&self) -> bool {
        self.lacks.is_none() && self.addresses.iter().all(|address| address.matches)
    }
}

fn asks(service: &Service) -> String {
    let families = match service.families.is_empty() {
        true => "any family".to_owned(),
        false => list(&service.families),
    };
    let policy = match service.family_policy {
        FamilyPolicy::PreferDualStack => ", PreferDualStack",
        FamilyPolicy::RequireDualStack => ", RequireDualStack",
        FamilyPolicy::SingleStack => "",
    };
    let traffic = match service.traffic_policy {
        TrafficPolicy::Cluster => "",
        TrafficPolicy::Local => ", externalTrafficPolicy Local: for nodes with a ready endpoint",
    };
    let wish = service.annotations.addresses.as_ref().or(service.load_balancer_ip.as_ref());
    let wish = wish.map(|ips| format!(", the addresses {ips}")).unwrap_or_default();
    format!("{families}{policy}{wish}{traffic}")
}

fn group(service: &Service, catalog: &Catalog) -> String {
    match catalog.choose(service) {
        Err(refusal) => format!("none: {refusal}"),
        Ok(choice) => {
            let why = match choice.why {
                Provenance::Ambiguous { groups } => {
                    format!("several list the namespace and none is its default: {}", list(groups))
                }
                Provenance::Annotation => {
                    "the annotation purelb.io/service-group names it".to_owned()
                }
                Provenance::Default => "nothing names another".to_owned(),
                Provenance::Namespace => {
                    format!("it is that of namespace {}", service.key.namespace)
                }
            };
            format!("{}: {why}", choice.group.name)
        }
    }
}

fn lacks(service: &Service, allocation: Allocation) -> Option<String> {
    match allocation {
        Allocation::Complete => None,
        Allocation::NotOurs => Some(match &service.class {
            Some(class) => format!("its loadBalancerClass is {class}, somebody else's"),
            None => "it has no loadBalancerClass, and no allocator here serves such Services: \
                     DEFAULT_ANNOUNCER=PureLB is not set in its pod"
                .to_owned(),
        }),
        Allocation::Due(ips) => {
            Some(format!("it could have {}, which the allocator has not written", list(ips)))
        }
        Allocation::Sidecar => Some("the sidecar of its group has not given an address".to_owned()),
        Allocation::Refused(why) => Some(why),
    }
}

fn address(ip: IpAddr, service: &Service, snapshot: &Snapshot, engine: &Engine) -> AddressStory {
    let catalog = engine.allocator().catalog();
    let has = |other: &&Service| other.ingress.contains(&ip);
    let services: Vec<&Service> = snapshot.services.iter().filter(has).collect();
    let live: Vec<_> = snapshot.live_leases().collect();
    let place = Place::of(ip, &services, catalog, &live);
    let others = match &place {
        Place::EveryNode => Vec::new(),
        Place::Elected { .. } | Place::Nobody { .. } => nodes(snapshot)
            .into_iter()
            .filter_map(|node| {
                let why = NoCandidate::of(&node, ip, &place, snapshot)?.to_string();
                Some(Other { node, why })
            })
            .collect(),
    };
    let slot = election::slot(service, ip);
    let matches = match &place {
        Place::Elected { candidates, .. } => {
            slot.as_ref().map(|slot| &slot.node) == candidates.first()
        }
        Place::EveryNode => true,
        Place::Nobody { .. } => false,
    };
    let others_of = services.iter().filter(|other| other.key != service.key);
    AddressStory {
        ip,
        from: from(ip, service, catalog),
        shared_with: others_of.map(|other| other.key.to_string()).collect(),
        place,
        others,
        announced: slot.as_ref().map(|slot| format!("{} {}", slot.node, slot.interface)),
        announcer: slot.map(|slot| slot.node),
        matches,
        hosts: Vec::new(),
    }
}

fn from(ip: IpAddr, service: &Service, catalog: &Catalog) -> String {
    match catalog.find(ip) {
        Some((group, pool)) => {
            let kind = match group.announce {
                Announce::Local => "local",
                Announce::Remote => "remote",
            };
            format!("{} of ServiceGroup {} ({kind})", pool.text, group.name)
        }
        None => match &service.annotations.allocated_from {
            Some(group) => {
                format!("ServiceGroup {group}, which no longer has it in a range: it stays")
            }
            None => "no ServiceGroup".to_owned(),
        },
    }
}

/// What an agent decided of an address; `name` is that of a link.
pub fn decision(verdict: &Verdict, name: impl Fn(LinkIndex) -> String) -> String {
    match verdict {
        Verdict::Local { link, net, .. } => format!("{net} on {}, having won it", name(*link)),
        Verdict::Virtual { net, why: Virtual::Remote } => {
            format!("{net} on the virtual interface, as its group is remote")
        }
        Verdict::Virtual { net, why: Virtual::Unidentified } => {
            format!("{net} on the virtual interface, as the local one is not identified")
        }
        Verdict::Withheld(why) => format!("not here: {why}"),
    }
}

/// What an agent says of an address.
fn facts(ip: IpAddr, view: &View) -> Vec<String> {
    let mut facts = Vec::new();
    let family = Family::of(ip);
    let name = |link| view.host.link_name(link);
    for local in view.local.iter().filter(|local| local.family == family) {
        let by = |spec| Policy::from(spec).describe();
        let rule = view.config.as_ref().and_then(|config| config.spec.as_ref().ok()).map(by);
        for (n, (link, subnets)) in local.links.iter().enumerate() {
            let why = match (&local.unidentified, n, &rule) {
                (None, 0, Some(rule)) => format!("is the local interface for {family}: {rule}"),
                _ => "is listed in interfaces".to_owned(),
            };
            let serves = if subnets.is_empty() { "no subnet".to_owned() } else { list(subnets) };
            facts.push(format!("{} {why}; it serves {serves}", name(*link)));
        }
        if let Some(why) = &local.unidentified {
            let why = why.describe(&view.host.links);
            facts.push(format!("the local interface for {family} is not identified: {why}"));
        }
    }
    let Some(address) = view.addresses.iter().find(|address| address.ip == ip) else {
        facts.push("its agent does not know that a Service asks for this address".to_owned());
        return facts;
    };
    facts.push(match &address.verdict {
        None => "its agent has not listed everything yet, and decides nothing".to_owned(),
        Some(verdict) => format!("decided: {}", decision(verdict, name)),
    });
    if address.shown.is_empty() {
        facts.push("the kernel shows it on no interface".to_owned());
    }
    for shown in &address.shown {
        let left = match shown.valid {
            Some(seconds) => format!("for {seconds} s more unless prolonged"),
            None => "for ever".to_owned(),
        };
        let whose = if shown.is_ours() { "" } else { ", not put there by PureLB" };
        facts.push(format!(
            "the kernel shows {} on {}, {left}{whose}",
            shown.net,
            name(shown.link)
        ));
    }
    facts
}

impl Report for Story {
    fn print(&self, to: &mut dyn Write) -> io::Result<()> {
        writeln!(to, "{} asks for {}", self.service, self.asks)?;
        writeln!(to, "  group      {}", self.group)?;
        if !self.endpoints.is_empty() {
            writeln!(to, "  endpoints  on {}", list(&self.endpoints))?;
        }
        if let Some(lacks) = &self.lacks {
            writeln!(to, "  lacks      {lacks}")?;
        }
        for address in &self.addresses {
            address.print(to, self.is_brief)?;
        }
        Ok(())
    }
}

impl AddressStory {
    fn print(&self, to: &mut dyn Write, is_brief: bool) -> io::Result<()> {
        writeln!(to, "\n{}", self.ip)?;
        writeln!(to, "  from       {}", self.from)?;
        if !self.shared_with.is_empty() {
            writeln!(to, "  shared     with {}", list(&self.shared_with))?;
        }
        match &self.place {
            Place::Elected { candidates, by_listing } => {
                let winner = list(candidates.first());
                let among = if *by_listing {
                    "that list it, having ready endpoints"
                } else {
                    "that serve a subnet with it"
                };
                writeln!(to, "  node       {winner}, of the nodes {among}: {}", list(candidates))?;
                if !is_brief {
                    writeln!(to, "             the lowest SHA-256 of NODE#{} wins", self.ip)?;
                }
            }
            Place::EveryNode => {
                writeln!(
                    to,
                    "  node       every one, on the virtual interface: routers learn it there"
                )?;
            }
            Place::Nobody { why } => writeln!(to, "  node       nobody: {why}")?,
        }
        for other in self.others.iter().filter(|_| !is_brief) {
            writeln!(to, "             not {}: {}", other.node, other.why)?;
        }
        let verdict = match (&self.announced, &self.place) {
            (Some(who), _) if self.matches => format!("by {who}, as it should be"),
            (Some(who), Place::Elected { .. }) => {
                format!("by {who}, which is not the node elected")
            }
            (Some(who), Place::EveryNode) => format!("by {who}"),
            (Some(who), Place::Nobody { .. }) => format!("by {who}, though nobody should"),
            (None, Place::EveryNode) => "by every node".to_owned(),
            (None, Place::Elected { .. } | Place::Nobody { .. }) => "by nobody".to_owned(),
        };
        writeln!(to, "  announced  {verdict}")?;
        for host in &self.hosts {
            for (n, fact) in host.facts.iter().enumerate() {
                let head = if n == 0 { format!("on {}", host.node) } else { String::new() };
                writeln!(to, "  {head:9}  {fact}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::{objects, service, snapshot};
    use super::*;

    fn told(objects: Vec<serde_json::Value>, name: &str) -> (String, bool) {
        let story = Story::new(&ServiceKey::new("shop", name), &snapshot(objects)).unwrap();
        let mut text = Vec::new();
        story.print(&mut text).unwrap();
        (String::from_utf8(text).unwrap(), story.is_fine())
    }

    #[test]
    fn a_local_address_has_its_whole_chain() {
        let (text, is_fine) = told(objects(), "web");
        assert_eq!(
            text,
            "shop/web asks for IPv4\n\
             \x20 group      default: the annotation purelb.io/service-group names it\n\
             \n\
             192.0.2.240\n\
             \x20 from       192.0.2.240-192.0.2.241 of ServiceGroup default (local)\n\
             \x20 node       n1, of the nodes that serve a subnet with it: n1\n\
             \x20            the lowest SHA-256 of NODE#192.0.2.240 wins\n\
             \x20            not n2: its lease ran out 3597 s ago\n\
             \x20 announced  by n1 eth0, as it should be\n"
        );
        assert!(is_fine);
    }

    #[test]
    fn a_remote_address_is_on_every_node() {
        let (text, is_fine) = told(objects(), "api");
        assert!(text.contains("node       every one"), "{text}");
        assert!(is_fine);
    }

    #[test]
    fn a_service_without_an_address_has_the_reason() {
        let mut objects = objects();
        objects.push(service("new", None, "nowhere", "local", None));
        let (text, is_fine) = told(objects, "new");
        assert!(text.contains("group      none: ") && text.contains("nowhere"), "{text}");
        assert!(text.contains("lacks      "), "{text}");
        assert!(!is_fine);
    }

    #[test]
    fn a_node_kept_away_and_one_without_endpoints_are_told_apart() {
        let mut objects = objects();
        objects.push(json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "n2", "uid": "n2"},
            "spec": {"taints": [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]},
        }));
        let (text, _) = told(objects, "web");
        assert!(text.contains("not n2: the node is tainted"), "{text}");
    }

    #[test]
    fn what_a_node_that_was_asked_does_not_say_is_told() {
        let views = Views::from([("n1".into(), Err("kubectl exec failed".to_owned()))]);
        let story = Story::new(&ServiceKey::new("shop", "web"), &snapshot(objects())).unwrap();
        assert_eq!(story.concerned(), BTreeSet::from(["n1".into()]));
        let story = story.told_by(&views);
        assert_eq!(story.addresses[0].hosts[0].facts, ["not known: kubectl exec failed"]);
        assert!(Story::new(&ServiceKey::new("shop", "no"), &snapshot(objects())).is_none());
    }
}
