//! `purelb inspect` and `purelb explain`: one Service, without and with all reasons.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::str::FromStr;

use clap::Args;
use purelb_core::name::{NodeName, ServiceKey};

use super::agents;
use super::cluster::Cluster;
use super::output::{Output, verdict};
use crate::report::story::Story;

/// A Service as `NAMESPACE/NAME`.
#[derive(Clone, Debug)]
pub struct Named(pub ServiceKey);

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
    args.cluster
        .show(|snapshot| tell(key, Story::new(key, snapshot).map(Story::brief), args.output))
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
        let story = Story::new(key, snapshot).map(|story| {
            let mut nodes = if args.offline { BTreeSet::new() } else { story.concerned() };
            nodes.extend(args.node.as_deref().map(NodeName::from));
            story.told_by(&agents::views(&args.cluster, nodes))
        });
        tell(key, story, args.output)
    })
}

fn tell(key: &ServiceKey, story: Option<Story>, output: Output) -> ExitCode {
    let Some(story) = story else {
        eprintln!(
            "purelb: there is no Service {key} of type LoadBalancer; purelb services lists all"
        );
        return ExitCode::FAILURE;
    };
    output.show(&story);
    verdict(story.is_fine())
}
