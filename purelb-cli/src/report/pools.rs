//! How full the pools are.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::IpAddr;

use purelb_core::allocator::Held;
use purelb_core::group::{Announce, Group, Source};
use purelb_core::host::Family;
use purelb_core::service::Service;
use purelb_k8s::snapshot::Snapshot;
use serde::Serialize;

use super::engine::Engine;
use crate::command::output::{Report, Table, list};

/// Every range of every group.
#[derive(Debug, Serialize)]
pub struct PoolsReport {
    /// The ranges, by group and in their order there; an external group is one entry.
    pub pools: Vec<PoolReport>,
    /// Groups that cannot be used.
    pub refused: Vec<RefusedGroup>,
}

/// A range.
#[derive(Clone, Debug, Serialize)]
pub struct PoolReport {
    /// Its group.
    pub group: String,
    /// `Local` or `Remote`.
    pub announce: String,
    /// As written; for an external group, its provider.
    pub range: String,
    /// The subnet; none for an external group.
    pub subnet: Option<String>,
    /// The family; none for an external group, which may have both.
    pub family: Option<Family>,
    /// Addresses of the range, as text since there may be more than a number holds; none where only
    /// a sidecar knows.
    pub size: Option<String>,
    /// Addresses that Services have; one that is shared counts once.
    pub used: String,
    /// The Services that have them, if asked for.
    pub services: Vec<String>,
}

/// A group that cannot be used.
#[derive(Clone, Debug, Serialize)]
pub struct RefusedGroup {
    /// Its name.
    pub group: String,
    /// Why not.
    pub why: String,
}

impl PoolsReport {
    /// Looks at `group` alone if one is named; lists Services if `with_services`.
    pub fn new(snapshot: &Snapshot, group: Option<&str>, with_services: bool) -> Self {
        Self::by(&Engine::new(snapshot), snapshot, group, with_services)
    }

    /// The same, by an allocator that has been told already.
    pub fn by(
        engine: &Engine,
        snapshot: &Snapshot,
        group: Option<&str>,
        with_services: bool,
    ) -> Self {
        let is_wanted = |name: &str| group.is_none_or(|group| group == name);
        let mut report = Self { pools: Vec::new(), refused: Vec::new() };
        for (name, parsed) in engine.allocator().catalog().groups() {
            match parsed {
                _ if !is_wanted(name.as_str()) => {}
                Ok(group) => report.pools.extend(pools_of(group, engine, snapshot, with_services)),
                Err(why) => report
                    .refused
                    .push(RefusedGroup { group: name.to_string(), why: why.to_string() }),
            }
        }
        report
    }
}

fn pools_of(
    group: &Group,
    engine: &Engine,
    snapshot: &Snapshot,
    with_services: bool,
) -> Vec<PoolReport> {
    let ledger = engine.allocator().ledger();
    let users = |is_in: &dyn Fn(IpAddr) -> bool| -> Vec<String> {
        let has = |service: &&Service| engine.held(service).iter().any(|held| is_in(held.ip));
        let mut names: Vec<String> =
            snapshot.services.iter().filter(has).map(|service| service.key.to_string()).collect();
        names.sort();
        names
    };
    let announce = match group.announce {
        Announce::Local => "Local",
        Announce::Remote => "Remote",
    };
    match &group.source {
        Source::External { provider, .. } => {
            let is_from = |held: &Held| held.group.as_ref() == Some(&group.name);
            let held: BTreeSet<_> = snapshot
                .services
                .iter()
                .flat_map(|service| engine.held(service))
                .filter(|held| is_from(held))
                .map(|held| held.ip)
                .collect();
            vec![PoolReport {
                group: group.name.to_string(),
                announce: announce.to_owned(),
                range: format!("external: {provider}"),
                subnet: None,
                family: None,
                size: None,
                used: held.len().to_string(),
                services: if with_services { users(&|ip| held.contains(&ip)) } else { Vec::new() },
            }]
        }
        Source::Pools { pools, .. } => pools
            .iter()
            .map(|pool| PoolReport {
                group: group.name.to_string(),
                announce: announce.to_owned(),
                range: pool.text.clone(),
                subnet: Some(pool.subnet.to_string()),
                family: Some(pool.range.family()),
                size: Some(pool.range.size().to_string()),
                used: ledger.allocated(&pool.range).to_string(),
                services: if with_services {
                    users(&|ip| pool.range.contains(ip))
                } else {
                    Vec::new()
                },
            })
            .collect(),
    }
}

impl PoolReport {
    /// How full it is, in percent, rounded down but for the last address.
    pub fn percent(&self) -> Option<f64> {
        let (used, size): (f64, f64) = (self.used.parse().ok()?, self.size.as_ref()?.parse().ok()?);
        Some(used / size * 100.0)
    }

    /// Whether no address is left.
    pub fn is_full(&self) -> bool {
        self.size.as_ref() == Some(&self.used)
    }
}

impl Report for PoolsReport {
    fn print(&self, to: &mut dyn Write) -> io::Result<()> {
        let shows_services = self.pools.iter().any(|pool| !pool.services.is_empty());
        let mut headings =
            vec!["GROUP", "TYPE", "RANGE", "SUBNET", "FAMILY", "SIZE", "USED", "UTIL"];
        if shows_services {
            headings.push("SERVICES");
        }
        let mut table = Table::new(headings);
        for pool in &self.pools {
            let mut row = vec![
                pool.group.clone(),
                pool.announce.clone(),
                pool.range.replace(": ", ":"),
                pool.subnet.clone().unwrap_or_default(),
                pool.family.map(|family| family.to_string()).unwrap_or_default(),
                pool.size.clone().unwrap_or_default(),
                pool.used.clone(),
                pool.percent().map(|percent| format!("{percent:.0}%")).unwrap_or_default(),
            ];
            if shows_services {
                row.push(list(&pool.services));
            }
            table.row(row);
        }
        table.print(to)?;
        for refused in &self.refused {
            writeln!(to, "{} cannot be used: {}", refused.group, refused.why)?;
        }
        if self.pools.is_empty() && self.refused.is_empty() {
            writeln!(to, "There is no ServiceGroup.")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{objects, service, snapshot};
    use super::*;

    #[test]
    fn a_full_range_is_full_and_names_its_services() {
        let mut objects = objects();
        objects.push(service("two", Some("192.0.2.241"), "default", "local", None));
        let report = PoolsReport::new(&snapshot(objects), Some("default"), true);
        let mut text = Vec::new();
        report.print(&mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "GROUP    TYPE   RANGE                    SUBNET        FAMILY  SIZE  USED  UTIL  SERVICES\n\
             default  Local  192.0.2.240-192.0.2.241  192.0.2.0/24  IPv4    2     2     100%  shop/two, shop/web\n"
        );
        assert!(report.pools[0].is_full());
    }

    #[test]
    fn a_group_that_cannot_be_used_is_named_with_the_reason() {
        let mut objects = objects();
        objects[1]["spec"]["remote"]["v4pool"]["pool"] = "203.0.113.0/24".into();
        let report = PoolsReport::new(&snapshot(objects), None, false);
        assert_eq!(report.refused[0].group, "routed");
        assert!(report.refused[0].why.contains("subnet"), "{}", report.refused[0].why);
    }
}
