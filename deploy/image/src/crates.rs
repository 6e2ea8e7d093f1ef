//! The crates that are linked into the programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{Metadata, MetadataCommand, Package};
use serde::Deserialize;

use crate::elf::Machine;

/// The package whose programs go into the image.
const PROGRAMS: &str = "purelb-cli";

/// How files begin that say who may copy a crate.
const LICENCE_FILES: [&str; 4] = ["COPYING", "COPYRIGHT", "LICENSE", "NOTICE"];

/// A crate that is linked into the programs.
#[derive(Clone, Debug)]
pub struct Linked {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licence, as SPDX writes it.
    pub license: Option<String>,
    /// Where its source is kept.
    pub repository: Option<String>,
    /// The SHA-256 of what the registry has, of all but our own.
    pub checksum: Option<String>,
    folder: PathBuf,
}

/// All that is linked, and where the source of this project is.
#[derive(Debug)]
pub struct Source {
    /// The crates, by name and version.
    pub crates: Vec<Linked>,
    /// The version of the programs.
    pub version: String,
    /// The folder of the workspace.
    pub root: PathBuf,
}

/// Why it is not known.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Cargo did not say.
    #[error("cargo tree failed: {0}")]
    Cargo(String),
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The lock file is none.
    #[error("Cargo.lock is not as cargo writes it")]
    Lock(#[from] toml::de::Error),
    /// Cargo did not say.
    #[error("cannot ask cargo about the workspace")]
    Metadata(#[from] cargo_metadata::Error),
    /// Cargo contradicts itself.
    #[error("cargo names the crate {0} and does not know it")]
    Unknown(String),
}

/// Asks cargo, in the current directory, what the programs for a machine are made of.
///
/// # Errors
///
/// If cargo cannot be asked, or the lock file is not up to date.
pub fn source(machine: Machine) -> Result<Source, SourceError> {
    let filter = format!("--filter-platform={}", machine.target());
    let metadata = MetadataCommand::new().other_options(vec!["--locked".into(), filter]).exec()?;
    let root = metadata.workspace_root.clone().into_std_path_buf();
    let checksums = checksums(&root)?;
    let crates = names(machine)?
        .into_iter()
        .map(|key| {
            let package = find(&metadata, &key)
                .ok_or_else(|| SourceError::Unknown(format!("{} {}", key.0, key.1)))?;
            Ok(Linked {
                license: package.license.as_ref().map(|text| text.replace('/', " OR ")),
                repository: package.repository.clone(),
                checksum: checksums.get(&key).cloned(),
                folder: folder(package),
                name: key.0,
                version: key.1,
            })
        })
        .collect::<Result<Vec<_>, SourceError>>()?;
    let programs = crates.iter().find(|linked| linked.name == PROGRAMS);
    let version = programs.map(|linked| linked.version.clone());
    let version = version.ok_or_else(|| SourceError::Unknown(PROGRAMS.to_owned()))?;
    Ok(Source { crates, version, root })
}

impl Source {
    /// The files that say who may copy a crate, by name: its own, or those of another from where its source is
    /// kept.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub fn licence_files(&self, linked: &Linked) -> Result<BTreeMap<String, Vec<u8>>, SourceError> {
        let of_one_source =
            |other: &&Linked| linked.repository.is_some() && other.repository == linked.repository;
        let others = self.crates.iter().filter(of_one_source);
        for candidate in std::iter::once(linked).chain(others) {
            let files = candidate.licence_files()?;
            if !files.is_empty() {
                return Ok(files);
            }
        }
        Ok(BTreeMap::new())
    }
}

impl Linked {
    fn licence_files(&self) -> Result<BTreeMap<String, Vec<u8>>, SourceError> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(&self.folder).map_err(at(&self.folder))? {
            let path = entry.map_err(at(&self.folder))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let upper = name.to_uppercase();
            if LICENCE_FILES.iter().any(|start| upper.starts_with(start)) && path.is_file() {
                files.insert(name, fs::read(&path).map_err(at(&path))?);
            }
        }
        Ok(files)
    }

    /// Whether it is of this project.
    pub fn is_ours(&self) -> bool {
        self.checksum.is_none()
    }
}

/// Names and versions of what is linked: no build scripts, and no macros that run while others are built.
fn names(machine: Machine) -> Result<BTreeSet<(String, String)>, SourceError> {
    let arguments = ["tree", "--locked", "--package", PROGRAMS, "--prefix", "none"];
    let output = Command::new("cargo")
        .args(arguments)
        .args(["--edges", "normal,no-proc-macro", "--target", machine.target()])
        .args(["--format", "{p}"])
        .output()
        .map_err(|error| SourceError::Cargo(error.to_string()))?;
    if !output.status.success() {
        return Err(SourceError::Cargo(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let names = text.lines().filter_map(|line| {
        let (name, rest) = line.split_once(" v")?;
        Some((name.to_owned(), rest.split(' ').next()?.to_owned()))
    });
    Ok(names.collect())
}

fn find<'a>(metadata: &'a Metadata, (name, version): &(String, String)) -> Option<&'a Package> {
    let mut packages = metadata.packages.iter();
    packages.find(|it| it.name.as_str() == name && it.version.to_string() == *version)
}

fn folder(package: &Package) -> PathBuf {
    let manifest = package.manifest_path.as_std_path();
    manifest.parent().unwrap_or(manifest).to_owned()
}

fn checksums(root: &Path) -> Result<BTreeMap<(String, String), String>, SourceError> {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Locked>,
    }
    #[derive(Deserialize)]
    struct Locked {
        name: String,
        version: String,
        checksum: Option<String>,
    }
    let path = root.join("Cargo.lock");
    let text = fs::read_to_string(&path).map_err(at(&path))?;
    let lock: Lock = toml::from_str(&text)?;
    let known = lock.package.into_iter();
    Ok(known.filter_map(|it| Some(((it.name, it.version), it.checksum?))).collect())
}

fn at(path: &Path) -> impl Fn(io::Error) -> SourceError {
    move |source| SourceError::File { path: path.to_owned(), source }
}
