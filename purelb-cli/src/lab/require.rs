//! Test tiers: what a test does on a machine that lacks what it needs.

use std::process::Command;
use std::thread;

use super::privilege;

/// Set in a test program that was started again inside a user namespace.
const INSIDE: &str = "PURELB_TEST_IN_NAMESPACE";

/// Says that a test of the lab cannot run.
///
/// # Panics
///
/// When `PURELB_REQUIRE` (names separated by commas) names `lab`.
pub fn skip(why: &str) {
    skip_tier("lab", why);
}

/// Says that a test of that tier cannot run.
///
/// # Panics
///
/// When `PURELB_REQUIRE` names the tier.
pub fn skip_tier(tier: &str, why: &str) {
    let required = std::env::var("PURELB_REQUIRE").unwrap_or_default();
    let is_required = required.split(',').any(|required| required.trim() == tier);
    assert!(!is_required, "{tier} is required, but {why}");
    println!("skipped: {why}");
}

/// Runs `test`, which makes network namespaces. For an ordinary user it starts this one test once
/// more, in a user namespace; a test program has threads, so it cannot enter one itself.
///
/// # Panics
///
/// When the test does there, and as [`skip`].
pub fn privileged(test: impl FnOnce()) {
    if privilege::has_capabilities() {
        return test();
    }
    if std::env::var_os(INSIDE).is_some() {
        return skip("a user namespace gives no right to make network namespaces");
    }
    let name = thread::current().name().unwrap_or_default().to_owned();
    let again = std::env::current_exe().and_then(|program| {
        Command::new("unshare")
            .args(["--user", "--map-root-user"])
            .arg(program)
            .args([&name, "--exact", "--nocapture", "--test-threads=1"])
            .env(INSIDE, "1")
            .output()
    });
    match again {
        Err(error) => skip(&format!("unshare: {error}")),
        Ok(output) => {
            let out = String::from_utf8_lossy(&output.stdout);
            let err = String::from_utf8_lossy(&output.stderr);
            if err.starts_with("unshare:") {
                return skip(err.trim());
            }
            print!("{out}");
            assert!(output.status.success(), "{err}");
        }
    }
}
