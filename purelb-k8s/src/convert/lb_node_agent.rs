//! LBNodeAgents.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::DynamicObject;
use purelb_core::config::{
    AddressConfig, ApiOutage, GarpConfig, LbNodeAgent, Local, LocalInterface, LocalSpec,
    MultipleDefaultRoutes, OnStop, Pattern, Requirement, Selector, VIRTUAL_INTERFACE,
    ValidLifetime,
};
use purelb_core::name::{Namespace, Uid};

use super::service_group::field;
use crate::api::lb_node_agent as api;
use crate::go_duration;

/// An LBNodeAgent as the core sees it. A selector that cannot be read selects no node; a `spec.local`
/// that cannot be read is [`Local::Invalid`].
pub fn lb_node_agent(object: &DynamicObject) -> LbNodeAgent {
    let metadata = &object.metadata;
    let spec = &object.data["spec"];
    LbNodeAgent {
        name: (
            Namespace::from(metadata.namespace.as_deref().unwrap_or_default()),
            metadata.name.clone().unwrap_or_default(),
        ),
        uid: Uid::from(metadata.uid.as_deref().unwrap_or_default()),
        selector: match field(spec, "nodeSelector").map(Option::unwrap_or_default) {
            Ok(labels) => selector(&labels),
            Err(error) => Selector::Unreadable { error },
        },
        local: match field(spec, "local") {
            Ok(None) => Local::Absent,
            Ok(Some(spec)) => match local(&spec) {
                Ok(local) => Local::Given(Box::new(local)),
                Err(error) => Local::Invalid { error },
            },
            Err(error) => Local::Invalid { error },
        },
    }
}

/// A label selector as a list of requirements.
pub fn selector(labels: &LabelSelector) -> Selector {
    let equal = labels.match_labels.iter().flatten();
    let mut requirements: Vec<_> =
        equal.map(|(key, value)| Requirement::In(key.clone(), [value.clone()].into())).collect();
    for expression in labels.match_expressions.iter().flatten() {
        let key = expression.key.clone();
        let values = || expression.values.iter().flatten().cloned().collect();
        let unreadable = |what: &str| Selector::Unreadable {
            error: format!("spec.nodeSelector: {what} for label {key:?}"),
        };
        requirements.push(match expression.operator.as_str() {
            "In" | "NotIn" if expression.values.iter().flatten().next().is_none() => {
                return unreadable("there are no values");
            }
            "In" => Requirement::In(key, values()),
            "NotIn" => Requirement::NotIn(key, values()),
            "Exists" => Requirement::Present(key),
            "DoesNotExist" => Requirement::Absent(key),
            operator => return unreadable(&format!("{operator:?} is no operator")),
        });
    }
    Selector::Labels(requirements)
}

fn local(spec: &api::LocalSpec) -> Result<LocalSpec, String> {
    let defaults = LocalSpec::default();
    let addresses = spec.address_config.as_ref();
    Ok(LocalSpec {
        local_interface: local_interface(&spec.local_interface)?,
        interfaces: spec.interfaces.iter().filter(|name| !name.is_empty()).cloned().collect(),
        virtual_interface: match spec.dummy_interface.as_str() {
            "" => VIRTUAL_INTERFACE.to_owned(),
            name => name.to_owned(),
        },
        multiple_default_routes: match spec.multiple_default_routes {
            api::MultipleDefaultRoutes::LowestMetric => MultipleDefaultRoutes::LowestMetric,
            api::MultipleDefaultRoutes::SameInterface => MultipleDefaultRoutes::SameInterface,
            api::MultipleDefaultRoutes::VirtualInterface => MultipleDefaultRoutes::VirtualInterface,
        },
        api_outage: match spec.api_outage {
            api::ApiOutage::Hold => ApiOutage::Hold,
            api::ApiOutage::Withdraw => ApiOutage::Withdraw,
        },
        on_stop: match spec.on_stop {
            api::OnStop::Keep => OnStop::Keep,
            api::OnStop::Release => OnStop::Release,
        },
        garp: spec.garp_config.as_ref().map_or(defaults.garp, garp),
        local_addresses: addresses
            .and_then(|addresses| addresses.local_interface.as_ref())
            .map_or(defaults.local_addresses, |given| address(given, defaults.local_addresses)),
        virtual_addresses: addresses
            .and_then(|addresses| addresses.dummy_interface.as_ref())
            .map_or(defaults.virtual_addresses, |given| address(given, defaults.virtual_addresses)),
    })
}

/// `localInterface` as the core understands it.
///
/// # Errors
///
/// With a sentence that names the field, if the text is no regular expression.
pub fn local_interface(text: &str) -> Result<LocalInterface, String> {
    if matches!(text, "" | "default") {
        return Ok(LocalInterface::DefaultRoute);
    }
    let pattern = regex::Regex::new(text).map_err(|error| {
        format!(
            "spec.local.localInterface {text:?} is no regular expression: {}",
            last_line(&error)
        )
    })?;
    Ok(LocalInterface::Matching(Pattern::new(text, move |name| pattern.is_match(name))))
}

/// The sentence of a regular expression's error, without the drawing above it.
fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next_back().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

fn garp(given: &api::GarpConfig) -> GarpConfig {
    GarpConfig {
        enabled: given.enabled,
        initial_delay: duration("initialDelay", &given.initial_delay, Duration::from_millis(100)),
        count: given.count.clamp(1, 10).unsigned_abs(),
        interval: duration("interval", &given.interval, Duration::from_millis(500)),
    }
}

/// As in the Go PureLB, a duration that makes no sense is the default.
fn duration(field: &str, text: &str, default: Duration) -> Duration {
    go_duration::parse(text).unwrap_or_else(|error| {
        tracing::warn!(%error, ?default, "spec.local.garpConfig.{field} is no duration");
        default
    })
}

fn address(given: &api::AddressConfig, default: AddressConfig) -> AddressConfig {
    AddressConfig {
        valid: match given.valid_lifetime.map(u32::try_from) {
            None | Some(Err(_)) => default.valid,
            Some(Ok(0)) => ValidLifetime::Forever,
            Some(Ok(seconds)) => ValidLifetime::Seconds(seconds),
        },
        preferred: given.preferred_lifetime.and_then(|seconds| u32::try_from(seconds).ok()),
        no_prefix_route: given.no_prefix_route.unwrap_or(default.no_prefix_route),
    }
}
