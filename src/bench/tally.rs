//! What one scenario came to: counted while it runs, added up over its rounds.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::cpu::Cores;
use super::http::{PHASES, Phases};

/// Shortest and longest time that a histogram tells apart, in ns.
const NS: (u64, u64) = (1_000, 60_000_000_000);

/// Three digits: a part in a thousand.
const DIGITS: u8 = 3;

/// A percentile is refused with fewer samples than this behind it: one of them could be anything.
pub(super) const BEHIND_MIN: f64 = 10.0;

/// Counts of one scenario.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// Latencies of the requests that were done, in ns.
    pub(super) latency: Histogram<u64>,
    /// How late the load generator itself sent a request for which a connection was free, in ns.
    pub(super) late: Histogram<u64>,
    /// Requests that were not done, by code.
    pub(super) errors: BTreeMap<String, u64>,
    /// Requests whose answers told their phases; and these' sums, in ms.
    timed: u64,
    phases: Phases,
    /// Sum of what clients waited beyond the service's own time, in ms.
    beyond: f64,
    /// How long was measured.
    pub(super) elapsed: Duration,
    /// Connections that clients opened.
    pub(super) client_connections: u64,
    /// Connections that replicas opened for data.
    pub(super) link_connections: u64,
    /// Data frames between replicas.
    pub(super) frames: u64,
    /// Core seconds, and over which time.
    core_seconds: Cores,
    wall: Duration,
}

impl Tally {
    pub(super) fn new() -> Tally {
        Tally {
            latency: histogram(),
            late: histogram(),
            errors: BTreeMap::new(),
            timed: 0,
            phases: [0.0; PHASES.len()],
            beyond: 0.0,
            elapsed: Duration::ZERO,
            client_connections: 0,
            link_connections: 0,
            frames: 0,
            core_seconds: Cores { others: Some(0.0), ..Cores::default() },
            wall: Duration::ZERO,
        }
    }

    /// A request was done; `phases` are none where its answer did not tell them.
    pub(super) fn done(&mut self, latency: Duration, phases: Option<&Phases>) {
        record(&mut self.latency, latency);
        let Some(phases) = phases else { return };
        self.timed += 1;
        self.phases.iter_mut().zip(phases).for_each(|(sum, ms)| *sum += ms);
        self.beyond += ms(latency) - service_ms(phases);
    }

    /// A request was not done.
    pub(super) fn failed(&mut self, code: String) {
        *self.errors.entry(code).or_default() += 1;
    }

    /// The load generator sent a request so much after its time, though a connection was free.
    pub(super) fn sent_late(&mut self, late: Duration) {
        record(&mut self.late, late);
    }

    /// What the processor did while this was counted.
    pub(super) fn used(&mut self, cores: Cores, wall: Duration) {
        self.wall = wall;
        let wall = wall.as_secs_f64();
        self.core_seconds = Cores {
            generator: cores.generator * wall,
            servers: cores.servers * wall,
            others: cores.others.map(|others| others * wall),
        };
    }

    /// Adds another round.
    pub(super) fn add(&mut self, round: &Tally) {
        // Equal bounds can always be added.
        let _ = self.latency.add(&round.latency);
        let _ = self.late.add(&round.late);
        round.errors.iter().for_each(|(code, count)| *self.errors.entry(code.clone()).or_default() += count);
        self.timed += round.timed;
        self.phases.iter_mut().zip(round.phases).for_each(|(sum, ms)| *sum += ms);
        self.beyond += round.beyond;
        self.elapsed += round.elapsed;
        self.client_connections += round.client_connections;
        self.link_connections += round.link_connections;
        self.frames += round.frames;
        self.wall += round.wall;
        let (sum, more) = (self.core_seconds, round.core_seconds);
        self.core_seconds = Cores {
            generator: sum.generator + more.generator,
            servers: sum.servers + more.servers,
            others: sum.others.zip(more.others).map(|(sum, more)| sum + more),
        };
    }

    /// Requests that were done.
    pub(super) fn count(&self) -> u64 {
        self.latency.len()
    }

    /// Done in a second.
    pub(super) fn per_s(&self) -> f64 {
        self.count() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Cores in use on average.
    pub(super) fn cores(&self) -> Cores {
        let wall = self.wall.as_secs_f64().max(1e-9);
        let Cores { generator, servers, others } = self.core_seconds;
        Cores { generator: generator / wall, servers: servers / wall, others: others.map(|it| it / wall) }
    }

    /// Means of the phases in ms; none where no answer told them.
    pub(super) fn phases_ms(&self) -> Option<BTreeMap<String, f64>> {
        let count = self.timed as f64;
        let means = PHASES.iter().zip(self.phases).map(|(name, sum)| ((*name).to_owned(), sum / count));
        let beyond = ("client".to_owned(), self.beyond / count);
        (count > 0.0).then(|| means.chain([beyond]).collect())
    }
}

/// The service's own time: `store` and `update` overlap within `replicate`.
fn service_ms(phases: &Phases) -> f64 {
    PHASES.iter().zip(phases).filter(|(name, _)| !["store", "update"].contains(name)).map(|(_, ms)| ms).sum()
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(NS.0, NS.1, DIGITS).expect("the bounds are sound: 0 < 2 * lowest <= highest, 3 digits")
}

fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// A percentile in ms; none with fewer than [`BEHIND_MIN`] samples behind it.
pub(super) fn percentile_ms(histogram: &Histogram<u64>, percent: f64) -> Option<f64> {
    let behind = histogram.len() as f64 * (1.0 - percent / 100.0);
    // What a decimal fraction loses must not refuse the last sample.
    (behind + 1e-6 >= BEHIND_MIN).then(|| histogram.value_at_percentile(percent) as f64 / 1e6)
}

/// The mean in ms; none without samples.
pub(super) fn mean_ms(histogram: &Histogram<u64>) -> Option<f64> {
    (!histogram.is_empty()).then(|| histogram.mean() / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_needs_ten_samples_behind_it() {
        let mut tally = Tally::new();
        let done = |tally: &mut Tally, count: u64| {
            (0..count).for_each(|ms| tally.done(Duration::from_millis(1 + ms % 100), None));
        };
        done(&mut tally, 19);
        assert_eq!(percentile_ms(&tally.latency, 50.0), None);
        done(&mut tally, 1);
        assert!(percentile_ms(&tally.latency, 50.0).is_some());
        done(&mut tally, 979);
        assert_eq!(percentile_ms(&tally.latency, 99.0), None);
        done(&mut tally, 1);
        let p99 = percentile_ms(&tally.latency, 99.0).unwrap();
        assert!((98.0..100.0).contains(&p99), "{p99}");
        assert_eq!(percentile_ms(&tally.latency, 99.9), None);
    }

    #[test]
    fn rounds_add_up() {
        let mut round = Tally::new();
        round.elapsed = Duration::from_secs(1);
        round.done(Duration::from_millis(4), Some(&[0.0, 1.0, 0.0, 2.0, 1.5, 2.0, 0.5]));
        round.failed("unavailable".to_owned());
        round.used(Cores { generator: 0.5, servers: 1.0, others: Some(0.25) }, Duration::from_secs(1));
        let mut all = Tally::new();
        all.add(&round);
        all.add(&round);
        assert_eq!((all.count(), all.per_s(), all.errors["unavailable"]), (2, 1.0, 2));
        let cores = all.cores();
        assert_eq!(cores, Cores { generator: 0.5, servers: 1.0, others: Some(0.25) });
        let phases = all.phases_ms().unwrap();
        assert_eq!((phases["forward"], phases["replicate"]), (1.0, 2.0));
        assert!((phases["client"] - 0.5).abs() < 1e-6, "4 ms less 1 + 2 + 0.5");
    }
}
