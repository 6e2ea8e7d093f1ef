//! Debian packages: fetched by `apt-get`, read by `dpkg-deb`.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::tree::{Node, Tree, merged};

/// A Debian package.
#[derive(Clone, Debug)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The architecture, as Debian writes it.
    pub architecture: String,
    /// The packages that it depends on, where there is a choice the first.
    pub depends: Vec<String>,
    /// All that it says of itself, as Debian's control files do.
    pub control: String,
    /// Its files.
    pub files: Tree,
}

/// Why a package is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// More than one version lies there.
    #[error(
        "there are several versions of the package {name} in {}: leave one", directory.display()
    )]
    Ambiguous {
        /// The package.
        name: String,
        /// Where packages are kept.
        directory: PathBuf,
    },
    /// A program said no.
    #[error("{program} failed: {said}")]
    Failed {
        /// The program.
        program: &'static str,
        /// What it said.
        said: String,
    },
    /// A folder or file is not as it should be.
    #[error("cannot read or write {}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A package for another machine.
    #[error("the package {name} is for {found}, and the programs are for {wanted}")]
    ForeignArchitecture {
        /// The package.
        name: String,
        /// What it is for.
        found: String,
        /// What it should be for.
        wanted: &'static str,
    },
    /// A program is not there.
    #[error("cannot run {program}, which Debian and its descendants have")]
    NoProgram {
        /// The program.
        program: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// It does not say what every package says.
    #[error("the package {} says nothing of {field}", path.display())]
    NoField {
        /// The file.
        path: PathBuf,
        /// What is missing.
        field: &'static str,
    },
}

/// A folder of packages, which grows by what is fetched.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// The packages in a folder, which is made where it is missing.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn open(directory: &Path) -> Result<Self, PackageError> {
        fs::create_dir_all(directory).map_err(at(directory))?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// The packages of these names: those that lie there, and the newest that apt knows of for the others.
    ///
    /// # Errors
    ///
    /// If one cannot be fetched or read, or lies there in several versions.
    pub fn packages(&self, names: &[String]) -> Result<Vec<Package>, PackageError> {
        let mut missing = Vec::new();
        for name in names {
            if self.find(name)?.is_none() {
                missing.push(name.as_str());
            }
        }
        if !missing.is_empty() {
            let arguments = ["download", "-qq"].into_iter().chain(missing.iter().copied());
            run("apt-get", arguments, &self.directory)?;
        }
        names.iter().map(|name| self.read(name)).collect()
    }

    fn read(&self, name: &str) -> Result<Package, PackageError> {
        let path = self.find(name)?.ok_or_else(|| PackageError::Failed {
            program: "apt-get",
            said: format!("it downloaded nothing that is called {name}"),
        })?;
        Package::read(&path)
    }

    fn find(&self, name: &str) -> Result<Option<PathBuf>, PackageError> {
        let start = format!("{name}_");
        let mut found = None;
        for entry in fs::read_dir(&self.directory).map_err(at(&self.directory))? {
            let entry = entry.map_err(at(&self.directory))?;
            let file = entry.file_name();
            let file = file.to_string_lossy();
            if file.starts_with(&start) && file.ends_with(".deb") {
                if found.is_some() {
                    let directory = self.directory.clone();
                    return Err(PackageError::Ambiguous { name: name.to_owned(), directory });
                }
                found = Some(entry.path());
            }
        }
        Ok(found)
    }
}

impl Package {
    /// Reads a file that ends in `.deb`.
    ///
    /// # Errors
    ///
    /// If it is no package, or `dpkg-deb` is not there.
    pub fn read(path: &Path) -> Result<Self, PackageError> {
        let here = Path::new(".");
        let control = run("dpkg-deb", [OsStr::new("--field"), path.as_os_str()], here)?;
        let control = String::from_utf8_lossy(&control.stdout).into_owned();
        let archive = run("dpkg-deb", [OsStr::new("--fsys-tarfile"), path.as_os_str()], here)?;
        let get = |name| {
            let value = field(&control, name).map(str::to_owned);
            value.ok_or_else(|| PackageError::NoField { path: path.to_owned(), field: name })
        };
        Ok(Self {
            name: get("Package")?,
            version: get("Version")?,
            architecture: get("Architecture")?,
            depends: depends(&control),
            files: files(&archive.stdout).map_err(at(path))?,
            control,
        })
    }

    /// The source package that it is built from, which is named if it differs.
    pub fn source(&self) -> &str {
        let source = field(&self.control, "Source").unwrap_or(&self.name);
        source.split(' ').next().unwrap_or(source)
    }
}

fn field<'a>(control: &'a str, name: &str) -> Option<&'a str> {
    control.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn depends(control: &str) -> Vec<String> {
    let fields = ["Pre-Depends", "Depends"].into_iter().filter_map(|name| field(control, name));
    let names = fields.flat_map(|list| list.split(',')).filter_map(|choice| {
        let first = choice.split('|').next()?;
        first.trim().split([' ', ':', '(']).next().map(str::to_owned)
    });
    names.collect()
}

fn files(archive: &[u8]) -> io::Result<Tree> {
    let mut tree = Tree::default();
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let path = merged(path.trim_start_matches("./").trim_end_matches('/'));
        let kind = entry.header().entry_type();
        // Folders are made for what is in them; nothing else is taken from a package.
        if kind.is_file() {
            let is_executable = entry.header().mode()? & 0o111 != 0;
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            tree.insert(&path, Node::File { bytes, is_executable });
        } else if kind.is_symlink() {
            let target = entry.link_name()?.unwrap_or_default();
            tree.insert(&path, Node::Link(target.to_string_lossy().into_owned()));
        }
    }
    Ok(tree)
}

fn run<A: AsRef<OsStr>>(
    program: &'static str,
    arguments: impl IntoIterator<Item = A>,
    directory: &Path,
) -> Result<Output, PackageError> {
    let output = Command::new(program).args(arguments).current_dir(directory).output();
    let output = output.map_err(|source| PackageError::NoProgram { program, source })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(PackageError::Failed { program, said });
    }
    Ok(output)
}

fn at(path: &Path) -> impl Fn(io::Error) -> PackageError {
    move |source| PackageError::File { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_choice_is_depended_on_without_version_and_architecture() {
        let control = "Package: a\nPre-Depends: libc6 (>= 2.34)\n\
                       Depends: debconf (>= 0.5) | debconf-2.0, python3:any, b\nDescription: x\n Depends: no\n";
        assert_eq!(depends(control), ["libc6", "debconf", "python3", "b"]);
        assert_eq!(field(control, "Package"), Some("a"));
        assert_eq!(field(control, "Source"), None);
    }
}
