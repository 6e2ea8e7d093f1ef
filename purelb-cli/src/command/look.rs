//! The subcommands that look at a cluster once and print what they see.
//!
//! Exit status of all of them: 0 if nothing is wrong with what was shown, 1 if something is, 2 for a
//! wrong command line, 3 if the cluster cannot be looked at.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::Args;

use super::cluster::Cluster;
use super::output::Output;
use crate::report::pools::PoolsReport;
use crate::report::services::{Filter, ServicesReport, Standing};

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
        status(report.refused.is_empty() && !report.pools.iter().any(|pool| pool.is_full()))
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
        status(report.services.iter().all(|line| line.status == Standing::Ok))
    })
}

fn status(is_fine: bool) -> ExitCode {
    if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
