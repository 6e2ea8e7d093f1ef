//! PureLB's own kinds, by their definitions in [`api`](crate::api).

use std::sync::LazyLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::kind::Kind;
use super::refusal::Complaint;
use super::schema;

/// What this API needs of a CustomResourceDefinition.
#[derive(Debug)]
pub(super) struct Definition {
    kind: String,
    pub(super) schema: Value,
    /// `additionalPrinterColumns` as they stand in the definition.
    pub(super) columns: Vec<Value>,
}

/// The definitions of all custom kinds.
pub(super) static DEFINITIONS: LazyLock<Vec<Definition>> = LazyLock::new(|| {
    let definitions = crate::api::definitions().into_iter();
    let read = definitions.filter_map(|(_, definition)| serde_json::to_value(definition).ok());
    read.map(|definition: Value| {
        let version = &definition["spec"]["versions"][0];
        Definition {
            kind: definition["spec"]["names"]["kind"].as_str().unwrap_or_default().to_owned(),
            schema: version["schema"]["openAPIV3Schema"].clone(),
            columns: version["additionalPrinterColumns"].as_array().cloned().unwrap_or_default(),
        }
    })
    .collect()
});

/// The definition of a kind; built-in kinds have none.
pub(super) fn definition(kind: &Kind) -> Option<&'static Definition> {
    DEFINITIONS.iter().find(|definition| definition.kind == kind.name)
}

/// Brings an object into its stored form: unknown fields go, defaults come.
pub(super) fn decode(kind: &Kind, mut object: Value) -> Result<Value, String> {
    let metadata: ObjectMeta =
        serde_json::from_value(object["metadata"].take()).map_err(|e| e.to_string())?;
    if let Some(definition) = definition(kind) {
        schema::prune(&definition.schema, &mut object);
        schema::fill(&definition.schema, &mut object);
    }
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.name.into();
    object["metadata"] = serde_json::to_value(metadata).map_err(|e| e.to_string())?;
    Ok(object)
}

/// What is wrong with an object, by its schema and the rules there.
pub(super) fn check(kind: &Kind, object: &Value) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    if let Some(definition) = definition(kind) {
        schema::check(&definition.schema, object, "", obeys, &mut complaints);
    }
    complaints
}

type Meaning = fn(&Value) -> bool;

/// The rules of our definitions, each with its meaning. There is no interpreter for their
/// language here; a test fails when a definition has a rule that is not in this table.
const RULES: [(&str, Meaning); 8] = [
    (
        "(has(self.local) ? 1 : 0) + (has(self.remote) ? 1 : 0) + (has(self.external) ? 1 : 0) == 1",
        |spec| {
            ["local", "remote", "external"].iter().filter(|f| spec.get(f).is_some()).count() == 1
        },
    ),
    ("!self.enforceNamespaces || (has(self.namespaces) && size(self.namespaces) > 0)", |spec| {
        spec["enforceNamespaces"] != true || has_items(&spec["namespaces"])
    }),
    ("!self.namespaceDefault || (has(self.namespaces) && size(self.namespaces) > 0)", |spec| {
        spec["namespaceDefault"] != true || has_items(&spec["namespaces"])
    }),
    ("!self.multiPool || !self.balancePools", |pools| {
        pools["multiPool"] != true || pools["balancePools"] != true
    }),
    ("!has(self.v4pool) || !self.v4pool.pool.contains(':')", |pools| {
        pools.get("v4pool").is_none_or(|pool| !is_v6(pool))
    }),
    ("!has(self.v6pool) || self.v6pool.pool.contains(':')", |pools| {
        pools.get("v6pool").is_none_or(is_v6)
    }),
    ("!has(self.v4pools) || self.v4pools.all(p, !p.pool.contains(':'))", |pools| {
        pools["v4pools"].as_array().is_none_or(|all| !all.iter().any(is_v6))
    }),
    ("!has(self.v6pools) || self.v6pools.all(p, p.pool.contains(':'))", |pools| {
        pools["v6pools"].as_array().is_none_or(|all| all.iter().all(is_v6))
    }),
];

fn obeys(rule: &str, value: &Value) -> bool {
    RULES.iter().find(|(text, _)| *text == rule).is_none_or(|(_, holds)| holds(value))
}

fn has_items(list: &Value) -> bool {
    list.as_array().is_some_and(|items| !items.is_empty())
}

fn is_v6(pool: &Value) -> bool {
    pool["pool"].as_str().is_some_and(|pool| pool.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::super::kind::{KINDS, Subresource};
    use super::*;

    fn rules_of(schema: &Value, rules: &mut Vec<String>) {
        match schema {
            Value::Object(fields) => {
                for rule in fields
                    .get("x-kubernetes-validations")
                    .into_iter()
                    .flat_map(|r| r.as_array().expect("a list of rules"))
                {
                    rules.push(rule["rule"].as_str().expect("a rule has a text").to_owned());
                }
                fields.values().for_each(|value| rules_of(value, rules));
            }
            Value::Array(items) => items.iter().for_each(|item| rules_of(item, rules)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn every_rule_of_our_definitions_has_its_meaning_here() {
        let mut rules = Vec::new();
        DEFINITIONS.iter().for_each(|definition| rules_of(&definition.schema, &mut rules));
        for rule in &rules {
            assert!(RULES.iter().any(|(text, _)| text == rule), "a new rule: {rule}");
        }
        for (text, _) in RULES {
            assert!(rules.iter().any(|rule| rule == text), "a rule that is gone: {text}");
        }
    }

    #[test]
    fn the_table_of_kinds_agrees_with_our_definitions() {
        for (_, definition) in crate::api::definitions() {
            let spec = definition.spec;
            let kind = KINDS.iter().find(|k| k.name == spec.names.kind).expect("a known kind");
            assert_eq!(kind.group, spec.group);
            assert_eq!(kind.plural, spec.names.plural);
            assert_eq!(Some(kind.singular), spec.names.singular.as_deref());
            assert_eq!(kind.short, spec.names.short_names.unwrap_or_default());
            let [version] = spec.versions.as_slice() else { panic!("more than one version") };
            assert_eq!(kind.version, version.name);
            let has_status = version.subresources.as_ref().is_some_and(|s| s.status.is_some());
            assert_eq!(kind.status == Subresource::Alone, has_status);
        }
    }
}
