//! The custom resources of PureLB, group `purelb.io`, version `v2`, as the API has them.
//!
//! Their definitions in `deploy/crds` are generated from these types; a test keeps the two equal.
//! Sense is made of them in [`convert`](crate::convert).

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

pub use lb_node_agent::{LBNodeAgent, LBNodeAgentSpec};
pub use service_group::{ServiceGroup, ServiceGroupSpec, ServiceGroupStatus};

pub mod lb_node_agent;
#[allow(unreachable_pub, reason = "the derived schema repeats each type inside a function")]
#[allow(clippy::duplicated_attributes, reason = "printer columns repeat their types")]
pub mod service_group;

/// The API group.
pub const GROUP: &str = "purelb.io";

/// The API version.
pub const VERSION: &str = "v2";

/// The definitions of our resources, each with the name of its file in `deploy/crds`.
pub fn definitions() -> [(&'static str, CustomResourceDefinition); 2] {
    let (mut agents, mut groups) = (LBNodeAgent::crd(), ServiceGroup::crd());
    for version in &mut agents.spec.versions {
        // As in the Go PureLB, its status is an ordinary field.
        version.subresources = None;
    }
    for version in agents.spec.versions.iter_mut().chain(&mut groups.spec.versions) {
        version
            .schema
            .iter_mut()
            .flat_map(|schema| &mut schema.open_api_v3_schema)
            .for_each(refuse_null);
    }
    [("purelb.io_lbnodeagents.yaml", agents), ("purelb.io_servicegroups.yaml", groups)]
}

/// A definition as YAML.
///
/// # Errors
///
/// None for our definitions, which have no value that YAML cannot hold.
pub fn to_yaml(definition: &CustomResourceDefinition) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(definition)
}

/// Makes an optional field one that may be left out, but not be null: `has()` in a rule would take
/// null for a value.
fn refuse_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema
        .properties
        .iter_mut()
        .flat_map(|properties| properties.values_mut())
        .for_each(refuse_null);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        refuse_null(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        refuse_null(values);
    }
}
