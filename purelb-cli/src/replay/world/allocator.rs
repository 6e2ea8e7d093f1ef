//! The world of an allocator: an API that takes what it writes, and sidecars that say what they said.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use purelb_core::allocator::{
    Action, Allocator, Event, IpamAnswer, IpamCall, IpamError, IpamReply, IpamRequest, Patch,
    Ticket, Written,
};
use purelb_core::group::Announce;
use purelb_core::name::{ResourceVersion, ServiceKey};
use purelb_core::service::{Annotations, BRAND, Service};
use purelb_core::store::Change;
use purelb_k8s::snapshot::Snapshot;

use super::{Imagined, World};
use crate::recording::Tape;
use crate::replay::overlay::{Overlay, with_answer};

/// What is around an allocator.
#[derive(Debug)]
pub struct AllocatorWorld {
    overlay: Overlay,
    /// What Services have here.
    answers: BTreeMap<ServiceKey, Answer>,
    /// The first request of this world; those before it have their answers in the recording.
    first: Option<Ticket>,
    /// What sidecars said.
    said: Vec<(IpamCall, Result<IpamAnswer, IpamError>)>,
}

/// What an allocator gave a Service.
#[derive(Clone, Debug)]
struct Answer {
    uid: purelb_core::name::Uid,
    ingress: Vec<IpAddr>,
    annotations: Annotations,
}

impl Answer {
    fn of(service: &Service) -> Self {
        Self {
            uid: service.uid.clone(),
            ingress: service.ingress.clone(),
            annotations: service.annotations.clone(),
        }
    }
}

impl Imagined for Allocator {
    type World = AllocatorWorld;

    fn is_told_all(&self) -> bool {
        self.is_ready()
    }

    fn snapshot(&self, taken: Timestamp) -> Snapshot {
        Snapshot {
            services: self.services().cloned().collect(),
            groups: self.groups().cloned().collect(),
            ..Snapshot::at(taken)
        }
    }

    fn world(&self, overlay: Overlay, tape: &Tape<Self>, _: usize) -> AllocatorWorld {
        let answer = |service: &Service| (service.key.clone(), Answer::of(service));
        AllocatorWorld {
            overlay,
            answers: self.services().map(answer).collect(),
            first: None,
            said: what_sidecars_said(tape),
        }
    }
}

/// The calls of sidecars in a recording, with their answers.
fn what_sidecars_said(tape: &Tape<Allocator>) -> Vec<(IpamCall, Result<IpamAnswer, IpamError>)> {
    let Ok(replay) = tape.replay() else { return Vec::new() };
    let mut asked = BTreeMap::new();
    let mut said = Vec::new();
    for step in replay {
        for input in step.inputs {
            if let crate::recording::What::Event(Event::Ipam(reply)) = &input.what
                && let Some(call) = asked.remove(&reply.ticket)
            {
                said.push((call, reply.result.clone()));
            }
        }
        for action in step.actions {
            if let Action::Ipam(request) = action {
                asked.insert(request.ticket, request.call);
            }
        }
    }
    said
}

impl World<Allocator> for AllocatorWorld {
    fn changes(&self) -> Vec<Event> {
        let groups = self.overlay.groups.changes().into_iter().map(Event::Groups);
        let services = self.overlay.services.changes().into_iter().map(Event::Services);
        groups.chain(services).collect()
    }

    fn hear(&mut self, event: Event) -> Option<Event> {
        let is_ours = |ticket: Ticket| self.first.is_some_and(|first| ticket >= first);
        Some(match event {
            Event::Groups(change) => Event::Groups(self.overlay.groups.apply(change)?),
            Event::Ipam(ref reply) if is_ours(reply.ticket) => return None,
            Event::Services(change) => {
                let change = self.overlay.services.apply(change)?;
                Event::Services(self.services(change))
            }
            Event::Written { ticket, .. } if is_ours(ticket) => return None,
            Event::ActiveSubnets(_)
            | Event::Ipam(_)
            | Event::Settings(_)
            | Event::Written { .. } => event,
        })
    }

    fn answer(&mut self, action: Action, allocator: &Allocator, _: Duration) -> Vec<Event> {
        let accepted = |ticket| Event::Written { ticket, result: Written::Accepted };
        let ticket = match &action {
            Action::Ipam(IpamRequest { ticket, .. })
            | Action::Patch(Patch { ticket, .. })
            | Action::ReEvaluated { ticket, .. } => *ticket,
            Action::Release(release) => release.ticket,
            Action::Status(write) => write.ticket,
            Action::Notice(_) => return Vec::new(),
        };
        self.first.get_or_insert(ticket);
        let service = |key: &ServiceKey| {
            let service = allocator.services().find(|service| service.key == *key)?;
            let version = format!("{}+{}", service.version, ticket.0);
            let version = ResourceVersion::from(version.as_str());
            Some(Service { version, ..service.clone() })
        };
        let seen = match action {
            Action::Ipam(request) => return vec![Event::Ipam(self.sidecar(&request))],
            Action::Patch(patch) => service(&patch.service).map(|service| patched(service, &patch)),
            Action::ReEvaluated { service: key, .. } => service(&key).map(|mut service| {
                service.annotations.re_evaluate = false;
                service
            }),
            Action::Release(release) => {
                self.answers.remove(&release.service);
                None
            }
            Action::Notice(_) | Action::Status(_) => None,
        };
        if let Some(service) = &seen {
            self.answers.insert(service.key.clone(), Answer::of(service));
        }
        let seen = seen.map(|service| Event::Services(Change::Updated(service)));
        std::iter::once(accepted(ticket)).chain(seen).collect()
    }
}

impl AllocatorWorld {
    /// Services have here what they were given here.
    fn services(&mut self, change: Change<Service>) -> Change<Service> {
        match change {
            Change::Deleted(key) => {
                self.answers.remove(&key);
                Change::Deleted(key)
            }
            Change::Listed(services) => {
                Change::Listed(services.into_iter().map(|service| self.service(service)).collect())
            }
            Change::Updated(service) => Change::Updated(self.service(service)),
        }
    }

    fn service(&mut self, service: Service) -> Service {
        let answer =
            self.answers.entry(service.key.clone()).or_insert_with(|| Answer::of(&service));
        if answer.uid != service.uid {
            *answer = Answer::of(&service);
        }
        Service {
            ingress: answer.ingress.clone(),
            annotations: with_answer(service.annotations, &answer.annotations),
            ..service
        }
    }

    /// What a sidecar said when it was asked the same, or that nobody answers.
    fn sidecar(&mut self, request: &IpamRequest) -> IpamReply {
        let same = self.said.iter().position(|(call, _)| *call == request.call);
        let result = match same {
            Some(position) => self.said.remove(position).1,
            None => Err(IpamError::Unavailable),
        };
        IpamReply { ticket: request.ticket, result }
    }
}

/// A Service as it is once the patch is written.
fn patched(mut service: Service, patch: &Patch) -> Service {
    service.ingress.clone_from(&patch.ingress);
    let has = &mut service.annotations;
    has.allocated_by = patch.marks.as_ref().map(|_| BRAND.to_owned());
    has.allocated_from = patch.marks.as_ref().and_then(|marks| marks.allocated_from.clone());
    has.pool_type = patch
        .marks
        .as_ref()
        .and_then(|marks| marks.pool_type)
        .map(|kind: Announce| kind.as_str().to_owned());
    has.skip_ipv6_dad = patch.marks.as_ref().is_some_and(|marks| marks.skip_ipv6_dad);
    service
}
