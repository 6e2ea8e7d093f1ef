//! LBNodeAgents: how the agents of the selected nodes are to behave.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::name::{Namespace, NodeName, Uid};
use crate::store::Object;

/// The name of the virtual interface unless configured otherwise.
pub const VIRTUAL_INTERFACE: &str = "kube-lb0";

/// An LBNodeAgent of the install namespace.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq)]
pub struct LbNodeAgent {
    /// Its namespace and name.
    pub name: (Namespace, String),
    /// One for its whole life.
    pub uid: Uid,
    /// The nodes that it is for.
    pub selector: Selector,
    /// `spec.local`.
    pub local: Local,
}

#[cfg(feature = "serde")]
impl LbNodeAgent {
    /// Gives its pattern, if it has one, the matcher that `make` makes from the text.
    pub fn complete_patterns(&mut self, make: &dyn Fn(&str) -> Option<Pattern>) {
        if let Local::Given(spec) = &mut self.local {
            spec.local_interface.complete_pattern(make);
        }
    }
}

impl Object for LbNodeAgent {
    type Key = (Namespace, String);

    fn key(&self) -> Self::Key {
        self.name.clone()
    }
}

/// `spec.nodeSelector`.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// All of these hold; none is every node.
    Labels(Vec<Requirement>),
    /// It could not be read; selects no node.
    Unreadable {
        /// Why not.
        error: String,
    },
}

impl Selector {
    /// Whether a node with these labels is selected.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Labels(requirements) => requirements.iter().all(|one| one.holds(labels)),
            Self::Unreadable { .. } => false,
        }
    }

    /// Whether it selects every node because it asks for nothing.
    pub fn is_catch_all(&self) -> bool {
        matches!(self, Self::Labels(requirements) if requirements.is_empty())
    }
}

/// One line of a label selector.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// The label is not there.
    Absent(String),
    /// The label is there and has one of these values.
    In(String, BTreeSet<String>),
    /// The label is not there or has none of these values.
    NotIn(String, BTreeSet<String>),
    /// The label is there.
    Present(String),
}

impl Requirement {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Absent(key) => !labels.contains_key(key),
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => {
                !labels.get(key).is_some_and(|value| values.contains(value))
            }
            Self::Present(key) => labels.contains_key(key),
        }
    }
}

/// `spec.local` of an LBNodeAgent.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq)]
pub enum Local {
    /// Not given: this LBNodeAgent does not configure announcing.
    Absent,
    /// Given and understood.
    Given(Box<LocalSpec>),
    /// Given, but makes no sense: the nodes announce nothing until it does.
    Invalid {
        /// What is wrong, naming the field.
        error: String,
    },
}

/// A well-formed `spec.local`.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq)]
pub struct LocalSpec {
    /// `localInterface`.
    pub local_interface: LocalInterface,
    /// `interfaces`: exact names, in order of preference.
    pub interfaces: Vec<String>,
    /// `dummyInterface`: the name of the virtual interface.
    pub virtual_interface: String,
    /// `multipleDefaultRoutes`.
    pub multiple_default_routes: MultipleDefaultRoutes,
    /// `apiOutage`.
    pub api_outage: ApiOutage,
    /// `onStop`.
    pub on_stop: OnStop,
    /// `garpConfig`.
    pub garp: GarpConfig,
    /// `addressConfig.localInterface`.
    pub local_addresses: AddressConfig,
    /// `addressConfig.dummyInterface`.
    pub virtual_addresses: AddressConfig,
}

impl Default for LocalSpec {
    fn default() -> Self {
        Self {
            local_interface: LocalInterface::DefaultRoute,
            interfaces: Vec::new(),
            virtual_interface: VIRTUAL_INTERFACE.to_owned(),
            multiple_default_routes: MultipleDefaultRoutes::default(),
            api_outage: ApiOutage::default(),
            on_stop: OnStop::default(),
            garp: GarpConfig::default(),
            local_addresses: AddressConfig {
                valid: ValidLifetime::Fenced,
                preferred: None,
                no_prefix_route: true,
            },
            virtual_addresses: AddressConfig {
                valid: ValidLifetime::Forever,
                preferred: None,
                no_prefix_route: false,
            },
        }
    }
}

/// `localInterface`: how the local interface is found.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LocalInterface {
    /// By the default route of each family.
    #[default]
    DefaultRoute,
    /// Every interface whose name matches.
    Matching(Pattern),
}

#[cfg(feature = "serde")]
impl LocalInterface {
    pub(crate) fn complete_pattern(&mut self, make: &dyn Fn(&str) -> Option<Pattern>) {
        if let Self::Matching(pattern) = self
            && let Some(made) = make(pattern.as_str())
        {
            *pattern = made;
        }
    }
}

/// A regular expression over interface names, anchored or not.
///
/// The core holds the text and a compiled matcher that its host made, so that it needs no regular
/// expression engine of its own. Two patterns are equal if their texts are.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    matches: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

impl Pattern {
    /// A pattern written as `text` that accepts what `matches` accepts.
    pub fn new(
        text: impl Into<String>,
        matches: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self { text: text.into(), matches: Arc::new(matches) }
    }

    /// A pattern that accepts exactly `name`.
    pub fn exactly(name: &str) -> Self {
        let wanted = name.to_owned();
        Self::new(format!("^{name}$"), move |name| name == wanted)
    }

    /// Whether it accepts `name`.
    pub fn matches(&self, name: &str) -> bool {
        (self.matches)(name)
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Pattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// Has the text alone and accepts nothing, until a host makes the pattern anew from its text.
#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Pattern {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(Self::new(text, |_| false))
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

/// `multipleDefaultRoutes`: what more than one default route means.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MultipleDefaultRoutes {
    /// The one with the lowest metric counts; a tie is still unidentified.
    LowestMetric,
    /// Fine if all leave by one interface.
    SameInterface,
    /// The interface cannot be identified; the address goes to the virtual interface.
    #[default]
    VirtualInterface,
}

/// `apiOutage`: what a holder does while the Kubernetes API cannot be reached.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ApiOutage {
    /// Keeps what it has. In a partition two nodes may hold one address.
    Hold,
    /// Fences itself when its lease runs out.
    #[default]
    Withdraw,
}

/// `onStop`: what a stopping agent does with its addresses.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OnStop {
    /// Leaves them for the next process on this node, local ones for at most half a minute.
    Keep,
    /// Withdraws them, so that other nodes take over at once.
    #[default]
    Release,
}

/// `garpConfig`: gratuitous ARP and unsolicited neighbour advertisements after an address was added.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GarpConfig {
    /// Whether to send any.
    pub enabled: bool,
    /// From the address being there to the first one.
    pub initial_delay: Duration,
    /// How many, 1 to 10.
    pub count: u32,
    /// From one to the next.
    pub interval: Duration,
}

impl Default for GarpConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            initial_delay: Duration::ZERO,
            count: 3,
            interval: Duration::from_millis(500),
        }
    }
}

/// `addressConfig`: how addresses are put on an interface.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressConfig {
    /// `validLifetime`.
    pub valid: ValidLifetime,
    /// `preferredLifetime` in seconds, if given.
    pub preferred: Option<u32>,
    /// `noPrefixRoute`.
    pub no_prefix_route: bool,
}

/// `validLifetime`: how long the kernel keeps an address that nobody renews.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ValidLifetime {
    /// As long as this node's lease gives it the right to hold.
    Fenced,
    /// For ever: a dead agent's address stays.
    Forever,
    /// This many seconds, renewed at half: a dead agent's address stays that long.
    Seconds(u32),
}

/// The Node object that the agent runs on.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// One for its whole life; the owner of its lease.
    pub uid: Uid,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it has the taint `node.kubernetes.io/out-of-service`.
    pub is_out_of_service: bool,
}

impl Node {
    /// Whether it bears the label that keeps load balancers away from it.
    pub fn is_excluded(&self) -> bool {
        self.labels.contains_key("node.kubernetes.io/exclude-from-external-load-balancers")
    }
}

impl Object for Node {
    type Key = NodeName;

    fn key(&self) -> NodeName {
        self.name.clone()
    }
}

/// Which LBNodeAgent governs a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Selection<'a> {
    /// This one.
    Configured(&'a LbNodeAgent, &'a LocalSpec),
    /// There are none, or none of those that match says anything of announcing.
    Default,
    /// There are some, but none matches.
    Deselected,
    /// This one, and it makes no sense.
    Invalid(&'a LbNodeAgent, &'a str),
}

/// Chooses the LBNodeAgent that governs a node with these labels: of those that select it, one that
/// selects some nodes before one that selects all, then by namespace and name; the first that has
/// `spec.local` wins.
pub fn select<'a>(
    agents: impl IntoIterator<Item = &'a LbNodeAgent>,
    labels: &BTreeMap<String, String>,
) -> Selection<'a> {
    let all: Vec<_> = agents.into_iter().collect();
    let mut matching: Vec<_> = all.iter().filter(|agent| agent.selector.selects(labels)).collect();
    if matching.is_empty() {
        return if all.is_empty() { Selection::Default } else { Selection::Deselected };
    }
    matching.sort_by_key(|agent| (agent.selector.is_catch_all(), &agent.name));
    for agent in matching {
        match &agent.local {
            Local::Absent => {}
            Local::Given(local) => return Selection::Configured(agent, local),
            Local::Invalid { error } => return Selection::Invalid(agent, error),
        }
    }
    Selection::Default
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str, selector: Vec<Requirement>, local: Local) -> LbNodeAgent {
        LbNodeAgent {
            name: ("purelb".into(), name.into()),
            uid: name.into(),
            selector: Selector::Labels(selector),
            local,
        }
    }

    fn given() -> Local {
        Local::Given(Box::default())
    }

    #[test]
    fn a_specific_selector_beats_a_catch_all_then_names_decide() {
        let labels = BTreeMap::from([("rack".to_owned(), "a".to_owned())]);
        let on_rack = Requirement::In("rack".into(), BTreeSet::from(["a".to_owned()]));
        let agents = [
            agent("a-all", vec![], given()),
            agent("z-rack", vec![on_rack.clone()], given()),
            agent("y-rack", vec![on_rack], Local::Absent),
            agent("b-rack", vec![Requirement::Absent("rack".into())], given()),
        ];
        let Selection::Configured(chosen, _) = select(&agents, &labels) else { panic!() };
        assert_eq!(chosen.name.1, "z-rack");
    }

    #[test]
    fn the_four_outcomes() {
        let labels = BTreeMap::new();
        assert_eq!(select(&[], &labels), Selection::Default);
        let other = [agent("a", vec![Requirement::Present("rack".into())], given())];
        assert_eq!(select(&other, &labels), Selection::Deselected);
        let silent = [agent("a", vec![], Local::Absent)];
        assert_eq!(select(&silent, &labels), Selection::Default);
        let broken = [agent("a", vec![], Local::Invalid { error: "no".into() })];
        assert!(matches!(select(&broken, &labels), Selection::Invalid(_, "no")));
    }
}
