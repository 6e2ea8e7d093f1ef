//! The story of an agent.

use std::collections::BTreeMap;
use std::net::IpAddr;

use purelb_core::host::{Address, AddressKey, Link, Route};
use purelb_core::kernel::{ConfKey, KernelAction, Lifetime, NewAddress};
use purelb_core::lease::{Lease, LeaseContent, LeaseEvent, LeaseWrite, WriteResult};
use purelb_core::name::ServiceKey;
use purelb_core::node::{Action, ClusterAction, Event, NodeAgent, NodeNotice, Verdict};
use purelb_core::notice::{Level, Notice, Regarding};
use purelb_core::service::{Endpoints, Service};

use super::tale::{Kind, Line, Tale, change};
use crate::command::output::list;
use crate::report::story::decision;

/// What has been told of an agent.
#[derive(Debug, Default)]
pub struct Seen {
    verdicts: BTreeMap<IpAddr, Verdict>,
    lease: Option<LeaseContent>,
}

impl Tale for NodeAgent {
    type Seen = Seen;

    fn told(&self, event: &Event) -> Line {
        let told = |text: String| Line::new(Kind::Told, text);
        match event {
            Event::Addresses(event) => change(
                event,
                "addresses of this host",
                |address| told(shown(self, address)).of([address.ip()]),
                |key| told(format!("{} is gone", placed(self, key))).of([key.net.addr()]),
            ),
            Event::Agents(event) => change(
                event,
                "LBNodeAgents",
                |agent| told(format!("LBNodeAgent {}/{}", agent.name.0, agent.name.1)),
                |name| told(format!("LBNodeAgent {}/{} is gone", name.0, name.1)),
            ),
            Event::AnnounceFailed { service, error } => {
                told(format!("the annotations of {service} could not be written: {error}"))
                    .on([service.clone()])
            }
            Event::Endpoints(event) => change(
                event,
                "Services with endpoints",
                |ready| told(endpoints(ready)).on([ready.service.clone()]),
                |service| told(format!("{service} has no endpoints")).on([service.clone()]),
            ),
            Event::Groups(event) => change(
                event,
                "ServiceGroups",
                |group| told(format!("ServiceGroup {}", group.name)),
                |name| told(format!("ServiceGroup {name} is gone")),
            ),
            Event::Kernel(outcome) => {
                let action = kernel(self, &outcome.action);
                let line = match &outcome.result {
                    Ok(()) => told(format!("the kernel did: {action}")),
                    Err(error) => told(format!("the kernel did not: {action}: {error}")),
                };
                line.of(outcome.action.ip())
            }
            Event::Leases(event) => told(lease_event(event)),
            Event::Links(event) => change(
                event,
                "interfaces",
                |link| told(interface(link)),
                |index| told(format!("{index} is gone")),
            ),
            Event::Node(event) => change(
                event,
                "nodes",
                |node| told(format!("Node {}", node.name)),
                |name| told(format!("Node {name} is gone")),
            ),
            Event::Routes(event) => change(
                event,
                "routes",
                |to| told(route(self, to)),
                |to| told(format!("{} is gone", route(self, to))),
            ),
            Event::Services(event) => change(event, "Services", service, |key| {
                told(format!("Service {key} is gone")).on([key.clone()])
            }),
            Event::Sighted(sighting) => {
                let (ip, link) = (sighting.ip, self.link_name(sighting.link));
                told(format!("{} says on {link} that it has {ip}", sighting.mac)).of([ip])
            }
            Event::Slept => told("the host has slept".to_owned()),
            Event::Stop => told("the program is to stop".to_owned()),
        }
    }

    fn decided(&self, seen: &mut Seen) -> Vec<Line> {
        let news = new_verdicts(self, &mut seen.verdicts);
        let mut lines: Vec<Line> =
            news.into_iter().map(|(ip, verdict)| verdict_line(self, ip, verdict)).collect();
        seen.verdicts.retain(|ip, _| {
            let is_wanted = self.verdict(*ip).is_some();
            if !is_wanted {
                let text = format!("{ip}: no Service asks for it any more");
                lines.push(Line::new(Kind::Decides, text).of([*ip]));
            }
            is_wanted
        });
        lines
    }

    fn asked(&self, action: &Action, seen: &mut Seen) -> Line {
        match action {
            Action::Cluster(action) => cluster(action, seen),
            Action::Kernel(action) => Line::new(Kind::Does, kernel(self, action))
                .of(action.ip())
                .routine(is_routine(self, action)),
            Action::Notice(notice) => said(notice),
        }
    }
}

/// The verdicts that say something else than `before`, which is brought up to date.
pub(crate) fn new_verdicts<'a>(
    agent: &'a NodeAgent,
    before: &mut BTreeMap<IpAddr, Verdict>,
) -> Vec<(IpAddr, &'a Verdict)> {
    let is_news = |(ip, now): &(IpAddr, &Verdict)| {
        before.get(ip).is_none_or(|before| !before.says_the_same_as(now))
    };
    let news: Vec<_> = agent.verdicts().filter(is_news).collect();
    before.extend(news.iter().map(|(ip, verdict)| (*ip, (*verdict).clone())));
    news
}

/// What is true of a Service, told to any program.
pub(super) fn service(service: &Service) -> Line {
    let has = match service.ingress.as_slice() {
        [] => "no address".to_owned(),
        ips => list(ips),
    };
    Line::new(Kind::Told, format!("Service {}: {has}", service.key))
        .of(service.ingress.iter().copied())
        .on([service.key.clone()])
}

fn verdict_line(agent: &NodeAgent, ip: IpAddr, verdict: &Verdict) -> Line {
    let text = format!("{ip}: {}", decision(verdict, |link| agent.link_name(link)));
    let line = Line::new(Kind::Decides, text).of([ip]);
    let Some(view) = agent.view_of(ip) else { return line };
    let services = view.services.iter().cloned();
    let asked = format!("asked for by {}", list(&view.services));
    let mut why = match view.candidates.as_slice() {
        [] => asked,
        nodes => format!("{asked}; candidates, the winner first: {}", list(nodes)),
    };
    if view.is_narrowed {
        why.push_str("; only nodes with a ready endpoint");
    }
    line.on(services).because(why)
}

fn said(notice: &NodeNotice) -> Line {
    let services: Option<ServiceKey> = match notice.regarding() {
        Regarding::Service { key, .. } => Some(key),
        Regarding::Agent { .. } | Regarding::Node => None,
    };
    // What is withheld was told as a decision.
    let is_routine =
        notice.level() == Level::Debug || matches!(notice, NodeNotice::Withheld { .. });
    Line::new(Kind::Says, notice.to_string()).of(notice.ip()).on(services).routine(is_routine)
}

fn cluster(action: &ClusterAction, seen: &mut Seen) -> Line {
    let does = |text: String| Line::new(Kind::Does, text);
    match action {
        ClusterAction::Announce(announcement) => {
            let values = announcement.values.iter().map(|(family, value)| {
                format!("announcing-{family}={}", value.as_deref().unwrap_or_default())
            });
            does(format!("annotate {}: {}", announcement.service, list(values)))
                .on([announcement.service.clone()])
        }
        ClusterAction::ListLeases => does("list the leases".to_owned()),
        ClusterAction::UnwatchEndpoints => does("stop watching endpoints".to_owned()),
        ClusterAction::WatchEndpoints => does("watch endpoints".to_owned()),
        ClusterAction::WriteLease(LeaseWrite { attempt, content, .. }) => {
            let before = seen.lease.replace(content.clone());
            let is_renewal = before.is_some_and(|before| content.is_renewal_of(&before));
            does(format!("write the lease: {content}"))
                .because(format!("write {attempt}"))
                .routine(is_renewal)
        }
    }
}

fn kernel(agent: &NodeAgent, action: &KernelAction) -> String {
    let name = |link| agent.link_name(link);
    match action {
        KernelAction::AddAddress(NewAddress { link, net, lifetime, .. }) => {
            let verb = if is_shown(agent, &AddressKey { link: *link, net: *net }) {
                "prolong"
            } else {
                "add"
            };
            let lifetime = match lifetime {
                Lifetime::Forever => "for ever".to_owned(),
                Lifetime::Seconds(seconds) => format!("for {seconds} s"),
                Lifetime::Until(_) => "for as long as the lease holds".to_owned(),
            };
            format!("{verb} {net} on {} {lifetime}", name(*link))
        }
        KernelAction::Advertise { ip, link, .. } => {
            format!("tell the neighbours on {} where {ip} is", name(*link))
        }
        KernelAction::CreateVirtual { name, .. } => format!("make the interface {name}"),
        KernelAction::DeleteVirtual { link } => format!("delete the interface {}", name(*link)),
        KernelAction::Heed { ip, link } => {
            format!("listen on {} for others that have {ip}", name(*link))
        }
        KernelAction::Probe { ip, link } => format!("ask on {} who has {ip}", name(*link)),
        KernelAction::RemoveAddress(key) => format!("remove {}", placed(agent, key)),
        KernelAction::SetAlias { link, alias } => {
            format!("set the alias of {} to {alias:?}", name(*link))
        }
        KernelAction::SetConf { link, settings } => {
            let settings = settings.iter().map(|(key, value)| format!("{}={value}", sysctl(*key)));
            format!("set {} of {}", list(settings), name(*link))
        }
        KernelAction::Unheed { ip, link } => {
            format!("stop listening on {} for others that have {ip}", name(*link))
        }
    }
}

fn sysctl(key: ConfKey) -> &'static str {
    match key {
        ConfKey::ArpAnnounce => "arp_announce",
        ConfKey::ArpIgnore => "arp_ignore",
        ConfKey::PromoteSecondaries => "promote_secondaries",
    }
}

fn is_routine(agent: &NodeAgent, action: &KernelAction) -> bool {
    match action {
        KernelAction::AddAddress(new) => is_shown(agent, &new.key()),
        KernelAction::Advertise { .. }
        | KernelAction::Heed { .. }
        | KernelAction::Probe { .. }
        | KernelAction::Unheed { .. } => true,
        KernelAction::CreateVirtual { .. }
        | KernelAction::DeleteVirtual { .. }
        | KernelAction::RemoveAddress(_)
        | KernelAction::SetAlias { .. }
        | KernelAction::SetConf { .. } => false,
    }
}

fn is_shown(agent: &NodeAgent, key: &AddressKey) -> bool {
    agent.shown(key.net.addr()).any(|address| address.link == key.link && address.net == key.net)
}

fn placed(agent: &NodeAgent, key: &AddressKey) -> String {
    format!("{} on {}", key.net, agent.link_name(key.link))
}

fn shown(agent: &NodeAgent, address: &Address) -> String {
    let whose = if address.is_ours() { "" } else { ", not put there by PureLB" };
    let left = address.valid.map_or_else(String::new, |seconds| format!(" for {seconds} s"));
    let on = agent.link_name(address.link);
    format!("the kernel shows {} on {on}{left}{whose}", address.net)
}

fn endpoints(ready: &Endpoints) -> String {
    if ready.nodes.is_empty() {
        return format!("{} has no ready endpoint", ready.service);
    }
    format!("{} has ready endpoints on {}", ready.service, list(&ready.nodes))
}

fn interface(link: &Link) -> String {
    let state = match (link.up, link.carrier) {
        (false, _) => "down",
        (true, false) => "up, without carrier",
        (true, true) => "up",
    };
    format!("interface {} is {state}", link.name)
}

fn route(agent: &NodeAgent, route: &Route) -> String {
    let by = route.link.map_or_else(String::new, |link| format!(" by {}", agent.link_name(link)));
    let via = route.gateway.map_or_else(String::new, |gateway| format!(" via {gateway}"));
    let to = if route.destination.prefix_len() == 0 {
        "the default route".to_owned()
    } else {
        format!("the route to {}", route.destination)
    };
    format!("{to}{via}{by}, metric {}", route.metric)
}

fn lease_event(event: &LeaseEvent) -> String {
    let lease = |Lease { node, version, content, .. }: &Lease| {
        format!("the lease of {node} (version {version}): {content}")
    };
    match event {
        LeaseEvent::Bookmark(version) => format!("all lease changes up to version {version}"),
        LeaseEvent::Deleted { node, version } => {
            format!("the lease of {node} is deleted (version {version})")
        }
        LeaseEvent::Listed { leases, version } => {
            let nodes = leases.iter().map(|lease| &lease.node);
            format!("leases as of version {version}: {}", list(nodes))
        }
        LeaseEvent::Updated(updated) => lease(updated),
        LeaseEvent::Written { attempt, result } => match result {
            WriteResult::Accepted { version } => {
                format!("its lease was written ({attempt}): version {version}")
            }
            WriteResult::Conflict => {
                format!("its lease was not written ({attempt}): it is another one by now")
            }
            WriteResult::Unknown { error } => {
                format!("it is not known whether its lease was written ({attempt}): {error}")
            }
        },
    }
}
