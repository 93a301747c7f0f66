//! From counts to figures: percentiles, and what makes them doubtful.

use super::plan::Plan;
use super::result::{Percentiles, Round, RunResult, ScenarioResult};
use super::run::Rounds;
use super::scenario::{Clients, Load, Scenario};
use super::tally::{Tally, mean_ms, percentile_ms};
use super::trips;
use crate::config::Durability;

/// The load generator has one thread; from this share of a core on it is no longer sure to be ready in time.
const GENERATOR_CORES_MAX: f64 = 0.8;

/// Lateness of intended starts counts as the service's latency: from this share of it on, the figure is the load
/// generator's. Where both are short it is the system's timer.
const LATE_SHARE_MAX: f64 = 0.25;
const LATE_MS_MIN: f64 = 0.15;

/// Other programs' use of the processor, in cores, from which on figures are noise.
pub(super) const OTHERS_CORES_MAX: f64 = 0.25;

/// An open loop that reaches less than this share of its rate is held up.
const ACHIEVED_SHARE_MIN: f64 = 0.95;

/// The figures of every scenario of the plan.
pub(super) fn scenarios(plan: &Plan, rounds: &[Rounds], replicas: usize) -> Vec<ScenarioResult> {
    let with_rounds: Vec<(Scenario, &Rounds)> = plan.scenarios.iter().copied().zip(rounds).collect();
    let of = |(scenario, rounds): (&Scenario, &Rounds)| scenario_result(scenario, rounds, &with_rounds, replicas);
    plan.scenarios.iter().zip(rounds).map(of).collect()
}

fn scenario_result(
    scenario: &Scenario,
    rounds: &Rounds,
    others: &[(Scenario, &Rounds)],
    replicas: usize,
) -> ScenarioResult {
    let Rounds { all, each } = rounds;
    let writes = (scenario.work.writes() && all.count() > 0).then(|| all.count() as f64);
    ScenarioResult {
        name: scenario.to_string(),
        mode: scenario.setup.mode.word().to_owned(),
        work: scenario.work.to_string(),
        links: scenario.setup.links.word().to_owned(),
        durability: match scenario.setup.durability {
            Durability::Disk => "disk".to_owned(),
            Durability::Memory => "memory".to_owned(),
        },
        delay_ms: scenario.setup.delay_ms(),
        by: scenario.by.word().to_owned(),
        clients: if scenario.clients == Clients::Kept { "kept" } else { "new" }.to_owned(),
        load: if matches!(scenario.load, Load::Open { .. }) { "open" } else { "closed" }.to_owned(),
        offered_per_s: match scenario.load {
            Load::Open { per_s } => Some(per_s),
            Load::Closed { .. } => None,
        },
        achieved_per_s: all.per_s(),
        requests: all.count() + all.errors.values().sum::<u64>(),
        done: all.count(),
        errors: all.errors.clone(),
        latency_ms: percentiles(&all.latency),
        mean_ms: mean_ms(&all.latency),
        client_connections: all.client_connections,
        link_connections: all.link_connections,
        frames_per_write: writes.map(|writes| all.frames as f64 / writes),
        round_trips: trips::of(scenario, rounds, others, replicas),
        phases_ms: all.phases_ms(),
        cores: all.cores(),
        late_ms: percentiles(&all.late),
        rounds: each.iter().map(round).collect(),
    }
}

fn round(tally: &Tally) -> Round {
    Round {
        p50_ms: percentile_ms(&tally.latency, 50.0),
        p99_ms: percentile_ms(&tally.latency, 99.0),
        achieved_per_s: tally.per_s(),
    }
}

fn percentiles(histogram: &hdrhistogram::Histogram<u64>) -> Percentiles {
    let of = |percent| percentile_ms(histogram, percent);
    Percentiles {
        p50: of(50.0),
        p90: of(90.0),
        p99: of(99.0),
        p99_9: of(99.9),
        max: (!histogram.is_empty()).then(|| histogram.max() as f64 / 1e6),
    }
}

/// Cores that other programs used on average; none where the system does not tell.
pub(super) fn others_cores(result: &RunResult) -> Option<f64> {
    let known: Vec<f64> = result.scenarios.iter().filter_map(|scenario| scenario.cores.others).collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

/// What makes the figures doubtful, for people.
pub(super) fn warnings(result: &RunResult, in_memory: bool) -> Vec<String> {
    let mut warnings: Vec<String> = result.scenarios.iter().flat_map(doubts).collect();
    let others = others_cores(result).filter(|others| *others > OTHERS_CORES_MAX);
    if let Some(others) = others.filter(|_| result.measured.target.is_empty()) {
        warnings.push(format!(
            "other programs used {others:.1} of {} cores: latencies are longer and less steady than on a quiet machine",
            result.machine.cores
        ));
    }
    if in_memory {
        warnings.push(
            "the data lay in a file system in memory, where nothing is durable: name a disk by --data".to_owned(),
        );
    }
    for check in result.checks.iter().filter(|check| !check.wrong.is_empty()) {
        warnings.push(format!("{}: wrong data, {}", check.cluster, check.wrong.join("; ")));
    }
    warnings
}

/// What makes one scenario's figures doubtful.
fn doubts(scenario: &ScenarioResult) -> Vec<String> {
    let mut doubts = Vec::new();
    let mut tell = |what: String| doubts.push(format!("{}: {what}", scenario.name));
    if scenario.cores.generator > GENERATOR_CORES_MAX {
        tell(format!("the load generator used {:.2} of its one core, and limits the result", scenario.cores.generator));
    }
    for (percent, late, all) in
        [("p50", scenario.late_ms.p50, scenario.latency_ms.p50), ("p99", scenario.late_ms.p99, scenario.latency_ms.p99)]
    {
        if let Some((late, all)) = late.zip(all).filter(|(late, all)| *late > LATE_MS_MIN.max(all * LATE_SHARE_MAX)) {
            tell(format!("the load generator sent late, {late:.2} ms at {percent}, which is in the {all:.2} ms"));
        }
    }
    if let Some(offered) = scenario.offered_per_s.filter(|it| scenario.achieved_per_s < it * ACHIEVED_SHARE_MIN) {
        tell(format!(
            "{:.0} of {offered:.0} requests a second: all connections were busy, and latency counts the wait for one",
            scenario.achieved_per_s
        ));
    }
    if let Some(doubt) = trips::doubt(&scenario.round_trips) {
        tell(doubt);
    }
    if scenario.error_count() > 0 {
        let errors: Vec<String> = scenario.errors.iter().map(|(code, count)| format!("{count} {code}")).collect();
        tell(format!("{} of {} requests failed: {}", scenario.error_count(), scenario.requests, errors.join(", ")));
    }
    doubts
}
