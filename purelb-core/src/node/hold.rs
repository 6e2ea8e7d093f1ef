//! Making the kernel match: what is asked of it, what it answered, what may be on an interface.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::{AddressConfig, ValidLifetime};
use crate::diff;
use crate::host::{Address, AddressKey, Family, Link, LinkIndex};
use crate::kernel::{KernelAction, KernelError, KernelOutcome, Lifetime, NewAddress};
use crate::membership::{HostReport, Membership, NotYet};
use crate::place::Placement;
use crate::store::Store;
use crate::time::Tick;

use super::facts::Addresses;
use super::guard::{self, Note};
use super::notice::{NodeNotice, ServiceRef};
use super::verdict::{Verdict, Withheld};
use super::{NodeAgent, Want};

/// How long a change that the kernel was asked for is waited for before it is asked for again. The
/// notification comes within milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// The first wait after the kernel refused something about an address; doubled each time.
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// The longest wait after a refusal.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// How many lifetimes are prolonged at once: a burst overruns the sockets of other listeners.
const CHUNK: usize = 64;

/// Where the kernel and what is wanted of it stand.
#[derive(Clone, Debug, Default)]
pub(super) struct Hold {
    /// Additions asked for and not seen yet: they may be there. Believed until the given moment.
    pending: BTreeMap<AddressKey, Tick>,
    /// Removals asked for and not seen yet, not asked for again before the given moment.
    removing: BTreeMap<AddressKey, Tick>,
    /// Until when the kernel was last asked to keep a local address.
    granted: BTreeMap<AddressKey, Tick>,
    /// Addresses that the kernel refused something about, and when to try again.
    refused: BTreeMap<IpAddr, Refused>,
    /// Addresses that are, or may be, on a local interface without a right.
    unsettled: BTreeSet<IpAddr>,
    /// The previous process's local addresses, kept while this one joins.
    adopted: BTreeSet<AddressKey>,
    is_adopting: bool,
    /// Addresses seen for the first time since they were last looked at.
    pub(super) new: BTreeSet<AddressKey>,
    /// When which lifetimes are to be prolonged.
    prolonging: BTreeMap<Tick, Vec<AddressKey>>,
    /// Nothing waited for is overdue before this.
    next_check: Option<Tick>,
    /// Changes of links asked for and not seen yet, not asked for again before the given moment.
    asked: Vec<(KernelAction, Tick)>,
}

#[derive(Clone, Copy, Debug)]
struct Refused {
    /// Not asked for again before this; `None` once it may be.
    until: Option<Tick>,
    /// The wait that led there.
    wait: Duration,
}

impl Hold {
    /// Finds what a previous process left: its local addresses are kept while this one joins if our
    /// own lease names this boot of the kernel and the kernel will remove them by itself.
    pub(super) fn start(
        &mut self,
        addresses: &Addresses,
        membership: &Membership,
        links: &Store<Link>,
    ) {
        let is_virtual = |link: LinkIndex| {
            links.get(&link).is_none_or(|link| Note::parse(&link.alias).maker.is_some())
        };
        if membership.inherits() {
            self.adopted = addresses
                .iter()
                .filter(|address| address.is_ours() && address.valid.is_some())
                .filter(|address| !is_virtual(address.link))
                .map(|address| AddressKey { link: address.link, net: address.net })
                .collect();
        }
        self.is_adopting = !self.adopted.is_empty();
    }

    /// An address was seen: what was asked for is there.
    pub(super) fn arrived(&mut self, key: &AddressKey) {
        self.pending.remove(key);
    }

    /// An address is gone.
    pub(super) fn gone(&mut self, key: &AddressKey) {
        self.removing.remove(key);
        self.adopted.remove(key);
        self.granted.remove(key);
        self.new.remove(key);
    }

    /// Everything was listed anew: nothing is under way any more.
    pub(super) fn forget_pending(&mut self) {
        self.pending.clear();
        self.removing.clear();
    }

    /// A link changed: what was asked of links may be asked again.
    pub(super) fn link_changed(&mut self) {
        self.asked.clear();
    }

    /// Whether every local address has been prolonged to the end of the right.
    pub(super) fn is_extended(&self, right: Option<Tick>) -> bool {
        self.prolonging.is_empty() && self.granted.values().all(|until| Some(*until) >= right)
    }

    /// Something is waited for until then.
    fn wait_until(&mut self, at: Tick) {
        self.next_check = Some(self.next_check.map_or(at, |check| check.min(at)));
    }

    pub(super) fn deadline(&self) -> Option<(Tick, &'static str)> {
        let times = [
            (self.next_check, "kernel"),
            (self.prolonging.keys().next().copied(), "prolong lifetimes"),
        ];
        times.into_iter().filter_map(|(at, why)| Some((at?, why))).min()
    }
}

impl NodeAgent {
    /// Gives up waiting for what should have happened long ago, and lets refusals be tried again.
    pub(super) fn expire(&mut self) {
        let now = self.now;
        if self.claims.is_due(now) {
            self.dirty.all = true;
        }
        if self.hold.next_check.is_none_or(|check| check > now) {
            return;
        }
        let ips = &mut self.dirty.ips;
        let mut left: Vec<Tick> = Vec::new();
        for waits in [&mut self.hold.pending, &mut self.hold.removing] {
            waits.retain(|key, until| {
                if *until <= now {
                    ips.insert(key.net.addr());
                }
                *until > now
            });
            left.extend(waits.values());
        }
        for (ip, refused) in &mut self.hold.refused {
            if refused.until.is_some_and(|until| until <= now) {
                refused.until = None;
                ips.insert(*ip);
            }
            left.extend(refused.until);
        }
        let asked = self.hold.asked.len();
        self.hold.asked.retain(|(_, until)| *until > now);
        self.dirty.virtual_link |= self.hold.asked.len() < asked;
        left.extend(self.hold.asked.iter().map(|(_, until)| *until));
        self.hold.next_check = left.into_iter().min();
    }

    /// Looks again at every address that has to be.
    pub(super) fn reconcile_dirty(&mut self) {
        let mut ips = std::mem::take(&mut self.dirty.ips);
        if std::mem::take(&mut self.dirty.all) {
            ips.extend(self.wants.keys());
            ips.extend(self.addresses.iter().filter(|a| a.is_ours()).map(Address::ip));
            ips.extend(self.hold.pending.keys().map(|key| key.net.addr()));
            self.dirty.virtual_link = true;
        }
        for ip in ips {
            self.reconcile(ip);
        }
    }

    /// Decides about one address, and asks the kernel for the difference.
    fn reconcile(&mut self, ip: IpAddr) {
        let want = self.wants.get(&ip).filter(|want| !want.services.is_empty()).cloned();
        if want.as_ref().is_some_and(|want| self.is_narrowed(want)) {
            self.narrowed.insert(ip);
        } else {
            self.narrowed.remove(&ip);
        }
        let verdict = want.as_ref().map(|want| self.decide(ip, want));
        let wanted = verdict.as_ref().and_then(|verdict| self.wanted(verdict));
        let tolerated = match (&want, &verdict) {
            (Some(want), Some(verdict)) => self.tolerated(ip, want, verdict),
            (None, _) | (_, None) => None,
        };
        self.hold.adopted.retain(|key| key.net.addr() != ip || Some(*key) == tolerated);

        let observed: Vec<Address> = self.addresses.of(ip).cloned().collect();
        let relevant = observed.iter().filter(|address| Some(key_of(address)) != tolerated);
        let mut actions = diff::changes(wanted.as_ref(), relevant);
        actions.extend(wanted.filter(|new| self.is_inherited(new)).map(KernelAction::AddAddress));
        let strays =
            self.hold.pending.keys().filter(|key| {
                key.net.addr() == ip && Some(**key) != wanted.map(|wanted| wanted.key())
            });
        actions.extend(strays.map(|key| KernelAction::RemoveAddress(*key)));
        for action in actions {
            self.ask_about(ip, action);
        }
        self.judge_settled(ip, wanted.map(|wanted| wanted.key()), tolerated, &observed);
        self.report(ip, want, verdict, wanted, &observed);
    }

    /// Whether it is there by the right of the process before, and is to be by this one's now.
    fn is_inherited(&self, new: &NewAddress) -> bool {
        matches!(new.lifetime, Lifetime::Until(_))
            && !self.hold.granted.contains_key(&new.key())
            && self.addresses.get(&new.key()).is_some_and(|a| a.is_ours() && a.valid.is_some())
    }

    /// Passes an action on unless the same is under way or was just refused.
    fn ask_about(&mut self, ip: IpAddr, action: KernelAction) {
        let now = self.now;
        if self.hold.refused.get(&ip).is_some_and(|refused| refused.until > Some(now)) {
            return;
        }
        match &action {
            KernelAction::AddAddress(new) => {
                let key = new.key();
                let leaving = self.hold.removing.contains_key(&key);
                if leaving || self.hold.pending.contains_key(&key) {
                    return;
                }
                self.added(new);
            }
            KernelAction::RemoveAddress(key) => {
                self.hold.wait_until(now + PATIENCE);
                if self.hold.removing.insert(*key, now + PATIENCE).is_some() {
                    return;
                }
            }
            KernelAction::Advertise { .. }
            | KernelAction::CreateVirtual { .. }
            | KernelAction::SetAlias { .. }
            | KernelAction::SetConf { .. } => {}
        }
        self.ask_kernel(action);
    }

    fn added(&mut self, new: &NewAddress) {
        let key = new.key();
        self.hold.pending.insert(key, self.now + PATIENCE);
        self.hold.wait_until(self.now + PATIENCE);
        match new.lifetime {
            Lifetime::Forever => {
                self.hold.granted.remove(&key);
            }
            Lifetime::Seconds(seconds) => {
                let refresh = Duration::from_secs(seconds.into()) / 2;
                self.hold.prolonging.entry(self.now + refresh).or_default().push(key);
            }
            Lifetime::Until(until) => {
                self.hold.granted.insert(key, until);
            }
        }
    }

    /// What is wanted of the kernel for a verdict, as far as it can be asked for now.
    fn wanted(&self, verdict: &Verdict) -> Option<NewAddress> {
        let spec = self.spec()?;
        match *verdict {
            Verdict::Local { link, net, until } => {
                Some(new_address(link, net, &spec.local_addresses, until, true))
            }
            Verdict::Virtual { net, why: _ } => {
                let link = self.virtual_link()?;
                let key = AddressKey { link: link.index, net };
                // A card in its subnet must be kept from answering for it before it is there.
                let is_there = self.addresses.get(&key).is_some();
                if !is_there && !self.is_guarded_for(net.addr()) {
                    return None;
                }
                Some(new_address(link.index, net, &spec.virtual_addresses, self.now, false))
            }
            Verdict::Withheld(_) => None,
        }
    }

    /// The adopted address that is neither prolonged nor removed: this node has won it, belongs where
    /// it is, and only has to wait for its first join.
    fn tolerated(&self, ip: IpAddr, want: &Want, verdict: &Verdict) -> Option<AddressKey> {
        let is_waiting = match verdict {
            Verdict::Withheld(Withheld::NotYet(NotYet::Fenced | NotYet::Joining { .. })) => {
                self.membership.is_first_join()
            }
            Verdict::Withheld(_) | Verdict::Local { .. } | Verdict::Virtual { .. } => false,
        };
        if !is_waiting {
            return None;
        }
        let Ok(Placement::Local { link, net }) = self.placement_for(ip, want) else { return None };
        let key = AddressKey { link, net };
        self.hold.adopted.contains(&key).then_some(key)
    }

    /// Notes whether something is, or may be, on a local interface without a right.
    fn judge_settled(
        &mut self,
        ip: IpAddr,
        wanted: Option<AddressKey>,
        tolerated: Option<AddressKey>,
        observed: &[Address],
    ) {
        let virtual_link = self.virtual_link().map(|link| link.index);
        let ours = observed.iter().filter(|address| address.is_ours()).map(key_of);
        let pending = self.hold.pending.keys().copied().filter(|key| key.net.addr() == ip);
        let is_stray = ours.chain(pending).any(|key| {
            Some(key.link) != virtual_link && Some(key) != wanted && Some(key) != tolerated
        });
        if is_stray {
            self.hold.unsettled.insert(ip);
        } else {
            self.hold.unsettled.remove(&ip);
        }
    }

    /// Tells what changed about one address: to people, to neighbours, in annotations.
    fn report(
        &mut self,
        ip: IpAddr,
        want: Option<Want>,
        verdict: Option<Verdict>,
        wanted: Option<NewAddress>,
        observed: &[Address],
    ) {
        let is_present =
            wanted.is_some_and(|wanted| observed.iter().any(|a| key_of(a) == wanted.key()));
        let (Some(mut want), Some(verdict)) = (want, verdict) else {
            self.wants.remove(&ip);
            return;
        };
        let is_news = want.verdict.as_ref().is_none_or(|old| !old.says_the_same_as(&verdict));
        let services: Vec<ServiceRef> = self
            .services_of(&want)
            .map(|s| ServiceRef { key: s.key.clone(), uid: s.uid.clone() })
            .collect();
        if let (true, Verdict::Withheld(why)) = (is_news, &verdict) {
            for service in services.clone() {
                self.tell(NodeNotice::Withheld { ip, service, why: why.clone() });
            }
        }
        if let Some(key) = wanted.map(|wanted| wanted.key()).filter(|_| is_present) {
            self.appeared(ip, key, &verdict, services);
        }
        self.announce(ip, &want, &verdict, is_present);
        want.verdict = Some(verdict);
        self.wants.insert(ip, want);
    }

    /// A wanted address is there: told once, advertised if others may think it elsewhere.
    fn appeared(
        &mut self,
        ip: IpAddr,
        key: AddressKey,
        verdict: &Verdict,
        services: Vec<ServiceRef>,
    ) {
        if !self.hold.new.remove(&key) {
            return;
        }
        self.hold.refused.remove(&ip);
        let why = match verdict {
            Verdict::Virtual { why, .. } => Some(*why),
            Verdict::Local { .. } | Verdict::Withheld(_) => None,
        };
        if why.is_none()
            && let Some(garp) = self.spec().map(|spec| spec.garp)
            && !self.hold.adopted.contains(&key)
        {
            self.bursts.begin(key, &garp, self.now);
        }
        let interface =
            self.links.get(&key.link).map_or_else(|| key.link.to_string(), |l| l.name.clone());
        for service in services {
            let node = self.me.clone();
            self.tell(NodeNotice::Announced {
                ip,
                service,
                node,
                interface: interface.clone(),
                why,
            });
        }
    }

    pub(super) fn tell_foreign(&mut self, key: &AddressKey) {
        let ip = key.net.addr();
        let Some(want) = self.wants.get(&ip) else { return };
        let interface =
            self.links.get(&key.link).map_or_else(|| key.link.to_string(), |l| l.name.clone());
        let services: Vec<ServiceRef> = self
            .services_of(want)
            .map(|s| ServiceRef { key: s.key.clone(), uid: s.uid.clone() })
            .collect();
        for service in services {
            self.tell(NodeNotice::Foreign { ip, service, interface: interface.clone() });
        }
    }

    pub(super) fn take_in_outcome(&mut self, outcome: &KernelOutcome) {
        let Err(error) = &outcome.result else {
            if let KernelAction::RemoveAddress(key) = &outcome.action {
                // Whatever addition was under way came before and is undone.
                self.hold.pending.remove(key);
                self.dirty.ips.insert(key.net.addr());
            }
            return;
        };
        let ip = match &outcome.action {
            KernelAction::AddAddress(new) => {
                self.hold.pending.remove(&new.key());
                self.hold.granted.remove(&new.key());
                Some(new.net.addr())
            }
            KernelAction::RemoveAddress(key) => {
                self.hold.removing.remove(key);
                self.hold.pending.remove(key);
                Some(key.net.addr())
            }
            KernelAction::Advertise { .. }
            | KernelAction::CreateVirtual { .. }
            | KernelAction::SetAlias { .. }
            | KernelAction::SetConf { .. } => None,
        };
        if let Some(ip) = ip {
            let wait = self.hold.refused.get(&ip).map_or(FIRST_RETRY, |refused| refused.wait * 2);
            let wait = wait.min(LAST_RETRY);
            self.hold.refused.insert(ip, Refused { until: Some(self.now + wait), wait });
            self.hold.wait_until(self.now + wait);
            self.dirty.ips.insert(ip);
        }
        // A deadline that passed is the fence at work; something that is not there cannot be removed.
        let is_gone = matches!(outcome.action, KernelAction::RemoveAddress(_));
        if matches!(error, KernelError::PastDeadline) || is_gone {
            return;
        }
        let service = ip.and_then(|ip| self.wants.get(&ip)).and_then(|want| {
            let service = self.services_of(want).next()?;
            Some(ServiceRef { key: service.key.clone(), uid: service.uid.clone() })
        });
        let (action, error) = (outcome.action.clone(), error.clone());
        self.tell(NodeNotice::KernelFailed { action, error, service });
    }

    /// The right was prolonged: so are the lifetimes, in chunks spread over a tenth of the lease's
    /// duration, always in the same order.
    pub(super) fn prolong(&mut self) {
        let Some(right) = self.right() else { return };
        let keys: Vec<AddressKey> = self
            .hold
            .granted
            .iter()
            .filter(|(_, granted)| **granted < right)
            .map(|(key, _)| *key)
            .collect();
        let chunks = u32::try_from(keys.len().div_ceil(CHUNK)).unwrap_or(u32::MAX).max(1);
        let gap = self.membership.duration() / 10 / chunks;
        for (n, chunk) in (0_u32..).zip(keys.chunks(CHUNK)) {
            let queue = self.hold.prolonging.entry(self.now + gap * n).or_default();
            queue.extend(chunk);
        }
        // What could not be added because too little was left may be tried again.
        self.dirty.ips.extend(std::mem::take(&mut self.hold.refused).into_keys());
    }

    /// Prolongs the lifetimes that are due.
    pub(super) fn extend(&mut self) {
        while let Some(entry) = self.hold.prolonging.first_entry() {
            if *entry.key() > self.now {
                return;
            }
            for key in entry.remove() {
                self.extend_one(key);
            }
        }
    }

    fn extend_one(&mut self, key: AddressKey) {
        let ip = key.net.addr();
        let verdict = self.wants.get(&ip).map(|want| self.decide(ip, want));
        let wanted = verdict.as_ref().and_then(|verdict| self.wanted(verdict));
        let Some(new) = wanted.filter(|wanted| wanted.key() == key) else { return };
        if self.addresses.get(&key).is_some_and(Address::is_ours) {
            self.added(&new);
            self.ask_kernel(KernelAction::AddAddress(new));
        }
    }

    /// What the leases have to know about this host.
    pub(super) fn host_report(&self) -> HostReport {
        let serving = self.serving();
        let (subnets, listed) = self.membership.published();
        let lists = self.lists();
        let leaving: Vec<IpNet> = subnets.difference(&serving).copied().collect();
        let unlisted: BTreeSet<IpAddr> = listed.difference(&lists).copied().collect();
        let needs_ends = self.membership.is_shortening();
        let mut occupied = BTreeSet::new();
        let mut occupied_lists = BTreeSet::new();
        let mut holds_until = None;
        if !leaving.is_empty() || !unlisted.is_empty() || needs_ends {
            for (key, address) in self.possibly_local() {
                let ip = key.net.addr();
                occupied.extend(leaving.iter().filter(|net| net.contains(&ip)));
                if unlisted.contains(&ip) {
                    occupied_lists.insert(ip);
                }
                let granted = self.hold.granted.get(&key).copied();
                let valid = address.and_then(|address| address.valid);
                let shown = valid.map(|secs| self.now + Duration::from_secs(u64::from(secs) + 1));
                holds_until = holds_until.max(granted.or(shown));
            }
        }
        HostReport {
            serving,
            lists,
            occupied,
            occupied_lists,
            is_settled: self.hold.unsettled.is_empty(),
            holds_until,
            is_adopting: self.hold.is_adopting,
        }
    }

    /// Addresses of ours that are, or may be, on a local interface.
    fn possibly_local(&self) -> impl Iterator<Item = (AddressKey, Option<&Address>)> {
        let virtual_link = self.virtual_link().map(|link| link.index);
        let shown = self.addresses.iter().filter(|address| address.is_ours());
        let shown = shown.map(|address| (key_of(address), Some(address)));
        let pending = self.hold.pending.keys().map(|key| (*key, None));
        shown.chain(pending).filter(move |(key, _)| Some(key.link) != virtual_link)
    }

    /// The subnets that can be served now.
    fn serving(&self) -> BTreeSet<IpNet> {
        let is_able = self.stopping != Some(crate::config::OnStop::Release)
            && self
                .config
                .as_ref()
                .is_some_and(|config| config.spec.is_ok() && config.exclusion.is_none());
        if !is_able {
            return BTreeSet::new();
        }
        let nets = self.local.values().flat_map(|election| &election.net().links);
        nets.filter(|(link, _)| self.links.get(link).is_some_and(Link::is_operational))
            .flat_map(|(_, subnets)| subnets.iter().copied())
            .collect()
    }

    /// The addresses that this node asks for beyond others, having endpoints for them.
    fn lists(&self) -> BTreeSet<IpAddr> {
        let is_asked_for = |ip: &IpAddr| {
            self.wants.get(ip).is_some_and(|want| {
                self.has_endpoint(want)
                    && matches!(self.placement_for(*ip, want), Ok(Placement::Local { .. }))
            })
        };
        self.narrowed.iter().copied().filter(is_asked_for).collect()
    }

    /// Makes the virtual interface, keeps its alias and the ARP guards.
    pub(super) fn refresh_virtual_link(&mut self) {
        if !std::mem::take(&mut self.dirty.virtual_link) {
            return;
        }
        let is_wanted = self.spec().is_some() && self.stopping.is_none();
        let Some(link) = self.virtual_link().cloned() else {
            if is_wanted {
                let name = self.virtual_interface().to_owned();
                let alias = Note::created().to_string();
                self.ask_about_link(KernelAction::CreateVirtual { name, alias });
            }
            return;
        };
        let needed = self.guards_needed();
        for action in guard::changes(&needed, is_wanted, &link, self.links.iter()) {
            self.ask_about_link(action);
        }
        // Whoever waited for the link or for a guard gets its address now.
        let waiting: Vec<IpAddr> = self
            .wants
            .iter()
            .filter(|(_, want)| matches!(want.verdict, Some(Verdict::Virtual { .. })))
            .filter(|(ip, _)| !self.addresses.of(**ip).any(|a| a.link == link.index))
            .map(|(ip, _)| *ip)
            .collect();
        for ip in waiting {
            self.reconcile(ip);
        }
    }

    /// Passes an action on unless the same is under way.
    fn ask_about_link(&mut self, action: KernelAction) {
        if !self.hold.asked.iter().any(|(asked, _)| *asked == action) {
            self.hold.asked.push((action.clone(), self.now + PATIENCE));
            self.hold.wait_until(self.now + PATIENCE);
            self.ask_kernel(action);
        }
    }

    /// The cards that would answer ARP for an address that is, or is to be, on the virtual link.
    fn guards_needed(&self) -> BTreeSet<LinkIndex> {
        let virtual_link = self.virtual_link().map(|link| link.index);
        let shown = self.addresses.iter().filter(|a| a.is_ours() && Some(a.link) == virtual_link);
        let wanted = self.wants.iter().filter_map(|(ip, want)| {
            matches!(want.verdict, Some(Verdict::Virtual { .. })).then_some(*ip)
        });
        let ips: BTreeSet<IpAddr> = shown.map(Address::ip).chain(wanted).collect();
        self.cards
            .iter()
            .filter(|(_, net)| ips.iter().any(|ip| net.contains(ip)))
            .map(|(link, _)| *link)
            .collect()
    }

    fn is_guarded_for(&self, ip: IpAddr) -> bool {
        self.cards
            .iter()
            .filter(|(_, net)| net.contains(&ip))
            .all(|(link, _)| self.links.get(link).is_none_or(|link| guard::is_guarded(link.conf)))
    }

    /// The IPv4 subnets of the host's own addresses, but for those of the virtual link.
    pub(super) fn card_subnets(&self) -> Vec<(LinkIndex, IpNet)> {
        let virtual_link = self.virtual_link().map(|link| link.index);
        self.addresses
            .iter()
            .filter(|address| !address.is_ours() && Some(address.link) != virtual_link)
            .filter(|address| Family::of(address.ip()) == Family::V4)
            .filter(|address| !self.links.get(&address.link).is_some_and(|link| link.loopback))
            .map(|address| (address.link, address.net.trunc()))
            .collect()
    }
}

fn key_of(address: &Address) -> AddressKey {
    AddressKey { link: address.link, net: address.net }
}

/// How an address is put on a link. On a local interface an IPv6 one is never a source address, so
/// that the node's own traffic keeps the node's address.
fn new_address(
    link: LinkIndex,
    net: IpNet,
    config: &AddressConfig,
    until: Tick,
    is_local: bool,
) -> NewAddress {
    let lifetime = match config.valid {
        ValidLifetime::Fenced if is_local => Lifetime::Until(until),
        ValidLifetime::Fenced | ValidLifetime::Forever => Lifetime::Forever,
        ValidLifetime::Seconds(seconds) => Lifetime::Seconds(seconds),
    };
    let is_v6 = Family::of(net.addr()) == Family::V6;
    let deprecated =
        lifetime != Lifetime::Forever && (config.preferred == Some(0) || (is_local && is_v6));
    NewAddress { link, net, lifetime, deprecated, no_prefix_route: config.no_prefix_route }
}
