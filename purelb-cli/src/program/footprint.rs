//! Memory that was needed only for a while is given back to the kernel.
//!
//! Around each page of a program that is run, the kernel maps what else of 64 KiB is in its cache; so a
//! start, whose code is never run again (arguments, certificates, the kubeconfig), leaves nearly the whole
//! file resident. Those pages are dropped: the file has them, and what is run again comes back from the
//! kernel's cache. And a burst of Services leaves holes in the heap, which the C library returns when asked.

use std::ffi::c_void;
use std::fs;
use std::io;
use std::ops::Range;
use std::time::Duration;

use rustix::mm::{Advice, madvise};
use rustix::param::page_size;
use tokio::time::sleep;
use tracing::debug;

/// From one look to the next.
const PERIOD: Duration = Duration::from_secs(10);

/// How many bytes more than usual are worth being given back.
const GROWTH: usize = 1 << 20;

/// Gives back what is not needed whenever the process has grown, and once more when it grows no longer; returns
/// only if it cannot be told how large it is.
pub(super) async fn keep_small() {
    if let Err(error) = watch().await {
        debug!(%error, "memory is not given back: /proc cannot be read");
    }
}

async fn watch() -> io::Result<()> {
    let mut usual = 0;
    // While it grows, much of what is free is soon used again: it is looked at once more when that is over.
    let mut is_owed = false;
    loop {
        sleep(PERIOD).await;
        let before = resident()?;
        let has_grown = before > usual + GROWTH;
        if has_grown || is_owed {
            give_back()?;
            sleep(PERIOD).await;
            usual = resident()?;
            is_owed = has_grown;
            debug!(before, after = usual, "memory was given back");
        }
    }
}

/// How many bytes of memory this process has.
fn resident() -> io::Result<usize> {
    let text = fs::read_to_string("/proc/self/statm")?;
    let pages = text.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok());
    let pages = pages.ok_or_else(|| io::Error::other("no resident pages in /proc/self/statm"))?;
    Ok(pages * page_size())
}

fn give_back() -> io::Result<()> {
    trim_heap();
    for range in unchanged(&fs::read_to_string("/proc/self/smaps")?) {
        let start = std::ptr::with_exposed_provenance_mut::<c_void>(range.start);
        // SAFETY: the range is mapped from a file, cannot be written, and has no page of its own: what it
        // held is what the file holds, and the next access reads it from there.
        #[allow(unsafe_code, reason = "there is no safe form")]
        unsafe {
            madvise(start, range.len(), Advice::LinuxDontNeed)?;
        }
    }
    Ok(())
}

#[cfg(target_env = "gnu")]
fn trim_heap() {
    // SAFETY: it may be called at any time; it returns pages that nothing allocated is on.
    #[allow(unsafe_code, reason = "the C library has no safe form")]
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(not(target_env = "gnu"))]
fn trim_heap() {}

/// The mappings in a text of `/proc/PID/smaps` that hold nothing but what their file does.
fn unchanged(smaps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut mapping = None;
    for line in smaps.lines() {
        if let Some(next) = Mapping::parse(line) {
            mapping = Some(next);
        } else if line.split_whitespace().eq(["Anonymous:", "0", "kB"])
            && let Some(mapping) =
                mapping.take_if(|mapping| mapping.is_file && !mapping.is_writable)
        {
            found.push(mapping.range);
        }
    }
    found
}

struct Mapping {
    range: Range<usize>,
    is_writable: bool,
    is_file: bool,
}

impl Mapping {
    /// The first line about a mapping: range, permissions, offset, device, inode, and a name.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        let range = address(start)?..address(end)?;
        let is_writable = words.next()?.contains('w');
        let is_file = words.nth(2)? != "0";
        Some(Self { range, is_writable, is_file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mappings_that_hold_what_their_file_does_are_dropped() {
        let smaps = "\
55d0a000-55d0b000 r--p 00000000 fe:01 42                         /usr/bin/lbnodeagent
Size:                  4 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
55d0b000-55d0f000 r-xp 00001000 fe:01 42                         /usr/bin/lbnodeagent
Anonymous:             0 kB
55d0f000-55d10000 r-xp 00005000 fe:01 42                         /usr/bin/lbnodeagent
Anonymous:             4 kB
55d10000-55d11000 r--p 00006000 fe:01 42                         /usr/bin/lbnodeagent
Anonymous:             4 kB
55d11000-55d12000 rw-p 00007000 fe:01 42                         /usr/bin/lbnodeagent
Anonymous:             0 kB
55d20000-55d21000 r--p 00000000 00:00 0                          [vvar]
Anonymous:             0 kB
55d30000-55d31000 rw-p 00000000 00:00 0                          [heap]
Anonymous:             0 kB
";
        assert_eq!(unchanged(smaps), [0x55d0_a000..0x55d0_b000, 0x55d0_b000..0x55d0_f000]);
    }

    #[test]
    fn what_is_given_back_is_no_longer_resident_and_comes_back_when_it_is_run() {
        let file_backed = || -> u64 {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        let hole = vec![1u8; 64 << 10];
        let _beyond_the_hole = vec![1u8; 1024];
        drop(hole);
        assert!(resident().unwrap() > 0);
        let before = file_backed();
        give_back().unwrap();
        let after = file_backed();
        assert!(after < before, "{after} kB of {before}");
        assert!(unchanged(&fs::read_to_string("/proc/self/smaps").unwrap()).len() > 1);
    }
}
