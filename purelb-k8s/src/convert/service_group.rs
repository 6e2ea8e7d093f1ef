//! ServiceGroups.

use kube::api::DynamicObject;
use purelb_core::group::{GroupSpec, PoolSpec, PoolsSpec, ServiceGroup};
use purelb_core::name::{GroupName, Namespace, Uid};
use purelb_core::usage::GroupStatus;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::service_group::{
    AddressPool, ExternalSpec, LocalSpec, RemoteSpec, ServiceGroupStatus,
};

/// A ServiceGroup as the core sees it. One that cannot be read becomes [`GroupSpec::Malformed`].
pub fn service_group(object: &DynamicObject) -> ServiceGroup {
    let metadata = &object.metadata;
    let spec = &object.data["spec"];
    let namespaces = field::<Vec<String>>(spec, "namespaces");
    let enforce_namespaces = field::<bool>(spec, "enforceNamespaces");
    let namespace_default = field::<bool>(spec, "namespaceDefault");
    let error = [
        namespaces.as_ref().err(),
        enforce_namespaces.as_ref().err(),
        namespace_default.as_ref().err(),
    ]
    .into_iter()
    .flatten()
    .next();
    ServiceGroup {
        name: GroupName::from(metadata.name.as_deref().unwrap_or_default()),
        uid: Uid::from(metadata.uid.as_deref().unwrap_or_default()),
        generation: metadata.generation.unwrap_or_default(),
        kind: match error {
            Some(error) => GroupSpec::Malformed { error: error.clone() },
            None => kind(spec).unwrap_or_else(|error| GroupSpec::Malformed { error }),
        },
        namespaces: names(given(namespaces)),
        enforce_namespaces: given(enforce_namespaces),
        namespace_default: given(namespace_default),
        status: ServiceGroupStatus::deserialize(&object.data["status"]).ok().map(observed),
    }
}

/// A status of ours, as the API has it.
pub fn status(status: &GroupStatus) -> ServiceGroupStatus {
    let bound = status.bound_namespaces.iter().map(ToString::to_string);
    ServiceGroupStatus {
        announce: status.announce.clone(),
        ipam: status.ipam.clone(),
        addresses: status.addresses.clone(),
        allocated_ipv4: status.allocated_v4,
        allocated_ipv6: status.allocated_v6,
        available_ipv4: status.available_v4,
        available_ipv6: status.available_v6,
        bound_namespaces: bound.collect(),
    }
}

fn observed(status: ServiceGroupStatus) -> GroupStatus {
    GroupStatus {
        announce: status.announce,
        ipam: status.ipam,
        addresses: status.addresses,
        allocated_v4: status.allocated_ipv4,
        allocated_v6: status.allocated_ipv6,
        available_v4: status.available_ipv4,
        available_v6: status.available_ipv6,
        bound_namespaces: names(status.bound_namespaces),
    }
}

fn names(names: Vec<String>) -> Vec<Namespace> {
    names.into_iter().map(Into::into).collect()
}

/// The value of a field, or what it is when it is absent.
fn given<T: Default>(field: Result<Option<T>, String>) -> T {
    field.ok().flatten().unwrap_or_default()
}

fn kind(spec: &Value) -> Result<GroupSpec, String> {
    let local: Option<LocalSpec> = field(spec, "local")?;
    let remote: Option<RemoteSpec> = field(spec, "remote")?;
    let external: Option<ExternalSpec> = field(spec, "external")?;
    match (local, remote, external) {
        (Some(local), None, None) => Ok(GroupSpec::Local {
            pools: PoolsSpec {
                v4: pools("v4pool", local.v4pools, local.v4pool),
                v6: pools("v6pool", local.v6pools, local.v6pool),
                multi_pool: local.multi_pool,
                balance_pools: local.balance_pools,
            },
            skip_ipv6_dad: local.skip_ipv6_dad,
        }),
        (None, Some(remote), None) => Ok(GroupSpec::Remote {
            pools: PoolsSpec {
                v4: pools("v4pool", remote.v4pools, remote.v4pool),
                v6: pools("v6pool", remote.v6pools, remote.v6pool),
                multi_pool: remote.multi_pool,
                balance_pools: remote.balance_pools,
            },
        }),
        (None, None, Some(external)) => Ok(GroupSpec::External {
            announce: external.announce,
            provider: external.provider,
            socket: external.socket,
        }),
        _ => Err("exactly one of spec.local, spec.remote and spec.external must be given".into()),
    }
}

/// The ranges of one family in the order in which they are used: the list, then the single one.
fn pools(name: &str, list: Vec<AddressPool>, single: Option<AddressPool>) -> Vec<PoolSpec> {
    let list = list.into_iter().enumerate().map(|(n, pool)| (format!("{name}s[{n}]"), pool));
    let single = single.into_iter().map(|pool| (name.to_owned(), pool));
    list.chain(single)
        .map(|(field, AddressPool { pool, subnet, aggregation })| PoolSpec {
            field,
            pool,
            subnet,
            aggregation,
        })
        .collect()
}

/// One field of a spec, if it is there.
pub(super) fn field<T: DeserializeOwned>(spec: &Value, name: &str) -> Result<Option<T>, String> {
    match spec.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            T::deserialize(value).map(Some).map_err(|error| format!("spec.{name}: {error}"))
        }
    }
}
