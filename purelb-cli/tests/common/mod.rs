//! What tests of the built programs have in common.

#![allow(dead_code, clippy::unwrap_used, reason = "each test uses what it needs, and panics")]

pub(crate) mod go;
pub(crate) mod kubectl;
pub(crate) mod lab;
pub(crate) mod node;
pub(crate) mod program;
pub(crate) mod proxy;
pub(crate) mod router;
pub(crate) mod terminal;

use std::time::Duration;

use tokio::time::timeout;

/// How long a fact may take to come true before a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// How often is looked for facts that nobody announces.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not in time: {what}"),
    }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    in_time(what, async {
        while !holds() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
    .await;
}

/// How long a fault of the API lasts: so long, or as many seconds as `PURELB_OUTAGE` says.
pub(crate) fn outage(usual: Duration) -> Duration {
    let wanted = std::env::var("PURELB_OUTAGE").ok();
    let wanted = wanted.map(|text| text.parse().expect("PURELB_OUTAGE is a number of seconds"));
    wanted.map_or(usual, Duration::from_secs)
}

/// The processor time that a process has used, in hundredths of a second.
pub(crate) fn processor_time(id: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("it runs");
    // The name, in brackets, may have spaces in it; utime and stime are the 14th and 15th of proc(5).
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
