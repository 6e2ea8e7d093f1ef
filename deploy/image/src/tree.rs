//! Files as a layer has them, or a package.

use std::collections::BTreeMap;
use std::io;

use tar::{Builder, EntryType, Header};

/// Files by their paths from the root, without a slash at the start. Every file's folders are there too.
#[derive(Clone, Debug, Default)]
pub struct Tree(BTreeMap<String, Node>);

/// One file, folder or link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A file.
    File {
        /// What is in it.
        bytes: Vec<u8>,
        /// Whether it can be run.
        is_executable: bool,
    },
    /// A folder.
    Folder {
        /// Who may do what in it.
        mode: u32,
    },
    /// A symbolic link, with its target.
    Link(String),
}

impl Node {
    /// A file that is not run.
    pub fn text(bytes: impl Into<Vec<u8>>) -> Self {
        Self::File { bytes: bytes.into(), is_executable: false }
    }

    /// A file that is run.
    pub fn program(bytes: impl Into<Vec<u8>>) -> Self {
        Self::File { bytes: bytes.into(), is_executable: true }
    }

    fn folder() -> Self {
        Self::Folder { mode: 0o755 }
    }
}

impl Tree {
    /// Adds a node, and the folders that it is in.
    pub fn insert(&mut self, path: &str, node: Node) {
        for (end, _) in path.match_indices('/') {
            self.0.entry(path[..end].to_owned()).or_insert_with(Node::folder);
        }
        self.0.insert(path.to_owned(), node);
    }

    /// What is at that very path, if anything.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.0.get(path)
    }

    /// All of it, in the order of the paths: a folder before what is in it.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// A tar archive that depends on nothing but paths, modes and contents: everything is root's, and as old
    /// as can be.
    ///
    /// # Errors
    ///
    /// If a path or a link is too long for the format.
    pub fn to_tar(&self) -> io::Result<Vec<u8>> {
        let mut archive = Builder::new(Vec::new());
        for (path, node) in self.iter() {
            let mut header = Header::new_gnu();
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            match node {
                Node::File { bytes, is_executable } => {
                    header.set_mode(if *is_executable { 0o755 } else { 0o644 });
                    header.set_size(bytes.len() as u64);
                    archive.append_data(&mut header, path, bytes.as_slice())?;
                }
                Node::Folder { mode } => {
                    header.set_entry_type(EntryType::Directory);
                    header.set_mode(*mode);
                    header.set_size(0);
                    archive.append_data(&mut header, format!("{path}/"), io::empty())?;
                }
                Node::Link(target) => {
                    header.set_entry_type(EntryType::Symlink);
                    header.set_mode(0o777);
                    header.set_size(0);
                    archive.append_link(&mut header, path, target)?;
                }
            }
        }
        archive.into_inner()
    }
}

/// Where a link leads, from the path that it is at; the root is the folder that paths start from.
pub fn resolve(path: &str, target: &str) -> String {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let whole = match target.strip_prefix('/') {
        Some(absolute) => absolute.to_owned(),
        None => format!("{folder}/{target}"),
    };
    let mut parts = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    merged(&parts.join("/"))
}

/// The path that a file has where `/bin`, `/lib` and the like are links into `/usr`.
pub fn merged(path: &str) -> String {
    let first = path.split('/').next().unwrap_or_default();
    let moved = MERGED.contains(&first) && path.len() > first.len();
    if moved { format!("usr/{path}") } else { path.to_owned() }
}

/// The folders at the root that are links into `/usr`.
pub const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

    use super::*;

    #[test]
    fn a_link_leads_where_the_kernel_would_go() {
        assert_eq!(
            resolve("usr/lib/x/libelf.so.1", "libelf-0.188.so"),
            "usr/lib/x/libelf-0.188.so"
        );
        assert_eq!(resolve("etc/os-release", "../usr/lib/os-release"), "usr/lib/os-release");
        assert_eq!(resolve("usr/lib64/ld.so", "/lib/x/ld.so"), "usr/lib/x/ld.so");
        assert_eq!(merged("bin"), "bin");
        assert_eq!(merged("bin/ip"), "usr/bin/ip");
        assert_eq!(merged("library/x"), "library/x");
    }

    #[test]
    fn an_archive_has_folders_before_files_and_nothing_of_this_machine() {
        let mut tree = Tree::default();
        tree.insert("usr/bin/b", Node::program("b"));
        tree.insert("usr/a", Node::text("a"));
        tree.insert("tmp", Node::Folder { mode: 0o1777 });
        let bytes = tree.to_tar().unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(
                (header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()),
                (0, 0, 0)
            );
            let path = entry.path().unwrap().into_owned();
            (path.to_str().unwrap().to_owned(), header.mode().unwrap())
        });
        let expected = [
            ("tmp/", 0o1777),
            ("usr/", 0o755),
            ("usr/a", 0o644),
            ("usr/bin/", 0o755),
            ("usr/bin/b", 0o755),
        ];
        let expected: Vec<_> = expected.map(|(path, mode)| (path.to_owned(), mode)).into();
        assert_eq!(entries.collect::<Vec<_>>(), expected);
    }
}
