//! What waits to be handed out: actions, tickets, deadlines.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use crate::allocator::action::Action;
#[cfg(feature = "serde")]
use crate::allocator::action::our_annotations;
use crate::allocator::event::Ticket;
use crate::allocator::notice::{GroupNotice, Notice, ServiceNotice};
use crate::name::{GroupName, ResourceVersion, ServiceKey, Uid};
use crate::time::Tick;

/// Actions not yet polled, what each ticket was for, and when to look again at what.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    #[cfg_attr(feature = "serde", serde(skip))]
    actions: VecDeque<Action>,
    purposes: BTreeMap<Ticket, Purpose>,
    wakes: BTreeSet<(Tick, Wake)>,
    next: u64,
}

/// For how many actions an empty queue keeps its room: what a burst took is given back.
const ROOM: usize = 64;

/// What a ticket was for.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A job at the head of a sidecar's line.
    Line(GroupName, ServiceKey),
    /// A Service's answer, computed from this version.
    Patch(ServiceKey, Uid, ResourceVersion),
    /// Removing the annotation `re-evaluate`.
    ReEvaluated(ServiceKey, Uid),
    /// Taking back the answer of a Service that is gone.
    Release(Departed),
    /// A sidecar's figures.
    Stats(GroupName),
    /// A group's status.
    Status(GroupName, Uid),
}

/// A Service that the watch says is gone, and whose answer is to be taken back.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Departed {
    pub(crate) service: ServiceKey,
    pub(crate) uid: Uid,
    /// Annotations of ours that it bore.
    #[cfg_attr(feature = "serde", serde(deserialize_with = "our_annotations"))]
    pub(crate) remove: Vec<&'static str>,
    /// The addresses that it showed.
    pub(crate) showed: Vec<IpAddr>,
    /// How often it was tried.
    pub(crate) tries: u32,
}

/// What to look at again.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wake {
    /// A group's status.
    Group(GroupName),
    /// A line of sidecar jobs.
    Line(GroupName, ServiceKey),
    /// A Service that is gone and whose answer is still there.
    Release(Departed),
    /// A Service.
    Service(ServiceKey),
    /// A sidecar's figures.
    Stats(GroupName),
}

impl Wake {
    fn why(&self) -> &'static str {
        match self {
            Self::Group(_) => "group status",
            Self::Line(..) => "sidecar",
            Self::Release(_) => "release",
            Self::Service(_) => "service",
            Self::Stats(_) => "sidecar figures",
        }
    }
}

impl Outbox {
    pub(crate) fn push(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(crate) fn tell_service(&mut self, service: &ServiceKey, uid: &Uid, what: ServiceNotice) {
        let notice = Notice::Service { service: service.clone(), uid: uid.clone(), what };
        self.push(Action::Notice(notice));
    }

    pub(crate) fn tell_group(&mut self, group: &GroupName, uid: &Uid, what: GroupNotice) {
        let notice = Notice::Group { group: group.clone(), uid: uid.clone(), what };
        self.push(Action::Notice(notice));
    }

    pub(crate) fn pop(&mut self) -> Option<Action> {
        let action = self.actions.pop_front();
        if action.is_none() {
            self.actions.shrink_to(ROOM);
        }
        action
    }

    /// A new ticket for `purpose`.
    pub(crate) fn ticket(&mut self, purpose: Purpose) -> Ticket {
        self.next += 1;
        let ticket = Ticket(self.next);
        self.purposes.insert(ticket, purpose);
        ticket
    }

    /// What a ticket was for; each is redeemed once.
    pub(crate) fn redeem(&mut self, ticket: Ticket) -> Option<Purpose> {
        self.purposes.remove(&ticket)
    }

    pub(crate) fn wake(&mut self, at: Tick, what: Wake) {
        self.wakes.insert((at, what));
    }

    /// One that is due.
    pub(crate) fn due(&mut self, now: Tick) -> Option<Wake> {
        let (at, _) = self.wakes.first()?;
        if *at > now {
            return None;
        }
        self.wakes.pop_first().map(|(_, what)| what)
    }

    pub(crate) fn deadline(&self) -> Option<(Tick, &'static str)> {
        self.wakes.first().map(|(at, what)| (*at, what.why()))
    }
}
