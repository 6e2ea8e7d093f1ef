//! The world of an agent: a kernel that does what it is asked, and an API that takes its lease.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use purelb_core::host::{
    Address, AddressFlags, AddressKey, Family, Link, LinkConf, LinkIndex, LinkKind, OUR_MARK, Scope,
};
use purelb_core::kernel::{
    ConfKey, KernelAction, KernelError, KernelOutcome, Lifetime, NewAddress,
};
use purelb_core::lease::{Lease, LeaseContent, LeaseEvent, LeaseWrite, WriteResult};
use purelb_core::name::{NodeName, ResourceVersion};
use purelb_core::node::{Action, Announcement, ClusterAction, Event, NodeAgent};
use purelb_core::store::{Change, Object};
use purelb_core::time::Tick;
use purelb_k8s::snapshot::Snapshot;

use super::{Imagined, World};
use crate::recording::{Tape, What};
use crate::replay::overlay::Overlay;

/// The number of a virtual interface that the recording does not have.
const IMAGINED: LinkIndex = LinkIndex(u32::MAX);

/// What is around an agent.
#[derive(Debug)]
pub struct AgentWorld {
    overlay: Overlay,
    me: NodeName,
    /// Whether the addresses have been listed, so that those of ours are known.
    is_listed: bool,
    ours: BTreeMap<AddressKey, Address>,
    /// For each deletion of an address that is still to be heard of, whether somebody else deleted it.
    taken: BTreeMap<AddressKey, VecDeque<bool>>,
    links: BTreeMap<LinkIndex, Link>,
    /// What the agent changed of links.
    conf: BTreeMap<LinkIndex, Vec<(ConfKey, i32)>>,
    alias: BTreeMap<LinkIndex, String>,
    /// The names of all links of the recording.
    names: BTreeSet<String>,
    /// The write of the lease that has no answer yet.
    write: Option<LeaseWrite>,
    /// What the agent's lease says.
    lease: Option<LeaseContent>,
    announced: u64,
}

impl Imagined for NodeAgent {
    type World = AgentWorld;

    fn is_told_all(&self) -> bool {
        self.is_ready()
    }

    fn snapshot(&self, taken: Timestamp) -> Snapshot {
        Snapshot {
            services: self.services().cloned().collect(),
            groups: self.groups().cloned().collect(),
            agents: self.agents().cloned().collect(),
            ..Snapshot::at(taken)
        }
    }

    fn world(&self, overlay: Overlay, tape: &Tape<Self>, turns: usize) -> AgentWorld {
        let host = self.view().host;
        let events = tape.turns.iter().flat_map(|turn| &turn.inputs);
        let named = events.flat_map(|input| match &input.what {
            What::Event(Event::Links(Change::Updated(link))) => std::slice::from_ref(link),
            What::Event(Event::Links(Change::Listed(links))) => links.as_slice(),
            What::Event(_) | What::Timeout => &[],
        });
        let ours = host.addresses.iter().filter(|address| address.is_ours());
        AgentWorld {
            overlay,
            me: tape.settings.lease.node.clone(),
            taken: taken_by_others(tape, turns),
            is_listed: tape.checkpoint.is_some() || !host.addresses.is_empty(),
            ours: ours.map(|address| (address.key(), address.clone())).collect(),
            names: named.chain(&host.links).map(|link| link.name.clone()).collect(),
            links: host.links.into_iter().map(|link| (link.index, link)).collect(),
            conf: BTreeMap::new(),
            alias: BTreeMap::new(),
            write: None,
            lease: None,
            announced: 0,
        }
    }
}

impl World<NodeAgent> for AgentWorld {
    fn changes(&self) -> Vec<Event> {
        let Overlay { agents, groups, nodes, services } = &self.overlay;
        let agents = agents.changes().into_iter().map(Event::Agents);
        let groups = groups.changes().into_iter().map(Event::Groups);
        let nodes = nodes.changes().into_iter().map(Event::Node);
        let services = services.changes().into_iter().map(Event::Services);
        agents.chain(groups).chain(nodes).chain(services).collect()
    }

    fn hear(&mut self, event: Event) -> Option<Event> {
        Some(match event {
            Event::Addresses(change) => Event::Addresses(self.addresses(change)?),
            Event::Agents(change) => Event::Agents(self.overlay.agents.apply(change)?),
            Event::Groups(change) => Event::Groups(self.overlay.groups.apply(change)?),
            Event::Kernel(_) => return None,
            Event::Leases(event) => Event::Leases(self.leases(event)?),
            Event::Links(change) => Event::Links(self.link_change(change)),
            Event::Node(change) => Event::Node(self.overlay.nodes.apply(change)?),
            Event::Services(change) => Event::Services(self.overlay.services.apply(change)?),
            Event::AnnounceFailed { .. }
            | Event::Endpoints(_)
            | Event::Routes(_)
            | Event::Sighted(_)
            | Event::Slept
            | Event::Stop => event,
        })
    }

    fn answer(&mut self, action: Action, agent: &NodeAgent, now: Duration) -> Vec<Event> {
        match action {
            Action::Cluster(ClusterAction::Announce(announcement)) => {
                self.announce(&announcement, agent).into_iter().collect()
            }
            Action::Cluster(ClusterAction::WriteLease(write)) => {
                self.write = Some(write);
                Vec::new()
            }
            Action::Cluster(
                ClusterAction::ListLeases
                | ClusterAction::UnwatchEndpoints
                | ClusterAction::WatchEndpoints,
            )
            | Action::Notice(_) => Vec::new(),
            Action::Kernel(action) => {
                let (result, seen) = match self.carry_out(&action, now) {
                    Ok(seen) => (Ok(()), seen),
                    Err(error) => (Err(error), None),
                };
                let outcome = Event::Kernel(KernelOutcome { action, result });
                std::iter::once(outcome).chain(seen).collect()
            }
        }
    }
}

impl AgentWorld {
    /// Addresses of the host's own are as recorded; those of ours are as this world has them.
    fn addresses(&mut self, change: Change<Address>) -> Option<Change<Address>> {
        match change {
            Change::Deleted(key) => {
                let is_taken =
                    self.taken.get_mut(&key).and_then(VecDeque::pop_front).unwrap_or_default();
                let goes = match self.ours.entry(key) {
                    Entry::Occupied(ours) if is_taken => {
                        ours.remove();
                        true
                    }
                    Entry::Occupied(_) => false,
                    Entry::Vacant(_) => true,
                };
                goes.then_some(Change::Deleted(key))
            }
            Change::Listed(all) => {
                let (ours, mut others): (Vec<_>, Vec<_>) =
                    all.into_iter().partition(Address::is_ours);
                if !std::mem::replace(&mut self.is_listed, true) {
                    self.ours = ours.into_iter().map(|address| (address.key(), address)).collect();
                }
                others.extend(self.ours.values().cloned());
                Some(Change::Listed(others))
            }
            Change::Updated(address) => {
                let is_ours = address.is_ours() || self.ours.contains_key(&address.key());
                (!is_ours).then_some(Change::Updated(address))
            }
        }
    }

    /// The agent's own lease says what the agent wrote; its writes are answered when and as they were.
    fn leases(&mut self, event: LeaseEvent) -> Option<LeaseEvent> {
        Some(match event {
            LeaseEvent::Listed { mut leases, version } => {
                leases.iter_mut().for_each(|lease| self.own(lease));
                LeaseEvent::Listed { leases, version }
            }
            LeaseEvent::Updated(mut lease) => {
                self.own(&mut lease);
                LeaseEvent::Updated(lease)
            }
            LeaseEvent::Written { attempt, result } => {
                // What was on its way before this world began, or was asked for in it.
                let attempt = match (self.write.take(), &self.lease) {
                    (Some(write), _) => {
                        if matches!(result, WriteResult::Accepted { .. }) {
                            self.lease = Some(write.content);
                        }
                        write.attempt
                    }
                    (None, None) => attempt,
                    (None, Some(_)) => return None,
                };
                LeaseEvent::Written { attempt, result }
            }
            LeaseEvent::Bookmark(_) | LeaseEvent::Deleted { .. } => event,
        })
    }

    fn own(&self, lease: &mut Lease) {
        let written = self.write.as_ref().map(|write| &write.content).or(self.lease.as_ref());
        if lease.node == self.me
            && let Some(written) = written
        {
            lease.content = written.clone();
        }
    }

    fn link_change(&mut self, change: Change<Link>) -> Change<Link> {
        match change {
            Change::Deleted(index) => {
                self.links.remove(&index);
                Change::Deleted(index)
            }
            Change::Listed(links) => {
                let mut all: Vec<Link> = links.into_iter().map(|link| self.edited(link)).collect();
                all.extend(self.links.remove(&IMAGINED));
                self.links = all.iter().map(|link| (link.index, link.clone())).collect();
                Change::Listed(all)
            }
            Change::Updated(link) => {
                let link = self.edited(link);
                self.links.insert(link.index, link.clone());
                Change::Updated(link)
            }
        }
    }

    /// A link with what the agent changed of it.
    fn edited(&self, mut link: Link) -> Link {
        for (key, value) in self.conf.get(&link.index).into_iter().flatten() {
            set(&mut link.conf, *key, *value);
        }
        if let Some(alias) = self.alias.get(&link.index) {
            link.alias.clone_from(alias);
        }
        link
    }

    fn carry_out(
        &mut self,
        action: &KernelAction,
        now: Duration,
    ) -> Result<Option<Event>, KernelError> {
        Ok(match action {
            KernelAction::AddAddress(new) => {
                let address = added(new, now)?;
                self.ours.insert(address.key(), address.clone());
                Some(Event::Addresses(Change::Updated(address)))
            }
            KernelAction::RemoveAddress(key) => {
                self.ours.remove(key).map(|_| Event::Addresses(Change::Deleted(*key)))
            }
            // A link that the recording has comes when it came.
            KernelAction::CreateVirtual { name, .. } if self.names.contains(name) => None,
            KernelAction::CreateVirtual { name, alias } => Some(self.show(imagined(name, alias))),
            KernelAction::DeleteVirtual { link } => {
                self.links.remove(link).map(|_| Event::Links(Change::Deleted(*link)))
            }
            KernelAction::SetAlias { link, alias } => {
                self.alias.insert(*link, alias.clone());
                self.show_again(*link)
            }
            KernelAction::SetConf { link, settings } => {
                self.conf.entry(*link).or_default().extend(settings);
                self.show_again(*link)
            }
            KernelAction::Advertise { .. }
            | KernelAction::Heed { .. }
            | KernelAction::Probe { .. }
            | KernelAction::Unheed { .. } => None,
        })
    }

    fn show_again(&mut self, link: LinkIndex) -> Option<Event> {
        let link = self.edited(self.links.get(&link)?.clone());
        Some(self.show(link))
    }

    fn show(&mut self, link: Link) -> Event {
        self.links.insert(link.index, link.clone());
        Event::Links(Change::Updated(link))
    }

    /// The Service as it is once its annotations are written.
    fn announce(&mut self, announcement: &Announcement, agent: &NodeAgent) -> Option<Event> {
        let service = agent.services().find(|service| service.key == announcement.service)?;
        let mut service = service.clone();
        for (family, value) in &announcement.values {
            match family {
                Family::V4 => service.annotations.announcing_v4.clone_from(value),
                Family::V6 => service.annotations.announcing_v6.clone_from(value),
            }
        }
        self.announced += 1;
        let version = format!("{}+{}", service.version, self.announced);
        service.version = ResourceVersion::from(version.as_str());
        Some(Event::Services(Change::Updated(service)))
    }
}

/// The deletions in a tape after so many turns, and whether each was somebody else's: the agent had not asked
/// for it.
fn taken_by_others(tape: &Tape<NodeAgent>, turns: usize) -> BTreeMap<AddressKey, VecDeque<bool>> {
    let mut taken: BTreeMap<AddressKey, VecDeque<bool>> = BTreeMap::new();
    let mut asked = BTreeSet::new();
    let Ok(replay) = tape.replay() else { return taken };
    for (turn, step) in replay.enumerate() {
        for input in step.inputs {
            if let What::Event(Event::Addresses(Change::Deleted(key))) = &input.what {
                let is_anothers = !asked.remove(key);
                if turn >= turns {
                    taken.entry(*key).or_default().push_back(is_anothers);
                }
            }
        }
        for action in step.actions {
            if let Action::Kernel(KernelAction::RemoveAddress(key)) = action {
                asked.insert(key);
            }
        }
    }
    taken
}

/// An address as a kernel shows it that was asked for it at `now`.
fn added(new: &NewAddress, now: Duration) -> Result<Address, KernelError> {
    let valid = match new.lifetime {
        Lifetime::Forever => None,
        Lifetime::Seconds(seconds) => Some(seconds),
        Lifetime::Until(until) => {
            let now = Tick::from_nanos(i64::try_from(now.as_nanos()).unwrap_or(i64::MAX));
            match u32::try_from(until.since(now).as_secs()) {
                Ok(0) => return Err(KernelError::PastDeadline),
                Ok(seconds) => Some(seconds),
                Err(_) => None,
            }
        }
    };
    let flags = AddressFlags {
        deprecated: new.deprecated,
        no_prefix_route: new.no_prefix_route,
        ..AddressFlags::default()
    };
    let (link, net, mark) = (new.link, new.net, OUR_MARK);
    Ok(Address { link, net, broadcast: None, flags, scope: Scope::Global, mark, valid })
}

fn imagined(name: &str, alias: &str) -> Link {
    Link {
        index: IMAGINED,
        name: name.to_owned(),
        mac: None,
        kind: LinkKind::Dummy,
        up: true,
        carrier: true,
        loopback: false,
        alias: alias.to_owned(),
        conf: LinkConf::default(),
    }
}

fn set(conf: &mut LinkConf, key: ConfKey, value: i32) {
    match key {
        ConfKey::ArpAnnounce => conf.arp_announce = value,
        ConfKey::ArpIgnore => conf.arp_ignore = value,
        ConfKey::PromoteSecondaries => conf.promote_secondaries = value,
    }
}
