//! Test tiers: what a test does on a machine that lacks what it needs.

/// Whether a test of the lab can run. If not, `why` is printed as `skipped: …`.
///
/// # Panics
///
/// When the test cannot run although `PURELB_REQUIRE` (names separated by commas) names `lab`.
pub fn lab(available: bool, why: &str) -> bool {
    if !available {
        let required = std::env::var("PURELB_REQUIRE").unwrap_or_default();
        assert!(
            !required.split(',').any(|tier| tier.trim() == "lab"),
            "lab is required, but {why}"
        );
        eprintln!("skipped: {why}");
    }
    available
}
