//! One address, from the beginning to the end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use purelb_core::name::{NodeName, ServiceKey};

use super::hearsay::Hearsay;
use super::testimony::{Place, Testimony};
use super::{Mark, MarkKind};

/// What came so long before an address was lost may be why.
const BEFORE: SignedDuration = SignedDuration::from_secs(2);

/// What was heard so long after an address was lost may be why.
const AFTER: SignedDuration = SignedDuration::from_millis(50);

/// More reasons than these are not told.
const MOST: usize = 20;

/// Who held one address when.
#[derive(Clone, Debug)]
pub struct Track {
    /// The address.
    pub ip: IpAddr,
    /// The Services that had it.
    pub services: BTreeSet<ServiceKey>,
    /// The spans in which some Service had it or some node held it, in order.
    pub spans: Vec<Span>,
}

/// A time in which nothing changed for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// When it began.
    pub from: Timestamp,
    /// When it ended.
    pub until: Timestamp,
    /// What was so.
    pub state: State,
    /// What was decided and what happened that has to do with it, in order.
    pub why: Vec<(Timestamp, String)>,
}

impl Span {
    /// How long it lasted.
    pub fn length(&self) -> SignedDuration {
        self.until.duration_since(self.from)
    }
}

/// Where an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// On no node, and it has not been on one yet.
    Awaited,
    /// On this node or on none any more: its lease is about to run out, and its kernel takes its addresses off
    /// before that. There is no recording of it.
    Expiring(NodeName),
    /// On the virtual interface of nodes, for routing software to advertise.
    Everywhere {
        /// The nodes that are known to have it.
        nodes: BTreeSet<NodeName>,
        /// The interface's name.
        interface: String,
    },
    /// On a local interface of one node.
    Held {
        /// The node.
        node: NodeName,
        /// The interface's name.
        interface: String,
        /// How that is known.
        evidence: Evidence,
    },
    /// On no node, after it was on one.
    Nobody(Evidence),
    /// On local interfaces of several nodes, which must not be.
    Several(BTreeSet<NodeName>),
}

/// How it is known who holds an address, or that nobody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Another node heard it: the Service's annotation names the holder, and the holder's lease lives; or it
    /// names nobody.
    Heard,
    /// The holder's kernel told the holder's agent; or those of all nodes, that it is not there.
    Seen,
}

impl State {
    /// Whether another node heard it, and nobody who knows told.
    pub fn is_hearsay(&self) -> bool {
        match self {
            Self::Held { evidence, .. } | Self::Nobody(evidence) => *evidence == Evidence::Heard,
            Self::Expiring(_) => true,
            Self::Awaited | Self::Everywhere { .. } | Self::Several(_) => false,
        }
    }

    /// Whether the address is where it must not be, or not where it should be.
    pub fn is_loss(&self) -> bool {
        match self {
            Self::Expiring(_) | Self::Nobody(_) | Self::Several(_) => true,
            Self::Awaited | Self::Everywhere { .. } | Self::Held { .. } => false,
        }
    }
}

impl Track {
    /// That of `ip`, up to `until`.
    pub fn of(
        ip: IpAddr,
        testimonies: &[Testimony],
        hearsay: &Hearsay,
        marks: &[Mark],
        until: Timestamp,
    ) -> Self {
        let court = Court { ip, testimonies, hearsay };
        let mut spans: Vec<Span> = Vec::new();
        let moments: Vec<Timestamp> =
            court.moments().into_iter().filter(|at| *at < until).chain([until]).collect();
        let mut was_held = false;
        for (from, until) in moments.iter().zip(moments.iter().skip(1)) {
            let Some(state) = court.state(*from, was_held) else { continue };
            was_held |= !matches!(state, State::Awaited);
            match spans.last_mut() {
                Some(last) if last.until == *from && last.state == state => last.until = *until,
                Some(_) | None => {
                    spans.push(Span { from: *from, until: *until, state, why: Vec::new() });
                }
            }
        }
        let services = court.services();
        for span in &mut spans {
            span.why = court.why(span, &services, marks);
        }
        Self { ip, services, spans }
    }
}

/// Weighs what is known of one address.
struct Court<'a> {
    ip: IpAddr,
    testimonies: &'a [Testimony],
    hearsay: &'a Hearsay,
}

impl Court<'_> {
    /// Every moment at which something may have changed.
    fn moments(&self) -> BTreeSet<Timestamp> {
        let mut moments = BTreeSet::new();
        for one in self.testimonies {
            moments.extend(one.knows_since);
            moments.insert(one.source.until);
            let places = one.places.get(&self.ip);
            moments.extend(places.into_iter().flat_map(|places| places.iter()).map(|(at, _)| at));
        }
        moments.extend(self.hearsay.live.iter().map(|(at, _)| at));
        let expiries = self.hearsay.expiries.values().flatten();
        moments.extend(expiries.flat_map(|(from, until)| [*from, *until]));
        let holders = self.hearsay.holders.get(&self.ip);
        moments.extend(holders.into_iter().flat_map(|steps| steps.iter()).map(|(at, _)| at));
        let services = self.hearsay.services.get(&self.ip);
        moments.extend(services.into_iter().flat_map(|steps| steps.iter()).map(|(at, _)| at));
        moments
    }

    /// Where the address is; `None` if it is nowhere and need not be anywhere.
    fn state(&self, at: Timestamp, was_held: bool) -> Option<State> {
        let mut known = BTreeSet::new();
        let mut local = BTreeMap::new();
        let mut on_virtual = BTreeMap::new();
        for one in self.testimonies {
            let Some(place) = one.place(self.ip, at) else { continue };
            known.insert(&one.node);
            match place {
                Place::Local(interface) => local.insert(one.node.clone(), interface),
                Place::Nowhere => None,
                Place::Virtual(interface) => on_virtual.insert(one.node.clone(), interface),
            };
        }
        if local.len() > 1 {
            return Some(State::Several(local.into_keys().collect()));
        }
        if let Some((node, interface)) = local.pop_first() {
            let (interface, evidence) = (interface.clone(), Evidence::Seen);
            return Some(State::Held { node, interface, evidence });
        }
        if let Some((_, interface)) = on_virtual.first_key_value() {
            let interface = (*interface).clone();
            return Some(State::Everywhere { nodes: on_virtual.into_keys().collect(), interface });
        }
        let heard = self.hearsay.holders.get(&self.ip).and_then(|holders| holders.at(at));
        if let Some(Some(slot)) = heard
            && !known.contains(&slot.node)
        {
            let expiries = self.hearsay.expiries.get(&slot.node).into_iter().flatten();
            if expiries.clone().any(|(from, until)| (*from..*until).contains(&at)) {
                return Some(State::Expiring(slot.node.clone()));
            }
            let (node, interface) = (slot.node.clone(), slot.interface.clone());
            return Some(State::Held { node, interface, evidence: Evidence::Heard });
        }
        let services = self.hearsay.services.get(&self.ip).and_then(|services| services.at(at));
        let is_asked_for = services.is_some_and(|services| !services.is_empty());
        let mut live = self.hearsay.live.at(at).into_iter().flatten();
        let is_known = live.all(|node| known.contains(node));
        let evidence = if is_known { Evidence::Seen } else { Evidence::Heard };
        is_asked_for.then_some(if was_held { State::Nobody(evidence) } else { State::Awaited })
    }

    fn services(&self) -> BTreeSet<ServiceKey> {
        let steps = self.hearsay.services.get(&self.ip);
        let all = steps.into_iter().flat_map(|steps| steps.iter());
        all.flat_map(|(_, services)| services).cloned().collect()
    }

    fn why(
        &self,
        span: &Span,
        services: &BTreeSet<ServiceKey>,
        marks: &[Mark],
    ) -> Vec<(Timestamp, String)> {
        let mut why = match &span.state {
            State::Held { node, evidence: Evidence::Seen, .. } => {
                self.decisions(span, |one| one.node == *node)
            }
            State::Held { node, evidence: Evidence::Heard, .. } => self.end_of_hearsay(span, node),
            State::Awaited
            | State::Everywhere { .. }
            | State::Expiring(_)
            | State::Nobody(_)
            | State::Several(_) => self.decisions(span, |_| true),
        };
        let is_service = |mark: &Mark| services.iter().any(|key| key.to_string() == mark.whose);
        let concerns = |mark: &&Mark| match (&span.state, mark.kind) {
            (_, MarkKind::Service) => is_service(mark),
            (State::Held { node, .. }, _) => {
                node.as_str() == mark.whose && mark.at >= span.until - BEFORE
            }
            (State::Everywhere { .. }, _) => mark.at <= span.from + AFTER,
            (State::Awaited | State::Expiring(_) | State::Nobody(_) | State::Several(_), _) => true,
        };
        let is_near = |mark: &&Mark| mark.at >= span.from - BEFORE && mark.at <= span.until + AFTER;
        let near = marks.iter().filter(is_near).filter(concerns);
        why.extend(near.map(|mark| (mark.at, mark.text.clone())));
        why.sort();
        why.dedup();
        shortened(why)
    }

    /// What agents had decided when the span began, and decided and told in it.
    fn decisions(
        &self,
        span: &Span,
        is_meant: impl Fn(&Testimony) -> bool,
    ) -> Vec<(Timestamp, String)> {
        let mut why = Vec::new();
        for one in self.testimonies.iter().filter(|one| is_meant(one)) {
            let told = |at: Timestamp, text: &str| (at, format!("{}: {text}", one.node));
            let verdicts = one.verdicts.get(&self.ip).into_iter().flat_map(|steps| steps.iter());
            let (before, during): (Vec<_>, Vec<_>) =
                verdicts.filter(|(at, _)| *at <= span.until).partition(|(at, _)| *at <= span.from);
            let in_force = before.last().filter(|_| one.source.until > span.from);
            why.extend(in_force.map(|(at, text)| told(*at, text)));
            why.extend(during.into_iter().map(|(at, text)| told(at, text)));
            let notes = one.notes.get(&self.ip).into_iter().flatten();
            let during = notes.filter(|(at, _)| *at >= span.from && *at <= span.until);
            why.extend(during.map(|(at, text)| told(*at, text)));
            if one.source.until == span.until {
                why.push(told(span.until, "its recording ends"));
            }
        }
        why
    }

    /// Why another node's word for it ended.
    fn end_of_hearsay(&self, span: &Span, node: &NodeName) -> Vec<(Timestamp, String)> {
        let heard = self.hearsay.holders.get(&self.ip).and_then(|holders| holders.at(span.until));
        let text = match heard.and_then(Option::as_ref) {
            Some(slot) if slot.node != *node => {
                format!("the Service's annotation names {} instead of {node}", slot.node)
            }
            Some(_) => return Vec::new(),
            None => format!(
                "the Service's annotation does not name {node} any more, or its lease has ended"
            ),
        };
        vec![(span.until, text)]
    }
}

/// The first and the last of many reasons.
fn shortened(mut why: Vec<(Timestamp, String)>) -> Vec<(Timestamp, String)> {
    if why.len() > MOST {
        let last = why.split_off(why.len() - MOST / 2);
        let left_out = why.split_off(MOST / 2);
        let at = left_out.first().map(|(at, _)| *at);
        why.extend(at.map(|at| (at, format!("… {} more", left_out.len()))));
        why.extend(last);
    }
    why
}

#[cfg(test)]
mod tests {
    use purelb_core::announcement::Slot;

    use super::*;
    use crate::history::Source;
    use crate::history::steps::Steps;
    use crate::recording::format::FORMAT;
    use crate::recording::{Header, Program};

    const IP: &str = "192.0.2.1";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// A node that knows everything from one moment to another, and held the address between two others.
    fn testimony(node: &str, known: (i64, i64), held: (i64, i64)) -> Testimony {
        let header = Header {
            format: FORMAT,
            program: Program::Lbnodeagent,
            version: String::new(),
            name: node.to_owned(),
            began: 0,
            settings: serde_json::Value::Null,
        };
        let (from, until) = (at(known.0), at(known.1));
        let mut places = BTreeMap::new();
        let steps: &mut Steps<Place> = places.entry(IP.parse().unwrap()).or_default();
        steps.set(at(held.0), Place::Local("eth0".to_owned()));
        steps.set(at(held.1), Place::Nowhere);
        Testimony {
            source: Source { header, from, until, inputs: 1, is_as_recorded: true },
            node: node.into(),
            knows_since: Some(from),
            places,
            verdicts: BTreeMap::new(),
            notes: BTreeMap::new(),
            marks: Vec::new(),
        }
    }

    /// What the API told: the Service was there from the first second on, and a node's for some time.
    fn hearsay(node: &str, (from, until): (i64, i64)) -> Hearsay {
        let mut hearsay = Hearsay::default();
        let services = hearsay.services.entry(IP.parse().unwrap()).or_default();
        services.set(at(1), BTreeSet::from([ServiceKey::new("shop", "web")]));
        let holders = hearsay.holders.entry(IP.parse().unwrap()).or_default();
        holders.set(at(from), Some(Slot { node: node.into(), interface: "eth0".to_owned() }));
        holders.set(at(until), None);
        hearsay
    }

    fn states(testimonies: &[Testimony], hearsay: &Hearsay) -> Vec<(i64, i64, State)> {
        let track = Track::of(IP.parse().unwrap(), testimonies, hearsay, &[], at(100));
        let spans = track.spans.into_iter();
        spans.map(|span| (span.from.as_second(), span.until.as_second(), span.state)).collect()
    }

    fn held(node: &str, evidence: Evidence) -> State {
        State::Held { node: node.into(), interface: "eth0".to_owned(), evidence }
    }

    #[test]
    fn two_that_have_it_at_a_time_are_told() {
        let both = [testimony("a", (1, 100), (10, 31)), testimony("b", (1, 100), (30, 100))];
        let found = states(&both, &hearsay("c", (0, 0)));
        let wanted = [
            (1, 10, State::Awaited),
            (10, 30, held("a", Evidence::Seen)),
            (30, 31, State::Several(BTreeSet::from(["a".into(), "b".into()]))),
            (31, 100, held("b", Evidence::Seen)),
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_node_is_believed_before_what_others_heard_of_it() {
        // The annotation stays for a while after the node has let go, and its recording ends.
        let one = [testimony("a", (1, 60), (10, 20)), testimony("b", (1, 100), (0, 0))];
        let mut told = hearsay("a", (11, 70));
        told.live.set(at(1), BTreeSet::from(["a".into(), "b".into()]));
        let found = states(&one, &told);
        let wanted = [
            (1, 10, State::Awaited),
            (10, 20, held("a", Evidence::Seen)),
            (20, 60, State::Nobody(Evidence::Seen)),
            (60, 70, held("a", Evidence::Heard)),
            (70, 100, State::Nobody(Evidence::Heard)),
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_lost_holder_is_doubted_before_its_lease_ends() {
        let mut told = hearsay("a", (10, 50));
        told.expiries.insert("a".into(), vec![(at(48), at(50))]);
        told.live.set(at(1), BTreeSet::from(["b".into()]));
        let found = states(&[testimony("b", (1, 100), (50, 100))], &told);
        let wanted = [
            (1, 10, State::Awaited),
            (10, 48, held("a", Evidence::Heard)),
            (48, 50, State::Expiring("a".into())),
            (50, 100, held("b", Evidence::Seen)),
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn of_many_reasons_the_first_and_the_last_are_told() {
        let many = |count| (0..count).map(|n| (at(n), n.to_string())).collect::<Vec<_>>();
        assert_eq!(shortened(many(20)), many(20));
        let short = shortened(many(50));
        assert_eq!(short.len(), MOST + 1);
        assert_eq!(
            short[9..12].iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(),
            ["9", "… 30 more", "40"]
        );
    }
}
