//! What is said in the source of the programs of what others read and write.

use std::fs;
use std::path::Path;

/// An annotation, as the documentation of its constant tells of it.
#[derive(Clone, Debug)]
pub(crate) struct Annotation {
    pub(crate) name: String,
    pub(crate) object: String,
    pub(crate) writer: String,
    pub(crate) meaning: String,
}

/// A file of the source.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// All Rust files below a folder.
pub(crate) fn all(folder: &str) -> Vec<String> {
    let (mut folders, mut files) = (vec![root().join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(fs::read_to_string(path).unwrap());
            }
        }
    }
    files
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// All annotations of ours.
pub(crate) fn annotations() -> Vec<Annotation> {
    let files = ["purelb-core/src/allocator/action.rs", "purelb-k8s/src/annotation.rs"];
    let items = files.iter().flat_map(|path| documented(&read(path)));
    let annotations = items.filter_map(|(item, doc)| {
        let (_, text) = item.strip_prefix("pub const ")?.split_once(": &str = \"")?;
        let name = text.strip_suffix("\";")?.to_owned();
        (name != "purelb.io/").then(|| annotation(name, &doc))
    });
    annotations.collect()
}

/// Takes "`name` (Object, by writer): meaning" apart.
fn annotation(name: String, doc: &str) -> Annotation {
    let parts = doc.strip_prefix(&format!("`{name}` (")).and_then(|rest| {
        let (who, meaning) = rest.split_once("): ")?;
        let (object, writer) = who.split_once(", by ")?;
        Some((object.to_owned(), writer.to_owned(), meaning.trim_end_matches('.').to_owned()))
    });
    let (object, writer, meaning) =
        parts.unwrap_or_else(|| panic!("{name} is not described as others are: {doc}"));
    Annotation { name, object, writer, meaning }
}

/// The reasons of the allocator's Events.
pub(crate) fn allocator_reasons() -> Vec<(String, String)> {
    let source = read("purelb-core/src/allocator/notice.rs");
    let (_, rest) = source.split_once("pub enum Reason {\n").unwrap();
    let (body, _) = rest.split_once("\n}").unwrap();
    let reasons = documented(body).into_iter();
    reasons.map(|(item, doc)| (item.trim_end_matches(',').to_owned(), doc)).collect()
}

/// Lines of code below documentation, with it.
fn documented(source: &str) -> Vec<(String, String)> {
    let (mut items, mut doc) = (Vec::new(), Vec::new());
    for line in source.lines().map(str::trim) {
        match line.strip_prefix("///") {
            Some(text) => doc.push(text.trim()),
            None if doc.is_empty() => {}
            None => items.push((line.to_owned(), std::mem::take(&mut doc).join(" "))),
        }
    }
    items
}
