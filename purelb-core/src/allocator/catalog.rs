//! The groups that can be used, where each address belongs, and which Service may use which group.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::allocator::refusal::{Fence, GroupRefusal, Refusal};
use crate::group::{Group, Pool, ServiceGroup, Source};
use crate::name::{GroupName, Namespace};
use crate::range::AddressRange;
use crate::service::Service;

/// The group that is used when nothing says otherwise.
pub const DEFAULT_GROUP: &str = "default";

/// All ServiceGroups, sorted into those that can be used and those that cannot.
///
/// Which of two overlapping groups can be used depends on their names alone, never on which came
/// first: the one that sorts first.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    groups: BTreeMap<GroupName, Result<Group, GroupRefusal>>,
    /// By first address; they never overlap.
    ranges: BTreeMap<IpAddr, Place>,
    /// Every group counts here, also one that cannot be used: a slip in a specification must not
    /// open a fence, nor send a namespace's Services to another group.
    listed: BTreeMap<Namespace, BTreeSet<GroupName>>,
    /// Namespaces that may use only the groups that list them.
    confined: BTreeSet<Namespace>,
    /// For each group the namespaces it lists.
    lists: BTreeMap<GroupName, BTreeSet<Namespace>>,
    /// Groups with `namespaceDefault`.
    defaults: BTreeSet<GroupName>,
}

#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug)]
struct Place {
    range: AddressRange,
    group: GroupName,
    pool: usize,
}

/// Which group a Service is to use, and why that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice<'a> {
    /// The group.
    pub group: &'a Group,
    /// Why.
    pub why: Provenance,
}

/// Why a group was chosen.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// The namespace has several groups and no single default, and no fence: `default` it is.
    Ambiguous {
        /// Those that list the namespace.
        groups: Vec<GroupName>,
    },
    /// The Service names it.
    Annotation,
    /// Nothing says otherwise.
    Default,
    /// It is the namespace's.
    Namespace,
}

impl Catalog {
    /// Sorts these ServiceGroups.
    pub fn new<'a>(groups: impl IntoIterator<Item = &'a ServiceGroup>) -> Self {
        let sorted: BTreeMap<_, _> =
            groups.into_iter().map(|group| (group.name.clone(), group)).collect();
        let mut catalog = Self::default();
        for group in sorted.values() {
            catalog.list(group);
            let verdict = catalog.place(group);
            catalog.groups.insert(group.name.clone(), verdict);
        }
        catalog
    }

    fn list(&mut self, group: &ServiceGroup) {
        for namespace in &group.namespaces {
            self.listed.entry(namespace.clone()).or_default().insert(group.name.clone());
            if group.enforce_namespaces {
                self.confined.insert(namespace.clone());
            }
        }
        self.lists.insert(group.name.clone(), group.namespaces.iter().cloned().collect());
        if group.namespace_default {
            self.defaults.insert(group.name.clone());
        }
    }

    fn place(&mut self, group: &ServiceGroup) -> Result<Group, GroupRefusal> {
        let group = Group::parse(group)?;
        for pool in group.pools() {
            if let Some(place) = self.overlapping(&pool.range) {
                return Err(GroupRefusal::Overlap {
                    range: pool.text.clone(),
                    other_range: place.range.to_string(),
                    other: place.group.clone(),
                });
            }
        }
        for (n, pool) in group.pools().iter().enumerate() {
            let place = Place { range: pool.range, group: group.name.clone(), pool: n };
            self.ranges.insert(pool.range.first(), place);
        }
        Ok(group)
    }

    /// The range that shares an address with `range`, of the group that sorts first.
    fn overlapping(&self, range: &AddressRange) -> Option<&Place> {
        self.ranges
            .range(..=range.last())
            .rev()
            .map(|(_, place)| place)
            .take_while(|place| place.range.overlaps(range))
            .min_by_key(|place| &place.group)
    }

    /// A group that can be used.
    pub fn group(&self, name: &GroupName) -> Option<&Group> {
        self.groups.get(name)?.as_ref().ok()
    }

    /// The socket of the sidecar of a group, if that is external and can be used.
    pub fn external(&self, name: &GroupName) -> Option<&str> {
        match &self.group(name)?.source {
            Source::External { socket, .. } => Some(socket),
            Source::Pools { .. } => None,
        }
    }

    /// Every group, or why it cannot be used, by name.
    pub fn groups(&self) -> &BTreeMap<GroupName, Result<Group, GroupRefusal>> {
        &self.groups
    }

    /// The ranges of all groups that can be used.
    pub fn ranges(&self) -> impl Iterator<Item = AddressRange> {
        self.ranges.values().map(|place| place.range)
    }

    /// The group and range that hold `ip`.
    pub fn find(&self, ip: IpAddr) -> Option<(&Group, &Pool)> {
        let (_, place) = self.ranges.range(..=ip).next_back()?;
        if !place.range.contains(ip) {
            return None;
        }
        let group = self.group(&place.group)?;
        Some((group, group.pools().get(place.pool)?))
    }

    /// The group that a Service is to use when it asks for no address: the one it names, or its
    /// namespace's default, or [`DEFAULT_GROUP`].
    ///
    /// # Errors
    ///
    /// If there is no such group, it cannot be used, the namespace may not use it, or several groups
    /// could be meant and one of them is fenced.
    pub fn choose(&self, service: &Service) -> Result<Choice<'_>, Refusal> {
        let namespace = &service.key.namespace;
        let (name, why) = match asked(service) {
            Some(name) => (name, Provenance::Annotation),
            None => self.namespace_default(namespace)?,
        };
        let group = match self.groups.get(&name) {
            None => return Err(Refusal::UnknownGroup { group: name }),
            Some(Err(why)) => {
                return Err(Refusal::GroupRefused { group: name, why: why.clone() });
            }
            Some(Ok(group)) => group,
        };
        self.admit(namespace, &group.name)?;
        Ok(Choice { group, why })
    }

    fn namespace_default(&self, namespace: &Namespace) -> Result<(GroupName, Provenance), Refusal> {
        let default = || GroupName::from(DEFAULT_GROUP);
        let Some(groups) = self.listed.get(namespace) else {
            return Ok((default(), Provenance::Default));
        };
        if let Some(only) = self.only(groups) {
            return Ok((only.clone(), Provenance::Namespace));
        }
        let groups = groups.iter().cloned().collect();
        if self.confined.contains(namespace) {
            return Err(Refusal::AmbiguousDefault { namespace: namespace.clone(), groups });
        }
        Ok((default(), Provenance::Ambiguous { groups }))
    }

    /// The one that is meant where nothing is asked for, of the groups that list a namespace.
    fn only<'a>(&'a self, groups: &'a BTreeSet<GroupName>) -> Option<&'a GroupName> {
        let mut marked = groups.intersection(&self.defaults);
        match (groups.len(), marked.next(), marked.next()) {
            (1, _, _) => groups.first(),
            (_, Some(only), None) => Some(only),
            (_, Some(_), Some(_)) | (_, None, _) => None,
        }
    }

    /// Namespaces that several groups list of which not exactly one is the default, with those groups.
    pub fn ambiguous(&self) -> impl Iterator<Item = (&Namespace, &BTreeSet<GroupName>)> {
        self.listed.iter().filter(|(_, groups)| self.only(groups).is_none())
    }

    /// Whether the fences let Services of `namespace` into `group`.
    ///
    /// A namespace is confined if any group that lists it has `enforceNamespaces`: then it may use
    /// only groups that list it, and those groups serve only namespaces that they list.
    ///
    /// # Errors
    ///
    /// With the fence that is in the way.
    pub fn admit(&self, namespace: &Namespace, group: &GroupName) -> Result<(), Refusal> {
        let lists = self.lists.get(group);
        if lists.is_some_and(|lists| lists.contains(namespace)) {
            return Ok(());
        }
        let fence = if self.confined.contains(namespace) {
            let allowed = self.listed.get(namespace).into_iter().flatten();
            Fence::Confined(allowed.cloned().collect())
        } else if lists.is_some_and(|lists| !lists.is_disjoint(&self.confined)) {
            Fence::Excluded
        } else {
            return Ok(());
        };
        Err(Refusal::NamespaceDenied { namespace: namespace.clone(), group: group.clone(), fence })
    }
}

/// The group that a Service names. A blank annotation names none.
pub(crate) fn asked(service: &Service) -> Option<GroupName> {
    let name = service.annotations.service_group.as_ref()?.as_str().trim();
    (!name.is_empty()).then(|| name.into())
}
