//! Label and field selectors.

use serde_json::Value;

use super::kind::Kind;
use super::refusal::{self, Refusal};

/// Which objects of a kind a list or a watch is about.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    pub(super) namespace: Option<String>,
    labels: Vec<LabelRule>,
    fields: Vec<FieldRule>,
}

#[derive(Clone, Debug)]
enum LabelRule {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

#[derive(Clone, Debug)]
struct FieldRule {
    path: Vec<String>,
    equal: bool,
    value: String,
}

impl Filter {
    /// Reads the selectors of a query.
    ///
    /// # Errors
    ///
    /// 400 for a selector that cannot be read or a field that the kind cannot be selected by.
    pub(super) fn parse(
        kind: &Kind,
        namespace: Option<String>,
        labels: &str,
        fields: &str,
    ) -> Result<Self, Refusal> {
        let bad =
            |what: &str| refusal::bad_request(format!("unable to parse requirement: {what:?}"));
        let labels = split_outside_parentheses(labels)
            .map(|rule| LabelRule::parse(rule).ok_or_else(|| bad(rule)))
            .collect::<Result<_, _>>()?;
        let fields = fields
            .split(',')
            .filter(|rule| !rule.trim().is_empty())
            .map(|rule| FieldRule::parse(kind, rule.trim()))
            .collect::<Result<_, _>>()?;
        Ok(Self { namespace, labels, fields })
    }

    /// Whether an object, in its kind's own form, is selected.
    pub(super) fn selects(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        self.namespace.as_deref().is_none_or(|namespace| metadata["namespace"] == namespace)
            && self.labels.iter().all(|rule| rule.holds(&metadata["labels"]))
            && self.fields.iter().all(|rule| rule.holds(object))
    }
}

impl LabelRule {
    fn parse(rule: &str) -> Option<Self> {
        let rule = rule.trim();
        if let Some((head, values)) = rule.split_once('(') {
            let values = values.strip_suffix(')')?;
            let values = values.split(',').map(|v| v.trim().to_owned()).collect();
            let mut words = head.split_whitespace();
            let (key, operator) = (words.next()?.to_owned(), words.next()?);
            return match operator {
                "in" => Some(Self::In(key, values)),
                "notin" => Some(Self::NotIn(key, values)),
                _ => None,
            };
        }
        let pair = |key: &str, value: &str| (key.trim().to_owned(), vec![value.trim().to_owned()]);
        let parsed = if let Some((key, value)) = rule.split_once("!=") {
            let (key, values) = pair(key, value);
            Self::NotIn(key, values)
        } else if let Some((key, value)) = rule.split_once("==").or_else(|| rule.split_once('=')) {
            let (key, values) = pair(key, value);
            Self::In(key, values)
        } else if let Some(key) = rule.strip_prefix('!') {
            Self::Absent(key.trim().to_owned())
        } else {
            Self::Exists(rule.to_owned())
        };
        let (Self::In(key, _) | Self::NotIn(key, _) | Self::Exists(key) | Self::Absent(key)) =
            &parsed;
        (!key.is_empty() && !key.contains(char::is_whitespace)).then_some(parsed)
    }

    fn holds(&self, labels: &Value) -> bool {
        let is_one_of =
            |value: &Value, values: &[String]| values.iter().any(|wanted| value == wanted.as_str());
        match self {
            Self::In(key, values) => is_one_of(&labels[key.as_str()], values),
            Self::NotIn(key, values) => !is_one_of(&labels[key.as_str()], values),
            Self::Exists(key) => !labels[key.as_str()].is_null(),
            Self::Absent(key) => labels[key.as_str()].is_null(),
        }
    }
}

impl FieldRule {
    fn parse(kind: &Kind, rule: &str) -> Result<Self, Refusal> {
        let split = |separator| rule.split_once(separator);
        let (path, value, equal) = match (split("!="), split("=="), split("=")) {
            (Some((path, value)), ..) => (path, value, false),
            (_, Some((path, value)), _) | (_, _, Some((path, value))) => (path, value, true),
            (None, None, None) => {
                let why = format!("invalid selector: {rule:?}; can't understand {rule:?}");
                return Err(refusal::bad_request(why));
            }
        };
        if !selectable(kind, path) {
            let why = format!("field label not supported: {path}");
            return Err(refusal::bad_request(why));
        }
        let path = path.split('.').map(ToOwned::to_owned).collect();
        Ok(Self { path, equal, value: value.to_owned() })
    }

    fn holds(&self, object: &Value) -> bool {
        let found = self.path.iter().try_fold(object, |value, name| value.get(name));
        let found = found.and_then(Value::as_str).unwrap_or_default();
        (found == self.value) == self.equal
    }
}

/// The fields that a real API server can select each kind by.
fn selectable(kind: &Kind, path: &str) -> bool {
    match (kind.group, kind.name) {
        _ if path == "metadata.name" => true,
        _ if path == "metadata.namespace" => kind.namespaced,
        ("", "Service") => matches!(path, "spec.type" | "spec.clusterIP"),
        ("", "Node") => path == "spec.unschedulable",
        ("", "Namespace") => path == "status.phase",
        ("", "Pod") => {
            matches!(path, "spec.nodeName" | "spec.restartPolicy" | "status.phase" | "status.podIP")
        }
        ("", "Event") => {
            path.starts_with("involvedObject.")
                || matches!(path, "reason" | "reportingComponent" | "source" | "type")
        }
        ("events.k8s.io", "Event") => {
            path.starts_with("regarding.")
                || matches!(path, "reason" | "reportingController" | "type")
        }
        _ => false,
    }
}

/// `a in (b,c),d=e` has one comma that separates rules.
fn split_outside_parentheses(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
    .filter(|rule| !rule.trim().is_empty())
}
