//! What the measuring examples share: clusters of processes of the example itself, and clients.
#![allow(dead_code, reason = "each example uses its own part of this")]

pub(crate) mod client;
pub(crate) mod replicas;

use std::io;
use std::process::ExitCode;

/// The program's allocator: what is measured shall be what runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The system, or a connection.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// No JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A replica could not run.
    #[error("a replica: {0}")]
    Replica(String),
    /// What was seen is no measurement.
    #[error("{0}")]
    Measure(String),
}

/// The flag by which an example starts itself as a replica.
#[derive(clap::Args)]
pub(crate) struct AsReplica {
    /// Runs this replica of ./config.json instead, or all where it is empty.
    #[arg(long, hide = true)]
    replica: Option<String>,
}

/// An example's main: measures, or is one of the replicas that are measured.
pub(crate) fn run(example: &str, process: &AsReplica, measure: impl FnOnce() -> Result<(), Error>) -> ExitCode {
    let done = match &process.replica {
        Some(name) => replicas::run_replicas(name),
        None => measure(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{example}: {error}");
            ExitCode::FAILURE
        }
    }
}
