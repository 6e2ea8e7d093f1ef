//! Labs of real programs on the in-memory API.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use purelb_cli::lab::client::ObjectPath;
use purelb_cli::lab::cluster::{Blueprint, Cluster};
use purelb_cli::lab::namespace::Namespace;
use purelb_cli::lab::observe::{Glance, places, wait_until};
use purelb_cli::lab::state::{Directory, Labs};
use purelb_cli::lab::stop::Stop;
use purelb_cli::lab::{require, samples};
use purelb_k8s::control_plane;

use super::DEADLINE;

/// Who does not say otherwise is alone.
static ONE_LAB: Mutex<()> = Mutex::new(());

/// Where labs are that run at the same time; the last of them takes it along.
static HOUSE: Mutex<Weak<Directory>> = Mutex::new(Weak::new());

/// Runs `test` on a lab whose agents are configured by these fields of `spec.local` and serve their
/// subnets, unless something is missing here.
pub(crate) fn with_agents(local: &str, test: impl FnOnce(&mut Cluster)) {
    build(|| Some(Blueprint::default()), local, test);
}

/// The same on a real control plane, unless there is none.
pub(crate) fn with_control_plane(local: &str, test: impl FnOnce(&mut Cluster)) {
    let blueprint = || {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let assets = Some(control_plane::require::assets(&workspace)?);
        Some(Blueprint { assets, ..Blueprint::default() })
    };
    build(blueprint, local, test);
}

fn build(
    blueprint: impl FnOnce() -> Option<Blueprint>,
    local: &str,
    test: impl FnOnce(&mut Cluster),
) {
    require::privileged(|| {
        let _alone = ONE_LAB.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(blueprint) = blueprint() else { return };
        let directory = Labs::of_this_user().and_then(|labs| labs.start()).unwrap();
        run(directory, blueprint, local, test);
    });
}

/// The same, in a lab that is built to a plan, beside the others of this process.
pub(crate) fn beside_others(
    name: &str,
    blueprint: Blueprint,
    local: &str,
    test: impl FnOnce(&mut Cluster),
) {
    require::privileged(|| {
        let lodger = Lodger::enter();
        let room = lodger.0.as_ref().unwrap().room(name).unwrap();
        run(room, blueprint, local, test);
    });
}

/// One of those who use the common directory.
struct Lodger(Option<Arc<Directory>>);

impl Lodger {
    fn enter() -> Self {
        let mut house = HOUSE.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = house.upgrade().unwrap_or_else(|| {
            Arc::new(Labs::of_this_user().and_then(|labs| labs.start()).unwrap())
        });
        *house = Arc::downgrade(&directory);
        Self(Some(directory))
    }
}

impl Drop for Lodger {
    fn drop(&mut self) {
        // Nobody builds a new house before this one is gone.
        let _house = HOUSE.lock().unwrap_or_else(PoisonError::into_inner);
        self.0 = None;
    }
}

/// Runs `test` on a lab without programs, on the in-memory API.
pub(crate) fn without_programs(test: impl FnOnce(&mut Cluster)) {
    require::privileged(|| {
        let _alone = ONE_LAB.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = Labs::of_this_user().and_then(|labs| labs.start()).unwrap();
        test(&mut raise(directory, Blueprint::default()));
    });
}

fn raise(directory: Directory, blueprint: Blueprint) -> Cluster {
    let purelb = Some(env!("CARGO_BIN_EXE_purelb").into());
    let blueprint = Blueprint { purelb, ..blueprint };
    Cluster::build(directory, None, &Stop::default(), blueprint).unwrap()
}

fn run(directory: Directory, blueprint: Blueprint, local: &str, test: impl FnOnce(&mut Cluster)) {
    let mut cluster = raise(directory, blueprint);
    let agent = format!(
        "{{apiVersion: purelb.io/v2, kind: LBNodeAgent, metadata: {{name: default, \
         namespace: purelb}}, spec: {{local: {{{local}}}}}}}"
    );
    for object in [&agent, samples::LOCAL_GROUP] {
        cluster.api().client().apply(object).unwrap();
    }
    cluster.start_programs().unwrap();
    // A node that begins to serve later may take an address over at once.
    for node in cluster.topology().nodes() {
        serves(&cluster, node);
    }
    test(&mut cluster);
}

/// Waits until the lease of a node says that it serves something.
pub(crate) fn serves(cluster: &Cluster, node: &Namespace) {
    eventually(|| match annotation(cluster, node, "purelb.io/subnets") {
        Some(subnets) if !subnets.is_empty() => Ok(()),
        Some(_) | None => Err(format!("{} serves nothing yet", node.name())),
    });
}

/// An annotation of a node's lease.
pub(crate) fn annotation(cluster: &Cluster, node: &Namespace, name: &str) -> Option<String> {
    let lease = cluster.api().client().get(&ObjectPath::lease(node.name())).ok()?;
    lease["metadata"]["annotations"][name].as_str().map(str::to_owned)
}

/// A Service that gets exactly these addresses.
pub(crate) fn serve(cluster: &Cluster, name: &str, addresses: &[&str]) {
    let families = if addresses.len() == 2 { "IPv4, IPv6" } else { "IPv4" };
    let policy = if addresses.len() == 2 { "RequireDualStack" } else { "SingleStack" };
    let service = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: default, \
         annotations: {{purelb.io/addresses: \"{}\"}}}}, spec: {{type: LoadBalancer, \
         ipFamilyPolicy: {policy}, ipFamilies: [{families}], selector: {{app: web}}, \
         ports: [{{port: 80}}]}}}}",
        addresses.join(",")
    );
    cluster.api().client().apply(&service).unwrap();
}

pub(crate) fn eventually<T>(mut look: impl FnMut() -> Result<T, String>) -> T {
    wait_until(DEADLINE, &Stop::default(), || look().map_err(Glance::NotYet)).unwrap()
}

/// The numbers of the nodes that have `address` on `eth0`.
pub(crate) fn holders(cluster: &Cluster, address: IpAddr) -> Vec<usize> {
    let nodes = cluster.topology().nodes().iter().enumerate();
    let holds =
        |node: &Namespace| places(node, address).unwrap().iter().any(|at| at.link == "eth0");
    nodes.filter(|(_, node)| holds(node)).map(|(number, _)| number).collect()
}

/// The number of the node that alone has `address`.
pub(crate) fn holder(cluster: &Cluster, address: &str) -> usize {
    eventually(|| match holders(cluster, address.parse().unwrap())[..] {
        [holder] => Ok(holder),
        ref holders => Err(format!("{address} is held by {holders:?}")),
    })
}
