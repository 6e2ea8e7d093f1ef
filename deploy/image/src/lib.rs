//! PureLB's container image, built without a container engine: the three programs, and from Debian's packages
//! `ip` and the libraries that it and they need. The same programs and packages make the same image, bit for bit.
//!
//! [`build`] does it; `deploy/image/build` is the command around it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub mod base;
mod bom;
pub mod crates;
pub mod debian;
pub mod digest;
pub mod elf;
mod layout;
pub mod tree;

use base::{Base, BaseError};
use bom::Materials;
use crates::{Linked, Source, SourceError};
use debian::{PackageError, Store};
use elf::{Linkage, LinkageError, Machine};
use layout::{Image, Layout};
use tree::{Node, Tree};

/// The programs in the image.
pub const PROGRAMS: [&str; 3] = ["allocator", "lbnodeagent", "purelb"];

/// The bill of materials in the image.
pub const BILL: &str = "usr/share/doc/purelb/sbom.cdx.json";

/// What an image is made of, and where it goes.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The folder with the programs.
    pub programs: PathBuf,
    /// The folder with Debian's packages; what is missing there is fetched.
    pub packages: PathBuf,
    /// The folder that the image is written into.
    pub output: PathBuf,
    /// The name that it gets where it is loaded, without the tag, which is the version.
    pub name: String,
    /// When it is made, in seconds since 1970.
    pub created: i64,
}

/// An image that was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// Its name with the tag.
    pub name: String,
    /// Its digest.
    pub digest: String,
    /// What it weighs, in bytes, compressed.
    pub size: usize,
    /// The folder with its parts.
    pub folder: PathBuf,
    /// The same in one file.
    pub archive: PathBuf,
    /// The bill of materials.
    pub bill: PathBuf,
}

/// Why an image was not built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// Debian's part cannot be made.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// Nobody knows what is in the programs.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A file or folder is not as it should be.
    #[error("cannot read or write {}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program is not there.
    #[error("there is no program {}: build it, or name the folder of the programs", path.display())]
    MissingProgram {
        /// Which one.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// Nobody may be given a crate without its licence.
    #[error("the crate {0} comes without the text of its licence")]
    NoLicence(String),
    /// Packages are not to be had.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A program is none.
    #[error("cannot put {} into an image", path.display())]
    Program {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: LinkageError,
    },
    /// The programs are for different machines.
    #[error("the programs are for different machines")]
    SeveralMachines,
    /// Something else is where the image should go.
    #[error("{} is there and is no image: name another folder for the output", .0.display())]
    Taken(PathBuf),
    /// No time of this calendar.
    #[error("{0} seconds since 1970 is no time: give another SOURCE_DATE_EPOCH")]
    Time(i64),
}

/// Builds the image that a recipe describes; asks cargo, in the current directory, what is in the programs.
///
/// # Errors
///
/// If a program is missing or none, a package cannot be had, something comes without a licence, or the output
/// cannot be written; an earlier image in its place stays until all of the new one is there to be written.
pub fn build(recipe: &Recipe) -> Result<Built, BuildError> {
    let created = jiff::Timestamp::from_second(recipe.created);
    let created = created.map_err(|_| BuildError::Time(recipe.created))?.to_string();
    let programs = Programs::read(&recipe.programs)?;
    let source = crates::source(programs.machine)?;
    let store = Store::open(&recipe.packages)?;
    let base = base::base(&store, programs.machine, &programs.needed)?;

    let packages = base.packages.values().collect();
    let bill = bom::bill(&Materials {
        created: &created,
        programs: programs.files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect(),
        source: &source,
        packages,
    });
    let bill = format!("{bill:#}\n");
    let own = own_files(&programs, &source, &bill)?;
    let name = format!("{}:{}", recipe.name, source.version);
    let image = Image {
        name: &name,
        version: &source.version,
        architecture: programs.machine.architecture(),
        created: &created,
        layers: vec![
            (what_is_debians(&base), &base.tree),
            (format!("PureLB {}", source.version), &own),
        ],
    };
    let layout = image.lay_out().map_err(at(&recipe.output))?;
    write(recipe, name, &layout, &bill)
}

/// The programs, and what they ask of their surroundings.
struct Programs {
    files: Vec<(&'static str, Vec<u8>)>,
    machine: Machine,
    needed: BTreeSet<String>,
}

impl Programs {
    fn read(folder: &Path) -> Result<Self, BuildError> {
        let (mut files, mut needed, mut machines) = (Vec::new(), BTreeSet::new(), Vec::new());
        for name in PROGRAMS {
            let path = folder.join(name);
            let bytes = fs::read(&path)
                .map_err(|source| BuildError::MissingProgram { path: path.clone(), source })?;
            let linkage = elf::linkage(&bytes);
            let Linkage { machine, interpreter, needed: libraries } =
                linkage.map_err(|source| BuildError::Program { path, source })?;
            machines.push(machine);
            needed.extend(libraries.into_iter().chain(interpreter));
            files.push((name, bytes));
        }
        let machine = machines[0];
        if machines.iter().any(|other| *other != machine) {
            return Err(BuildError::SeveralMachines);
        }
        Ok(Self { files, machine, needed })
    }
}

/// The layer with the programs, what they are made of, and who may copy that.
fn own_files(programs: &Programs, source: &Source, bill: &str) -> Result<Tree, BuildError> {
    let mut tree = Tree::default();
    for (name, bytes) in &programs.files {
        tree.insert(&format!("usr/bin/{name}"), Node::program(bytes.as_slice()));
    }
    let license = source.root.join("LICENSE");
    let text = fs::read(&license).map_err(at(&license))?;
    tree.insert("usr/share/doc/purelb/LICENSE", Node::text(text));
    tree.insert(BILL, Node::text(bill));
    for linked in source.crates.iter().filter(|linked| !linked.is_ours()) {
        let folder = format!("usr/share/doc/purelb/crates/{}-{}", linked.name, linked.version);
        let files = source.licence_files(linked)?;
        if files.is_empty() {
            tree.insert(&format!("{folder}/LICENSE"), common_licence(linked)?);
        }
        for (file, text) in files {
            tree.insert(&format!("{folder}/{file}"), Node::text(text));
        }
    }
    Ok(tree)
}

/// The text of a licence that Debian has, for a crate without one of its own.
fn common_licence(linked: &Linked) -> Result<Node, BuildError> {
    match linked.license.as_deref() {
        Some("Apache-2.0") => Ok(Node::Link("/usr/share/common-licenses/Apache-2.0".to_owned())),
        Some(_) | None => Err(BuildError::NoLicence(linked.name.clone())),
    }
}

fn what_is_debians(base: &Base) -> String {
    let packages = base.packages.values();
    let packages: Vec<_> = packages.map(|it| format!("{} {}", it.name, it.version)).collect();
    format!("Debian: {}", packages.join(", "))
}

/// Writes an image in the place of an earlier one.
fn write(recipe: &Recipe, name: String, layout: &Layout, bill: &str) -> Result<Built, BuildError> {
    let output = &recipe.output;
    let built = Built {
        name,
        digest: layout.digest.clone(),
        size: layout.size,
        folder: output.join("oci"),
        archive: output.join("purelb.oci.tar"),
        bill: output.join("sbom.cdx.json"),
    };
    if built.folder.exists() {
        if !built.folder.join(layout::MARK).exists() {
            return Err(BuildError::Taken(built.folder));
        }
        fs::remove_dir_all(&built.folder).map_err(at(&built.folder))?;
    }
    fs::create_dir_all(&built.folder).map_err(at(&built.folder))?;
    for (path, node) in layout.tree.iter() {
        let path = built.folder.join(path);
        match node {
            Node::File { bytes, .. } => fs::write(&path, bytes).map_err(at(&path))?,
            Node::Folder { .. } => fs::create_dir_all(&path).map_err(at(&path))?,
            Node::Link(_) => {}
        }
    }
    let archive = layout.tree.to_tar().map_err(at(&built.archive))?;
    fs::write(&built.archive, archive).map_err(at(&built.archive))?;
    fs::write(&built.bill, bill).map_err(at(&built.bill))?;
    Ok(built)
}

fn at(path: &Path) -> impl Fn(io::Error) -> BuildError {
    move |source| BuildError::File { path: path.to_owned(), source }
}
