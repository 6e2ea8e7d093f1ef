//! The tier of tests that need a control plane.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::assets::Assets;

/// The tier's name in `PURELB_REQUIRE`.
const TIER: &str = "control-plane";

/// The programs, or nothing and a word why a test of this tier cannot run. `workspace` is the source
/// tree in which they may be built.
///
/// # Panics
///
/// If there are none and `PURELB_REQUIRE` (names separated by commas) names `control-plane`.
pub fn assets(workspace: &Path) -> Option<Assets> {
    Assets::find(workspace).map_err(|error| skip(&error.to_string())).ok()
}

/// Says that a test of this tier cannot run.
///
/// # Panics
///
/// If `PURELB_REQUIRE` names `control-plane`.
pub fn skip(why: &str) {
    let required = std::env::var("PURELB_REQUIRE").unwrap_or_default();
    let is_required = required.split(',').any(|tier| tier.trim() == TIER);
    assert!(!is_required, "{TIER} is required, but {why}");
    println!("skipped: {why}");
}

/// A directory of this process under `parent` for one more control plane. What processes that are
/// gone have left there is removed: a test program has no end at which it could do so itself.
pub fn directory(parent: &Path) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix("control-plane-"));
        let owner = owner.and_then(|name| name.split('-').next());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            // Whoever comes next tries again.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    parent.join(format!("control-plane-{}-{number}", std::process::id()))
}
