//! The commands of a story: what they are, and how they are written.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use purelb_core::allocator::{ClusterRange, IpamError};
use purelb_core::group::{GroupSpec, PoolSpec, PoolsSpec, ServiceGroup};
use purelb_core::host::Family;
use purelb_core::service::{FamilyPolicy, Port, Protocol, Service};

/// Something that happens to the cluster.
pub(crate) enum Command {
    /// `cluster pods|services RANGE`: the cluster uses this range for itself.
    Cluster(IpNet, ClusterRange),
    /// `default-announcer true|false`: whether Services without a class are ours.
    DefaultAnnouncer(bool),
    /// `delete NAMESPACE/NAME`.
    Delete(String),
    /// `delete group NAME`.
    DeleteGroup(String),
    /// `edit NAMESPACE/NAME OPTION…`.
    Edit(String, Vec<Change>),
    /// `group NAME external` (its sidecar listens at `/run/NAME`), or
    /// `group NAME local|remote RANGE in SUBNET [and RANGE in SUBNET]… OPTION…`: created, or replaced.
    Group(Box<ServiceGroup>),
    /// `node NAME ADDRESS`: a node has this address.
    Node(String, IpAddr),
    /// `restart`: the allocator ends, and another begins with what the API shows.
    Restart,
    /// `service NAMESPACE/NAME OPTION…`: created.
    Service(String, Vec<Change>),
    /// `sidecar GROUP RANGE…`: the sidecar of an external group, with these ranges.
    /// `sidecar GROUP up|down`: it answers again, or nobody answers on its socket.
    Sidecar(String, Sidecar),
    /// `start`, after `stop`.
    Start,
    /// `stop`: until `start` no allocator runs, and what happens is seen by the next one only.
    Stop,
    /// `subnets SUBNET…`: those that live nodes are in, all of them.
    Subnets(BTreeSet<IpNet>),
}

/// What happens to a sidecar.
pub(crate) enum Sidecar {
    /// It is there, with nothing given out.
    Of(Vec<String>),
    /// It answers so, or as it should.
    Fails(Option<IpamError>),
}

/// What an option does to a Service.
pub(crate) type Change = Box<dyn Fn(&mut Service)>;

impl Command {
    /// Reads a command. The error says which word is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let command = match need(&mut words)? {
            "cluster" => {
                let what = match need(&mut words)? {
                    "pods" => ClusterRange::Pods,
                    "services" => ClusterRange::Services,
                    other => return Err(format!("{other:?} is neither pods nor services")),
                };
                let word = need(&mut words)?;
                Self::Cluster(word.parse().map_err(|_| format!("{word:?} is no range"))?, what)
            }
            "default-announcer" => Self::DefaultAnnouncer(match need(&mut words)? {
                "true" => true,
                "false" => false,
                other => return Err(format!("{other:?} is neither true nor false")),
            }),
            "delete" => match need(&mut words)? {
                "group" => Self::DeleteGroup(need(&mut words)?.to_owned()),
                name => Self::Delete(service_name(name)?),
            },
            "edit" => {
                let name = service_name(need(&mut words)?)?;
                Self::Edit(name, words.by_ref().map(service_option).collect::<Result<_, _>>()?)
            }
            "group" => Self::Group(Box::new(group(&mut words)?)),
            "node" => {
                let (name, word) = (need(&mut words)?, need(&mut words)?);
                let ip = word.parse().map_err(|_| format!("{word:?} is no address"))?;
                Self::Node(name.to_owned(), ip)
            }
            "restart" => Self::Restart,
            "service" => {
                let name = service_name(need(&mut words)?)?;
                Self::Service(name, words.by_ref().map(service_option).collect::<Result<_, _>>()?)
            }
            "sidecar" => {
                let name = need(&mut words)?.to_owned();
                let rest: Vec<String> = words.by_ref().map(str::to_owned).collect();
                Self::Sidecar(
                    name,
                    match &rest.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                        ["up"] => Sidecar::Fails(None),
                        ["down"] => Sidecar::Fails(Some(IpamError::Unavailable)),
                        _ => Sidecar::Of(rest),
                    },
                )
            }
            "start" => Self::Start,
            "stop" => Self::Stop,
            "subnets" => {
                let subnet =
                    |word: &str| word.parse().map_err(|_| format!("{word:?} is no subnet"));
                Self::Subnets(words.by_ref().map(subnet).collect::<Result<_, _>>()?)
            }
            other => return Err(format!("there is no command {other:?}")),
        };
        match words.next() {
            Some(word) => Err(format!("{word:?} is one word too many")),
            None => Ok(command),
        }
    }
}

fn need<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<&'a str, String> {
    words.next().ok_or_else(|| "something is missing at the end".to_owned())
}

fn service_name(word: &str) -> Result<String, String> {
    match word.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok(word.to_owned()),
        Some(_) | None => Err(format!("{word:?} is no namespace/name")),
    }
}

/// An option of a Service, written `key=value` with the key of a field or of an annotation
/// `purelb.io/…`. An empty value removes it.
///
/// * fields: `families`, `policy`, `ports`, `class`, `type` (`LoadBalancer` or `ClusterIP`),
///   `loadBalancerIP`;
/// * the user's annotations: `addresses`, `multi-pool`, `re-evaluate`, `service-group`, `sharing`
///   (`allow-shared-ip`);
/// * the allocator's own, as if somebody had edited them: `allocated-by`, `allocated-from`,
///   `pool-type`, and `ingress` for the addresses in the status.
fn service_option(word: &str) -> Result<Change, String> {
    let (option, value) = word.split_once('=').unwrap_or((word, ""));
    change(option, value).ok_or_else(|| format!("a Service has no {word:?}"))
}

fn change(option: &str, value: &str) -> Option<Change> {
    let text = (!value.is_empty()).then(|| value.to_owned());
    Some(match option {
        "addresses" => Box::new(move |s| s.annotations.addresses.clone_from(&text)),
        "allocated-by" => Box::new(move |s| s.annotations.allocated_by.clone_from(&text)),
        "allocated-from" => Box::new(move |s| s.annotations.allocated_from.clone_from(&text)),
        "class" => Box::new(move |s| s.class.clone_from(&text)),
        "families" => {
            let families = list(value, |family| match family {
                "v4" => Some(Family::V4),
                "v6" => Some(Family::V6),
                _ => None,
            })?;
            Box::new(move |s| s.families.clone_from(&families))
        }
        "ingress" => {
            let ips = list(value, |ip| ip.parse().ok())?;
            Box::new(move |s| s.ingress.clone_from(&ips))
        }
        "loadBalancerIP" => Box::new(move |s| s.load_balancer_ip.clone_from(&text)),
        "multi-pool" => Box::new(move |s| {
            s.annotations.multi_pool = text.as_ref().map(|text| text == "true");
        }),
        "policy" => {
            let policy = match value {
                "PreferDualStack" => FamilyPolicy::PreferDualStack,
                "RequireDualStack" => FamilyPolicy::RequireDualStack,
                "SingleStack" => FamilyPolicy::SingleStack,
                _ => return None,
            };
            Box::new(move |s| s.family_policy = policy)
        }
        "pool-type" => Box::new(move |s| s.annotations.pool_type.clone_from(&text)),
        "ports" => {
            let ports: BTreeSet<_> = list(value, port)?.into_iter().collect();
            Box::new(move |s| s.ports.clone_from(&ports))
        }
        "re-evaluate" => {
            let re_evaluate = value == "true";
            Box::new(move |s| s.annotations.re_evaluate = re_evaluate)
        }
        "service-group" => Box::new(move |s| {
            s.annotations.service_group = text.as_deref().map(Into::into);
        }),
        "sharing" => Box::new(move |s| s.annotations.sharing = text.as_deref().map(Into::into)),
        "type" if value == "LoadBalancer" => Box::new(|s| s.is_load_balancer = true),
        // As the API server does: class and status go in the same write.
        "type" if value == "ClusterIP" => Box::new(|s| {
            s.is_load_balancer = false;
            s.class = None;
            s.ingress.clear();
        }),
        _ => return None,
    })
}

fn list<T>(value: &str, item: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    value.split(',').filter(|word| !word.is_empty()).map(item).collect()
}

fn port(word: &str) -> Option<Port> {
    let (protocol, number) = word.split_once('/')?;
    let protocol = match protocol {
        "sctp" => Protocol::Sctp,
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    Some(Port { protocol, number: number.parse().ok()? })
}

/// A group, after its first word. Ranges and subnets are taken as they are written: what is wrong
/// with them is for the allocator to say.
///
/// Options: `balancePools`, `multiPool`, `skipIPv6DAD`, `enforceNamespaces`, `namespaceDefault`,
/// `namespaces=A,B`, and `aggregation=…` for all ranges.
fn group<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<ServiceGroup, String> {
    let name = need(words)?;
    let kind = need(words)?;
    if kind == "external" {
        return Ok(crate::allocator_world::external(name));
    }
    if !["local", "remote"].contains(&kind) {
        return Err(format!("{kind:?} is no kind of group"));
    }
    let mut pools = PoolsSpec::default();
    let mut next = Some("and");
    while next == Some("and") {
        let pool = need(words)?;
        match need(words)? {
            "in" => {}
            other => return Err(format!("{other:?} stands where \"in\" should")),
        }
        let (field, list) = match pool.contains(':') {
            true => ("v6pools", &mut pools.v6),
            false => ("v4pools", &mut pools.v4),
        };
        list.push(PoolSpec {
            field: format!("{field}[{}]", list.len()),
            pool: pool.to_owned(),
            subnet: need(words)?.to_owned(),
            aggregation: None,
        });
        next = words.next();
    }
    let mut skip_ipv6_dad = false;
    let mut group = ServiceGroup::new(name, "", GroupSpec::Malformed { error: String::new() });
    while let Some(word) = next {
        match word.split_once('=').unwrap_or((word, "")) {
            ("aggregation", length) => {
                for pool in pools.v4.iter_mut().chain(&mut pools.v6) {
                    pool.aggregation = Some(length.to_owned());
                }
            }
            ("balancePools", "") => pools.balance_pools = true,
            ("enforceNamespaces", "") => group.enforce_namespaces = true,
            ("multiPool", "") => pools.multi_pool = true,
            ("namespaceDefault", "") => group.namespace_default = true,
            ("namespaces", names) => {
                group.namespaces = names.split(',').map(Into::into).collect();
            }
            ("skipIPv6DAD", "") => skip_ipv6_dad = true,
            _ => return Err(format!("a group has no {word:?}")),
        }
        next = words.next();
    }
    group.kind = match kind {
        "remote" => GroupSpec::Remote { pools },
        _ => GroupSpec::Local { pools, skip_ipv6_dad },
    };
    Ok(group)
}
