//! `purelb ip` and `purelb view`: what is on the nodes.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::Args;

use super::agents;
use super::cluster::Cluster;
use super::loopback;
use super::output::verdict;
use crate::telemetry::server::PORT;

/// Runs `ip` on the nodes, in the pods of their agents: `purelb ip -- addr show dev kube-lb0`
///
/// Exit status: 1 if it failed on a node, 3 if the pods cannot be listed.
#[derive(Debug, Args)]
pub struct Ip {
    #[command(flatten)]
    cluster: Cluster,
    /// Only on this node
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// What to give `ip`
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "ARGS"
    )]
    arguments: Vec<OsString>,
}

/// Runs `purelb ip`.
pub fn ip(args: &Ip) -> ExitCode {
    let pods = match agents::pods(&args.cluster) {
        Ok(pods) => pods,
        Err(why) => {
            eprintln!("purelb ip: {why}");
            return ExitCode::from(3);
        }
    };
    let is_wanted =
        |pod: &&agents::AgentPod| args.node.as_deref().is_none_or(|name| pod.node.as_str() == name);
    let pods: Vec<_> = pods.iter().filter(is_wanted).collect();
    if pods.is_empty() {
        eprintln!("purelb ip: there is no agent's pod to ask");
        return ExitCode::FAILURE;
    }
    let arguments: Vec<String> =
        args.arguments.iter().map(|text| text.to_string_lossy().into_owned()).collect();
    let command: Vec<&str> =
        std::iter::once("ip").chain(arguments.iter().map(String::as_str)).collect();
    let mut has_failed = false;
    for pod in &pods {
        if pods.len() > 1 {
            println!("=== {} ===", pod.node);
        }
        match agents::run(&args.cluster, pod, &command) {
            Ok(output) => {
                // A reader that has gone is no error.
                let _gone = std::io::stdout().write_all(&output.stdout);
                let _gone = std::io::stderr().write_all(&output.stderr);
                has_failed |= !output.status.success();
            }
            Err(why) => {
                eprintln!("purelb ip: {}: {why}", pod.node);
                has_failed = true;
            }
        }
    }
    verdict(!has_failed)
}

/// Prints what the agent on this host knows and has decided, as JSON
///
/// Exit status: 1 if no agent answers.
#[derive(Debug, Args)]
pub struct View {
    /// The agent's port
    #[arg(long, value_name = "NUMBER", default_value_t = PORT)]
    port: u16,
}

/// Runs `purelb view`.
pub fn view(args: &View) -> ExitCode {
    match loopback::get(args.port, "/view") {
        Ok(json) => {
            println!("{}", String::from_utf8_lossy(&json));
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("purelb view: no agent answers at port {} of this host: {why}", args.port);
            ExitCode::FAILURE
        }
    }
}
