//! What a process takes, as `/proc` tells it.

use std::fs;
use std::io;
use std::time::Duration;

/// The processor time of all threads of a process so far.
pub(super) fn processor_time(id: u32) -> io::Result<Duration> {
    let mut total = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{id}/task"))? {
        // The first number is the time on a processor in nanoseconds (Documentation/scheduler/
        // sched-stats.rst). A thread that ends meanwhile has taken nothing to speak of.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let time = text.split(' ').next().and_then(|time| time.parse().ok());
        total += Duration::from_nanos(time.unwrap_or_default());
    }
    Ok(total)
}

/// Its resident memory in KiB.
pub(super) fn resident_kib(id: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::Error::other("no VmRSS in /proc"))
}
