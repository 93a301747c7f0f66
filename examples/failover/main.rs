//! Measures what clients see of failures: `cargo run --release --example failover`.
//!
//! Clusters of four processes on a loopback address. A gap is from the last success before a kill to the first one after
//! it, seen by a client of a replica that lives. Each figure is of `--rounds` kills; between them the killed replica comes
//! back. After that: how long a replica with an empty folder takes to be in sync, and what an idle cluster costs.

mod client;
#[allow(dead_code, reason = "the restart example uses the rest")]
mod replicas;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;

use client::{Client, Error, load};
use replicas::{Replicas, run_replicas};

const MODES: [&str; 2] = ["remote-write", "local-write"];
const REPLICAS: usize = 4;

/// Success is waited for this long after a kill; every bound that is measured is far below.
const GAP_MAX: Duration = Duration::from_secs(15);

/// Measures what clients see of failures.
#[derive(Parser)]
struct Options {
    /// Kills for each figure.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Notes of 250 bytes that a replica copies when it joins.
    #[arg(long, default_value_t = 100_000)]
    notes: u64,
    /// How long an idle cluster is watched.
    #[arg(long, default_value_t = 20)]
    idle_s: u64,
    /// Runs replicas of ./config.json instead: one, or all where it is empty.
    #[arg(long, hide = true)]
    replica: Option<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match &options.replica {
        Some(name) => run_replicas(name),
        None => measure(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failover: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<(), Error> {
    println!("| failure | mode | failure timeout, ms | gap p50, ms | gap max, ms |");
    println!("| --- | --- | --- | --- | --- |");
    for mode in MODES {
        for timeout in [1000, 250] {
            let mut replicas = Replicas::start(mode, timeout, REPLICAS)?;
            for failure in [Failure::Primary, Failure::Backup, Failure::ControllerReads] {
                let mut gaps = Vec::new();
                for _ in 0..options.rounds {
                    gaps.push(failure.gap(&mut replicas)?);
                }
                gaps.sort_unstable();
                let [middle, most] = [gaps.len() / 2, gaps.len().saturating_sub(1)].map(|at| gaps.get(at).copied());
                let ms = |gap: Option<Duration>| gap.map_or("-".to_owned(), |gap| gap.as_millis().to_string());
                println!("| {} | {mode} | {timeout} | {} | {} |", failure.text(), ms(middle), ms(most));
            }
        }
    }
    for mode in MODES {
        join(mode, options.notes)?;
    }
    idle(options.idle_s)
}

/// What is killed, and what is watched.
#[derive(Clone, Copy)]
enum Failure {
    Primary,
    Backup,
    ControllerReads,
}

impl Failure {
    fn text(self) -> &'static str {
        match self {
            Failure::Primary => "primary killed, writes",
            Failure::Backup => "backup killed, writes",
            Failure::ControllerReads => "controller killed, reads",
        }
    }

    /// Kills one while a client works at another; the gap that the client saw. All are back when it returns.
    fn gap(self, replicas: &mut Replicas) -> Result<Duration, Error> {
        let [primary, controller] = replicas.leaders()?;
        let spare = |not: [usize; 2]| (0..REPLICAS).find(|place| !not.contains(place)).unwrap_or(0);
        let (victim, at) = match self {
            Failure::Primary => (primary, spare([primary, controller])),
            Failure::Backup => (spare([primary, controller]), primary),
            Failure::ControllerReads => (controller, spare([primary, controller])),
        };
        let service = replicas.service(at);
        let (go, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        let gap = std::thread::scope(|scope| {
            let worker = scope.spawn(|| self.work(&service, &go, &stop));
            while !go.load(Ordering::Acquire) && !worker.is_finished() {
                std::thread::yield_now();
            }
            let killed = replicas.kill(victim);
            stop.store(true, Ordering::Release);
            let worked = worker.join().unwrap_or_else(|_| Err(Error::Measure("the client panicked".to_owned())));
            killed.and(worked)
        })?;
        replicas.start_one(victim)?;
        replicas.wait_in_sync()?;
        Ok(gap)
    }

    /// Works without a pause, says when it has begun, and goes on for a while after `stop`: the longest time between two
    /// successes.
    fn work(self, service: &str, go: &AtomicBool, stop: &AtomicBool) -> Result<Duration, Error> {
        /// The gap is over, and a second one of the same failure would show.
        const AFTER: Duration = Duration::from_millis(300);
        let mut client = Client::connect(service)?;
        let id = client.post("measured")?;
        let (mut last, mut longest, mut stopped) = (Instant::now(), Duration::ZERO, None);
        for count in 0_u64.. {
            let done = match self {
                Failure::ControllerReads => client.request("GET", &format!("/note/{id}"), "")?.0 == 200,
                _ => client.request("PUT", &format!("/note/{id}"), r#"{"title":"again"}"#)?.0 == 200,
            };
            let now = Instant::now();
            if done {
                longest = longest.max(now - last);
                last = now;
            }
            if count == 50 {
                go.store(true, Ordering::Release);
            }
            if stopped.is_none() && stop.load(Ordering::Acquire) {
                stopped = Some(now);
            }
            // A dead replica is noticed only after a lease at least, so that what comes at once is no end of the gap.
            match stopped {
                Some(at) if now - at > GAP_MAX => return Err(Error::Measure(format!("no success at {service}"))),
                Some(at) if longest > AFTER / 6 && now - at > AFTER && now - last < AFTER / 10 => break,
                Some(at) if now - at > GAP_MAX / 5 => break,
                _ => {}
            }
        }
        Ok(longest)
    }
}

/// A replica with an empty folder joins.
fn join(mode: &str, notes: u64) -> Result<(), Error> {
    let mut replicas = Replicas::start(mode, 1000, REPLICAS)?;
    load(&replicas.frames(0), notes)?;
    replicas.kill(REPLICAS - 1)?;
    replicas.remove_data(REPLICAS - 1)?;
    let start = Instant::now();
    replicas.start_one(REPLICAS - 1)?;
    replicas.wait_in_sync()?;
    println!("\n{mode}: joined with {notes} notes of 250 bytes in {:.2} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// The processor time of a cluster that nobody asks for anything.
fn idle(seconds: u64) -> Result<(), Error> {
    let replicas = Replicas::start_in_one("remote-write", 1000, REPLICAS)?;
    let (before, start) = (replicas.processor_s()?, Instant::now());
    std::thread::sleep(Duration::from_secs(seconds));
    let share = (replicas.processor_s()? - before) / start.elapsed().as_secs_f64();
    println!("idle: {REPLICAS} replicas in one process take {:.2} % of a core over {seconds} s", share * 100.0);
    Ok(())
}
