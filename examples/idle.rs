//! Measures what a cluster costs that nobody asks for anything: `cargo run --release --example idle`.
//!
//! All replicas in one process, without the log and with it, and then with many notes: processor time, how often its
//! threads are woken, and memory.

mod cluster;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;

use cluster::client::load;
use cluster::replicas::{Replicas, Setup};
use cluster::{AsReplica, Error};

/// What a start and its views leave to do is done by then.
const SETTLES: Duration = Duration::from_secs(3);

/// Measures what an idle cluster costs.
#[derive(Parser)]
struct Options {
    /// How long each cluster is watched, in s.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Notes of 250 bytes in the last one.
    #[arg(long, default_value_t = 100_000)]
    notes: u64,
    #[arg(long, default_value_t = 4)]
    replicas: usize,
    #[arg(long, default_value_t = 1_000)]
    failure_timeout_ms: u64,
    #[arg(long, default_value = "remote-write")]
    sync: String,
    #[command(flatten)]
    process: AsReplica,
}

fn main() -> ExitCode {
    let options = Options::parse();
    cluster::run("idle", &options.process, || measure(&options))
}

fn measure(options: &Options) -> Result<(), Error> {
    println!("{} replicas in one process, watched for {} s", options.replicas, options.seconds);
    println!("| log | notes | % of a core | wake-ups/s | memory, MiB |");
    println!("| --- | --- | --- | --- | --- |");
    for (log, notes) in [("off", 0), ("classic", 0), ("off", options.notes)] {
        let Options { replicas, failure_timeout_ms, ref sync, .. } = *options;
        let cluster = Replicas::start_in_one(Setup { sync, failure_timeout_ms, replicas, log })?;
        load(&cluster.frames(0), notes)?;
        thread::sleep(SETTLES);
        let (before, start) = (cluster.used()?, Instant::now());
        thread::sleep(Duration::from_secs(options.seconds));
        let (after, seconds) = (cluster.used()?, start.elapsed().as_secs_f64());
        println!(
            "| {log} | {notes} | {:.2} | {:.0} | {} |",
            100.0 * (after.processor_s - before.processor_s) / seconds,
            (after.wakes - before.wakes) as f64 / seconds,
            cluster.resident_bytes()? >> 20
        );
    }
    Ok(())
}
