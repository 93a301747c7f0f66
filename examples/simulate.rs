//! Runs the simulation over many seeds: `cargo run --release --example simulate -- --seeds 100000`.

#[path = "../tests/simulation/mod.rs"]
#[allow(dead_code, reason = "the test uses the rest")]
mod simulation;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
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
    /// How many runs go on at the same time.
    #[arg(long, default_value_t = thread::available_parallelism().map_or(1, usize::from))]
    threads: usize,
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
    let run = Run { next: AtomicU64::new(options.from), failures: AtomicU64::new(0), options, progress };
    let started = Instant::now();
    let mut counts = Counts::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..run.options.threads).map(|_| scope.spawn(|| run.seeds())).collect();
        for worker in workers {
            counts.add(&worker.join().expect("a worker catches the panics of the runs"));
        }
    });
    run.progress.finish_and_clear();
    let (seconds, failures) = (started.elapsed().as_secs_f64(), run.failures.into_inner());
    let hours = counts.simulated_ms as f64 / 3_600_000.0;
    println!(
        "{counts}\n{failures} failures in {hours:.1} simulated hours; {seconds:.0} s on {} threads",
        run.options.threads
    );
    println!("{:.0} client requests a second", counts.requests as f64 / seconds);
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What all threads share.
struct Run {
    options: Options,
    next: AtomicU64,
    failures: AtomicU64,
    progress: ProgressBar,
}

impl Run {
    /// Runs seeds until there are no more, or one has failed.
    fn seeds(&self) -> Counts {
        let mut counts = Counts::default();
        loop {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            let stopped = !self.options.keep_going && self.failures.load(Ordering::Relaxed) > 0;
            if stopped || seed >= self.options.from + self.options.seeds {
                return counts;
            }
            match world::run(seed) {
                Ok(more) => counts.add(&more),
                Err(failed) => self.tell(seed, &failed),
            }
            self.progress.inc(1);
        }
    }

    fn tell(&self, seed: u64, failed: &Failed) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.progress.suspend(|| {
            println!("{}\nseed {seed}: {}", world::last_lines(seed), tell(failed));
            println!("replay it: cargo run --release --example simulate -- --replay {seed}");
        });
    }
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
