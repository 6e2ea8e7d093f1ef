//! `purelb inspect` and `purelb explain`: one Service, without and with all reasons.

use std::process::ExitCode;
use std::str::FromStr;

use clap::Args;
use purelb_core::name::{NodeName, ServiceKey};

use super::agents;
use super::cluster::Cluster;
use super::output::Output;
use crate::report::engine::Engine;
use crate::report::place::Place;
use crate::report::story::{Story, Views};
use purelb_k8s::snapshot::Snapshot;

/// A Service as `NAMESPACE/NAME`.
#[derive(Clone, Debug)]
struct Named(ServiceKey);

impl FromStr for Named {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                Ok(Self(ServiceKey::new(namespace, name)))
            }
            Some(_) | None => Err("write NAMESPACE/NAME"),
        }
    }
}

/// Shows a Service's addresses: where each is from, which node should have it, and which says it has
///
/// Exit status: 1 if it lacks something that it asks for, or an address is announced by another node
/// than it should be, or there is no such Service.
#[derive(Debug, Args)]
pub struct Inspect {
    /// The Service
    #[arg(value_name = "NAMESPACE/NAME")]
    service: Named,
    #[command(flatten)]
    cluster: Cluster,
    #[command(flatten)]
    output: Output,
}

/// Runs `purelb inspect`.
pub fn inspect(args: &Inspect) -> ExitCode {
    let key = &args.service.0;
    args.cluster.show(|snapshot| {
        let story = Story::new(key, snapshot, &Views::new()).map(Story::brief);
        tell(key, story, args.output)
    })
}

/// Explains a Service's addresses: the chain of facts from the ServiceGroup to the interface
///
/// Asks the agents of the nodes that should have, or say that they have, its local addresses what they
/// decided and what their kernels show, by `kubectl exec`. Exit status: as of inspect.
#[derive(Debug, Args)]
pub struct Explain {
    /// The Service
    #[arg(value_name = "NAMESPACE/NAME")]
    service: Named,
    #[command(flatten)]
    cluster: Cluster,
    /// Ask this node's agent too
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Ask no agent
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    output: Output,
}

/// Runs `purelb explain`.
pub fn explain(args: &Explain) -> ExitCode {
    let key = &args.service.0;
    args.cluster.show(|snapshot| {
        let mut nodes = if args.offline { Vec::new() } else { concerned(key, snapshot) };
        nodes.extend(args.node.as_deref().map(NodeName::from));
        nodes.sort();
        nodes.dedup();
        let views = agents::views(&args.cluster, &nodes);
        tell(key, Story::new(key, snapshot, &views), args.output)
    })
}

/// The nodes that should have, or say that they have, an address of a Service.
fn concerned(key: &ServiceKey, snapshot: &Snapshot) -> Vec<NodeName> {
    let Some(service) = snapshot.services.iter().find(|service| service.key == *key) else {
        return Vec::new();
    };
    let engine = Engine::new(snapshot);
    let live: Vec<_> = snapshot.live_leases().collect();
    let of = |ip: &std::net::IpAddr| {
        let place = Place::of(*ip, snapshot, engine.allocator().catalog(), &live);
        let slot = crate::report::election::slot(service, *ip);
        [place.winner().cloned(), slot.map(|slot| slot.node)]
    };
    service.ingress.iter().flat_map(of).flatten().collect()
}

fn tell(key: &ServiceKey, story: Option<Story>, output: Output) -> ExitCode {
    let Some(story) = story else {
        eprintln!(
            "purelb: there is no Service {key} of type LoadBalancer; purelb services lists all"
        );
        return ExitCode::FAILURE;
    };
    output.show(&story);
    if story.is_fine() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
