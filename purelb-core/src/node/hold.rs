//! Making the kernel match: what is asked of it, what it answered, what may be on an interface.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::host::{AddressKey, Link, LinkIndex};
use crate::kernel::{KernelAction, KernelError, KernelOutcome, Lifetime, NewAddress};
use crate::membership::Membership;
use crate::store::{Object, Store};
use crate::time::Tick;

use super::NodeAgent;
use super::agenda::Waits;
use super::facts::Addresses;
use super::guard::Note;
use super::notice::NodeNotice;
use super::surrender::{REFUSALS, is_about_this_node};

/// How long a change that the kernel was asked for is waited for before it is asked for again. The
/// notification comes within milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long carrying out what was asked for takes at most, unless the process was stopped meanwhile.
const PROMPT: Duration = Duration::from_millis(100);

/// The first wait after the kernel refused something about an address; doubled each time.
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// The longest wait after a refusal.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Where the kernel and what is wanted of it stand.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default)]
pub(super) struct Hold {
    /// What this process asked for and was not seen to go since.
    pub(super) made: BTreeSet<AddressKey>,
    /// Additions asked for and not seen yet: they may be there. Believed until the given moment.
    pub(super) pending: Waits,
    /// Of those, the ones that the host was told to carry out since it was last heard of.
    handed_out: Vec<AddressKey>,
    /// Removals asked for and not seen yet, not asked for again before the given moment.
    pub(super) removing: Waits,
    /// Until when the kernel was last asked to keep a local address.
    pub(super) granted: BTreeMap<AddressKey, Tick>,
    /// Addresses that the kernel refused something about, and when to try again.
    pub(super) refused: BTreeMap<IpAddr, Refused>,
    /// Addresses that are, or may be, on a local interface without a right.
    pub(super) unsettled: BTreeSet<IpAddr>,
    /// The previous process's local addresses, kept while this one joins.
    pub(super) adopted: BTreeSet<AddressKey>,
    pub(super) is_adopting: bool,
    /// Nothing that was not kept is left of the previous process.
    is_tidy: bool,
    /// Addresses seen for the first time since they were last looked at.
    pub(super) new: BTreeSet<AddressKey>,
    /// When an address with a lifetime of its own is next to be prolonged.
    pub(super) refresh: BTreeMap<AddressKey, Tick>,
    /// When which lifetimes are to be prolonged.
    pub(super) prolonging: BTreeMap<Tick, Vec<AddressKey>>,
    /// None of them before this: whoever is late does not make up for it in one burst.
    pub(super) next_chunk: Tick,
    /// How long it pauses after each of them at least.
    pub(super) pause: Duration,
    /// This process asked for the virtual interface.
    pub(super) has_made_virtual: bool,
    /// No refusal, and nothing asked of links, is overdue before this.
    next_check: Option<Tick>,
    /// Changes of links asked for and not seen yet, not asked for again before the given moment.
    asked: Vec<(KernelAction, Tick)>,
}

#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    /// Not asked for again before this; `None` once it may be.
    until: Option<Tick>,
    /// The wait that led there.
    wait: Duration,
    /// How often in a row.
    times: u32,
    /// Only too little of the right was left.
    pub(super) is_past_deadline: bool,
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
                .map(Object::key)
                .collect();
        }
        self.is_adopting = !self.adopted.is_empty();
    }

    /// Whether orphans have to go before the lease is written: until then it would say nothing of the
    /// addresses that are kept beside them, and others could take those (rule 4).
    pub(super) fn must_tidy(&mut self) -> bool {
        self.is_tidy |= !self.is_adopting || self.unsettled.is_empty();
        !self.is_tidy
    }

    /// An address was seen: what was asked for is there, and what was refused before and was tried
    /// again since is no longer refused.
    pub(super) fn arrived(&mut self, key: &AddressKey) {
        self.pending.remove(key);
        let ip = key.net.addr();
        if self.made.contains(key)
            && self.refused.get(&ip).is_some_and(|refused| refused.until.is_none())
        {
            self.refused.remove(&ip);
        }
    }

    /// The host is told to carry this out.
    pub(super) fn handed_out(&mut self, action: &KernelAction) {
        if let KernelAction::AddAddress(new) = action {
            self.handed_out.push(new.key());
        }
    }

    /// What was handed out up to `then` has been carried out by now. Where that took long, as when the
    /// process was stopped before the system call, the kernel is given its time from now on.
    pub(super) fn carried_out(&mut self, then: Tick, now: Tick) {
        let was_prompt = now.since(then) < PROMPT;
        for key in self.handed_out.drain(..) {
            if !was_prompt && self.pending.contains(&key) {
                self.pending.put(key, now + PATIENCE);
            }
        }
    }

    /// An address is gone.
    pub(super) fn gone(&mut self, key: &AddressKey) {
        self.removing.remove(key);
        self.made.remove(key);
        self.adopted.remove(key);
        self.granted.remove(key);
        self.refresh.remove(key);
        self.new.remove(key);
    }

    /// Everything was listed anew. An addition may be younger than the listing: it stays believed in.
    /// Returns the addresses whose removal may have to be asked for again.
    pub(super) fn listed_anew(&mut self) -> Vec<IpAddr> {
        let removing = std::mem::take(&mut self.removing);
        removing.keys().map(|key| key.net.addr()).collect()
    }

    /// A link changed: what was asked of links may be asked again, but for a deletion: a link that
    /// goes is shown going down first.
    pub(super) fn link_changed(&mut self) {
        self.asked.retain(|(action, _)| matches!(action, KernelAction::DeleteVirtual { .. }));
    }

    /// Whether every local address has been prolonged to the end of the right.
    pub(super) fn is_extended(&self, right: Option<Tick>) -> bool {
        self.granted.values().all(|until| Some(*until) >= right)
    }

    /// Something is waited for until then.
    fn wait_until(&mut self, at: Tick) {
        self.next_check = Some(self.next_check.map_or(at, |check| check.min(at)));
    }

    /// When the next lifetimes are to be prolonged.
    pub(super) fn next_prolongation(&self) -> Option<Tick> {
        self.prolonging.keys().next().map(|at| self.next_chunk.max(*at))
    }

    pub(super) fn deadline(&self) -> Option<(Tick, &'static str)> {
        let times = [
            (self.pending.first(), "kernel"),
            (self.removing.first(), "kernel"),
            (self.next_check, "kernel"),
            (self.next_prolongation(), "prolong lifetimes"),
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
        if self.surrendered.expire(now) {
            // What is tried again is tried afresh.
            self.hold.refused.clear();
            self.dirty.all = true;
        }
        let ips = &mut self.dirty.ips;
        for waits in [&mut self.hold.pending, &mut self.hold.removing] {
            while let Some(key) = waits.take_due(now) {
                ips.insert(key.net.addr());
            }
        }
        if self.hold.next_check.is_none_or(|check| check > now) {
            return;
        }
        let mut left: Vec<Tick> = Vec::new();
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

    /// Passes an action on unless the same is under way or was just refused.
    pub(super) fn ask_about(&mut self, ip: IpAddr, action: KernelAction) {
        let now = self.now;
        match &action {
            KernelAction::AddAddress(new) => {
                let key = new.key();
                let refused = self.hold.refused.get(&ip);
                let must_wait = refused.is_some_and(|refused| refused.until > Some(now));
                let must_wait = must_wait || self.losses.must_wait(ip);
                let leaving = self.hold.removing.contains(&key);
                if must_wait || leaving || self.hold.pending.contains(&key) {
                    return;
                }
                self.added(new);
            }
            KernelAction::RemoveAddress(key) => {
                if self.hold.removing.put(*key, now + PATIENCE).is_some() {
                    return;
                }
            }
            KernelAction::Advertise { .. }
            | KernelAction::CreateVirtual { .. }
            | KernelAction::DeleteVirtual { .. }
            | KernelAction::Heed { .. }
            | KernelAction::Probe { .. }
            | KernelAction::SetAlias { .. }
            | KernelAction::SetConf { .. }
            | KernelAction::Unheed { .. } => {}
        }
        self.ask_kernel(action);
    }

    /// Passes an action on unless the same is under way.
    pub(super) fn ask_about_link(&mut self, action: KernelAction) {
        if !self.hold.asked.iter().any(|(asked, _)| *asked == action) {
            self.hold.asked.push((action.clone(), self.now + PATIENCE));
            self.hold.wait_until(self.now + PATIENCE);
            self.ask_kernel(action);
        }
    }

    pub(super) fn added(&mut self, new: &NewAddress) {
        let key = new.key();
        self.hold.made.insert(key);
        self.hold.pending.put(key, self.now + PATIENCE);
        match new.lifetime {
            Lifetime::Forever => {
                self.hold.granted.remove(&key);
                self.hold.refresh.remove(&key);
            }
            Lifetime::Seconds(seconds) => {
                let at = self.now + Duration::from_secs(seconds.into()) / 2;
                self.hold.granted.remove(&key);
                self.hold.refresh.insert(key, at);
                self.hold.prolonging.entry(at).or_default().push(key);
            }
            Lifetime::Until(until) => {
                self.hold.refresh.remove(&key);
                self.hold.granted.insert(key, until);
            }
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
                // Without an answer it may be there.
                if !matches!(error, KernelError::Transport { .. }) {
                    self.hold.pending.remove(&new.key());
                    if self.addresses.get(&new.key()).is_none() {
                        self.hold.made.remove(&new.key());
                    }
                }
                self.hold.granted.remove(&new.key());
                Some(new.net.addr())
            }
            KernelAction::CreateVirtual { .. } => {
                self.hold.has_made_virtual = false;
                None
            }
            // Asked for again when its patience is over.
            KernelAction::RemoveAddress(_)
            | KernelAction::Advertise { .. }
            | KernelAction::DeleteVirtual { .. }
            | KernelAction::Heed { .. }
            | KernelAction::Probe { .. }
            | KernelAction::SetAlias { .. }
            | KernelAction::SetConf { .. }
            | KernelAction::Unheed { .. } => None,
        };
        if let Some(ip) = ip {
            let before = self.hold.refused.get(&ip);
            let wait = before.map_or(FIRST_RETRY, |refused| refused.wait * 2).min(LAST_RETRY);
            let is_past_deadline = matches!(error, KernelError::PastDeadline);
            let times = before.map_or(1, |refused| refused.times.saturating_add(1));
            let until = Some(self.now + wait);
            self.hold.refused.insert(ip, Refused { until, wait, times, is_past_deadline });
            self.hold.wait_until(self.now + wait);
            self.dirty.ips.insert(ip);
            if let (KernelAction::AddAddress(new), KernelError::Refused { errno, .. }) =
                (&outcome.action, error)
                && times >= REFUSALS
                && is_about_this_node(*errno)
            {
                self.surrender(ip, new.link);
            }
        }
        // A deadline that passed is the fence at work; something that is not there cannot be removed.
        let is_gone = matches!(outcome.action, KernelAction::RemoveAddress(_));
        if matches!(error, KernelError::PastDeadline) || is_gone {
            return;
        }
        if let KernelAction::Heed { link, .. } = outcome.action
            && !self.conflicts.is_deaf_now(link)
        {
            return;
        }
        let want = ip.and_then(|ip| self.wants.get(&ip));
        let service = want.and_then(|want| self.refs(want).into_iter().next());
        let (action, error) = (outcome.action.clone(), error.clone());
        self.tell(NodeNotice::KernelFailed { action, error, service });
    }
}
