//! Measures how long a cluster in one process takes to serve again after it was killed, with all its notes:
//! `cargo run --release --example restart -- --notes 1000000`.

mod cluster;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use cluster::client::load;
use cluster::replicas::{Replicas, Setup};
use cluster::{AsReplica, Error};

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
    #[command(flatten)]
    process: AsReplica,
}

fn main() -> ExitCode {
    let options = Options::parse();
    cluster::run("restart", &options.process, || measure(&options))
}

fn measure(options: &Options) -> Result<(), Error> {
    let mut replicas =
        Replicas::start_in_one(Setup { sync: &options.sync, replicas: options.replicas, ..Setup::default() })?;
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
