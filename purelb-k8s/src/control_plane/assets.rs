//! The programs of a control plane on this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Names the directory, by the convention of controller-runtime's `envtest`.
const VARIABLE: &str = "KUBEBUILDER_ASSETS";

/// The oldest Go that builds the programs, as major and minor version.
const GO: (u32, u32) = (1, 24);

/// A directory with `etcd`, `kube-apiserver`, `kubectl` and, for a lab, `kube-proxy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assets(PathBuf);

/// Why there are no programs of a control plane.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssetsError {
    /// A directory was given, and a program is not in it.
    #[error("there is no {program} in {}", directory.display())]
    Missing {
        /// Where it was looked for.
        directory: PathBuf,
        /// What is not there.
        program: &'static str,
    },
    /// None were given, and they cannot be built.
    #[error("no control plane: KUBEBUILDER_ASSETS is not set, and to build one takes {0}")]
    NoGo(String),
    /// Building them failed.
    #[error("the control plane cannot be built: {0}")]
    Build(String),
}

impl Assets {
    /// The programs in `directory`, which may be relative to the current one.
    ///
    /// # Errors
    ///
    /// If one that every control plane needs is not there.
    pub fn in_directory(directory: &Path) -> Result<Self, AssetsError> {
        // They are started elsewhere.
        let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        let assets = Self(absolute);
        for program in ["etcd", "kube-apiserver", "kubectl"] {
            assets.program(program)?;
        }
        Ok(assets)
    }

    /// Those that `KUBEBUILDER_ASSETS` names; where it is not set, those that the script
    /// `.ci/control-plane` of the source tree at `workspace` has built, or now builds: once, in some
    /// minutes.
    ///
    /// # Errors
    ///
    /// If there are none, with what to do about it.
    pub fn find(workspace: &Path) -> Result<Self, AssetsError> {
        if let Some(directory) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
            return Self::in_directory(Path::new(&directory));
        }
        can_build()?;
        let failed = |error: &dyn std::fmt::Display| AssetsError::Build(error.to_string());
        let script = workspace.join(".ci/control-plane");
        let output = Command::new(script).output().map_err(|error| failed(&error))?;
        if !output.status.success() {
            return Err(failed(&String::from_utf8_lossy(&output.stderr).trim()));
        }
        let built = workspace.join("target/control-plane");
        Self::in_directory(&built.canonicalize().map_err(|error| failed(&error))?)
    }

    /// The path of one of them.
    ///
    /// # Errors
    ///
    /// If it is not there.
    pub fn program(&self, program: &'static str) -> Result<PathBuf, AssetsError> {
        let missing = AssetsError::Missing { directory: self.0.clone(), program };
        Some(self.0.join(program)).filter(|path| path.is_file()).ok_or(missing)
    }
}

fn can_build() -> Result<(), AssetsError> {
    let (major, minor) = GO;
    let wanted = |found: &str| AssetsError::NoGo(format!("Go {major}.{minor} or later; {found}"));
    let output = Command::new("go").args(["env", "GOVERSION"]).output();
    let output = output.map_err(|error| wanted(&format!("go: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match version(text.trim()) {
        Some(version) if version >= GO => Ok(()),
        Some(_) | None => Err(wanted(&format!("this is {:?}", text.trim()))),
    }
}

/// Major and minor of a version as Go prints it: `go1.26.8`, `go1.25rc1`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("go")?.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_go_compare_by_number() {
        assert_eq!(version("go1.26.8"), Some((1, 26)));
        assert_eq!(version("go1.25rc1"), Some((1, 25)));
        assert!(version("go1.9.1").unwrap() < GO);
        assert_eq!(version("devel +abc"), None);
    }

    #[test]
    fn a_directory_without_the_programs_says_which_is_missing() {
        let empty = tempfile::tempdir().unwrap();
        let error = Assets::in_directory(empty.path()).unwrap_err();
        assert!(matches!(error, AssetsError::Missing { program: "etcd", .. }), "{error}");
    }
}
