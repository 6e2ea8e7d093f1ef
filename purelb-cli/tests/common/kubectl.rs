//! The real `kubectl`, for a lab's API.

use std::path::PathBuf;
use std::process::Command;

use purelb_cli::lab::cluster::Cluster;
use purelb_cli::lab::require;

/// Where `kubectl` is; nothing, and a word about it, where there is none.
pub(crate) fn program() -> Option<PathBuf> {
    let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = assets.into_iter().chain(std::env::split_paths(&path));
    let found = folders.find_map(|f| Some(f.join("kubectl")).filter(|program| program.is_file()));
    if found.is_none() {
        require::skip_tier("kubectl", "there is no kubectl in PATH or KUBEBUILDER_ASSETS");
    }
    found
}

/// `kubectl` as a user of that lab, who has no other configuration.
pub(crate) fn kubectl(cluster: &Cluster) -> Option<Command> {
    let mut command = Command::new(program()?);
    let home = cluster.kubeconfig().parent().unwrap();
    command.env("KUBECONFIG", cluster.kubeconfig()).env("HOME", home);
    Some(command)
}
