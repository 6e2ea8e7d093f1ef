//! Taking in Services: who came, who went, who has what. No decisions.

use crate::allocator::answer::{self, Branding};
use crate::allocator::notice::{Cause, ServiceNotice};
use crate::allocator::outbox::Departed;
use crate::allocator::record::Record;
use crate::allocator::{Allocator, Held, Settings};
use crate::name::{GroupName, ServiceKey, Uid};
use crate::service::Service;

impl Allocator {
    /// Takes in the Services that changed: first those that went, then what the others are, then the
    /// addresses that newcomers show. Only then is any of them decided about.
    pub(super) fn take_in(&mut self, keys: Vec<ServiceKey>) {
        for key in &keys {
            self.part_with(key);
        }
        let mut newcomers = Vec::new();
        for key in &keys {
            if self.enroll(key) {
                newcomers.push(key.clone());
            }
        }
        newcomers.sort_by_cached_key(|key| self.precedence(key));
        for key in &newcomers {
            self.adopt(key);
        }
        self.dirty_services.extend(keys);
    }

    /// Whose claim counts if two show the same address: Services of ours before others, branded ones
    /// before others, then by name.
    fn precedence(&self, key: &ServiceKey) -> (bool, bool, ServiceKey) {
        let is_foreign = self.records.get(key).is_some_and(|record| record.is_foreign);
        let is_branded = self.services.get(key).is_some_and(Service::is_branded);
        (is_foreign, !is_branded, key.clone())
    }

    /// Frees what a Service had that is gone, is another one of the same name, or is no longer a
    /// `LoadBalancer`. (The API server clears the status of the last in the same write.)
    fn part_with(&mut self, key: &ServiceKey) {
        let Some(record) = self.records.get_mut(key) else { return };
        match self.services.get(key).filter(|service| service.uid == record.uid) {
            None => {
                let Some(record) = self.records.remove(key) else { return };
                self.wait_for(key, &record.waits_for, None);
                let freed = self.ledger.expel(&record.uid);
                self.depart(key, &record, freed);
                if record.branding.is_any() && !record.is_deleting && !record.is_foreign {
                    self.release(Departed {
                        service: key.clone(),
                        uid: record.uid,
                        remove: record.branding.names(),
                        showed: record.told,
                        tries: 0,
                    });
                }
            }
            Some(service) if record.is_load_balancer && !service.is_load_balancer => {
                let mut fresh = Record::new(service);
                fresh.answer = record.answer.clone();
                let record = std::mem::replace(record, Box::new(fresh));
                self.wait_for(key, &record.waits_for, None);
                let freed = self.ledger.expel(&record.uid);
                if !record.told.is_empty() && !record.is_foreign {
                    let addresses = record.told.clone();
                    let what = ServiceNotice::Released { addresses, cause: Cause::NotLoadBalancer };
                    self.out.tell_service(key, &record.uid, what);
                }
                self.depart(key, &record, freed);
            }
            Some(_) => {}
        }
    }

    /// Lets others have what a Service had, and tells the sidecars that it is gone.
    fn depart(&mut self, key: &ServiceKey, record: &Record, freed: Vec<Held>) {
        self.contenders.remove(key);
        let asked = record.asked.as_ref().map(|asked| asked.ask.group.clone());
        let from = freed.iter().filter_map(|held| held.group.clone());
        let mut groups: Vec<GroupName> =
            from.chain(asked).filter(|group| self.catalog.external(group).is_some()).collect();
        groups.sort();
        groups.dedup();
        for group in groups {
            self.release_from_sidecar(&group, key, &record.uid, None);
        }
        for held in freed {
            self.wake_waiting(&held);
        }
    }

    /// Takes in what a Service is. Returns whether the addresses that it shows are to be taken in.
    fn enroll(&mut self, key: &ServiceKey) -> bool {
        let Some(service) = self.services.get(key) else { return false };
        if !service.is_load_balancer && !service.is_branded() && !self.records.contains_key(key) {
            return false;
        }
        let record =
            self.records.entry(key.clone()).or_insert_with(|| Box::new(Record::new(service)));
        record.is_load_balancer = service.is_load_balancer;
        record.is_deleting = service.is_deleting;
        record.branding = Branding::of(service);
        if !service.is_load_balancer {
            return false;
        }
        let is_enrolled = self.ledger.owner(&service.uid).is_some();
        let shares_otherwise = !(is_enrolled && service.is_deleting) && self.ledger.enroll(service);
        let was_foreign = record.is_foreign;
        record.is_foreign = is_foreign(service, record, self.settings.as_ref(), &self.catalog);
        let is_foreign = record.is_foreign;
        let owner = self.ledger.owner(&service.uid);
        let has_none = owner.is_some_and(|owner| owner.held().is_empty() && !owner.has_leaving());
        let is_new = has_none && record.answer.is_untouched() && !service.ingress.is_empty();
        if shares_otherwise {
            // It is decided about before those it shares with: who changed is who yields.
            self.dirty_first.insert(key.clone());
            let held = owner.map(|owner| owner.held().to_vec()).unwrap_or_default();
            for held in &held {
                self.wake_waiting(held);
            }
        }
        was_foreign || is_foreign || is_new
    }

    /// Takes in the addresses that a Service shows, as far as nobody else has them.
    pub(super) fn adopt(&mut self, key: &ServiceKey) {
        let Some(service) = self.services.get(key) else { return };
        let Some(record) = self.records.get_mut(key) else { return };
        let uid = &service.uid;
        let shown = answer::shown(service, &self.catalog);
        let (taken, free): (Vec<_>, Vec<_>) =
            shown.into_iter().partition(|held| self.ledger.obstacle(held.ip, uid).is_some());
        record.told = service.ingress.clone();
        // Nothing among `free` has an obstacle, so all of it is granted.
        let _ = self.ledger.settle(uid, free);
        if record.is_foreign && !taken.is_empty() {
            self.contenders.insert(key.clone());
        } else {
            self.contenders.remove(key);
        }
        if record.is_foreign {
            // What it shows is what it has: nothing is leaving.
            let (uid, freed) = (uid.clone(), self.ledger.confirm(uid, &[]));
            for held in &freed {
                self.let_go(held, key, &uid);
            }
            return;
        }
        for held in taken {
            record.causes.insert(held.ip, Cause::Collision);
            let mut holders = self.ledger.holders(held.ip).map(|owner| owner.service.clone());
            if let Some(keeper) = holders.find(|holder| holder != key) {
                let what = ServiceNotice::Collision { ip: held.ip, keeper };
                self.out.tell_service(key, uid, what);
            }
        }
    }

    /// Lets others have an address that a Service had, and tells its sidecar that it is gone.
    pub(super) fn let_go(&mut self, held: &Held, key: &ServiceKey, uid: &Uid) {
        self.wake_waiting(held);
        if let Some(group) = &held.group
            && self.catalog.external(group).is_some()
        {
            self.release_from_sidecar(group, key, uid, Some(held.ip));
        }
    }

    /// Those that wait for something of this address' group look again, after those of others that show
    /// this very address.
    pub(super) fn wake_waiting(&mut self, held: &Held) {
        let shows = |key: &&ServiceKey| {
            self.services.get(key).is_some_and(|service| service.ingress.contains(&held.ip))
        };
        self.dirty_first.extend(self.contenders.iter().filter(shows).cloned());
        let group = match self.catalog.find(held.ip) {
            Some((group, _)) => Some(&group.name),
            None => held.group.as_ref(),
        };
        if let Some(waiting) = group.and_then(|group| self.waiting.get(group)) {
            self.dirty_services.extend(waiting.iter().cloned());
        }
    }

    /// A Service waits for something of the group `new` instead of `old`.
    pub(super) fn wait_for(
        &mut self,
        key: &ServiceKey,
        old: &Option<GroupName>,
        new: Option<&GroupName>,
    ) {
        if old.as_ref() == new {
            return;
        }
        if let Some(old) = old
            && let Some(waiting) = self.waiting.get_mut(old)
        {
            waiting.remove(key);
            if waiting.is_empty() {
                self.waiting.remove(old);
            }
        }
        if let Some(new) = new {
            self.waiting.entry(new.clone()).or_default().insert(key.clone());
        }
    }
}

/// Whether a `LoadBalancer` is somebody else's affair: of another's class, or with addresses that we
/// did not give and that are in no group of ours.
pub(super) fn is_foreign(
    service: &Service,
    record: &Record,
    settings: Option<&Settings>,
    catalog: &super::Catalog,
) -> bool {
    let default_announcer = settings.is_some_and(|settings| settings.default_announcer);
    if !service.is_ours(default_announcer) {
        return true;
    }
    let is_known = record.is_managed
        || service.is_branded()
        || service.ingress.iter().any(|ip| catalog.find(*ip).is_some());
    !is_known && !service.ingress.is_empty()
}
