//! Plays stories: text that people read, with commands that a small API server and an allocator carry
//! out, and a transcript of what came of each.
//!
//! A story is lines of text:
//!
//! * `# …` and blank lines are prose;
//! * a line that begins with a blank continues the command before it;
//! * `> …` is the transcript of the command before it;
//! * anything else is a [`Command`].
//!
//! After each command ten minutes pass, longer than any pause of the allocator. The transcript is what
//! came of it in that time:
//!
//! 1. each Event, in order: `TYPE REASON OBJECT: MESSAGE`;
//! 2. each Service whose addresses or annotations of ours have changed since the command: all of them
//!    (and the number of writes, where one would do or none was needed);
//! 3. each group whose status has changed: the counts of each family that it has or had addresses of;
//! 4. `nothing`, if nothing came of it.

mod command;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use purelb_core::allocator::{Event, Notice};
use purelb_core::group::ServiceGroup;
use purelb_core::name::{GroupName, ServiceKey};
use purelb_core::service::Service;
use purelb_core::usage::GroupStatus;

use self::command::Command;
use crate::allocator_world::{Sidecar, World, key};

/// A story that can be read.
pub(crate) struct Story {
    name: String,
    items: Vec<Item>,
}

enum Item {
    Prose(String),
    Step { line: usize, text: String, command: Command },
}

/// Why a story cannot be read or played.
#[derive(Debug)]
pub(crate) struct Malformed {
    story: String,
    line: usize,
    why: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.story, self.line, self.why)
    }
}

impl Story {
    /// Reads a story. `name` is for errors.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, Malformed> {
        let malformed =
            |line, why: &str| Malformed { story: name.to_owned(), line, why: why.to_owned() };
        // Prose as (0, line), a command as (number, lines).
        let mut parts: Vec<(usize, String)> = Vec::new();
        let mut may_continue = false;
        for (line, n) in text.lines().zip(1..) {
            let is_prose = line.trim().is_empty() || line.starts_with('#');
            if line.starts_with('>') {
                if parts.iter().all(|(n, _)| *n == 0) {
                    return Err(malformed(n, "a transcript without a command before it"));
                }
                may_continue = false;
            } else if is_prose {
                parts.push((0, line.to_owned()));
                may_continue = false;
            } else if line.starts_with([' ', '\t']) {
                let Some((_, command)) = parts.last_mut().filter(|_| may_continue) else {
                    return Err(malformed(n, "a continuation without a command before it"));
                };
                command.push('\n');
                command.push_str(line);
            } else {
                parts.push((n, line.to_owned()));
                may_continue = true;
            }
        }
        let item = |(line, text): (usize, String)| match line {
            0 => Ok(Item::Prose(text)),
            line => match Command::parse(&text) {
                Ok(command) => Ok(Item::Step { line, text, command }),
                Err(why) => Err(malformed(line, &why)),
            },
        };
        let items = parts.into_iter().map(item).collect::<Result<_, _>>()?;
        Ok(Self { name: name.to_owned(), items })
    }

    /// Plays it in an empty cluster; returns its text with the transcripts as they came out.
    pub(crate) fn play(&self) -> Result<String, Malformed> {
        let mut stage = Stage { world: World::new(), is_stopped: false };
        let mut played = String::new();
        for item in &self.items {
            match item {
                Item::Prose(text) => played.extend([text, "\n"]),
                Item::Step { line, text, command } => {
                    played.extend([text, "\n"]);
                    let outcome = stage.play(command).map_err(|why| Malformed {
                        story: self.name.clone(),
                        line: *line,
                        why,
                    })?;
                    for line in outcome {
                        played.extend(["> ", &line, "\n"]);
                    }
                }
            }
        }
        Ok(played)
    }
}

/// The first line where a story as played is not as written.
pub(crate) fn difference(name: &str, written: &str, played: &str) -> String {
    let (mut old, mut new) = (written.lines(), played.lines());
    for n in 1_usize.. {
        let (old, new) = (old.next(), new.next());
        if old != new || old.is_none() {
            let (old, new) = (old.unwrap_or("(the end)"), new.unwrap_or("(the end)"));
            return format!(
                "{name}:{n}: the transcript differs (UPDATE_FIXTURES=1 writes it anew)\n  written: {old}\n  played:  {new}"
            );
        }
    }
    String::new()
}

/// Where a story plays.
struct Stage {
    world: World,
    is_stopped: bool,
}

impl Stage {
    /// Carries out a command; returns its transcript.
    fn play(&mut self, command: &Command) -> Result<Vec<String>, String> {
        self.carry_out(command)?;
        if self.is_stopped {
            return Ok(vec!["nothing".to_owned()]);
        }
        let before = self.shown();
        self.world.notices.clear();
        self.world.patches.clear();
        self.world.calm();
        let mut lines: Vec<String> = self.world.notices.iter().filter_map(event).collect();
        let after = self.shown();
        for (key, state) in &after.services {
            let patches = self.world.patches.iter().filter(|patch| patch.service == *key);
            let writes = patches.count();
            let is_changed = before.services.get(key) != Some(state);
            if is_changed || writes > 0 {
                let writes = match (is_changed, writes) {
                    (true, 0 | 1) => String::new(),
                    (_, writes) => format!(" ({writes} writes)"),
                };
                lines.push(format!("{key}: {state}{writes}"));
            }
        }
        for (name, status) in &after.groups {
            if before.groups.get(name) != Some(status)
                && let Some(status) = status
            {
                lines.push(format!("group {name}: {}", counts(status)));
            }
        }
        if lines.is_empty() {
            lines.push("nothing".to_owned());
        }
        Ok(lines)
    }

    fn carry_out(&mut self, command: &Command) -> Result<(), String> {
        let world = &mut self.world;
        let has = |name: &str| world.services.contains_key(&key(name));
        match command {
            Command::Cluster(net, what) => {
                world.settings.cluster_ranges.insert(*net, *what);
                world.facts.push_back(Event::Settings(world.settings.clone()));
            }
            Command::DefaultAnnouncer(is) => {
                world.settings.default_announcer = *is;
                world.facts.push_back(Event::Settings(world.settings.clone()));
            }
            Command::Delete(name) | Command::Edit(name, _) if !has(name) => {
                return Err(format!("there is no {name}"));
            }
            Command::Delete(name) => world.delete(name),
            Command::DeleteGroup(name) => {
                if !world.groups.contains_key(&name.as_str().into()) {
                    return Err(format!("there is no group {name}"));
                }
                world.delete_group(name);
            }
            Command::Edit(name, changes) => world.edit(name, |service| changed(service, changes)),
            Command::Group(group) => {
                let old = world.groups.get(&group.name);
                let status = old.and_then(|old| old.status.clone());
                world.group(ServiceGroup { status, ..group.as_ref().clone() });
            }
            Command::Node(name, ip) => {
                world.settings.node_addresses.insert(*ip, name.as_str().into());
                world.facts.push_back(Event::Settings(world.settings.clone()));
            }
            Command::Restart => world.restart(),
            Command::Service(name, _) if has(name) => {
                return Err(format!("{name} is there already"));
            }
            Command::Service(name, changes) => {
                world.create(name, |service| changed(service, changes));
            }
            Command::Sidecar(name, command::Sidecar::Of(ranges)) => {
                let ranges: Vec<_> = ranges.iter().map(String::as_str).collect();
                world.sidecars.insert(format!("/run/{name}"), Sidecar::of(&ranges));
            }
            Command::Sidecar(name, command::Sidecar::Fails(error)) => {
                let Some(sidecar) = world.sidecars.get_mut(&format!("/run/{name}")) else {
                    return Err(format!("there is no sidecar of {name}"));
                };
                sidecar.fails.clone_from(error);
            }
            Command::Start if !self.is_stopped => {
                return Err("the allocator runs already".to_owned());
            }
            Command::Start => {
                self.is_stopped = false;
                world.restart();
            }
            Command::Stop if self.is_stopped => {
                return Err("the allocator is stopped already".to_owned());
            }
            Command::Stop => self.is_stopped = true,
            Command::Subnets(subnets) => {
                world.subnets.clone_from(subnets);
                world.facts.push_back(Event::ActiveSubnets(subnets.clone()));
            }
        }
        Ok(())
    }

    /// What the API shows of the allocator's work.
    fn shown(&self) -> Shown {
        let services = self.world.services.iter();
        let groups = self.world.groups.iter();
        Shown {
            services: services.map(|(key, service)| (key.clone(), state(service))).collect(),
            groups: groups.map(|(name, group)| (name.clone(), group.status.clone())).collect(),
        }
    }
}

struct Shown {
    services: BTreeMap<ServiceKey, String>,
    groups: BTreeMap<GroupName, Option<GroupStatus>>,
}

fn changed(mut service: Service, changes: &[command::Change]) -> Service {
    for change in changes {
        change(&mut service);
    }
    service
}

/// A notice as an Event, or `None` if it is for a metric alone.
fn event(notice: &Notice) -> Option<String> {
    let (reason, severity) = notice.event()?;
    let object = match notice {
        Notice::Group { group, .. } | Notice::Usage { group, .. } => format!("group {group}"),
        Notice::Service { service, .. } => service.to_string(),
    };
    Some(format!("{} {reason} {object}: {notice}", severity.as_str()))
}

/// The addresses of a Service and the annotations that say whose they are.
fn state(service: &Service) -> String {
    let addresses: Vec<_> = service.ingress.iter().map(IpAddr::to_string).collect();
    let addresses = match addresses.is_empty() {
        true => "no address".to_owned(),
        false => addresses.join(", "),
    };
    let annotations = &service.annotations;
    let flag = |is: bool| is.then(|| "true".to_owned());
    let marks = [
        ("allocated-by", annotations.allocated_by.clone()),
        ("allocated-from", annotations.allocated_from.clone()),
        ("pool-type", annotations.pool_type.clone()),
        ("re-evaluate", flag(annotations.re_evaluate)),
        ("skip-ipv6-dad", flag(annotations.skip_ipv6_dad)),
    ];
    let set = marks.into_iter().filter_map(|(key, value)| Some(format!("{key} {}", value?)));
    let marks: Vec<_> = set.collect();
    match marks.is_empty() {
        true => addresses,
        false => format!("{addresses} [{}]", marks.join(", ")),
    }
}

/// The counts of a status, without those of a family that the group has nothing to do with.
fn counts(status: &GroupStatus) -> String {
    let families = [
        ("IPv4", status.allocated_v4, status.available_v4),
        ("IPv6", status.allocated_v6, status.available_v6),
    ];
    let mut counts = Vec::new();
    for (family, allocated, available) in families {
        if (allocated, available) != (0, Some(0)) {
            counts.push(format!("allocated{family} {allocated}"));
            counts.extend(available.map(|count| format!("available{family} {count}")));
        }
    }
    if counts.is_empty() {
        counts.push("offers nothing".to_owned());
    }
    if !status.bound_namespaces.is_empty() {
        let names: Vec<_> = status.bound_namespaces.iter().map(|name| name.as_str()).collect();
        counts.push(format!("boundNamespaces {}", names.join(" ")));
    }
    counts.join(", ")
}
