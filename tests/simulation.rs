//! Simulated clusters under faults: a fixed range of seeds. `cargo run --release --example simulate` runs more of them.

#[path = "simulation/mod.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod simulation;

use simulation::world;

/// How many seeds are run.
const SEEDS: u64 = 1_000;

#[test]
fn nothing_is_lost_and_nothing_is_stale() {
    let mut counts = simulation::report::Counts::default();
    for seed in 0..SEEDS {
        match world::run(seed, false) {
            Ok(more) => counts.add(&more),
            Err(failed) => panic!(
                "seed {seed} ({}): {}: {}\nreplay it: cargo run --release --example simulate -- --replay {seed}",
                failed.plan.mode, failed.violation.rule, failed.violation.seen
            ),
        }
    }
    println!("{counts}");
}
