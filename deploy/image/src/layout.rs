//! An image as OCI lays it out: a folder of blobs by their digests, and the same as one archive.

use std::io::{self, Write};

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};

use crate::digest::digest;
use crate::tree::{Node, Tree};

/// What the folder of an image says that it is.
pub(crate) const MARK: &str = "oci-layout";

/// What is to be laid out.
#[derive(Debug)]
pub(crate) struct Image<'a> {
    /// The name, with registry and tag, that it gets where it is loaded.
    pub(crate) name: &'a str,
    /// The version of what is in it.
    pub(crate) version: &'a str,
    /// The processor, as Debian and OCI write it.
    pub(crate) architecture: &'a str,
    /// When it is made, by RFC 3339.
    pub(crate) created: &'a str,
    /// The layers from the lowest, each with what it is.
    pub(crate) layers: Vec<(String, &'a Tree)>,
}

/// An image that is laid out.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Its files.
    pub(crate) tree: Tree,
    /// The digest of its manifest, which is that of the image.
    pub(crate) digest: String,
    /// What its blobs weigh together, in bytes.
    pub(crate) size: usize,
}

impl Image<'_> {
    /// Makes all files of the layout.
    pub(crate) fn lay_out(&self) -> io::Result<Layout> {
        let mut blobs = Blobs::default();
        let (mut layers, mut uncompressed, mut history) = (Vec::new(), Vec::new(), Vec::new());
        for (what, tree) in &self.layers {
            let archive = tree.to_tar()?;
            uncompressed.push(digest(&archive));
            layers.push(
                blobs.add("application/vnd.oci.image.layer.v1.tar+gzip", compress(&archive)?),
            );
            history.push(json!({"created": self.created, "created_by": what}));
        }
        let config = json!({
            "created": self.created,
            "architecture": self.architecture,
            "os": "linux",
            "config": {
                "Env": ["PATH=/usr/sbin:/usr/bin"],
                "Cmd": ["purelb", "--help"],
                "WorkingDir": "/",
                "Labels": self.labels(),
            },
            "rootfs": {"type": "layers", "diff_ids": uncompressed},
            "history": history,
        });
        let config = blobs.add("application/vnd.oci.image.config.v1+json", bytes(&config));
        let manifest = bytes(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": layers,
            "annotations": self.labels(),
        }));
        let whole = digest(&manifest);
        let mut manifest = blobs.add(MANIFEST, manifest);
        // containerd and podman read the first, skopeo and umoci the second.
        manifest["annotations"] = json!({
            "io.containerd.image.name": self.name,
            "org.opencontainers.image.ref.name": self.version,
        });
        manifest["platform"] = json!({"architecture": self.architecture, "os": "linux"});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]});
        let Blobs { mut tree, size } = blobs;
        tree.insert(MARK, Node::text(r#"{"imageLayoutVersion":"1.0.0"}"#));
        tree.insert("index.json", Node::text(bytes(&index)));
        Ok(Layout { tree, digest: whole, size })
    }

    fn labels(&self) -> Value {
        json!({
            "org.opencontainers.image.title": "PureLB",
            "org.opencontainers.image.version": self.version,
            "org.opencontainers.image.licenses": "Apache-2.0",
        })
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[derive(Debug, Default)]
struct Blobs {
    tree: Tree,
    size: usize,
}

impl Blobs {
    /// Adds one; its descriptor.
    fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let (digest, size) = (digest(&bytes), bytes.len());
        self.size += size;
        self.tree.insert(&format!("blobs/{}", digest.replace(':', "/")), Node::text(bytes));
        json!({"mediaType": media_type, "digest": digest, "size": size})
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// Compresses without a time or a name in the header.
fn compress(archive: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
    encoder.write_all(archive)?;
    encoder.finish()
}
