//! A run from its beginning to its end: clusters up, rounds, checks, clusters down.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Instant;

use futures::future::try_join_all;
use hdrhistogram::Histogram;

use super::bed::Bed;
use super::load;
use super::notes::Content;
use super::plan::{Effort, Plan, Wishes};
use super::progress::Progress;
use super::result::{Check, Machine, Measured, RESULT_VERSION, RunResult};
use super::scenario::{Load, Scenario, Setup};
use super::summary;
use super::tally::Tally;
use super::threshold::Threshold;
use super::{BenchError, report, table};
use crate::client::Token;
use crate::config::Authority;

/// Wrong notes that are told of each cluster; more say no more.
const WRONG_TOLD_MAX: usize = 20;

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much.
    pub effort: Effort,
    /// What of it.
    pub wishes: Wishes,
    /// Replicas of own clusters.
    pub replicas: usize,
    /// Size of a note's JSON in bytes.
    pub note_bytes: usize,
    /// A cluster that runs; none for own clusters.
    pub target: Option<Target>,
    /// Where own clusters keep their data, in a folder that is removed afterwards.
    pub data: PathBuf,
    /// What must not be.
    pub thresholds: Vec<Threshold>,
}

/// A cluster that runs.
#[derive(Clone, Debug)]
pub struct Target {
    /// The HTTP services of all its replicas.
    pub services: Vec<String>,
    /// What they want of who asks.
    pub access: Access,
}

/// What replicas want of who asks; by default nothing.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The token to show, where they ask for one.
    pub token: Option<Token>,
    /// Who must have signed their certificates, where they speak TLS.
    pub authority: Option<Authority>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The figures.
    pub result: RunResult,
    /// All latencies in ns, by scenario.
    pub(super) histograms: Vec<(Scenario, Histogram<u64>)>,
}

impl Outcome {
    /// The figures as a table, with warnings below; ends with a newline.
    pub fn table(&self) -> String {
        table::of(&self.result)
    }

    /// Writes report.html, result.json and the histograms into a folder, which is made.
    pub fn write(&self, folder: &Path) -> Result<(), BenchError> {
        report::write(self, folder)
    }
}

/// Measures what `options` ask for, until it is done or `stop` is ready.
pub async fn run(options: &Options, stop: impl Future<Output = ()>) -> Result<Outcome, BenchError> {
    let started = Instant::now();
    let began = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let folder = Folder::make(options)?;
    let content = Content::of(options.note_bytes);
    let (plan, target) = planned(options, &content).await?;
    for threshold in &options.thresholds {
        threshold.check_names(&plan.scenarios)?;
    }
    let progress = Progress::new(&plan);
    let beds = match target {
        Some(target) => vec![target],
        None => try_join_all(start(options, &plan, &folder, &content)).await?,
    };
    let measured = tokio::select! {
        biased;
        () = stop => Err(BenchError::Interrupted),
        measured = measure(&plan, &beds, &progress) => measured,
    };
    let replicas = beds.first().map_or(0, |bed| bed.replicas.len());
    progress.says("stopping clusters");
    // Whatever came of it, clusters stop in order and before their folder goes.
    let ended = try_join_all(beds.into_iter().map(Bed::end)).await;
    let (tallies, checks) = measured?;
    ended?;
    drop(progress);
    let target = options.target.as_ref().map(|target| target.services.clone()).unwrap_or_default();
    let measured = Measured { replicas, target, rounds: plan.rounds, note_bytes: options.note_bytes };
    let scenarios = summary::scenarios(&plan, &tallies, replicas);
    let mut result = RunResult {
        version: RESULT_VERSION,
        primacy: env!("CARGO_PKG_VERSION").to_owned(),
        started: began,
        took_s: started.elapsed().as_secs_f64(),
        machine: machine(options),
        measured,
        scenarios,
        checks,
        warnings: Vec::new(),
    };
    result.warnings = summary::warnings(&result, folder.in_memory);
    let histograms =
        plan.scenarios.iter().zip(&tallies).map(|(scenario, tally)| (*scenario, tally.all.latency.clone()));
    Ok(Outcome { histograms: histograms.collect(), result })
}

/// The plan, and the target where there is one: it tells its mode.
async fn planned(options: &Options, content: &Content) -> Result<(Plan, Option<Bed>), BenchError> {
    let Some(target) = &options.target else { return Ok((Plan::new(options.effort, &options.wishes)?, None)) };
    let bed = Bed::of_target(target, content.clone()).await?;
    let plan = Plan::for_target(bed.setup.mode, options.effort, &options.wishes)?;
    Ok((plan, Some(bed)))
}

/// Starts every cluster of the plan.
fn start<'a>(
    options: &'a Options,
    plan: &Plan,
    folder: &'a Folder,
    content: &'a Content,
) -> impl Iterator<Item = impl Future<Output = Result<Bed, BenchError>> + 'a> {
    let setups: Vec<Setup> = plan.setups();
    setups.into_iter().map(|setup| Bed::start(setup, options.replicas, &folder.path, content.clone()))
}

/// A scenario's rounds.
#[derive(Clone, Debug)]
pub(super) struct Rounds {
    /// All together.
    pub(super) all: Tally,
    /// Each by itself.
    pub(super) each: Vec<Tally>,
}

/// Runs all rounds, and looks at the data afterwards.
async fn measure(plan: &Plan, beds: &[Bed], progress: &Progress) -> Result<(Vec<Rounds>, Vec<Check>), BenchError> {
    for bed in beds {
        bed.make_notes(workers(plan, bed)).await?;
    }
    let mut tallies: Vec<Rounds> =
        plan.scenarios.iter().map(|_| Rounds { all: Tally::new(), each: Vec::new() }).collect();
    for round in 0..plan.rounds {
        let mut order: Vec<usize> = (0..plan.scenarios.len()).collect();
        // Whoever comes after a busy one shall not always do so.
        if round % 2 == 1 {
            order.reverse();
        }
        for place in order {
            let scenario = plan.scenarios[place];
            let bed = beds.iter().find(|bed| bed.setup == scenario.setup).unwrap_or(&beds[0]);
            progress.at(plan, round, &scenario.to_string());
            let tally = load::run(bed, scenario, plan.window_of(&scenario), plan.connections).await?;
            tallies[place].all.add(&tally);
            tallies[place].each.push(tally);
            progress.done();
        }
    }
    progress.says("reading every note at every replica");
    let mut checks = Vec::new();
    for bed in beds {
        let wrong = bed.check().await?.iter().take(WRONG_TOLD_MAX).map(ToString::to_string).collect();
        checks.push(Check { cluster: bed.setup.to_string(), notes: bed.notes.borrow().len(), wrong });
    }
    Ok((tallies, checks))
}

/// The most workers that any scenario of a cluster has; each needs a note.
fn workers(plan: &Plan, bed: &Bed) -> usize {
    let of = |scenario: &Scenario| match scenario.load {
        Load::Open { .. } => plan.connections,
        Load::Closed { connections, in_flight } => connections * in_flight,
    };
    let own = plan.scenarios.iter().filter(|scenario| scenario.setup == bed.setup);
    own.map(of).max().unwrap_or(1).max(1)
}

fn machine(options: &Options) -> Machine {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Machine {
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        system: format!("{} {} {}", std::env::consts::OS, release.trim(), std::env::consts::ARCH),
        data: options.target.is_none().then(|| options.data.display().to_string()),
    }
}

/// The folder of a run; removed when it goes.
struct Folder {
    path: PathBuf,
    /// It lies in memory, so that nothing there is durable.
    in_memory: bool,
}

impl Folder {
    fn make(options: &Options) -> Result<Folder, BenchError> {
        let path = options.data.join(format!("primacy-bench-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|source| BenchError::Folder { path: path.clone(), source })?;
        let in_memory = options.target.is_none() && is_in_memory(&path);
        Ok(Folder { path, in_memory })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is of no harm, and its name says what it is.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Whether a folder lies in a tmpfs (statfs(2)).
#[cfg(target_os = "linux")]
fn is_in_memory(path: &Path) -> bool {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    #[allow(clippy::unnecessary_cast, reason = "the field's type differs between architectures")]
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type as i64 == TMPFS_MAGIC)
}

#[cfg(not(target_os = "linux"))]
fn is_in_memory(_path: &Path) -> bool {
    false
}
