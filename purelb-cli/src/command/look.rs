//! The subcommands that look at a cluster once and print what they see.
//!
//! Exit status of all of them: 0 if nothing is wrong with what was shown, 1 if something is, 2 for a
//! wrong command line, 3 if the cluster cannot be looked at.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::Args;

use purelb_core::name::NodeName;

use super::cluster::{Cluster, complain};
use super::output::{Output, verdict};
use crate::report::election::ElectionReport;
use crate::report::pools::PoolsReport;
use crate::report::services::{Filter, ServicesReport, Standing};
use crate::report::status::StatusReport;
use crate::report::version::VersionReport;

/// Says whether everything is as it should be, and if not, what to look at first
///
/// Exit status: 1 if anything is not as it should be.
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    cluster: Cluster,
    #[command(flatten)]
    output: Output,
}

/// Runs `purelb status`.
pub fn whole(args: &Status) -> ExitCode {
    args.cluster.show(|snapshot| {
        let report = StatusReport::new(snapshot);
        args.output.show(&report);
        verdict(report.problems.is_empty())
    })
}

/// Shows the agents' leases, which nodes serve which subnet, and what would move if a node went
///
/// Exit status: 1 if a lease is missing or has run out, a local range is served by no node, or with
/// --drain an address would have nowhere to go.
#[derive(Debug, Args)]
pub struct Election {
    #[command(flatten)]
    cluster: Cluster,
    /// Only this node
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// What would move where if this node went
    #[arg(long, value_name = "NAME", visible_alias = "simulate-drain")]
    drain: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// Runs `purelb election`.
pub fn election(args: &Election) -> ExitCode {
    let name = |name: &Option<String>| name.as_deref().map(NodeName::from);
    let (node, drain) = (name(&args.node), name(&args.drain));
    args.cluster.show(|snapshot| {
        match ElectionReport::new(snapshot, node.as_ref(), drain.as_ref()) {
            Ok(report) => {
                args.output.show(&report);
                verdict(report.is_fine())
            }
            Err(why) => {
                eprintln!("purelb election: {why}");
                ExitCode::FAILURE
            }
        }
    })
}

/// Shows the version of this program and of those in the cluster
///
/// Exit status: 1 if one program runs as several images.
#[derive(Debug, Args)]
pub struct Version {
    #[command(flatten)]
    cluster: Cluster,
    /// Only this program's
    #[arg(long)]
    client: bool,
    #[command(flatten)]
    output: Output,
}

/// Runs `purelb version`.
pub fn version(args: &Version) -> ExitCode {
    let show = |report: &VersionReport| {
        args.output.show(report);
        verdict(report.consistent)
    };
    if args.client {
        return show(&VersionReport::new(None, Vec::new()));
    }
    let looked = args.cluster.look(async |client, snapshot| {
        // Without the definitions there is no such group, and nothing to list.
        let served = client.list_api_group_resources("purelb.io/v2").await;
        let resources = served.map(|list| list.resources).unwrap_or_default();
        let kinds = resources.into_iter().map(|kind| kind.name).filter(|name| !name.contains('/'));
        show(&VersionReport::new(Some(&snapshot), kinds.collect()))
    });
    looked.unwrap_or_else(|failure| complain(&failure))
}

/// Shows how full the pools of each ServiceGroup are
///
/// Exit status: 1 if a range is full or a group cannot be used.
#[derive(Debug, Args)]
pub struct Pools {
    #[command(flatten)]
    cluster: Cluster,
    /// Only this group
    #[arg(long, value_name = "NAME")]
    service_group: Option<String>,
    /// Which Services have the addresses, too
    #[arg(long)]
    show_services: bool,
    #[command(flatten)]
    output: Output,
}

/// Runs `purelb pools`.
pub fn pools(args: &Pools) -> ExitCode {
    args.cluster.show(|snapshot| {
        let report = PoolsReport::new(snapshot, args.service_group.as_deref(), args.show_services);
        args.output.show(&report);
        verdict(report.refused.is_empty() && !report.pools.iter().any(|pool| pool.is_full()))
    })
}

/// Shows every LoadBalancer Service with its addresses and who announces them
///
/// Exit status: 1 if one of those shown has no address, or a local address that no living node has.
#[derive(Debug, Args)]
pub struct Services {
    #[command(flatten)]
    cluster: Cluster,
    /// Only addresses of this group
    #[arg(long, value_name = "GROUP")]
    pool: Option<String>,
    /// Only addresses that this node announces
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Only this address
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<IpAddr>,
    /// Only those with something not right
    #[arg(long)]
    problems: bool,
    #[command(flatten)]
    output: Output,
}

/// Runs `purelb services`.
pub fn services(args: &Services) -> ExitCode {
    args.cluster.show(|snapshot| {
        let filter = Filter {
            group: args.pool.clone(),
            node: args.node.clone(),
            ip: args.ip,
            problems: args.problems,
        };
        let report = ServicesReport::new(snapshot, &filter);
        args.output.show(&report);
        verdict(report.services.iter().all(|line| line.status == Standing::Ok))
    })
}
