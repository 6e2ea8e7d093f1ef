//! The fields of a custom resource, out of its schema.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};

use super::row;

/// What is told of a custom resource.
pub(crate) fn section(definition: &CustomResourceDefinition) -> String {
    let names = &definition.spec.names;
    let version = &definition.spec.versions[0];
    let schema = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    let shorts = names.short_names.iter().flatten().map(|name| format!("`{name}`"));
    let shorts = shorts.collect::<Vec<_>>().join(", ");
    let about = schema.description.as_deref().unwrap_or_default();
    let group = &definition.spec.group;
    let mut section = format!(
        "## {}\n\n{about} `{group}/{}`; for `kubectl` also {shorts}.\n\n| field | type | default | meaning |\n|---|---|---|---|\n",
        names.kind, version.name
    );
    let mut rules = Vec::new();
    for part in ["spec", "status"] {
        if let Some(schema) = schema.properties.as_ref().and_then(|all| all.get(part)) {
            fields(part, schema, &mut section, &mut rules);
        }
    }
    if !rules.is_empty() {
        section.push_str("\nThe API refuses what breaks one of these rules:\n\n");
        section.extend(rules.iter().map(|rule| format!("* {rule}\n")));
    }
    section.push('\n');
    section
}

/// Adds a row for each field below `path`, and what the API checks.
fn fields(path: &str, schema: &JSONSchemaProps, rows: &mut String, rules: &mut Vec<String>) {
    for rule in schema.x_kubernetes_validations.iter().flatten() {
        let message = rule.message.as_deref().unwrap_or(&rule.rule);
        rules.push(format!("`{path}`: {message}"));
    }
    for (name, field) in schema.properties.iter().flatten() {
        let list = item(field);
        let path = format!("{path}.{name}{}", if list.is_some() { "[]" } else { "" });
        let required = schema.required.iter().flatten().any(|required| required == name);
        let default = field.default.as_ref().map(|value| value.0.to_string());
        let default = default
            .filter(|text| text != "\"\"")
            .map(|text| format!("`{}`", text.trim_matches('"')));
        let default = default.unwrap_or_else(|| if required { "required" } else { "" }.to_owned());
        let about = field.description.as_deref().unwrap_or_default().replace('\n', " ");
        rows.push_str(&row(&[&format!("`{path}`"), &kind(field), &default, &about]));
        fields(&path, list.unwrap_or(field), rows, rules);
    }
}

fn item(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => Some(item),
        Some(JSONSchemaPropsOrArray::Schemas(_)) | None => None,
    }
}

/// The type, and what of it is allowed.
fn kind(schema: &JSONSchemaProps) -> String {
    if let Some(item) = item(schema) {
        return format!("list of {}", kind(item));
    }
    if let Some(values) = &schema.enum_ {
        let values =
            values.iter().map(|value| format!("`{}`", value.0.to_string().trim_matches('"')));
        return values.collect::<Vec<_>>().join(", ");
    }
    let kind = schema.type_.as_deref().unwrap_or("any");
    let whole = |number: f64| format!("{number:.0}");
    match (schema.minimum.map(whole), schema.maximum.map(whole)) {
        (Some(least), Some(most)) => format!("{kind}, {least} to {most}"),
        (Some(least), None) => format!("{kind}, at least {least}"),
        (None, Some(most)) => format!("{kind}, at most {most}"),
        (None, None) => kind.to_owned(),
    }
}
