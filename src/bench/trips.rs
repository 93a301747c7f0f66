//! Latency in round trips: what a link delay adds to it, and how sure that is.

use hdrhistogram::Histogram;

use super::result::RoundTrips;
use super::run::Rounds;
use super::scenario::Scenario;
use super::tally::{Tally, mean_ms, percentile_ms};

/// From so many round trips on that a figure may be wrong by, it is left out: theory's own figures lie a quarter apart.
const UNSURE_MAX: f64 = 0.25;

/// The round trips of one scenario: of the mean where its requests differ, else of the median.
pub(super) fn of(scenario: &Scenario, rounds: &Rounds, all: &[(Scenario, &Rounds)], replicas: usize) -> RoundTrips {
    let theory = scenario.theory(replicas);
    let round_trip_ms = 2.0 * scenario.setup.delay_ms();
    let added = Middle::of(scenario, rounds).zip(near(scenario, all, replicas)).filter(|_| round_trip_ms > 0.0);
    let Some((far, near)) = added else { return RoundTrips { measured: None, theory, unsure: None } };
    let measured = (far.ms - near.ms) / round_trip_ms;
    let unsure = (far.unsure_ms + near.unsure_ms) / round_trip_ms;
    match unsure <= UNSURE_MAX {
        true => RoundTrips { measured: Some(measured), theory, unsure: Some(unsure) },
        false => RoundTrips { measured: None, theory, unsure: Some(unsure) },
    }
}

/// What makes a figure that is missing doubtful, for people.
pub(super) fn doubt(trips: &RoundTrips) -> Option<String> {
    let unsure = trips.unsure.filter(|_| trips.measured.is_none())?;
    Some(format!("its round trips are left out: by its rounds and samples they may be wrong by {unsure:.1}"))
}

/// What stands in the middle of a scenario's latencies, and by how much it may be wrong.
#[derive(Clone, Copy)]
struct Middle {
    ms: f64,
    unsure_ms: f64,
}

impl Middle {
    fn of(scenario: &Scenario, Rounds { all, each }: &Rounds) -> Option<Middle> {
        let is_mixed = scenario.work.is_mixed();
        let ms = match is_mixed {
            true => mean_ms(&all.latency),
            false => percentile_ms(&all.latency, 50.0),
        }?;
        // Of a round with few samples it says little, but all of them together do.
        let middle = |round: &Tally| match is_mixed {
            true => round.latency.mean() / 1e6,
            false => round.latency.value_at_quantile(0.5) as f64 / 1e6,
        };
        let rounds = each.iter().filter(|round| round.count() > 0).map(middle);
        let apart = rounds.clone().fold(0.0, f64::max) - rounds.fold(f64::MAX, f64::min);
        Some(Middle { ms, unsure_ms: by_chance_ms(&all.latency, is_mixed).max(apart / 2.0) })
    }

    /// Between two, nearer to `other` by `share`.
    fn towards(self, other: Middle, share: f64) -> Middle {
        let between = |own: f64, other: f64| own * (1.0 - share) + other * share;
        Middle { ms: between(self.ms, other.ms), unsure_ms: between(self.unsure_ms, other.unsure_ms) }
    }
}

/// By how much so few samples may miss the middle, in 95 of 100 cases: two standard errors of the mean; of the median, half
/// of what lies between the samples at those ranks, n/2 and the root of n more or less.
fn by_chance_ms(latency: &Histogram<u64>, is_mixed: bool) -> f64 {
    let root = (latency.len() as f64).sqrt();
    let at = |quantile: f64| latency.value_at_quantile(quantile) as f64;
    let ns = match is_mixed {
        true => 2.0 * latency.stdev() / root,
        false => (at(0.5 + 1.0 / root) - at(0.5 - 1.0 / root)) / 2.0,
    };
    ns / 1e6
}

/// The same without a delay.
fn near(scenario: &Scenario, all: &[(Scenario, &Rounds)], replicas: usize) -> Option<Middle> {
    let found = |wanted: Scenario| {
        let (near, rounds) = all.iter().find(|(other, _)| other.is_like(&wanted))?;
        Middle::of(near, rounds)
    };
    found(scenario.without_delay()).or_else(|| {
        // A mixed one without its like: between its two ends, of which it has as much as theory says.
        let [short, long] = scenario.work.ends()?;
        let end = |work| found(Scenario { work, ..scenario.without_delay() });
        Some(end(short)?.towards(end(long)?, scenario.work.share_away(replicas)))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::scenario::{By, Clients, Load, Setup, Work};
    use super::*;
    use crate::config::Mode;

    fn scenario(work: Work, delay_us: u64) -> Scenario {
        let setup = Setup { delay_us, ..Setup::plain(Mode::RemoteWrite) };
        Scenario { setup, work, by: By::Http, clients: Clients::Kept, load: Load::Open { per_s: 1.0 } }
    }

    /// Rounds of forty requests each, which take about so many ms.
    fn rounds(ms: &[f64], jitter_ms: f64) -> Rounds {
        let mut rounds = Rounds { all: Tally::new(), each: Vec::new() };
        for middle in ms {
            let mut round = Tally::new();
            for n in 0..40 {
                let ms = middle + jitter_ms * (f64::from(n) - 19.5) / 19.5;
                round.done(Duration::from_secs_f64(ms / 1e3), None);
            }
            rounds.all.add(&round);
            rounds.each.push(round);
        }
        rounds
    }

    fn trips(work: Work, near: &Rounds, far: &Rounds) -> RoundTrips {
        let (near_one, far_one) = (scenario(work, 0), scenario(work, 5_000));
        of(&far_one, far, &[(near_one, near), (far_one, far)], 4)
    }

    #[test]
    fn a_delay_adds_round_trips() {
        let trips = trips(Work::Backup, &rounds(&[1.0, 1.1, 1.2], 0.2), &rounds(&[21.0, 21.1, 21.2], 0.2));
        assert!((trips.measured.unwrap() - 2.0).abs() < 0.01 && trips.theory == 2.0, "{trips:?}");
        assert!(trips.unsure.unwrap() < 0.05 && doubt(&trips).is_none(), "{trips:?}");
    }

    #[test]
    fn what_the_rounds_do_not_tell_is_left_out() {
        let steady = rounds(&[1.0, 1.0], 0.2);
        let apart = trips(Work::Backup, &steady, &rounds(&[21.0, 29.0], 0.2));
        assert_eq!((apart.measured, apart.theory), (None, 2.0));
        assert!((apart.unsure.unwrap() - 0.4).abs() < 0.05, "half of 8 ms, of a round trip of 10: {apart:?}");
        assert!(doubt(&apart).unwrap().contains("wrong by 0.4"), "{apart:?}");
        for work in [Work::Backup, Work::Anywhere] {
            let one_round = trips(work, &rounds(&[31.0], 30.0), &rounds(&[41.0], 30.0));
            assert!(one_round.measured.is_none() && doubt(&one_round).is_some(), "{work}: {one_round:?}");
        }
    }

    #[test]
    fn a_mixed_one_is_counted_from_its_two_ends() {
        let [short, long] = [(Work::Primary, 1.0), (Work::Backup, 2.0)].map(|(work, ms)| (work, rounds(&[ms], 0.1)));
        let (mixed, far) = (scenario(Work::Anywhere, 5_000), rounds(&[19.25], 0.1));
        let ends = [&short, &long].map(|(work, rounds)| (scenario(*work, 0), rounds));
        let trips = of(&mixed, &far, &ends, 4);
        assert!((trips.measured.unwrap() - 1.75).abs() < 0.01 && trips.theory == 1.75, "{trips:?}");
    }

    #[test]
    fn there_are_none_without_a_delay_or_its_like() {
        let (near, far) = (scenario(Work::Primary, 0), scenario(Work::Primary, 5_000));
        let figures = rounds(&[10.0], 1.0);
        for trips in [of(&near, &figures, &[(near, &figures)], 4), of(&far, &figures, &[(far, &figures)], 4)] {
            assert_eq!((trips.measured, trips.unsure, doubt(&trips)), (None, None, None));
        }
    }
}
