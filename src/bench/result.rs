//! What a run came to: result.json.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::BenchError;
use super::cpu::Cores;
use super::scenario::By;

/// The version of result.json's shape.
pub const RESULT_VERSION: u32 = 1;

/// The file's name in an output folder.
pub const RESULT_FILE: &str = "result.json";

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// [`RESULT_VERSION`].
    pub version: u32,
    /// The program's version.
    pub primacy: String,
    /// When it began (RFC 3339).
    pub started: String,
    /// How long it took, in seconds.
    pub took_s: f64,
    /// Where it ran.
    pub machine: Machine,
    /// What was measured.
    pub measured: Measured,
    /// In the order of the table.
    pub scenarios: Vec<ScenarioResult>,
    /// The data of each cluster, looked at afterwards.
    pub checks: Vec<Check>,
    /// What makes the figures doubtful.
    pub warnings: Vec<String>,
}

/// The machine of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Processors that this process may use.
    pub cores: usize,
    /// The system.
    pub system: String,
    /// Where own clusters kept their data; none for a target.
    pub data: Option<String>,
}

/// What was measured, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Replicas of each cluster.
    pub replicas: usize,
    /// The services of a cluster that ran already; empty for own ones.
    pub target: Vec<String>,
    /// How often each scenario was run.
    pub rounds: usize,
    /// Size of a note's JSON in bytes.
    pub note_bytes: usize,
}

/// One scenario, all rounds together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScenarioResult {
    /// Its name.
    pub name: String,
    /// `remote-write` or `local-write`.
    pub mode: String,
    /// What was asked: `read`, `primary`, `25%`, ….
    pub work: String,
    /// `persistent` or `per-frame`.
    pub links: String,
    /// `disk` or `memory`.
    pub durability: String,
    /// Simulated one-way delay.
    pub delay_ms: f64,
    /// `http` or `frames`: what clients speak.
    #[serde(default = "by_http")]
    pub by: String,
    /// `kept` or `new`: the clients' connections.
    pub clients: String,
    /// `open` or `closed`.
    pub load: String,
    /// Requests a second that an open loop was meant to send.
    pub offered_per_s: Option<f64>,
    /// Requests a second that were done.
    pub achieved_per_s: f64,
    /// Requests that were sent or should have been: those done and all errors.
    pub requests: u64,
    /// Those done.
    pub done: u64,
    /// The others, by code.
    pub errors: BTreeMap<String, u64>,
    /// Percentiles of latency; none where too few samples lie behind them.
    pub latency_ms: Percentiles,
    /// Mean latency.
    pub mean_ms: Option<f64>,
    /// Connections that clients opened while it was measured.
    pub client_connections: u64,
    /// Connections that replicas opened for data meanwhile.
    pub link_connections: u64,
    /// Data frames between replicas for each write.
    pub frames_per_write: Option<f64>,
    /// Latency in round trips between replicas.
    pub round_trips: RoundTrips,
    /// Means of `Server-Timing`, and `client`: what the client waited beyond. None by frames.
    pub phases_ms: Option<BTreeMap<String, f64>>,
    /// Who used the processor.
    pub cores: Cores,
    /// How late the load generator itself sent requests.
    pub late_ms: Percentiles,
    /// Each round by itself.
    pub rounds: Vec<Round>,
}

/// Results had no other, once.
fn by_http() -> String {
    By::Http.word().to_owned()
}

/// Percentiles in ms; refused ones are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half of the requests took no longer.
    pub p50: Option<f64>,
    /// 90 of 100.
    pub p90: Option<f64>,
    /// 99 of 100.
    pub p99: Option<f64>,
    /// 999 of 1,000.
    pub p99_9: Option<f64>,
    /// The longest; none without samples.
    pub max: Option<f64>,
}

/// Latency in round trips: what a delay adds, by the delay of a round trip.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundTrips {
    /// Measured; none without a delay, or without the like scenario that has none, or where it is not sure enough.
    pub measured: Option<f64>,
    /// By theory.
    pub theory: f64,
    /// By how much what was measured may be wrong.
    #[serde(default)]
    pub unsure: Option<f64>,
}

/// One round of one scenario.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Median latency.
    pub p50_ms: Option<f64>,
    /// The 99th percentile.
    pub p99_ms: Option<f64>,
    /// Requests a second that were done.
    pub achieved_per_s: f64,
}

/// A cluster's data, looked at after the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Which kind of cluster.
    pub cluster: String,
    /// Notes read at every replica.
    pub notes: usize,
    /// What is wrong; empty where each note held what was written last, the same everywhere.
    pub wrong: Vec<String>,
}

impl RunResult {
    /// Reads a result, or that of an output folder.
    pub fn read(path: &Path) -> Result<RunResult, BenchError> {
        let file = if path.is_dir() { path.join(RESULT_FILE) } else { path.to_owned() };
        let text = fs::read(&file).map_err(|source| BenchError::Read { path: file.clone(), source })?;
        let not_one = |why: String| BenchError::NoResult { path: file.clone(), why };
        let result: RunResult = serde_json::from_slice(&text).map_err(|error| not_one(error.to_string()))?;
        match result.version {
            RESULT_VERSION => Ok(result),
            other => Err(not_one(format!("its version is {other}, and this program reads {RESULT_VERSION}"))),
        }
    }

    /// Whether all data was right.
    pub fn is_consistent(&self) -> bool {
        self.checks.iter().all(|check| check.wrong.is_empty())
    }
}

impl ScenarioResult {
    /// Requests that were not done.
    pub fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }
}
