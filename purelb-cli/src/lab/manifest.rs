//! The programs' pods, out of the very manifests that a cluster gets.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::namespace::Namespace;

const ALLOCATOR: &str = include_str!("../../../deploy/base/allocator.yaml");
const NODE_AGENT: &str = include_str!("../../../deploy/base/lbnodeagent.yaml");

/// The namespace that the programs live in.
pub const NAMESPACE: &str = "purelb";

/// What Kubernetes makes the ends of names of.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// One of PureLB's programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// The Deployment.
    Allocator,
    /// The DaemonSet.
    NodeAgent,
}

impl Component {
    /// What the program, its container and its label are called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allocator => "allocator",
            Self::NodeAgent => "lbnodeagent",
        }
    }

    fn manifest(self) -> &'static str {
        match self {
            Self::Allocator => ALLOCATOR,
            Self::NodeAgent => NODE_AGENT,
        }
    }

    /// The name of the component's pod at that place. Kubernetes would roll dice for the end of it; here a
    /// place always has the same, so that what is written about a lab is true of the next.
    pub fn pod(self, place: &str) -> String {
        let own = suffix(5, &[self.name(), place]);
        match self {
            Self::Allocator => {
                format!("{}-{}-{own}", self.name(), suffix(9, &[self.name()]))
            }
            Self::NodeAgent => format!("{}-{own}", self.name()),
        }
    }
}

/// The pod of a program that runs in `namespace` with those arguments, as its controller would make it out
/// of the manifest.
///
/// # Panics
///
/// If the manifest of this source tree is none.
pub fn pod(component: Component, namespace: &Namespace, arguments: &[&str]) -> Value {
    let objects: Vec<Value> = serde_saphyr::from_multiple(component.manifest())
        .unwrap_or_else(|error| unreachable!("a test reads the manifests: {error}"));
    let controller = objects.iter().find(|object| !object["spec"]["template"].is_null());
    let mut pod = controller.map(|object| object["spec"]["template"].clone()).unwrap_or_default();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!(component.pod(namespace.name()));
    pod["metadata"]["namespace"] = json!(NAMESPACE);
    pod["spec"]["nodeName"] = json!(namespace.name());
    pod["spec"]["containers"][0]["args"] = json!(arguments);
    pod
}

/// The environment of commands in a pod: the program's own, what its manifest adds, and first on its path
/// the directory of the programs of its image.
pub fn environment(
    namespace: &Namespace,
    own: &[(&str, &OsStr)],
    programs: &Path,
) -> Vec<(OsString, OsString)> {
    let outside = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(programs.to_owned()).chain(std::env::split_paths(&outside));
    // A directory with a colon in its name cannot be on a path.
    let path = std::env::join_paths(path).unwrap_or(outside);
    let added = [
        ("PATH", path.as_os_str()),
        ("HOSTNAME", namespace.name().as_ref()),
        ("PURELB_NAMESPACE", NAMESPACE.as_ref()),
        ("PURELB_NODE_NAME", namespace.name().as_ref()),
    ];
    let all = own.iter().copied().chain(added);
    all.map(|(name, value)| (name.into(), value.into())).collect()
}

/// The addresses of a pod, the first one first.
pub fn addresses(addresses: &[IpAddr]) -> Value {
    let list: Vec<Value> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
    json!({"podIP": addresses.first(), "podIPs": list, "hostIP": addresses.first()})
}

/// Letters that always are the same for the same words (FNV-1a).
fn suffix(length: usize, words: &[&str]) -> String {
    let bytes = words.iter().flat_map(|word| word.bytes().chain([0]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let letters = LETTERS.len() as u64;
    let digits = std::iter::successors(Some(hash), |rest| Some(rest / letters));
    let letter = |rest: u64| char::from(LETTERS[usize::try_from(rest % letters).unwrap_or(0)]);
    digits.take(length).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::require;

    #[test]
    fn pods_are_what_the_manifests_make_of_them() {
        require::privileged(|| {
            let node = Namespace::new("node1").unwrap();
            let agent = pod(Component::NodeAgent, &node, &["--node-name", "node1"]);
            assert_eq!(agent["metadata"]["labels"]["app.kubernetes.io/name"], "purelb");
            assert_eq!(agent["metadata"]["labels"]["app.kubernetes.io/component"], "lbnodeagent");
            assert_eq!(agent["spec"]["containers"][0]["name"], "lbnodeagent");
            assert_eq!(agent["spec"]["hostNetwork"], true);
            let allocator = pod(Component::Allocator, &node, &[]);
            let environment = &allocator["spec"]["containers"][0]["env"];
            let announcer = json!({"name": "DEFAULT_ANNOUNCER", "value": "PureLB"});
            assert!(environment.as_array().unwrap().contains(&announcer), "{environment}");
        });
    }

    #[test]
    fn names_are_like_those_that_kubernetes_makes_and_differ_by_place() {
        let names = ["node1", "node2", "node3"].map(|node| Component::NodeAgent.pod(node));
        for name in &names {
            let end = name.strip_prefix("lbnodeagent-").unwrap();
            assert!(end.len() == 5 && end.bytes().all(|b| LETTERS.contains(&b)), "{name}");
        }
        assert!(names[0] != names[1] && names[1] != names[2], "{names:?}");
        let allocator = Component::Allocator.pod("hub");
        assert_eq!(allocator.split('-').map(str::len).collect::<Vec<_>>(), [9, 9, 5]);
    }
}
