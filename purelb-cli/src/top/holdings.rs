//! Who holds which address, as the objects of the API say, and what moved.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use k8s_openapi::jiff::Timestamp;
use purelb_core::announcement::{Announcing, Slot};
use purelb_core::host::Family;
use purelb_core::name::{NodeName, ServiceKey};
use purelb_core::service::Service;

/// How many moves are remembered.
const REMEMBERED: usize = 1000;

/// The holder of every address, and the moves that were seen.
///
/// A node holds an address while a Service's annotation names it and its lease has not run out. Its
/// kernel may have removed the address a little before that, never after.
#[derive(Clone, Debug, Default)]
pub struct Holdings {
    /// The Services that have an address, each with the node and interface that its annotation names.
    named: BTreeMap<IpAddr, BTreeMap<ServiceKey, Option<Slot>>>,
    addresses: BTreeMap<ServiceKey, Vec<IpAddr>>,
    holdings: BTreeMap<IpAddr, Holding>,
    /// Nodes whose lease has run out, or is gone, and since when.
    dead: BTreeMap<NodeName, Timestamp>,
    moves: VecDeque<Move>,
    /// How many moves are not remembered any more.
    forgotten: usize,
}

/// Who holds an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The node and interface; none for an address that is on no local interface.
    pub holder: Option<Slot>,
    /// Since when that is so; `None` if it was so when it was first looked at.
    pub since: Option<Timestamp>,
    /// The number of the move that goes on.
    open: Option<usize>,
}

/// An address that went from one node to another, or came to its first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The address.
    pub ip: IpAddr,
    /// A Service that has it.
    pub service: ServiceKey,
    /// Who had it; none if nobody had yet.
    pub from: Option<NodeName>,
    /// Since when nobody has held it; `None` if that was before it was first looked at.
    pub left: Option<Timestamp>,
    /// How it ended.
    pub end: MoveEnd,
}

/// How a move ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveEnd {
    /// This node has the address.
    Arrived(NodeName, Timestamp),
    /// No Service has the address any more.
    Gone(Timestamp),
    /// Not yet.
    Pending,
}

impl Move {
    /// For how long nobody held the address, in seconds, as of `now`.
    pub fn gap(&self, now: Timestamp) -> Option<f64> {
        let end = match &self.end {
            MoveEnd::Arrived(_, at) | MoveEnd::Gone(at) => *at,
            MoveEnd::Pending => now,
        };
        self.left.map(|left| end.duration_since(left).as_secs_f64().max(0.0))
    }

    /// When it was last heard of.
    pub fn at(&self) -> Option<Timestamp> {
        match &self.end {
            MoveEnd::Arrived(_, at) | MoveEnd::Gone(at) => Some(*at),
            MoveEnd::Pending => self.left,
        }
    }
}

impl Holdings {
    /// What is known of an address that a Service has.
    pub fn get(&self, ip: IpAddr) -> Option<&Holding> {
        self.holdings.get(&ip)
    }

    /// How many addresses each node holds.
    pub fn counts(&self) -> BTreeMap<NodeName, usize> {
        let mut counts = BTreeMap::new();
        for slot in self.holdings.values().filter_map(|holding| holding.holder.as_ref()) {
            *counts.entry(slot.node.clone()).or_default() += 1;
        }
        counts
    }

    /// The moves, the latest to begin first.
    pub fn moves(&self) -> impl Iterator<Item = &Move> {
        self.moves.iter().rev()
    }

    /// Every address that a Service has, and what is known of it.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, &Holding)> {
        self.holdings.iter().map(|(ip, holding)| (*ip, holding))
    }

    /// The nodes whose lease is known to have run out, or to be gone, and since when.
    pub fn dead(&self) -> &BTreeMap<NodeName, Timestamp> {
        &self.dead
    }

    /// A Service is this now, or gone. What `was_so` before anybody looked is no move.
    pub fn handle_service(
        &mut self,
        key: &ServiceKey,
        service: Option<&Service>,
        at: Timestamp,
        was_so: bool,
    ) {
        let now = service.map(|service| service.ingress.clone()).unwrap_or_default();
        let before = self.addresses.remove(key).unwrap_or_default();
        for ip in &before {
            if let Some(users) = self.named.get_mut(ip) {
                users.remove(key);
            }
        }
        for ip in &now {
            let slot = service.and_then(|s| Announcing::of(s, Family::of(*ip)).slot(*ip).cloned());
            self.named.entry(*ip).or_default().insert(key.clone(), slot);
        }
        let touched: BTreeSet<IpAddr> = before.iter().chain(&now).copied().collect();
        if !now.is_empty() {
            self.addresses.insert(key.clone(), now);
        }
        for ip in touched {
            self.judge(ip, at, was_so);
        }
    }

    /// The lease of a node ran out at this moment, or went.
    pub fn handle_loss(&mut self, node: &NodeName, at: Timestamp) {
        if !self.dead.contains_key(node) {
            self.dead.insert(node.clone(), at);
            self.judge_all_of(node, at);
        }
    }

    /// The lease of a node is live; returns whether it was not.
    pub fn handle_life(&mut self, node: &NodeName, at: Timestamp) -> bool {
        let was_dead = self.dead.remove(node).is_some();
        if was_dead {
            self.judge_all_of(node, at);
        }
        was_dead
    }

    fn judge_all_of(&mut self, node: &NodeName, at: Timestamp) {
        let is_of = |slot: &Option<Slot>| slot.as_ref().is_some_and(|slot| slot.node == *node);
        let of_node = self.named.iter().filter(|(_, users)| users.values().any(is_of));
        let ips: Vec<IpAddr> = of_node.map(|(ip, _)| *ip).collect();
        for ip in ips {
            self.judge(ip, at, false);
        }
    }

    /// Finds who holds `ip` by what is known now.
    fn judge(&mut self, ip: IpAddr, at: Timestamp, was_so: bool) {
        let users = self.named.get(&ip);
        let Some(service) = users.and_then(|users| users.keys().next().cloned()) else {
            self.named.remove(&ip);
            return self.forget(ip, at);
        };
        let slots = users.into_iter().flat_map(|users| users.values().flatten());
        let holder = slots.into_iter().find(|slot| !self.dead.contains_key(&slot.node)).cloned();
        let since = (!was_so).then_some(at);
        let Some(before) = self.holdings.get_mut(&ip) else {
            let holding = Holding { holder: None, since, open: None };
            self.holdings.insert(ip, holding);
            return match holder {
                Some(slot) if was_so => self.hold(ip, Some(slot), None),
                Some(_) => self.judge(ip, at, was_so),
                None => {}
            };
        };
        let node = |slot: &Option<Slot>| slot.as_ref().map(|slot| slot.node.clone());
        let (from, to) = (node(&before.holder), node(&holder));
        if from == to {
            before.holder = holder;
            return;
        }
        let (open, nobody_since) = (before.open.take(), before.since);
        let left = if from.is_some() { Some(at) } else { nobody_since };
        self.hold(ip, holder, since);
        let end = to.map_or(MoveEnd::Pending, |node| MoveEnd::Arrived(node, at));
        match open.and_then(|number| self.move_mut(number)) {
            Some(pending) => pending.end = end,
            None => {
                let is_pending = end == MoveEnd::Pending;
                let number = self.add(Move { ip, service, from, left, end });
                if is_pending && let Some(holding) = self.holdings.get_mut(&ip) {
                    holding.open = Some(number);
                }
            }
        }
    }

    fn hold(&mut self, ip: IpAddr, holder: Option<Slot>, since: Option<Timestamp>) {
        self.holdings.insert(ip, Holding { holder, since, open: None });
    }

    fn forget(&mut self, ip: IpAddr, at: Timestamp) {
        let gone = self.holdings.remove(&ip);
        let open = gone.and_then(|holding| holding.open);
        if let Some(pending) = open.and_then(|number| self.move_mut(number)) {
            pending.end = MoveEnd::Gone(at);
        }
    }

    fn add(&mut self, one: Move) -> usize {
        self.moves.push_back(one);
        if self.moves.len() > REMEMBERED {
            self.moves.pop_front();
            self.forgotten += 1;
        }
        self.forgotten + self.moves.len() - 1
    }

    fn move_mut(&mut self, number: usize) -> Option<&mut Move> {
        self.moves.get_mut(number.checked_sub(self.forgotten)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn service(name: &str, announcing: Option<&str>) -> Service {
        let mut service = Service::new(ServiceKey::new("shop", name), name);
        service.ingress = vec!["192.0.2.1".parse().unwrap()];
        service.annotations.announcing_v4 = announcing.map(|node| format!("{node},eth0,192.0.2.1"));
        service
    }

    fn told(holdings: &Holdings) -> Vec<(Option<&str>, String, Option<f64>)> {
        let end = |one: &Move| match &one.end {
            MoveEnd::Arrived(node, _) => node.to_string(),
            MoveEnd::Gone(_) => "gone".to_owned(),
            MoveEnd::Pending => "?".to_owned(),
        };
        let moves = holdings.moves();
        moves
            .map(|one| (one.from.as_ref().map(NodeName::as_str), end(one), one.gap(at(100))))
            .collect()
    }

    fn hand(holdings: &mut Holdings, service: &Service, second: i64) {
        holdings.handle_service(&service.key, Some(service), at(second), false);
    }

    fn held_by(node: &str) -> Holdings {
        let mut holdings = Holdings::default();
        let service = service("web", Some(node));
        holdings.handle_service(&service.key, Some(&service), at(1), true);
        holdings
    }

    #[test]
    fn what_was_so_before_is_no_move() {
        let holdings = held_by("n1");
        assert_eq!(told(&holdings), []);
        let holding = holdings.get("192.0.2.1".parse().unwrap()).unwrap();
        assert_eq!(holding.since, None);
        assert_eq!(holdings.counts(), BTreeMap::from([("n1".into(), 1)]));
    }

    #[test]
    fn an_address_let_go_is_on_its_way_until_somebody_has_it() {
        let mut holdings = held_by("n1");
        hand(&mut holdings, &service("web", None), 10);
        assert_eq!(told(&holdings), [(Some("n1"), "?".to_owned(), Some(90.0))]);
        hand(&mut holdings, &service("web", Some("n2")), 12);
        assert_eq!(told(&holdings), [(Some("n1"), "n2".to_owned(), Some(2.0))]);
    }

    #[test]
    fn a_lease_that_ran_out_begins_the_gap_at_its_end() {
        let mut holdings = held_by("n1");
        holdings.handle_loss(&"n1".into(), at(20));
        assert_eq!(holdings.counts(), BTreeMap::new());
        hand(&mut holdings, &service("web", Some("n2")), 21);
        assert_eq!(told(&holdings), [(Some("n1"), "n2".to_owned(), Some(1.0))]);
        assert!(holdings.handle_life(&"n1".into(), at(30)));
        assert_eq!(told(&holdings).len(), 1, "it comes back to nothing");
    }

    #[test]
    fn a_lease_that_lives_again_brings_back_what_nobody_took() {
        let mut holdings = held_by("n1");
        holdings.handle_loss(&"n1".into(), at(20));
        holdings.handle_life(&"n1".into(), at(23));
        assert_eq!(told(&holdings), [(Some("n1"), "n1".to_owned(), Some(3.0))]);
    }

    #[test]
    fn a_direct_move_has_no_gap_and_a_first_holder_comes_from_nobody() {
        let mut holdings = held_by("n1");
        hand(&mut holdings, &service("web", Some("n2")), 5);
        assert_eq!(told(&holdings), [(Some("n1"), "n2".to_owned(), Some(0.0))]);
        let mut holdings = Holdings::default();
        hand(&mut holdings, &service("web", None), 5);
        hand(&mut holdings, &service("web", Some("n2")), 6);
        assert_eq!(told(&holdings), [(None, "n2".to_owned(), Some(1.0))]);
    }

    #[test]
    fn the_last_service_of_an_address_takes_it_along() {
        let mut holdings = held_by("n1");
        hand(&mut holdings, &service("other", Some("n1")), 4);
        let key = |name| ServiceKey::new("shop", name);
        holdings.handle_service(&key("web"), None, at(5), false);
        assert_eq!(holdings.counts().len(), 1);
        hand(&mut holdings, &service("other", None), 6);
        holdings.handle_service(&key("other"), None, at(7), false);
        assert_eq!(told(&holdings), [(Some("n1"), "gone".to_owned(), Some(1.0))]);
        assert!(holdings.get("192.0.2.1".parse().unwrap()).is_none());
    }

    #[test]
    fn old_moves_are_forgotten_and_an_open_one_among_them_harms_nothing() {
        let mut holdings = held_by("n1");
        let mut other = service("other", None);
        other.ingress = vec!["192.0.2.2".parse().unwrap()];
        holdings.handle_loss(&"n1".into(), at(2));
        for n in 0..2000 {
            other.annotations.announcing_v4 = Some(format!("m{},eth0,192.0.2.2", n % 2));
            hand(&mut holdings, &other, 3 + n);
        }
        assert_eq!(holdings.moves().count(), REMEMBERED);
        hand(&mut holdings, &service("web", Some("n2")), 3000);
        assert_eq!(holdings.moves().count(), REMEMBERED, "its beginning is forgotten");
    }
}
