//! A node: the real agent on the real kernel of a test's namespace. Kubernetes is plain data that
//! answers at once.

use std::collections::VecDeque;
use std::future::Future;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use purelb_core::config::{LbNodeAgent, Local, LocalSpec, Node as NodeObject, Selector};
use purelb_core::group::{GroupSpec, PoolSpec, PoolsSpec, ServiceGroup};
use purelb_core::host::{Address, LinkConf, Ownership};
use purelb_core::kernel::KernelAction;
use purelb_core::lease::{Lease, LeaseEvent, LeaseWrite, Version, WriteResult};
use purelb_core::machine::Machine;
use purelb_core::membership::Settings;
use purelb_core::name::ServiceKey;
use purelb_core::node::{Action, ClusterAction, Event, NodeAgent, Verdict};
use purelb_core::service::{BRAND, Service};
use purelb_core::store::Change;
use purelb_core::time::Origin;
use purelb_netlink::{HostChange, Kernel};

use super::PATIENCE;

const NAME: &str = "node1";

/// The agent of `node1` and its kernel.
///
/// * [`start`](Self::start) lists everything; [`update`](Self::update) changes a Service later.
/// * [`until`](Self::until) lets it live until something is so, [`during`](Self::during) while
///   something else is awaited.
pub(crate) struct Node {
    agent: NodeAgent,
    kernel: Kernel,
    answers: VecDeque<Event>,
    version: u64,
    lease: Option<Lease>,
    /// The kernel's marks are kept from the agent.
    drops_marks: bool,
    /// How many addresses the kernel was asked to add or to prolong.
    additions: u64,
    /// How many addresses the kernel was asked to remove.
    removals: u64,
    /// How many addresses were seen to be new or changed.
    seen: u64,
    /// What people were told.
    notices: Vec<String>,
}

impl Node {
    /// Starts the agent where groups, Services and its configuration are these.
    pub(crate) fn start(
        spec: LocalSpec,
        groups: Vec<ServiceGroup>,
        services: Vec<Service>,
    ) -> Self {
        Self::start_after(None, Ownership::Mark, spec, groups, services)
    }

    /// Starts the agent after another one left this lease, or none. Where it is to do without marks
    /// the kernel's are kept from it.
    pub(crate) fn start_after(
        lease: Option<Lease>,
        ownership: Ownership,
        spec: LocalSpec,
        groups: Vec<ServiceGroup>,
        services: Vec<Service>,
    ) -> Self {
        let start = Instant::now();
        let version = lease.as_ref().map_or(Version(1), |lease| lease.version);
        let settings = Settings {
            node: NAME.into(),
            boot_id: "boot".into(),
            instance: format!("after {}", version.0),
            duration: Duration::from_secs(5),
        };
        let mut node = Self {
            agent: NodeAgent::new(settings, start).with_ownership(ownership),
            kernel: Kernel::open(Origin::new(start)).unwrap(),
            answers: VecDeque::new(),
            version: version.0,
            lease: lease.clone(),
            drops_marks: ownership == Ownership::PoolAndLink,
            additions: 0,
            removals: 0,
            seen: 0,
            notices: Vec::new(),
        };
        let agent = configuration(spec);
        let object = NodeObject {
            name: NAME.into(),
            uid: "n1".into(),
            labels: Default::default(),
            is_out_of_service: false,
        };
        let leases = lease.into_iter().collect();
        node.tell(Event::Leases(LeaseEvent::Listed { leases, version }));
        node.tell(Event::Agents(Change::Listed(vec![agent])));
        node.tell(Event::Node(Change::Listed(vec![object])));
        node.tell(Event::Groups(Change::Listed(groups)));
        node.tell(Event::Services(Change::Listed(services)));
        node
    }

    /// A Service is new or has changed.
    pub(crate) fn update(&mut self, service: Service) {
        self.tell(Event::Services(Change::Updated(service)));
    }

    /// Its configuration has changed.
    pub(crate) fn configure(&mut self, spec: LocalSpec) {
        self.tell(Event::Agents(Change::Updated(configuration(spec))));
    }

    /// A group has changed.
    pub(crate) fn regroup(&mut self, group: ServiceGroup) {
        self.tell(Event::Groups(Change::Updated(group)));
    }

    /// Lives for as long.
    pub(crate) async fn live(&mut self, span: Duration) {
        self.during(tokio::time::sleep(span)).await;
    }

    /// Kills the agent: nothing is taken back. Returns its lease.
    pub(crate) fn kill(self) -> Option<Lease> {
        self.lease
    }

    /// How many addresses the kernel shows with our mark.
    pub(crate) fn ours(&self) -> usize {
        self.kernel.mirror().addresses().filter(|address| address.is_ours()).count()
    }

    /// How many addresses the kernel was asked to add or to prolong.
    pub(crate) fn additions(&self) -> u64 {
        self.additions
    }

    /// How many addresses the kernel was asked to remove.
    pub(crate) fn removals(&self) -> u64 {
        self.removals
    }

    /// How many addresses were seen to be new or changed.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    /// Leaves undone what is asked for.
    pub(crate) fn forget_actions(&mut self) {
        while self.agent.poll_action().is_some() {}
    }

    /// The latest version of a lease.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Whether everything was listed, and the right to hold local addresses runs.
    pub(crate) fn may_hold(&self) -> bool {
        self.agent.membership().right().is_some()
    }

    /// The sysctls of a link.
    pub(crate) fn conf(&self, name: &str) -> LinkConf {
        super::link(self.kernel.mirror(), name).unwrap().conf
    }

    /// How often the kernel was asked for a whole list.
    pub(crate) fn dumps(&self) -> u64 {
        self.kernel.watch().dumps()
    }

    /// Whether people were told something with all of these words.
    pub(crate) fn has_told(&self, words: &[&str]) -> bool {
        self.notices.iter().any(|notice| words.iter().all(|word| notice.contains(word)))
    }

    /// What was decided about an address.
    pub(crate) fn verdict(&self, ip: &str) -> Option<&Verdict> {
        self.agent.verdict(ip.parse().unwrap())
    }

    /// Lives until `is_so`, which is asked after every fact, deadline and action.
    #[track_caller]
    pub(crate) fn until(
        &mut self,
        mut is_so: impl FnMut(&Self) -> bool,
    ) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let start = Instant::now();
            loop {
                self.act();
                if is_so(self) {
                    return;
                }
                // There may always be something to do.
                let left = PATIENCE.saturating_sub(start.elapsed());
                if left.is_zero() || tokio::time::timeout(left, self.step()).await.is_err() {
                    let verdicts: Vec<_> = self.agent.verdicts().collect();
                    panic!("waited in vain at {caller}: {:#?} {verdicts:#?}", self.notices);
                }
            }
        }
    }

    /// Lives while `other` is awaited.
    #[track_caller]
    pub(crate) fn during<T>(&mut self, other: impl Future<Output = T>) -> impl Future<Output = T> {
        let caller = std::panic::Location::caller();
        async move {
            let live = async {
                loop {
                    self.step().await;
                }
            };
            tokio::select! {
                never = live => never,
                found = tokio::time::timeout(PATIENCE, other) => {
                    found.unwrap_or_else(|_| panic!("waited in vain at {caller}"))
                }
            }
        }
    }

    /// Takes in one fact.
    pub(crate) fn tell(&mut self, event: Event) {
        self.agent.handle_event(event, Instant::now());
    }

    /// Carries out what is asked for, and then takes in one fact or deadline.
    async fn step(&mut self) {
        self.act();
        let due = self.agent.poll_timeout().map(|deadline| deadline.at);
        let due = async {
            match due {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => self.agent.handle_timeout(Instant::now()),
            fact = self.kernel.next() => self.take(fact.unwrap()),
        }
    }

    fn take(&mut self, fact: HostChange) {
        if matches!(fact, HostChange::Addresses(Change::Updated(_))) {
            self.seen += 1;
        }
        self.tell(match fact {
            HostChange::Addresses(change) => Event::Addresses(match self.drops_marks {
                true => without_marks(change),
                false => change,
            }),
            HostChange::Links(change) => Event::Links(change),
            HostChange::Routes(change) => Event::Routes(change),
            HostChange::Sighted(sighting) => Event::Sighted(sighting),
        });
    }

    /// Carries out what is asked for until nothing is.
    fn act(&mut self) {
        loop {
            let actions: Vec<Action> = std::iter::from_fn(|| self.agent.poll_action()).collect();
            if actions.is_empty() {
                return;
            }
            let mut asked = Vec::new();
            for action in actions {
                match action {
                    Action::Cluster(action) => self.answer(action),
                    Action::Kernel(action) => {
                        self.additions += u64::from(matches!(action, KernelAction::AddAddress(_)));
                        self.removals +=
                            u64::from(matches!(action, KernelAction::RemoveAddress(_)));
                        asked.push(action);
                    }
                    Action::Notice(notice) => {
                        self.notices.push(notice.to_string());
                    }
                }
            }
            for outcome in self.kernel.apply(asked) {
                let removes = matches!(outcome.action, KernelAction::RemoveAddress(_));
                if removes || outcome.result.is_err() {
                    self.answers.push_back(Event::Kernel(outcome));
                }
            }
            while let Some(answer) = self.answers.pop_front() {
                self.tell(answer);
            }
        }
    }

    fn answer(&mut self, action: ClusterAction) {
        match action {
            ClusterAction::Announce(_) | ClusterAction::UnwatchEndpoints => {}
            ClusterAction::ListLeases => panic!("there is one history of leases"),
            ClusterAction::WatchEndpoints => {
                self.answers.push_back(Event::Endpoints(Change::Listed(vec![])));
            }
            ClusterAction::WriteLease(LeaseWrite { attempt, content, .. }) => {
                self.version += 1;
                let version = Version(self.version);
                let lease = Lease { node: NAME.into(), version, uid: "l1".into(), content };
                self.lease = Some(lease.clone());
                let result = WriteResult::Accepted { version };
                self.answers.push_back(Event::Leases(LeaseEvent::Written { attempt, result }));
                self.answers.push_back(Event::Leases(LeaseEvent::Updated(lease)));
            }
        }
    }
}

/// The one configuration that there is.
fn configuration(spec: LocalSpec) -> LbNodeAgent {
    LbNodeAgent {
        name: ("purelb".into(), "default".into()),
        uid: "a1".into(),
        selector: Selector::Labels(vec![]),
        local: Local::Given(Box::new(spec)),
    }
}

/// As a kernel before 5.18 tells it.
fn without_marks(change: Change<Address>) -> Change<Address> {
    let unmarked = |address: Address| Address { mark: 0, ..address };
    match change {
        Change::Deleted(key) => Change::Deleted(key),
        Change::Listed(all) => Change::Listed(all.into_iter().map(unmarked).collect()),
        Change::Updated(address) => Change::Updated(unmarked(address)),
    }
}

/// A range with its subnet, and its aggregation if that is not the subnet's.
pub(crate) type Range<'a> = (&'a str, &'a str, Option<&'a str>);

/// A local group of one range of each family.
pub(crate) fn local(name: &str, v4: Range<'_>, v6: Range<'_>) -> ServiceGroup {
    let pools = PoolsSpec { v4: vec![pool(v4)], v6: vec![pool(v6)], ..PoolsSpec::default() };
    ServiceGroup::new(name, name, GroupSpec::Local { pools, skip_ipv6_dad: false })
}

/// A remote group of one IPv4 range.
pub(crate) fn remote(name: &str, v4: Range<'_>) -> ServiceGroup {
    let pools = PoolsSpec { v4: vec![pool(v4)], ..PoolsSpec::default() };
    ServiceGroup::new(name, name, GroupSpec::Remote { pools })
}

fn pool((pool, subnet, aggregation): Range<'_>) -> PoolSpec {
    PoolSpec {
        field: "v4pool".into(),
        pool: pool.into(),
        subnet: subnet.into(),
        aggregation: aggregation.map(str::to_owned),
    }
}

/// A Service that the allocator has given these addresses.
pub(crate) fn service(name: &str, ingress: &[&str]) -> Service {
    let mut service = Service::new(ServiceKey::new("default", name), name);
    service.ingress = ingress.iter().map(|ip| ip.parse::<IpAddr>().unwrap()).collect();
    service.annotations.allocated_by = Some(BRAND.to_owned());
    service
}
