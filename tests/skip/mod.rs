//! Tests that this machine has no means for.

use std::io::Write as _;

/// Set where everything must be tried, as CI has it.
const SKIP_NOTHING: &str = "PRIMACY_SKIP_NOTHING";

/// Says that something is not tried, and why. Not by `println`, which the test harness keeps to itself where a test
/// passes.
#[track_caller]
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os(SKIP_NOTHING).is_none(), "{SKIP_NOTHING} is set, but {why}");
    std::io::stderr().write_all(format!("SKIPPED: {why}\n").as_bytes()).expect("stderr is open");
}
