//! Names and keys. Newtypes, so that one cannot be taken for another; copies share their text.

use std::fmt;
use std::sync::Arc;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.into())
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(name.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// What a kernel says of itself at boot (`/proc/sys/kernel/random/boot_id`).
    BootId
);
name!(
    /// A ServiceGroup, by its name in the install namespace.
    GroupName
);
name!(
    /// A Kubernetes namespace.
    Namespace
);
name!(
    /// A node of the cluster.
    NodeName
);
name!(
    /// The `metadata.resourceVersion` of an object as it was observed. Opaque: compared for equality
    /// only. (Leases have ordered ones of their own, [`Version`](crate::lease::Version).)
    ResourceVersion
);
name!(
    /// A Service, by its name in its namespace.
    ServiceName
);
name!(
    /// The value of `purelb.io/allow-shared-ip`: Services with equal keys may share an address.
    SharingKey
);
name!(
    /// A Kubernetes object for its whole life: one deleted and created again has another.
    Uid
);

/// A Service, by namespace and name.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name there.
    pub name: ServiceName,
}

impl ServiceKey {
    /// The Service `name` in `namespace`.
    pub fn new(namespace: impl Into<Namespace>, name: impl Into<ServiceName>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
