//! Measures how long a cluster in one process takes to serve again after it was killed, with all its notes:
//! `cargo run --release --example restart -- --notes 1000000`.

#[path = "failover/client.rs"]
#[allow(dead_code, reason = "the failover example uses the rest")]
mod client;
#[path = "failover/replicas.rs"]
#[allow(dead_code, reason = "the failover example uses the rest")]
mod replicas;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use client::{Error, load};
use replicas::{Replicas, run_replicas};

/// Measures how long a cluster in one process takes to serve again.
#[derive(Parser)]
struct Options {
    /// Notes of 250 bytes.
    #[arg(long, default_value_t = 100_000)]
    notes: u64,
    #[arg(long, default_value_t = 4)]
    replicas: usize,
    /// How often it is killed and started.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[arg(long, default_value = "remote-write")]
    sync: String,
    /// Runs the replicas of ./config.json instead.
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
            eprintln!("restart: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<(), Error> {
    let mut replicas = Replicas::start_in_one(&options.sync, 1_000, options.replicas)?;
    load(&replicas.frames(0), options.notes)?;
    println!("| replicas | notes | all serve after, s | views | peak memory, MiB |");
    println!("| --- | --- | --- | --- | --- |");
    for _ in 0..options.rounds {
        let before = replicas.epoch()?;
        replicas.kill(0)?;
        let start = Instant::now();
        replicas.start_in_one_again()?;
        replicas.wait_in_sync()?;
        println!(
            "| {} | {} | {:.2} | {} | {} |",
            options.replicas,
            options.notes,
            start.elapsed().as_secs_f64(),
            // One, in which all come back; more where replicas were left out.
            replicas.epoch()? - before,
            replicas.peak_bytes()? >> 20
        );
    }
    Ok(())
}
