//! The part of the image that is Debian's: `ip`, the libraries that it and the programs need, and the licences.

use std::collections::{BTreeMap, BTreeSet};

use crate::debian::{Package, PackageError, Store};
use crate::elf::{LinkageError, Machine, linkage};
use crate::tree::{MERGED, Node, Tree, merged, resolve};

/// Where `ip` is.
pub const IP: &str = "usr/bin/ip";

/// What is taken of packages for more reasons than that something needs it: the names that `ip` shows for
/// numbers, what system this is, and the licences that others refer to.
const WANTED: [(&str, &str); 5] = [
    ("iproute2", "etc/iproute2/"),
    ("iproute2", "usr/share/iproute2/"),
    ("base-files", "etc/os-release"),
    ("base-files", "usr/lib/os-release"),
    ("base-files", "usr/share/common-licenses/"),
];

/// The part of the image that is Debian's.
#[derive(Debug)]
pub struct Base {
    /// Its files.
    pub tree: Tree,
    /// The packages that they are from, by name.
    pub packages: BTreeMap<String, Package>,
}

/// Why it cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// A library of a package is none.
    #[error("cannot read what {path} of the package {package} needs")]
    Library {
        /// The library.
        path: String,
        /// Where it is from.
        package: String,
        /// Why not.
        source: LinkageError,
    },
    /// Nothing that is depended on has a file.
    #[error("no package that iproute2 depends on has {0}")]
    Missing(String),
    /// A package does not say who may copy it.
    #[error("the package {0} has no file with its copyright")]
    NoCopyright(String),
    /// A package is not to be had.
    #[error(transparent)]
    Package(#[from] PackageError),
}

/// Collects all that the programs, which need these libraries and loaders, find on the image.
///
/// # Errors
///
/// If a package cannot be had, or nothing that `iproute2` depends on has a library that is needed.
pub fn base(store: &Store, machine: Machine, needed: &BTreeSet<String>) -> Result<Base, BaseError> {
    let mut shelf = Shelf::new(store, machine)?;
    let mut base = Base { tree: skeleton(), packages: BTreeMap::new() };
    for (package, start) in WANTED {
        let files = &shelf.known[package].files;
        let paths = files.iter().filter(|(path, _)| path.starts_with(start));
        for (path, node) in paths {
            base.tree.insert(path, node.clone());
        }
        base.packages.insert(package.to_owned(), shelf.known[package].clone());
    }
    let mut waiting: Vec<String> = needed.iter().cloned().chain([format!("/{IP}")]).collect();
    while let Some(name) = waiting.pop() {
        waiting.extend(base.take(&mut shelf, &name)?);
    }
    let mut taken: Vec<String> = base.packages.keys().cloned().collect();
    while let Some(name) = taken.pop() {
        base.take_copyright(&mut shelf, &name)?;
    }
    base.list_packages();
    Ok(base)
}

/// What every image has.
fn skeleton() -> Tree {
    let mut tree = Tree::default();
    for folder in
        ["dev", "etc", "proc", "run", "sys", "usr/bin", "usr/lib", "usr/lib64", "usr/sbin"]
    {
        tree.insert(folder, Node::Folder { mode: 0o755 });
    }
    tree.insert("tmp", Node::Folder { mode: 0o1777 });
    tree.insert("root", Node::Folder { mode: 0o700 });
    for name in MERGED {
        tree.insert(name, Node::Link(format!("usr/{name}")));
    }
    let users = "root:x:0:0:root:/root:/usr/sbin/nologin\n\
                 nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
    tree.insert("etc/passwd", Node::text(users));
    tree.insert("etc/group", Node::text("root:x:0:\nnogroup:x:65534:\n"));
    tree
}

impl Base {
    /// Takes a library by its name, or a file by its path with a slash at the start; tells what that needs.
    fn take(&mut self, shelf: &mut Shelf<'_>, name: &str) -> Result<Vec<String>, BaseError> {
        let (package, path) = shelf.find(name)?;
        if self.tree.get(&path).is_some() {
            return Ok(Vec::new());
        }
        let node = package.files.get(&path).cloned();
        let node = node.ok_or_else(|| BaseError::Missing(name.to_owned()))?;
        let needed = match &node {
            Node::File { bytes, .. } => {
                let linkage = linkage(bytes).map_err(|source| BaseError::Library {
                    path: path.clone(),
                    package: package.name.clone(),
                    source,
                })?;
                linkage.needed.into_iter().chain(linkage.interpreter).collect()
            }
            Node::Folder { .. } => Vec::new(),
            Node::Link(target) => vec![format!("/{}", resolve(&path, target))],
        };
        self.packages.insert(package.name.clone(), package.clone());
        self.tree.insert(&path, node);
        Ok(needed)
    }

    /// Takes the file with the copyright of a package, which may be another package's.
    fn take_copyright(&mut self, shelf: &mut Shelf<'_>, name: &str) -> Result<(), BaseError> {
        let folder = format!("usr/share/doc/{name}");
        let files = &self.packages[name].files;
        if let Some(link @ Node::Link(target)) = files.get(&folder) {
            let other = target.rsplit('/').next().unwrap_or(target).to_owned();
            self.tree.insert(&folder, link.clone());
            let package = shelf.package(&other)?;
            self.packages.insert(other.clone(), package);
            return self.take_copyright(shelf, &other);
        }
        let path = format!("{folder}/copyright");
        let text = files.get(&path).ok_or_else(|| BaseError::NoCopyright(name.to_owned()))?;
        self.tree.insert(&path, text.clone());
        Ok(())
    }

    /// Tells scanners which packages these are, in the way of images without a package manager.
    fn list_packages(&mut self) {
        for (name, package) in &self.packages {
            let path = format!("var/lib/dpkg/status.d/{name}");
            self.tree.insert(&path, Node::text(package.control.as_str()));
        }
    }
}

/// The packages that were looked at so far.
struct Shelf<'a> {
    store: &'a Store,
    machine: Machine,
    known: BTreeMap<String, Package>,
    /// Those that something was linked from, whose dependencies may have what that needs.
    linked: BTreeSet<String>,
}

impl<'a> Shelf<'a> {
    fn new(store: &'a Store, machine: Machine) -> Result<Self, BaseError> {
        let linked = BTreeSet::new();
        let mut shelf = Self { store, machine, known: BTreeMap::new(), linked };
        shelf.fetch(WANTED.map(|(package, _)| package.to_owned()).into())?;
        Ok(shelf)
    }

    /// Who has a file, and its path.
    fn find(&mut self, name: &str) -> Result<(&Package, String), BaseError> {
        if self.position(name).is_none() {
            let linked = self.linked.iter().filter_map(|name| self.known.get(name));
            let depends = linked.flat_map(|package| package.depends.iter().cloned()).collect();
            self.fetch(depends)?;
        }
        let (package, path) =
            self.position(name).ok_or_else(|| BaseError::Missing(name.to_owned()))?;
        self.linked.insert(package.clone());
        Ok((&self.known[&package], path))
    }

    fn position(&self, name: &str) -> Option<(String, String)> {
        self.known.values().find_map(|package| {
            let path = match name.strip_prefix('/') {
                Some(path) => Some(merged(path)).filter(|path| package.files.get(path).is_some()),
                None => library(&package.files, name),
            };
            path.map(|path| (package.name.clone(), path))
        })
    }

    fn package(&mut self, name: &str) -> Result<Package, BaseError> {
        self.fetch([name.to_owned()].into())?;
        Ok(self.known[name].clone())
    }

    fn fetch(&mut self, mut names: BTreeSet<String>) -> Result<(), BaseError> {
        names.retain(|name| !self.known.contains_key(name));
        let names: Vec<_> = names.into_iter().collect();
        for package in self.store.packages(&names)? {
            let wanted = self.machine.architecture();
            if package.architecture != wanted && package.architecture != "all" {
                let (name, found) = (package.name, package.architecture);
                return Err(PackageError::ForeignArchitecture { name, found, wanted }.into());
            }
            self.known.insert(package.name.clone(), package);
        }
        Ok(())
    }
}

/// The path of a library by its name, where the loader looks for it.
fn library(files: &Tree, name: &str) -> Option<String> {
    let mut paths = files.iter().map(|(path, _)| path);
    let in_a_library_folder = |path: &&str| {
        let Some((folder, file)) = path.rsplit_once('/') else { return false };
        let folder = folder.strip_prefix("usr/lib/").unwrap_or(folder);
        file == name && (folder.ends_with("-linux-gnu") && !folder.contains('/'))
    };
    paths.find(in_a_library_folder).map(str::to_owned)
}
