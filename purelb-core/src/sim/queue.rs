//! What is still to happen, in order.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::clock::Nanos;

/// Something that happens at its moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happening {
    /// A gratuitous ARP reaches the segment.
    Arp { slot: u32 },
    /// A fault begins.
    Begin { fault: u32 },
    /// A fault ends.
    End { fault: u32 },
    /// A kernel looks whether an address has lived long enough.
    Expire { host: u16, address: u32 },
    /// A fact reaches a process.
    Fact { client: u16, life: u32, slot: u32 },
    /// A request reaches the API.
    Land { slot: u32 },
    /// A client lists what it watches.
    List { client: u16, life: u32, stream: Stream },
    /// A process begins.
    Start { client: u16 },
    /// A frozen process runs again.
    Thaw { client: u16, life: u32 },
    /// A process has a deadline.
    Wake { client: u16, life: u32 },
    /// A watch delivers its next change.
    Watch { client: u16, life: u32, stream: Stream },
}

/// What a client watches, each with an order of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stream {
    /// Which nodes have endpoints.
    Endpoints,
    /// Leases of agents.
    Leases,
    /// Services, ServiceGroups, LBNodeAgents and the Node.
    Objects,
}

impl Stream {
    pub(super) const COUNT: usize = 3;

    pub(super) fn index(self) -> usize {
        match self {
            Self::Endpoints => 0,
            Self::Leases => 1,
            Self::Objects => 2,
        }
    }
}

/// Happenings in the order of their moments; at one moment in the order in which they were queued.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Item>,
    count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Item {
    at: Nanos,
    number: u64,
    what: Happening,
}

impl Ord for Item {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Queue {
    pub(super) fn push(&mut self, at: Nanos, what: Happening) {
        self.count += 1;
        self.heap.push(Item { at, number: self.count, what });
    }

    /// The next one up to `end`.
    pub(super) fn pop(&mut self, end: Nanos) -> Option<(Nanos, Happening)> {
        let next = self.heap.peek_mut()?;
        if next.at > end {
            return None;
        }
        let item = std::collections::binary_heap::PeekMut::pop(next);
        Some((item.at, item.what))
    }
}

/// Values that happenings refer to by number.
#[derive(Clone, Debug)]
pub(super) struct Slots<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    pub(super) fn put(&mut self, value: T) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(value);
            return slot;
        }
        self.slots.push(Some(value));
        (self.slots.len() - 1) as u32
    }

    pub(super) fn take(&mut self, slot: u32) -> Option<T> {
        let value = self.slots.get_mut(slot as usize)?.take();
        if value.is_some() {
            self.free.push(slot);
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_go_first_then_the_order_of_queueing() {
        let mut queue = Queue::default();
        for (at, slot) in [(5, 0), (3, 1), (5, 2), (1, 3)] {
            queue.push(at, Happening::Land { slot });
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(4)).collect();
        let land = |at, slot| (at, Happening::Land { slot });
        assert_eq!(order, [land(1, 3), land(3, 1)]);
        assert_eq!(queue.pop(9), Some(land(5, 0)));
        assert_eq!(queue.pop(9), Some(land(5, 2)));
    }

    #[test]
    fn a_slot_is_taken_once_and_used_again() {
        let mut slots = Slots::default();
        let (a, b) = (slots.put("a"), slots.put("b"));
        assert_eq!((slots.take(a), slots.take(a)), (Some("a"), None));
        assert_eq!(slots.put("c"), a);
        assert_eq!((slots.take(a), slots.take(b)), (Some("c"), Some("b")));
    }
}
