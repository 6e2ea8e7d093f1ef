//! Which versions run.

use std::collections::BTreeMap;
use std::io::{self, Write};

use purelb_k8s::snapshot::Snapshot;
use serde::Serialize;

use crate::command::output::{Report, Table, list};

/// This program's version, and those of the pods.
#[derive(Debug, Serialize)]
pub struct VersionReport {
    /// This program's.
    pub client: &'static str,
    /// The pods, by program and image.
    pub components: Vec<Running>,
    /// The kinds of `purelb.io/v2` that the API serves, in its plural.
    pub kinds: Vec<String>,
    /// Whether every program runs as one image everywhere.
    pub consistent: bool,
}

/// The pods of one program that run one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Running {
    /// The program.
    pub component: String,
    /// The image.
    pub image: String,
    /// How many.
    pub pods: usize,
}

impl VersionReport {
    /// Looks at the pods, if there is a cluster to look at, whose API serves `kinds`.
    pub fn new(snapshot: Option<&Snapshot>, kinds: Vec<String>) -> Self {
        let mut found: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for pod in snapshot.iter().flat_map(|snapshot| &snapshot.pods) {
            *found.entry((&pod.component, &pod.image)).or_default() += 1;
        }
        let of = |(component, _): &(&str, &str)| component.to_string();
        let programs: std::collections::BTreeSet<String> = found.keys().map(of).collect();
        Self {
            client: env!("CARGO_PKG_VERSION"),
            kinds,
            consistent: programs.len() == found.len(),
            components: found
                .into_iter()
                .map(|((component, image), pods)| Running {
                    component: component.to_owned(),
                    image: image.to_owned(),
                    pods,
                })
                .collect(),
        }
    }
}

impl Report for VersionReport {
    fn print(&self, to: &mut dyn Write) -> io::Result<()> {
        writeln!(to, "purelb {}", self.client)?;
        let mut table = Table::new(["PROGRAM", "IMAGE", "PODS"]);
        for one in &self.components {
            table.row([one.component.clone(), one.image.clone(), one.pods.to_string()]);
        }
        table.print(to)?;
        if !self.kinds.is_empty() {
            writeln!(to, "The API serves {} of purelb.io/v2.", list(&self.kinds))?;
        }
        if !self.consistent {
            writeln!(to, "One program runs as several images: is an upgrade under way?")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{objects, snapshot};
    use super::*;

    #[test]
    fn pods_are_counted_by_image_and_an_upgrade_under_way_is_told() {
        let mut seen = snapshot(objects());
        let report = VersionReport::new(Some(&seen), vec![]);
        let counts: Vec<_> =
            report.components.iter().map(|one| (&*one.component, one.pods)).collect();
        assert_eq!(counts, [("allocator", 1), ("lbnodeagent", 2)]);
        assert!(report.consistent);
        seen.pods.last_mut().unwrap().image = "purelb:0.2.0".to_owned();
        assert!(!VersionReport::new(Some(&seen), vec![]).consistent);
        assert!(VersionReport::new(None, vec![]).components.is_empty());
    }
}
