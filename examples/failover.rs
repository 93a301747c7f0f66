//! Measures what clients see of failures: `cargo run --release --example failover`.
//!
//! Clusters of four processes on a loopback address. A gap is from the last success before a kill to the first one after
//! it, seen by a client of a replica that lives. Each figure is of `--rounds` kills; between them the killed replica comes
//! back. After that: how long a fresh cluster takes until all serve, from the last replica's start; and how long a replica
//! with an empty folder takes to be in sync, while nobody writes and while clients write as fast as they can. `--only`
//! measures a part.

mod cluster;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};

use cluster::client::{Client, load};
use cluster::replicas::{Replicas, Setup};
use cluster::{AsReplica, Error};

/// As many as [`Setup`] configures.
const REPLICAS: usize = 4;

/// Success is waited for this long after a kill; every bound that is measured is far below.
const GAP_MAX: Duration = Duration::from_secs(15);

/// How long clients write before a replica joins, to know their pace.
const WRITES_ALONE: Duration = Duration::from_secs(2);

/// Clients that write while a replica joins, in turn at each of the replicas that stay.
const WRITERS: usize = 6;

/// Measures what clients see of failures.
#[derive(Parser)]
struct Options {
    /// Kills, and starts, for each figure.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Notes of 250 bytes that a replica copies when it joins.
    #[arg(long, default_value_t = 100_000)]
    notes: u64,
    /// What to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["kills", "starts", "joins"])]
    only: Vec<Part>,
    #[arg(long, value_delimiter = ',', default_values = ["remote-write", "local-write"])]
    sync: Vec<String>,
    #[arg(long, value_delimiter = ',', default_values = ["1000", "250"])]
    failure_timeout_ms: Vec<u64>,
    #[command(flatten)]
    process: AsReplica,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Kills,
    Starts,
    Joins,
}

fn main() -> ExitCode {
    let options = Options::parse();
    cluster::run("failover", &options.process, || measure(&options))
}

fn measure(options: &Options) -> Result<(), Error> {
    let measures = |part: Part| options.only.contains(&part);
    if measures(Part::Kills) {
        kills(options)?;
    }
    if measures(Part::Starts) {
        starts(options)?;
    }
    if measures(Part::Joins) {
        joins(options)?;
    }
    Ok(())
}

fn kills(options: &Options) -> Result<(), Error> {
    println!("| failure | mode | failure timeout, ms | gap p50, ms | gap max, ms |");
    println!("| --- | --- | --- | --- | --- |");
    for sync in &options.sync {
        for failure_timeout_ms in options.failure_timeout_ms.iter().copied() {
            let mut replicas = Replicas::start(Setup { sync, failure_timeout_ms, ..Setup::default() })?;
            for failure in [Failure::Primary, Failure::Backup, Failure::ControllerReads] {
                let mut gaps = Vec::new();
                for _ in 0..options.rounds {
                    gaps.push(failure.gap(&mut replicas)?);
                }
                println!("| {} | {sync} | {failure_timeout_ms} | {} |", failure.text(), middle_and_most(gaps));
            }
        }
    }
    Ok(())
}

/// In ms, as two cells of a table.
fn middle_and_most(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let ms = |at: usize| times.get(at).map_or("-".to_owned(), |time| time.as_millis().to_string());
    format!("{} | {}", ms(times.len() / 2), ms(times.len().saturating_sub(1)))
}

/// A fresh cluster, whose last replica is started when all others have begun to wait for it.
fn starts(options: &Options) -> Result<(), Error> {
    println!("\n| fresh cluster of {REPLICAS} | failure timeout, ms | serves after, p50, ms | max, ms |");
    println!("| --- | --- | --- | --- |");
    for failure_timeout_ms in options.failure_timeout_ms.iter().copied() {
        let mut times = Vec::new();
        for _ in 0..options.rounds {
            let mut replicas = Replicas::configure(Setup { failure_timeout_ms, ..Setup::default() })?;
            for place in 0..REPLICAS - 1 {
                replicas.start_next()?;
                replicas.wait_listens(place)?;
            }
            let start = Instant::now();
            replicas.start_next()?;
            replicas.wait_in_sync()?;
            times.push(start.elapsed());
            let [primary, _] = replicas.leaders()?;
            if primary != 0 {
                return Err(Error::Measure(format!("replica {primary} is the primary, not the first of the list")));
            }
        }
        println!("| the first of the list is primary | {failure_timeout_ms} | {} |", middle_and_most(times));
    }
    Ok(())
}

fn joins(options: &Options) -> Result<(), Error> {
    println!("\n| a wiped replica joins | mode | in sync after, s | writes/s before, meanwhile |");
    println!("| --- | --- | --- | --- |");
    for sync in &options.sync {
        for writers in [0, WRITERS] {
            let mut replicas = Replicas::start(Setup { sync, ..Setup::default() })?;
            load(&replicas.frames(0), options.notes)?;
            replicas.kill(REPLICAS - 1)?;
            replicas.remove_data(REPLICAS - 1)?;
            let (took, paces) = join(&mut replicas, writers, options.notes)?;
            let [before, meanwhile] = paces.map(|pace| format!("{pace:.0}"));
            let text = format!("{} notes, {writers} clients write", options.notes);
            println!("| {text} | {sync} | {:.2} | {before}, {meanwhile} |", took.as_secs_f64());
        }
    }
    Ok(())
}

/// How long the last replica takes to be in sync, while so many clients write; and the writes in a second, before and
/// meanwhile.
fn join(replicas: &mut Replicas, writers: usize, notes: u64) -> Result<(Duration, [f64; 2]), Error> {
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let services: Vec<String> = (0..writers).map(|writer| replicas.service(writer % (REPLICAS - 1))).collect();
    std::thread::scope(|scope| {
        let workers: Vec<_> = services
            .iter()
            .zip(1..)
            .map(|(service, seed)| {
                let (stop, written) = (&stop, &written);
                scope.spawn(move || write(service, notes, fastrand::Rng::with_seed(seed), stop, written))
            })
            .collect();
        std::thread::sleep(WRITES_ALONE);
        let (before, start) = (written.load(Ordering::Relaxed), Instant::now());
        let joined = replicas.start_one(REPLICAS - 1).and_then(|()| replicas.wait_in_sync());
        let took = start.elapsed();
        let meanwhile = written.load(Ordering::Relaxed) - before;
        stop.store(true, Ordering::Relaxed);
        for worker in workers {
            worker.join().unwrap_or_else(|_| Err(Error::Measure("a client panicked".to_owned())))?;
        }
        joined?;
        let paces = [before as f64 / WRITES_ALONE.as_secs_f64(), meanwhile as f64 / took.as_secs_f64()];
        Ok((took, paces))
    })
}

/// Writes any of the notes until told to stop; each write must succeed.
fn write(
    service: &str,
    notes: u64,
    mut random: fastrand::Rng,
    stop: &AtomicBool,
    written: &AtomicU64,
) -> Result<(), Error> {
    let mut client = Client::connect(service)?;
    let body = format!(r#"{{"title":"again","body":"{}"}}"#, "y".repeat(222));
    while !stop.load(Ordering::Relaxed) {
        let (status, answer) = client.request("PUT", &format!("/note/{}", random.u64(1..=notes)), &body)?;
        if status != 200 {
            return Err(Error::Measure(format!("PUT at {service}: {status} {answer}")));
        }
        written.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
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
