//! Runs the simulation over many seeds: `cargo run --release --example simulate -- --seeds 100000`.

#[path = "../tests/simulation/mod.rs"]
#[allow(dead_code, reason = "the test uses the rest")]
mod simulation;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use simulation::report::Counts;
use simulation::world::{self, Failed};

/// Simulates clusters of replicas under faults and checks what clients see.
#[derive(Parser)]
struct Options {
    /// How many seeds to run.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Runs this one seed and prints what happens.
    #[arg(long)]
    replay: Option<u64>,
    /// Goes on after a failure.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(seed) = options.replay {
        return replay(seed);
    }
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} seeds, {per_sec}, {eta} left")
        .expect("the template names only fields that exist");
    let progress = ProgressBar::new(options.seeds).with_style(style);
    let (started, mut counts, mut failures) = (Instant::now(), Counts::default(), 0);
    for seed in options.from..options.from + options.seeds {
        match world::run(seed).map_err(|failed| tell(&failed)) {
            Ok(more) => counts.add(&more),
            Err(why) => {
                failures += 1;
                progress.suspend(|| {
                    println!("seed {seed}: {why}");
                    println!("replay it: cargo run --release --example simulate -- --replay {seed}");
                });
                if !options.keep_going {
                    break;
                }
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{counts}\n{failures} failures; {:.0} requests a second of machine time",
        counts.requests as f64 / seconds
    );
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(failed: &Failed) -> String {
    let Failed { plan, at, violation, .. } = failed;
    format!(
        "{} replicas, {}, at {} ms: {}: {}",
        plan.replicas,
        plan.mode,
        at / 1_000_000,
        violation.rule,
        violation.seen
    )
}

fn replay(seed: u64) -> ExitCode {
    let (trace, result) = world::replay(seed);
    trace.iter().for_each(|line| println!("{line}"));
    match result {
        Ok(counts) => {
            println!("{counts}");
            ExitCode::SUCCESS
        }
        Err(failed) => {
            println!("{:?}\n{}", failed.plan, tell(&failed));
            ExitCode::FAILURE
        }
    }
}
