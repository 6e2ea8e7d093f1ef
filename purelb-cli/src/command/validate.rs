//! `purelb validate`: what is wrong with the configuration, and what would change.

use std::process::ExitCode;

use clap::Args;

use super::agents::{self, AgentPod};
use super::cluster::Cluster;
use super::output::{Output, verdict};
use crate::report::routes::DefaultRoutes;
use crate::report::validate::{RoutesByNode, ValidateReport};

/// Checks the configuration, and names what PureLB would change in this cluster
///
/// Before a move from the Go PureLB: `purelb validate -n purelb-system --routes`.
/// Exit status: 1 if a check fails, or with --strict if anything is to be looked at.
#[derive(Debug, Args)]
pub struct Validate {
    #[command(flatten)]
    cluster: Cluster,
    /// Warnings count as failures
    #[arg(long)]
    strict: bool,
    /// Ask each node for its default routes, with `ip` in the pods of its agent, by `kubectl exec`
    #[arg(long)]
    routes: bool,
    /// Look at Services without a loadBalancerClass too, as an allocator with
    /// DEFAULT_ANNOUNCER=PureLB does, even if none runs here
    #[arg(long)]
    default_announcer: bool,
    #[command(flatten)]
    output: Output,
}

/// Runs `purelb validate`.
pub fn run(args: &Validate) -> ExitCode {
    args.cluster.show(|snapshot| {
        let routes = if args.routes { ask_nodes(&args.cluster) } else { RoutesByNode::new() };
        let mut snapshot = snapshot.clone();
        snapshot.default_announcer |= args.default_announcer;
        let report = ValidateReport::new(&snapshot, &routes);
        args.output.show(&report);
        let is_fine = report.fail == 0 && !(args.strict && report.warn > 0);
        verdict(is_fine)
    })
}

/// The default routes of every node with a pod of an agent's, be it ours or the Go PureLB's.
fn ask_nodes(cluster: &Cluster) -> RoutesByNode {
    let pods = match agents::pods(cluster) {
        Ok(pods) => pods,
        Err(error) => {
            eprintln!("purelb: cannot ask the nodes for their routes: {error}");
            return RoutesByNode::new();
        }
    };
    let ask = |pod: &AgentPod| -> Result<DefaultRoutes, String> {
        let show = |family: &str| {
            agents::exec(cluster, pod, &["ip", "-j", family, "route", "show", "default"])
        };
        DefaultRoutes::parse(&show("-4")?, &show("-6")?).map_err(|error| error.to_string())
    };
    pods.into_iter().map(|pod| (pod.node.clone(), ask(&pod))).collect()
}
