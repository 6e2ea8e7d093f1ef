//! A real API server with all programs at work: etcd goes away beneath it, comes back, and comes back as
//! it was an hour ago; the definitions of our resources go, with all that was made by them, and come
//! back. Each address is soon where it belongs and on one node only, nobody loops meanwhile, and the
//! logs say what happened.
//!
//! Needs a control plane (`KUBEBUILDER_ASSETS`, or Go), iproute2, and the right to make network
//! namespaces.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod common;

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use common::lab::{eventually, holder, holders, serve, with_control_plane};
use common::processor_time;
use http::Request;
use purelb_cli::lab::client::{ObjectPath, ingress};
use purelb_cli::lab::cluster::Cluster;
use purelb_cli::lab::observe::places;
use purelb_cli::lab::samples;
use purelb_k8s::control_plane::ControlPlane;

/// How long etcd is away: longer than the lease, and long enough to see whether somebody loops.
const OUTAGE: Duration = Duration::from_secs(7);

/// The most processor time that a program may use in a second of outage, in hundredths.
const BUSY_PER_SECOND: u64 = 20;

/// The most lines that it may log in a second of outage.
const LINES_PER_SECOND: usize = 10;

/// How often something is written between the backup and its return: more than the programs write until
/// they have noticed.
const WRITES: usize = 400;

const OLD: &str = "192.0.2.240";
const DELETED: &str = "192.0.2.241";
const NEW: &str = "192.0.2.242";
const AFTER: &str = "192.0.2.243";

fn plane(cluster: &mut Cluster) -> &mut ControlPlane {
    cluster.api_mut().plane().expect("a real one")
}

/// What the programs have logged, all of them.
fn logs(cluster: &Cluster) -> String {
    let files = fs::read_dir(cluster.logs()).unwrap().flatten();
    files.map(|file| fs::read_to_string(file.path()).unwrap()).collect()
}

/// Whether a program said this after `earlier` was all that was said.
fn says(cluster: &Cluster, earlier: &str, words: &str) {
    eventually(|| {
        let count = |text: &str| text.matches(words).count();
        let is_new = count(&logs(cluster)) > count(earlier);
        is_new.then_some(()).ok_or_else(|| format!("nobody says {words:?}"))
    });
}

/// Lets an outage last, and sees that nobody loops and that no program ends.
fn nobody_loops(cluster: &mut Cluster) {
    let ids: Vec<u32> = cluster.programs().map(|program| program.id()).collect();
    let busy: Vec<u64> = ids.iter().map(|id| processor_time(*id)).collect();
    let lines = logs(cluster).lines().count();
    sleep(OUTAGE);
    let seconds = OUTAGE.as_secs();
    for (id, before) in ids.into_iter().zip(busy) {
        let busy = processor_time(id) - before;
        assert!(busy <= BUSY_PER_SECOND * seconds, "{busy} hundredths in {seconds} s");
    }
    let (lines, programs) = (logs(cluster).lines().count() - lines, cluster.programs().count());
    let most = LINES_PER_SECOND * seconds as usize * programs;
    assert!(lines <= most, "{lines} lines in {seconds} s");
    assert_eq!(cluster.fallen(), None);
}

/// Waits until no node has the address.
fn is_nowhere(cluster: &Cluster, address: &str) {
    let address: IpAddr = address.parse().unwrap();
    eventually(|| {
        let nodes = cluster.topology().nodes().iter();
        let left: Vec<_> = nodes
            .filter(|node| !places(node, address).unwrap().is_empty())
            .map(|node| node.name().to_owned())
            .collect();
        left.is_empty().then_some(()).ok_or_else(|| format!("{address} is on {left:?}"))
    });
}

/// Waits until the Service has this address, and one node too.
fn is_served(cluster: &Cluster, name: &str, address: &str) {
    let wanted: IpAddr = address.parse().unwrap();
    eventually(|| {
        let service = cluster.api().client().get(&ObjectPath::service(name));
        let has = service.as_ref().map(ingress).map_err(ToString::to_string)?;
        (has == [wanted]).then_some(()).ok_or_else(|| format!("{name} has {has:?}"))
    });
    eventually(|| match holders(cluster, wanted)[..] {
        [_] => Ok(()),
        [] => Err(format!("nobody holds {address}")),
        ref several => panic!("{address} is held by nodes {several:?}"),
    });
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

#[test]
fn definitions_that_are_deleted_take_no_address_from_a_service() {
    with_control_plane("", |cluster| {
        serve(cluster, "web", &[OLD]);
        is_served(cluster, "web", OLD);
        let before = logs(cluster);
        delete_definitions(cluster);
        // Nothing tells the nodes any more how to announce.
        is_nowhere(cluster, OLD);
        says(cluster, &before, "answered 404");
        nobody_loops(cluster);
        let web = cluster.api().client().get(&ObjectPath::service("web")).unwrap();
        assert_eq!(ingress(&web), [OLD.parse::<IpAddr>().unwrap()]);

        plane(cluster).install_definitions().unwrap();
        for object in [samples::NODE_AGENT, samples::LOCAL_GROUP] {
            cluster.api().client().apply(object).unwrap();
        }
        is_served(cluster, "web", OLD);
        serve(cluster, "after", &[AFTER]);
        is_served(cluster, "after", AFTER);
        assert_eq!(cluster.fallen(), None);
    });
}

/// Deletes the definitions of our resources, and with them every object that was made by them.
fn delete_definitions(cluster: &Cluster) {
    let client = cluster.api().client().connection().expect("a real one");
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    for name in ["servicegroups.purelb.io", "lbnodeagents.purelb.io"] {
        let request = Request::delete(format!("{path}/{name}")).body(Vec::new()).unwrap();
        cluster.background().block_on(client.request_text(request)).unwrap();
    }
}

#[test]
fn whatever_becomes_of_etcd_each_address_is_soon_in_one_place_again() {
    with_control_plane("", |cluster| {
        serve(cluster, "old", &[OLD]);
        serve(cluster, "deleted", &[DELETED]);
        is_served(cluster, "old", OLD);
        is_served(cluster, "deleted", DELETED);

        // etcd alone: the API server still takes requests, and its watches stay open.
        let before = logs(cluster);
        plane(cluster).kill_etcd().unwrap();
        nobody_loops(cluster);
        is_nowhere(cluster, OLD);
        says(cluster, &before, "the lease may not have been renewed");
        says(cluster, &before, "no longer leading");
        plane(cluster).start_etcd().unwrap();
        for (name, address) in [("old", OLD), ("deleted", DELETED)] {
            is_served(cluster, name, address);
        }

        // Both; meanwhile a backup.
        let before = logs(cluster);
        plane(cluster).kill_api_server().unwrap();
        plane(cluster).stop_etcd().unwrap();
        let data = plane(cluster).etcd_data();
        let backup = data.with_extension("backup");
        copy(&data, &backup);
        nobody_loops(cluster);
        says(cluster, &before, "cannot reach the API server");
        plane(cluster).start_etcd().unwrap();
        plane(cluster).start_api_server().unwrap();
        is_served(cluster, "old", OLD);
        says(cluster, &before, "watching again");

        // What happens now will not have happened.
        serve(cluster, "new", &[NEW]);
        is_served(cluster, "new", NEW);
        cluster.api().client().delete(&ObjectPath::service("deleted")).unwrap();
        is_nowhere(cluster, DELETED);
        for number in 0..WRITES {
            let something = format!(
                "{{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {{name: something, \
                 namespace: default, annotations: {{example.com/number: '{number}'}}}}}}"
            );
            cluster.api().client().apply(&something).unwrap();
        }
        let before = logs(cluster);
        plane(cluster).kill_api_server().unwrap();
        plane(cluster).stop_etcd().unwrap();
        fs::remove_dir_all(&data).unwrap();
        copy(&backup, &data);
        plane(cluster).start_etcd().unwrap();
        plane(cluster).start_api_server().unwrap();
        says(cluster, &before, "a backup of the API is restored");
        is_nowhere(cluster, NEW);
        is_served(cluster, "old", OLD);
        is_served(cluster, "deleted", DELETED);
        serve(cluster, "after", &[AFTER]);
        is_served(cluster, "after", AFTER);
        for address in [OLD, DELETED, AFTER] {
            holder(cluster, address);
        }
        assert_eq!(cluster.fallen(), None);
    });
}
