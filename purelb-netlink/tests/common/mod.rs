//! A network namespace of a test's own.
#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod allocator;
pub(crate) mod neighbour;
pub(crate) mod node;

use std::future::Future;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use purelb_core::host::{Address, Link, LinkIndex, Route};
use purelb_core::kernel::KernelError;
use purelb_core::time::Origin;
use purelb_netlink::{Kernel, Watch};

/// Set in a process that was started inside a user and network namespace of its own.
const INSIDE: &str = "PURELB_TEST_IN_NAMESPACE";

/// How long a fact may take to come, also where a processor is emulated.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many addresses are many: 1,000, or what `PURELB_MANY` says where a processor is emulated.
pub(crate) fn many() -> usize {
    std::env::var("PURELB_MANY").map_or(1000, |text| text.parse().unwrap())
}

/// Runs `test` on this thread, in a fresh network namespace with `lo` up.
pub(crate) fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    as_superuser(|| {
        if let Err(why) = in_fresh_namespace(test()) {
            skip(&why);
        }
    });
}

/// Runs `test` if this is the superuser. For anybody else it starts this test once more in a user
/// namespace, where that is allowed.
pub(crate) fn as_superuser(test: impl FnOnce()) {
    if rustix::process::geteuid().is_root() {
        return test();
    }
    if std::env::var_os(INSIDE).is_some() {
        return skip("the user namespace does not make one the superuser");
    }
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let program = std::env::current_exe().unwrap();
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net"])
        .arg(program)
        .args([name.as_str(), "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            if text.starts_with("unshare:") {
                return skip(text.trim());
            }
            panic!("{}{text}", String::from_utf8_lossy(&output.stdout));
        }
        Err(error) => skip(&format!("unshare: {error}")),
    }
}

/// Moves this thread into a fresh network namespace.
pub(crate) fn unshare() -> Result<(), String> {
    // Only the network namespace of this thread changes, and nothing else runs on it.
    #[allow(deprecated, reason = "the other one is unsafe; this flag does not touch descriptors")]
    let moved = rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNET);
    moved.map_err(|error| format!("no network namespace: {error}"))
}

/// Runs `test` on this thread in a fresh network namespace with `lo` up.
pub(crate) fn in_fresh_namespace<T>(test: impl Future<Output = T>) -> Result<T, String> {
    unshare()?;
    ip("link set lo up");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    Ok(runtime.block_on(test))
}

/// A test whose needs are not met says so, and fails where they are required.
pub(crate) fn skip(why: &str) {
    skip_tier("kernel", why);
}

/// The same, for want of a driver that a distribution's kernel has: it may be missing on a machine
/// with the kernel tier.
pub(crate) fn skip_driver(why: &str) {
    skip_tier("drivers", why);
}

/// The same, for want of anything else that goes by a name in `PURELB_REQUIRE`.
pub(crate) fn skip_tier(needed: &str, why: &str) {
    let required = std::env::var("PURELB_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|tier| tier.trim() == needed), "required, but {why}");
    println!("skipped: {why}");
}

/// Runs `ip` with these arguments; it must succeed.
#[track_caller]
pub(crate) fn ip(arguments: &str) -> String {
    try_ip(arguments).unwrap_or_else(|error| panic!("ip {arguments}: {error}"))
}

/// Runs `ip` with these arguments; returns what it printed, or why it failed.
pub(crate) fn try_ip(arguments: &str) -> Result<String, String> {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Runs these commands of `ip`, one per line, in one process; each must succeed.
#[track_caller]
pub(crate) fn ip_batch(commands: &str) {
    let mut batch = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    batch.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    assert!(batch.wait().unwrap().success());
}

/// What `ip -j` prints.
#[track_caller]
pub(crate) fn ip_json(arguments: &str) -> serde_json::Value {
    serde_json::from_str(&ip(&format!("-j {arguments}"))).unwrap()
}

/// Two links, one wire: `left` and `right`, both up. Returns when packets get through: what is sent
/// before the kernel has noticed the carrier is dropped without an error.
pub(crate) fn wire(left: &str, right: &str) {
    ip(&format!("link add {left} type veth peer name {right}"));
    for name in [left, right] {
        ip(&format!("link set {name} up"));
    }
    let start = Instant::now();
    for name in [left, right] {
        while ip_json(&format!("link show {name}"))[0]["operstate"] != "UP" {
            assert!(start.elapsed() < PATIENCE, "{name} does not come up");
        }
    }
}

/// Opens the kernel, with ticks that count from now.
pub(crate) fn open() -> Kernel {
    Kernel::open(origin()).unwrap()
}

/// Ticks that count from now.
pub(crate) fn origin() -> Origin {
    Origin::new(Instant::now())
}

/// Takes in facts until `found` finds something in the mirror.
#[track_caller]
pub(crate) fn until<T>(
    watch: &mut impl Watching,
    mut found: impl FnMut(&purelb_netlink::mirror::Mirror) -> Option<T>,
) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let seen = async {
            loop {
                if let Some(found) = found(watch.mirror()) {
                    return found;
                }
                watch.step().await;
            }
        };
        match tokio::time::timeout(PATIENCE, seen).await {
            Ok(found) => found,
            Err(_) => panic!("waited in vain at {caller}"),
        }
    }
}

/// What takes in facts.
pub(crate) trait Watching {
    /// Takes in one.
    fn step(&mut self) -> impl Future<Output = ()>;
    /// What is known.
    fn mirror(&self) -> &purelb_netlink::mirror::Mirror;
}

impl Watching for Kernel {
    async fn step(&mut self) {
        self.next().await.unwrap();
    }

    fn mirror(&self) -> &purelb_netlink::mirror::Mirror {
        Self::mirror(self)
    }
}

impl Watching for Watch {
    async fn step(&mut self) {
        self.next().await.unwrap();
    }

    fn mirror(&self) -> &purelb_netlink::mirror::Mirror {
        Self::mirror(self)
    }
}

/// The link with this name.
pub(crate) fn link(mirror: &purelb_netlink::mirror::Mirror, name: &str) -> Option<Link> {
    mirror.links().find(|link| link.name == name).cloned()
}

/// The number of the link with this name.
pub(crate) fn index(mirror: &purelb_netlink::mirror::Mirror, name: &str) -> LinkIndex {
    link(mirror, name).unwrap_or_else(|| panic!("no link {name}")).index
}

/// The address `net` on any link.
pub(crate) fn address(mirror: &purelb_netlink::mirror::Mirror, net: &str) -> Option<Address> {
    mirror.addresses().find(|address| address.net.to_string() == net).cloned()
}

/// The routes to `destination`.
pub(crate) fn routes(mirror: &purelb_netlink::mirror::Mirror, destination: &str) -> Vec<Route> {
    let all = mirror.routes().into_iter();
    all.filter(|route| route.destination.to_string() == destination).collect()
}

/// The kernel refused with this number and, unless empty, these words.
#[track_caller]
pub(crate) fn assert_refused(result: Result<(), KernelError>, number: i32, words: &str) {
    let Err(KernelError::Refused { errno, text }) = result else { panic!("{result:?}") };
    assert_eq!(errno, number, "{text}");
    assert!(text.contains(words), "{text}");
}
