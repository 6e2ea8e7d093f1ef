//! Elections held again and again, at the cost of what changed.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use super::digest;
use crate::name::NodeName;

/// How many sets of candidates are known at once: those of a few subnets, before and after a change.
const KNOWN: usize = 8;

/// The winners of addresses, with what it takes to tell them again after candidates came or went: a
/// candidate that comes wins what it beats the winner at, and one that goes loses what it had. So a
/// node that joins costs one hash for each address, however many nodes there are.
///
/// It answers what [`winner`](super::winner) answers.
#[derive(Clone, Debug, Default)]
pub struct Winners {
    last: BTreeMap<IpAddr, Won>,
    known: VecDeque<Arc<[NodeName]>>,
    changes: VecDeque<Change>,
}

/// How an election ended.
#[derive(Clone, Debug)]
struct Won {
    among: Arc<[NodeName]>,
    /// Which of them.
    number: usize,
    digest: [u8; 32],
}

/// What became of the candidates from one set to another.
#[derive(Clone, Debug)]
struct Change {
    from: Arc<[NodeName]>,
    to: Arc<[NodeName]>,
    /// For each of the first set, its number in the second one.
    stays: Vec<Option<usize>>,
    /// The numbers of those in the second set alone.
    comes: Vec<usize>,
}

impl Change {
    fn new(from: &Arc<[NodeName]>, to: &Arc<[NodeName]>) -> Self {
        let numbers: BTreeMap<&NodeName, usize> = to.iter().zip(0..).collect();
        let stays: Vec<_> = from.iter().map(|node| numbers.get(node).copied()).collect();
        let mut is_new = vec![true; to.len()];
        stays.iter().flatten().for_each(|number| is_new[*number] = false);
        let comes = (0..to.len()).filter(|number| is_new[*number]).collect();
        Self { from: Arc::clone(from), to: Arc::clone(to), stays, comes }
    }

    fn is(&self, from: &Arc<[NodeName]>, to: &Arc<[NodeName]>) -> bool {
        Arc::ptr_eq(&self.from, from) && Arc::ptr_eq(&self.to, to)
    }
}

impl Winners {
    /// The winner of `ip` among `candidates`. They are known again if they come in the same order.
    pub fn winner<'a>(&mut self, ip: IpAddr, candidates: &[&'a NodeName]) -> Option<&'a NodeName> {
        if candidates.is_empty() {
            self.last.remove(&ip);
            return None;
        }
        let among = self.known(candidates);
        let number = match self.last.get(&ip) {
            Some(last) if Arc::ptr_eq(&last.among, &among) => last.number,
            last => {
                let last = last.cloned();
                let won = self.elect(ip, last, among)?;
                let number = won.number;
                self.last.insert(ip, won);
                number
            }
        };
        candidates.get(number).copied()
    }

    /// Nobody will ask for this one again.
    pub fn forget(&mut self, ip: IpAddr) {
        self.last.remove(&ip);
    }

    fn elect(&mut self, ip: IpAddr, last: Option<Won>, among: Arc<[NodeName]>) -> Option<Won> {
        let key = ip.to_canonical().to_string();
        let stays = last.and_then(|last| {
            let change = self.change(&last.among, &among);
            let number = change.stays[last.number]?;
            Some((change.comes.clone(), (last.digest, number)))
        });
        let (rivals, kept) = match stays {
            Some((comes, kept)) => (comes, Some(kept)),
            None => ((0..among.len()).collect(), None),
        };
        let rivals = rivals.into_iter().map(|number| (digest(&among[number], &key), number));
        let by_rank = |(digest, number): &([u8; 32], usize)| (*digest, &among[*number]);
        let (digest, number) = rivals.chain(kept).min_by(|a, b| by_rank(a).cmp(&by_rank(b)))?;
        Some(Won { among, number, digest })
    }

    /// The set of these candidates.
    fn known(&mut self, candidates: &[&NodeName]) -> Arc<[NodeName]> {
        let is_it = |known: &Arc<[NodeName]>| known.iter().eq(candidates.iter().copied());
        if let Some(known) = self.known.iter().find(|known| is_it(known)) {
            return Arc::clone(known);
        }
        let new: Arc<[NodeName]> = candidates.iter().map(|node| (*node).clone()).collect();
        self.known.truncate(KNOWN - 1);
        self.known.push_front(Arc::clone(&new));
        new
    }

    fn change(&mut self, from: &Arc<[NodeName]>, to: &Arc<[NodeName]>) -> &Change {
        let position = self.changes.iter().position(|change| change.is(from, to));
        let position = position.unwrap_or_else(|| {
            self.changes.truncate(KNOWN - 1);
            self.changes.push_front(Change::new(from, to));
            0
        });
        &self.changes[position]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::election::winner;

    proptest! {
        /// Whatever comes and goes, and whichever addresses are asked for, some of them seldom.
        #[test]
        fn the_winner_is_always_the_one_of_an_election_from_the_start(
            rounds in prop::collection::vec(
                (prop::collection::btree_set(0_u8..12, 0..10), prop::collection::vec(0_u8..20, 1..30)),
                1..40,
            )
        ) {
            let mut winners = Winners::default();
            for (present, asked) in rounds {
                let nodes: Vec<NodeName> =
                    present.iter().map(|n| format!("node-{n}").into()).collect();
                let candidates: Vec<&NodeName> = nodes.iter().collect();
                for n in asked {
                    let ip = IpAddr::from([192, 0, 2, n]);
                    let expected = winner(ip, candidates.iter().copied());
                    prop_assert_eq!(winners.winner(ip, &candidates), expected);
                    if n == 0 {
                        winners.forget(ip);
                    }
                }
            }
        }
    }

    #[test]
    fn candidates_in_another_order_or_twice_are_the_same_election() {
        let nodes: Vec<NodeName> = ["a", "b", "c"].map(NodeName::from).into();
        let mut winners = Winners::default();
        for n in 0..32 {
            let ip = IpAddr::from([192, 0, 2, n]);
            let expected = winner(ip, &nodes);
            for order in [vec![0, 1, 2], vec![2, 1, 0], vec![0, 0, 1, 2]] {
                let candidates: Vec<&NodeName> = order.iter().map(|n| &nodes[*n]).collect();
                assert_eq!(winners.winner(ip, &candidates), expected);
            }
        }
    }
}
