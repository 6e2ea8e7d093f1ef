//! Every LoadBalancer Service, with its addresses and who announces them.

use std::fmt;
use std::io::{self, Write};
use std::net::IpAddr;

use purelb_core::announcement::Announcing;
use purelb_core::group::Announce;
use purelb_core::host::Family;
use purelb_core::service::Service;
use purelb_k8s::snapshot::Snapshot;
use serde::Serialize;

use super::engine::{Allocation, Engine};
use crate::command::output::{Report, Table, list};

/// A line for each address of each Service.
#[derive(Debug, Serialize)]
pub struct ServicesReport {
    /// The lines.
    pub services: Vec<ServiceLine>,
}

/// One address of a Service, or a Service without one.
#[derive(Clone, Debug, Serialize)]
pub struct ServiceLine {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The address.
    pub ip: Option<IpAddr>,
    /// The group that the address is from.
    pub group: Option<String>,
    /// `local` or `remote`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// For a local address the node and interface that has it, by the Service's annotation; for a
    /// remote one `every node`.
    pub announcing: Option<String>,
    /// The key under which the address is shared.
    pub sharing: Option<String>,
    /// How it stands.
    pub status: Standing,
    /// More of it, if something is not right.
    pub detail: Option<String>,
}

/// How an address, or a Service without one, stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Standing {
    /// All is as it should be.
    Ok,
    /// It asks for an address and has none.
    Pending,
    /// A local address that no node says it has.
    NoAnnouncer,
    /// The node that says it has the address has no live lease.
    AnnouncerUnhealthy,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "OK",
            Self::Pending => "PENDING",
            Self::NoAnnouncer => "NO-ANNOUNCER",
            Self::AnnouncerUnhealthy => "ANNOUNCER-UNHEALTHY",
        })
    }
}

/// Which lines to show.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this group.
    pub group: Option<String>,
    /// Announced by this node; remote addresses are announced by all.
    pub node: Option<String>,
    /// Of this address.
    pub ip: Option<IpAddr>,
    /// Those with something not right.
    pub problems: bool,
}

impl ServicesReport {
    /// Looks at every Service of ours.
    pub fn new(snapshot: &Snapshot, filter: &Filter) -> Self {
        Self::by(&Engine::new(snapshot), snapshot, filter)
    }

    /// The same, by an allocator that has been told already.
    pub fn by(engine: &Engine, snapshot: &Snapshot, filter: &Filter) -> Self {
        let mut services: Vec<ServiceLine> =
            snapshot.services.iter().flat_map(|service| lines(service, engine, snapshot)).collect();
        services.retain(|line| filter.admits(line));
        services.sort_by(|a, b| (&a.namespace, &a.name, a.ip).cmp(&(&b.namespace, &b.name, b.ip)));
        Self { services }
    }
}

impl Filter {
    fn admits(&self, line: &ServiceLine) -> bool {
        let is_on = |node: &str| match &line.announcing {
            Some(text) => text == EVERYWHERE || text.split(' ').next() == Some(node),
            None => false,
        };
        self.group.as_ref().is_none_or(|group| line.group.as_ref() == Some(group))
            && self.node.as_deref().is_none_or(is_on)
            && self.ip.is_none_or(|ip| line.ip == Some(ip))
            && (!self.problems || line.status != Standing::Ok)
    }
}

/// Who announces a remote address.
const EVERYWHERE: &str = "every node";

fn lines(service: &Service, engine: &Engine, snapshot: &Snapshot) -> Vec<ServiceLine> {
    let allocation = engine.allocation(service, snapshot);
    let why = match allocation {
        Allocation::NotOurs => return Vec::new(),
        Allocation::Complete => None,
        Allocation::Due(ips) => {
            Some(format!("it could have {}: is the allocator running?", list(ips)))
        }
        Allocation::Sidecar => Some("the sidecar of its group has not given an address".to_owned()),
        Allocation::Refused(refusal) => Some(refusal),
    };
    let line = |ip: Option<IpAddr>| ServiceLine {
        namespace: service.key.namespace.to_string(),
        name: service.key.name.to_string(),
        ip,
        group: service.annotations.allocated_from.clone(),
        kind: service.annotations.pool_type.clone(),
        announcing: None,
        sharing: service.annotations.sharing.as_ref().map(ToString::to_string),
        status: Standing::Ok,
        detail: None,
    };
    let mut lines: Vec<ServiceLine> = service
        .ingress
        .iter()
        .map(|ip| {
            let held = engine.held(service).iter().find(|held| held.ip == *ip);
            let group = held.and_then(|held| held.group.as_ref()).map(ToString::to_string);
            let mut line = ServiceLine { group, ..line(Some(*ip)) };
            judge(&mut line, *ip, service, snapshot);
            line
        })
        .collect();
    if let Some(why) = why {
        lines.push(ServiceLine { status: Standing::Pending, detail: Some(why), ..line(None) });
    }
    lines
}

fn judge(line: &mut ServiceLine, ip: IpAddr, service: &Service, snapshot: &Snapshot) {
    match Announcing::of(service, Family::of(ip)).slot(ip) {
        Some(slot) => {
            line.announcing = Some(format!("{} {}", slot.node, slot.interface));
            if !snapshot.live_leases().any(|lease| lease.node == slot.node) {
                line.status = Standing::AnnouncerUnhealthy;
                line.detail = Some(format!("{} has no live lease", slot.node));
            }
        }
        None if service.annotations.pool_type.as_deref() == Some(Announce::Remote.as_str()) => {
            line.announcing = Some(EVERYWHERE.to_owned());
        }
        None => {
            line.status = Standing::NoAnnouncer;
            line.detail = Some(format!("no node says that it has {ip}"));
        }
    }
}

impl Report for ServicesReport {
    fn print(&self, to: &mut dyn Write) -> io::Result<()> {
        if self.services.is_empty() {
            return writeln!(to, "There is no such Service.");
        }
        let mut table = Table::new([
            "NAMESPACE",
            "SERVICE",
            "IP",
            "GROUP",
            "TYPE",
            "ANNOUNCING",
            "SHARING",
            "STATUS",
        ]);
        for line in &self.services {
            table.row([
                line.namespace.clone(),
                line.name.clone(),
                line.ip.map(|ip| ip.to_string()).unwrap_or_default(),
                line.group.clone().unwrap_or_default(),
                line.kind.clone().unwrap_or_default(),
                line.announcing.clone().unwrap_or_default(),
                line.sharing.clone().unwrap_or_default(),
                line.status.to_string(),
            ]);
        }
        table.print(to)?;
        for line in self.services.iter().filter(|line| line.detail.is_some()) {
            let detail = line.detail.as_deref().unwrap_or_default();
            writeln!(to, "{}/{}: {detail}", line.namespace, line.name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{lease, objects, service, snapshot};
    use super::*;

    fn standings(objects: Vec<serde_json::Value>) -> Vec<(String, Standing)> {
        let report = ServicesReport::new(&snapshot(objects), &Filter::default());
        report.services.into_iter().map(|line| (line.name, line.status)).collect()
    }

    #[test]
    fn an_announced_local_address_and_a_remote_one_are_fine() {
        let fine = [("api".to_owned(), Standing::Ok), ("web".to_owned(), Standing::Ok)];
        assert_eq!(standings(objects()), fine);
    }

    #[test]
    fn one_without_an_address_is_pending_with_the_refusal() {
        let mut objects = objects();
        objects.push(service("new", None, "nowhere", "local", None));
        let report = ServicesReport::new(
            &snapshot(objects),
            &Filter { problems: true, ..Filter::default() },
        );
        assert_eq!(report.services[0].status, Standing::Pending);
        let detail = report.services[0].detail.clone().unwrap();
        assert!(detail.contains("nowhere"), "{detail}");
    }

    #[test]
    fn one_that_could_have_an_address_points_at_the_allocator() {
        let mut objects = objects();
        objects.push(service("new", None, "default", "local", None));
        let report = ServicesReport::new(
            &snapshot(objects),
            &Filter { problems: true, ..Filter::default() },
        );
        let detail = report.services[0].detail.clone().unwrap();
        assert!(detail.contains("192.0.2.241") && detail.contains("allocator"), "{detail}");
    }

    #[test]
    fn a_local_address_that_nobody_has_and_one_of_a_dead_node_are_told_apart() {
        let mut nobody = objects();
        nobody.push(service("web", Some("192.0.2.240"), "default", "local", None));
        assert!(standings(nobody).contains(&("web".to_owned(), Standing::NoAnnouncer)));
        let mut dead = objects();
        dead.push(lease("n1", "2026-11-25T11:59:00Z"));
        assert!(standings(dead).contains(&("web".to_owned(), Standing::AnnouncerUnhealthy)));
    }
}
