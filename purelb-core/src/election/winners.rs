//! Elections held again and again, at the cost of what changed.

use std::cell::LazyCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use super::digest;
use super::field::{Candidates, Field};
use crate::lease::LeaseContent;
use crate::name::NodeName;

/// How many changes of candidates are known at once: those of a few subnets.
const KNOWN: usize = 8;

/// The winners of addresses, with what it takes to tell them again after candidates came or went: a
/// candidate that comes wins what it beats the winner at, and one that goes loses what it had. So a
/// node that joins costs one hash for each address, however many nodes there are, and while nothing
/// changes a winner costs no look at the candidates at all.
///
/// It answers what [`electorate`](super::electorate) and [`winner`](super::winner) answer.
#[derive(Clone, Debug, Default)]
pub struct Winners {
    field: Field,
    last: BTreeMap<IpAddr, Won>,
    changes: VecDeque<Change>,
}

/// How an election ended.
#[derive(Clone, Debug)]
struct Won {
    among: Candidates,
    /// Which of them.
    number: usize,
    digest: [u8; 32],
}

/// What became of the candidates from one set to another.
#[derive(Clone, Debug)]
struct Change {
    from: Candidates,
    to: Candidates,
    /// For each of the first set, its number in the second one.
    stays: Vec<Option<usize>>,
    /// The numbers of those in the second set alone.
    comes: Vec<usize>,
}

impl Change {
    fn new(from: &Candidates, to: &Candidates) -> Self {
        let numbers: BTreeMap<&NodeName, usize> = to.iter().zip(0..).collect();
        let stays: Vec<_> = from.iter().map(|node| numbers.get(node).copied()).collect();
        let mut is_new = vec![true; to.len()];
        stays.iter().flatten().for_each(|number| is_new[*number] = false);
        let comes = (0..to.len()).filter(|number| is_new[*number]).collect();
        Self { from: Arc::clone(from), to: Arc::clone(to), stays, comes }
    }

    fn is(&self, from: &Candidates, to: &Candidates) -> bool {
        Arc::ptr_eq(&self.from, from) && Arc::ptr_eq(&self.to, to)
    }
}

impl Winners {
    /// These are the live leases from now on.
    pub fn stand<'a>(&mut self, live: impl IntoIterator<Item = (&'a NodeName, &'a LeaseContent)>) {
        self.field = Field::of(live, &self.field);
    }

    /// The winner of `ip`, and whether it won among nodes that list the address. A `narrowed` address
    /// is for nodes that list it alone.
    pub fn winner(&mut self, ip: IpAddr, narrowed: bool) -> Option<(&NodeName, bool)> {
        let Some((among, is_listed)) = self.field.electorate(ip, narrowed) else {
            self.last.remove(&ip);
            return None;
        };
        let last = self.last.get(&ip);
        if !last.is_some_and(|last| Arc::ptr_eq(&last.among, among)) {
            let won = elect(ip, last, among, &mut self.changes)?;
            self.last.insert(ip, won);
        }
        let won = self.last.get(&ip)?;
        Some((won.among.get(won.number)?, is_listed))
    }

    /// Nobody will ask for this one again.
    pub fn forget(&mut self, ip: IpAddr) {
        self.last.remove(&ip);
    }
}

/// Who wins `ip` now; `last` won it before.
fn elect(
    ip: IpAddr,
    last: Option<&Won>,
    among: &Candidates,
    changes: &mut VecDeque<Change>,
) -> Option<Won> {
    let key = LazyCell::new(|| ip.to_canonical().to_string());
    let rival = |number: usize| (digest(&among[number], &key), number);
    let by_rank = |(digest, number): &([u8; 32], usize)| (*digest, &among[*number]);
    let kept = last.and_then(|last| {
        let change = known_change(changes, &last.among, among);
        Some((change, (last.digest, change.stays[last.number]?)))
    });
    let (digest, number) = match kept {
        Some((change, kept)) => {
            let rivals = change.comes.iter().map(|number| rival(*number));
            rivals.chain([kept]).min_by_key(by_rank)
        }
        None => (0..among.len()).map(rival).min_by_key(by_rank),
    }?;
    Some(Won { among: Arc::clone(among), number, digest })
}

/// What became of the candidates, looked at once for all addresses.
fn known_change<'a>(
    changes: &'a mut VecDeque<Change>,
    from: &Candidates,
    to: &Candidates,
) -> &'a Change {
    let position = changes.iter().position(|change| change.is(from, to));
    let position = position.unwrap_or_else(|| {
        changes.truncate(KNOWN - 1);
        changes.push_front(Change::new(from, to));
        0
    });
    &changes[position]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::election::{electorate, winner};

    fn leases(nodes: &[NodeName], lists: impl Fn(usize) -> bool) -> Vec<(&NodeName, LeaseContent)> {
        let content = |lists| LeaseContent {
            subnets: ["192.0.2.0/24".parse().unwrap()].into(),
            lists: if lists { [IpAddr::from([192, 0, 2, 1])].into() } else { [].into() },
            ..LeaseContent::default()
        };
        nodes.iter().enumerate().map(|(n, node)| (node, content(lists(n)))).collect()
    }

    proptest! {
        /// Whatever comes and goes, and whichever addresses are asked for, some of them seldom.
        #[test]
        fn the_winner_is_always_the_one_of_an_election_from_the_start(
            rounds in prop::collection::vec(
                (
                    prop::collection::btree_set(0_u8..12, 0..10),
                    any::<u8>(),
                    prop::collection::vec((0_u8..20, any::<bool>()), 1..30),
                ),
                1..40,
            )
        ) {
            let mut winners = Winners::default();
            for (present, listing, asked) in rounds {
                let nodes: Vec<NodeName> =
                    present.iter().map(|n| format!("node-{n}").into()).collect();
                let leases = leases(&nodes, |n| listing >> (n % 8) & 1 == 1);
                let live = || leases.iter().map(|(node, content)| (*node, content));
                winners.stand(live());
                for (n, narrowed) in asked {
                    let ip = IpAddr::from([192, 0, 2, n]);
                    let (candidates, by_listing) = electorate(ip, narrowed, live());
                    let expected = winner(ip, candidates).map(|node| (node, by_listing));
                    prop_assert_eq!(winners.winner(ip, narrowed), expected);
                    if n == 0 {
                        winners.forget(ip);
                    }
                }
            }
        }
    }
}
