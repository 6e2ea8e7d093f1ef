//! What a path stands for.

use super::kind::{Kind, PODS, Subresource};
use super::query;
use super::write::Target;

/// A place that requests go to.
#[derive(Clone, Debug)]
pub(super) enum Route {
    Health,
    Version,
    CoreVersions,
    Groups,
    Group(String),
    Resources {
        group: String,
        version: String,
    },
    OpenApiIndex,
    OpenApiV2,
    OpenApi {
        group: String,
        version: String,
    },
    /// All objects of a kind, in one namespace or in all.
    Collection {
        kind: &'static Kind,
        namespace: Option<String>,
    },
    /// One object, or its status.
    Item(Target),
    /// What a pod prints, or a command in it.
    Pod {
        namespace: String,
        name: String,
        connection: Connection,
    },
}

/// The ways to get in touch with what runs in a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    Log,
    Exec,
}

impl Route {
    /// Reads a path without its query.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let segments: Vec<String> =
            path.split('/').filter(|segment| !segment.is_empty()).map(query::decode).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let resources = |group: &str, version: &str| Self::Resources {
            group: group.to_owned(),
            version: version.to_owned(),
        };
        match segments.as_slice() {
            ["healthz" | "readyz" | "livez", ..] => Some(Self::Health),
            ["version"] => Some(Self::Version),
            ["api"] => Some(Self::CoreVersions),
            ["apis"] => Some(Self::Groups),
            ["apis", group] => Some(Self::Group((*group).to_owned())),
            ["openapi", "v2"] => Some(Self::OpenApiV2),
            ["openapi", "v3"] => Some(Self::OpenApiIndex),
            ["openapi", "v3", "api", version] => {
                Some(Self::OpenApi { group: String::new(), version: (*version).to_owned() })
            }
            ["openapi", "v3", "apis", group, version] => {
                Some(Self::OpenApi { group: (*group).to_owned(), version: (*version).to_owned() })
            }
            ["api", version] => Some(resources("", version)),
            ["apis", group, version] => Some(resources(group, version)),
            ["api", version, rest @ ..] => Self::parse_objects("", version, rest),
            ["apis", group, version, rest @ ..] => Self::parse_objects(group, version, rest),
            _ => None,
        }
    }

    fn parse_objects(group: &str, version: &str, rest: &[&str]) -> Option<Self> {
        let kind = |plural: &str| Kind::of_path(group, version, plural);
        let item = |plural: &str, namespace: &str, name: &str, status: bool| {
            let kind = kind(plural)?;
            let fits = kind.namespaced != namespace.is_empty()
                && (!status || kind.status != Subresource::None);
            let target =
                Target { kind, namespace: namespace.to_owned(), name: name.to_owned(), status };
            fits.then_some(Self::Item(target))
        };
        match *rest {
            ["namespaces", name, "status"] if group.is_empty() => {
                item("namespaces", "", name, true)
            }
            ["namespaces", namespace, plural] => {
                let kind = kind(plural).filter(|kind| kind.namespaced)?;
                Some(Self::Collection { kind, namespace: Some(namespace.to_owned()) })
            }
            ["namespaces", namespace, plural, name] => item(plural, namespace, name, false),
            ["namespaces", namespace, plural, name, "status"] => {
                item(plural, namespace, name, true)
            }
            ["namespaces", namespace, plural, name, connection] => {
                let connection = match connection {
                    "log" => Connection::Log,
                    "exec" => Connection::Exec,
                    _ => return None,
                };
                let (namespace, name) = (namespace.to_owned(), name.to_owned());
                let is_pod = kind(plural)?.shelf == PODS;
                is_pod.then_some(Self::Pod { namespace, name, connection })
            }
            [plural] => Some(Self::Collection { kind: kind(plural)?, namespace: None }),
            [plural, name] => item(plural, "", name, false),
            [plural, name, "status"] => item(plural, "", name, true),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn describe(path: &str) -> String {
        match Route::parse(path) {
            Some(Route::Collection { kind, namespace }) => {
                format!("{} in {}", kind.resource(), namespace.unwrap_or_else(|| "all".to_owned()))
            }
            Some(Route::Item(target)) => {
                let status = if target.status { " status" } else { "" };
                format!("{} {}/{}{status}", target.kind.resource(), target.namespace, target.name)
            }
            Some(Route::Pod { namespace, name, connection }) => {
                format!("{connection:?} of {namespace}/{name}")
            }
            Some(_) => "about the API".to_owned(),
            None => "nothing".to_owned(),
        }
    }

    #[test]
    fn paths_lead_to_objects() {
        for (path, what) in [
            ("/api/v1/services", "services in all"),
            ("/api/v1/namespaces/a/services", "services in a"),
            ("/api/v1/namespaces/a/services/b", "services a/b"),
            ("/api/v1/namespaces/a/services/b/status", "services a/b status"),
            ("/api/v1/namespaces", "namespaces in all"),
            ("/api/v1/namespaces/a", "namespaces /a"),
            ("/api/v1/namespaces/a/status", "namespaces /a status"),
            ("/api/v1/nodes/n%31", "nodes /n1"),
            ("/apis/purelb.io/v2/servicegroups", "servicegroups.purelb.io in all"),
            ("/apis/purelb.io/v2/namespaces/a/servicegroups/b", "servicegroups.purelb.io a/b"),
            ("/apis/coordination.k8s.io/v1/namespaces/a/leases/b/status", "nothing"),
            ("/api/v1/namespaces/a/pods/b/log", "Log of a/b"),
            ("/api/v1/namespaces/a/pods/b/exec", "Exec of a/b"),
            ("/api/v1/namespaces/a/pods/b/attach", "nothing"),
            ("/api/v1/namespaces/a/services/b/exec", "nothing"),
            ("/api/v1/services/a", "nothing"),
            ("/api/v1/namespaces/a/nodes", "nothing"),
            ("/api/v1/secrets", "nothing"),
            ("/api/v1", "about the API"),
            ("/readyz", "about the API"),
            ("/", "nothing"),
        ] {
            assert_eq!(describe(path), what, "{path}");
        }
    }
}
