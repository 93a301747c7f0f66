//! `primacy bench`: what a write and a read cost, in milliseconds and in round trips, and why.
//!
//! ```text
//!      plan        which scenarios, how long
//!        |
//!      run     --- for each round, for each scenario --->  load: workers, requests, answers
//!        |                                                   |          |
//!      beds    clusters in this process, or one that runs <--+        tally: histograms, errors, phases
//!        |                                                              |
//!      check   every note at every replica            summary: percentiles, round trips, warnings
//!                                                                       |
//!                                              table, result.json, report.html, thresholds, compare
//! ```
//!
//! The scenarios are interleaved: all are run in each round, so that what else the machine does meets all of them. Own
//! clusters run in this process, a thread for each replica, and all at once; the load generator is one more thread,
//! whose share of the processor is told. What this does not do: measure other systems, or find a cluster's limit by
//! itself.

mod bed;
mod compare;
mod cpu;
mod http;
mod load;
mod notes;
mod pattern;
mod plan;
mod plots;
mod progress;
mod report;
mod result;
mod run;
mod scenario;
mod summary;
mod table;
mod tally;
mod threshold;
mod trips;
mod ways;

use std::io;
use std::path::PathBuf;

pub use compare::Comparison;
pub use cpu::Cores;
pub use plan::{CONNECTIONS_MAX, Effort, Spoken, Wishes};
pub use result::{
    Check, Machine, Measured, Percentiles, RESULT_FILE, RESULT_VERSION, Round, RoundTrips, RunResult, ScenarioResult,
};
pub use run::{Access, Options, Outcome, Target, run};
pub use threshold::{Missed, Threshold, ThresholdError};

use crate::cluster::ClusterError;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The patterns fit no scenario.
    #[error("no scenario is named {only}; write one of these, or a pattern with *:\n  {names}")]
    NothingToRun {
        /// The patterns.
        only: String,
        /// Every name.
        names: String,
    },
    /// A threshold names no scenario that is run.
    #[error(
        "--fail-if {threshold}: no scenario of this run is named so; write one of these, or a pattern with *:\n  {names}"
    )]
    NothingToJudge {
        /// The threshold.
        threshold: String,
        /// Every name.
        names: String,
    },
    /// The system gives no folder, thread or random number.
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
    /// The folder for the clusters' data cannot be made.
    #[error("cannot make the folder {}: {source}; name one that can be written by --data", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An own cluster does not run.
    #[error(transparent)]
    Cluster(ClusterError),
    /// Some replica does not serve.
    #[error("the cluster {0} does not serve after 30 s: {1}")]
    NotReady(String, String),
    /// A service cannot be asked.
    #[error("{replica} cannot be asked: {source}; name the HTTP services of a running cluster")]
    Unreachable {
        /// Its address.
        replica: String,
        /// What the system said.
        source: io::Error,
    },
    /// A service answered what it should not.
    #[error("{replica} refused {what}: {answer}")]
    Refused {
        /// Its address.
        replica: String,
        /// What was asked.
        what: &'static str,
        /// What it said.
        answer: String,
    },
    /// A target without its primary.
    #[error("the primary is {0:?}, whose service is not named; name the services of all replicas by --target")]
    NoPrimary(String),
    /// A signal came.
    #[error("interrupted")]
    Interrupted,
    /// A result cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is no result.
    #[error("{} is no result of primacy bench: {why}", path.display())]
    NoResult {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The output cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The plots cannot be drawn.
    #[error("cannot draw {plot}: {why}")]
    Plot {
        /// Which one.
        plot: &'static str,
        /// What the library said.
        why: String,
    },
}

impl BenchError {
    /// Whether the user can put it right on the command line.
    pub fn is_usage(&self) -> bool {
        matches!(self, BenchError::NothingToRun { .. } | BenchError::NothingToJudge { .. } | BenchError::NoPrimary(_))
    }
}
