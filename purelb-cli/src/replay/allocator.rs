//! The story of an allocator.

use purelb_core::allocator::{
    Action, Allocator, Event, IpamAnswer, IpamCall, Notice, Patch, StatusWrite, Written,
};

use super::agent::service;
use super::tale::{Kind, Line, Tale, change};
use crate::command::output::list;

impl Tale for Allocator {
    type Seen = ();

    fn told(&self, event: &Event) -> Line {
        let told = |text: String| Line::new(Kind::Told, text);
        match event {
            Event::ActiveSubnets(subnets) if subnets.is_empty() => {
                told("no live lease lists a subnet".to_owned())
            }
            Event::ActiveSubnets(subnets) => {
                told(format!("the live leases list {}", list(subnets)))
            }
            Event::Groups(event) => change(
                event,
                "ServiceGroups",
                |group| told(format!("ServiceGroup {}", group.name)),
                |name| told(format!("ServiceGroup {name} is gone")),
            ),
            Event::Ipam(reply) => match &reply.result {
                Ok(IpamAnswer::Allocated(ips)) => {
                    told(format!("the sidecar gives {} ({})", list(ips), reply.ticket))
                        .of(ips.iter().copied())
                }
                Ok(IpamAnswer::Released) => {
                    told(format!("the sidecar took it back ({})", reply.ticket))
                }
                Ok(IpamAnswer::Stats { .. }) => {
                    told(format!("the sidecar tells its usage ({})", reply.ticket))
                }
                Err(error) => told(format!("the sidecar: {error} ({})", reply.ticket)),
            },
            Event::Services(event) => change(event, "Services", service, |key| {
                told(format!("Service {key} is gone")).on([key.clone()])
            }),
            Event::Settings(settings) => told(
                if settings.default_announcer {
                    "Services without a class are its own"
                } else {
                    "Services without a class are another's"
                }
                .to_owned(),
            ),
            Event::Written { ticket, result } => told(match result {
                Written::Accepted => format!("the write {ticket} is in the API"),
                Written::Conflict => {
                    format!("the write {ticket} was refused: the object has changed")
                }
                Written::Failed { error } => {
                    format!("it is not known whether the write {ticket} landed: {error}")
                }
                Written::Gone => format!("the write {ticket} came to nothing: the object is gone"),
            }),
        }
    }

    fn decided(&self, (): &mut ()) -> Vec<Line> {
        Vec::new()
    }

    fn asked(&self, action: &Action, (): &mut ()) -> Line {
        let does = |text: String| Line::new(Kind::Does, text);
        match action {
            Action::Ipam(request) => {
                does(format!("ask the sidecar of {}: {}", request.group, request.call))
                    .because(format!("request {}", request.ticket))
                    .routine(request.call == IpamCall::Stats)
            }
            Action::Notice(notice) => said(notice),
            Action::Patch(patch) => does(given(patch))
                .of(patch.ingress.iter().copied())
                .on([patch.service.clone()])
                .because(format!("write {}, from version {}", patch.ticket, patch.version)),
            Action::ReEvaluated { ticket, service, .. } => {
                does(format!("remove re-evaluate of {service}"))
                    .on([service.clone()])
                    .because(format!("write {ticket}"))
            }
            Action::Release(release) => does(format!("take back what {} has", release.service))
                .on([release.service.clone()])
                .because(format!("write {}", release.ticket)),
            Action::Status(StatusWrite { ticket, group, status, .. }) => does(format!(
                "write the status of {group}: {} of IPv4 and {} of IPv6 allocated",
                status.allocated_v4, status.allocated_v6
            ))
            .because(format!("write {ticket}"))
            .routine(true),
        }
    }
}

fn given(Patch { service, ingress, marks, .. }: &Patch) -> String {
    let from = marks.as_ref().and_then(|marks| marks.allocated_from.as_deref());
    match (ingress.as_slice(), from) {
        ([], _) => format!("leave {service} without an address"),
        (ips, Some(from)) => format!("give {service} {} from {from}", list(ips)),
        (ips, None) => format!("give {service} {}", list(ips)),
    }
}

fn said(notice: &Notice) -> Line {
    let line = Line::new(Kind::Says, notice.to_string());
    match notice {
        Notice::Group { group, .. } => Line { text: format!("{group}: {}", line.text), ..line },
        Notice::Service { service, .. } => {
            Line { text: format!("{service}: {}", line.text), ..line }.on([service.clone()])
        }
        Notice::Usage { .. } => line.routine(true),
    }
}
