//! Two results beside each other: what differs, and what is noise.

use std::fmt;

use super::result::{Round, RunResult, ScenarioResult};
use super::summary::{OTHERS_CORES_MAX, others_cores};

/// Changes within this factor are noise, whatever the rounds say: so much two runs of one program differ.
const NOISE_FACTOR: f64 = 1.1;

/// With fewer rounds nothing can be told apart from noise.
const ROUNDS_MIN: usize = 3;

/// Both results' common scenarios; its `Display` is a table and how to read it.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    rows: Vec<Row>,
    /// Scenarios that only one of the results has.
    unmatched: Vec<String>,
    /// Cores that other programs used beside A and B; none where one does not tell.
    others: Option<(f64, f64)>,
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    name: String,
    figures: Vec<Figure>,
}

/// One metric of one scenario in both results.
#[derive(Clone, Debug, PartialEq)]
struct Figure {
    metric: &'static str,
    values: Option<(f64, f64)>,
    verdict: Verdict,
}

/// What a difference is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The second is better.
    Better,
    /// The second is worse.
    Worse,
    /// It may come from anything.
    Noise,
    /// Nothing to compare.
    None,
}

impl Comparison {
    /// Compares `b` with `a`.
    pub fn of(a: &RunResult, b: &RunResult) -> Comparison {
        let find = |result: &RunResult, name: &str| result.scenarios.iter().find(|it| it.name == name).cloned();
        let mut rows = Vec::new();
        let mut unmatched = Vec::new();
        for first in &a.scenarios {
            match find(b, &first.name) {
                Some(second) => rows.push(Row { name: first.name.clone(), figures: figures(first, &second) }),
                None => unmatched.push(first.name.clone()),
            }
        }
        let only_b = b.scenarios.iter().filter(|it| find(a, &it.name).is_none());
        unmatched.extend(only_b.map(|scenario| scenario.name.clone()));
        Comparison { rows, unmatched, others: others_cores(a).zip(others_cores(b)) }
    }
}

fn figures(a: &ScenarioResult, b: &ScenarioResult) -> Vec<Figure> {
    let time = |metric, values: (Option<f64>, Option<f64>), round: fn(&Round) -> Option<f64>| {
        figure(metric, values, [a, b].map(|it| it.rounds.iter().map(round).collect()), false)
    };
    let rates = [a, b].map(|it| it.rounds.iter().map(|round| Some(round.achieved_per_s)).collect());
    let mut figures = vec![
        time("p50 ms", (a.latency_ms.p50, b.latency_ms.p50), |round| round.p50_ms),
        time("p99 ms", (a.latency_ms.p99, b.latency_ms.p99), |round| round.p99_ms),
    ];
    // An open loop's rate is what was offered.
    if a.load == "closed" {
        figures.push(figure("done/s", (Some(a.achieved_per_s), Some(b.achieved_per_s)), rates, true));
    }
    figures
}

fn figure(
    metric: &'static str,
    values: (Option<f64>, Option<f64>),
    rounds: [Vec<Option<f64>>; 2],
    more_is_better: bool,
) -> Figure {
    let values = values.0.zip(values.1);
    let verdict = values.map_or(Verdict::None, |(a, b)| {
        let [rounds_a, rounds_b] = rounds.map(|rounds| rounds.into_iter().flatten().collect::<Vec<f64>>());
        let ratio = b / a;
        let within = ratio < NOISE_FACTOR && ratio > 1.0 / NOISE_FACTOR;
        match within || !apart(&rounds_a, &rounds_b) {
            true => Verdict::Noise,
            false if (b > a) == more_is_better => Verdict::Better,
            false => Verdict::Worse,
        }
    });
    Figure { metric, values, verdict }
}

/// Whether every round of one lies above every round of the other.
fn apart(a: &[f64], b: &[f64]) -> bool {
    let least = |rounds: &[f64]| rounds.iter().copied().fold(f64::INFINITY, f64::min);
    let most = |rounds: &[f64]| rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let enough = a.len() >= ROUNDS_MIN && b.len() >= ROUNDS_MIN;
    enough && (least(a) > most(b) || least(b) > most(a))
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max("scenario".len());
        writeln!(f, "{:width$}  {:6}  {:>10}  {:>10}  {:>6}", "scenario", "metric", "A", "B", "B/A")?;
        for row in &self.rows {
            for figure in &row.figures {
                write!(f, "{:width$}  {:6}", row.name, figure.metric)?;
                let verdict = match figure.verdict {
                    Verdict::Better => "better",
                    Verdict::Worse => "worse",
                    Verdict::Noise => "noise",
                    Verdict::None => "too few samples",
                };
                // Times have fractions, rates do not.
                let digits = if figure.metric.ends_with("/s") { 0 } else { 3 };
                match figure.values {
                    Some((a, b)) => {
                        writeln!(f, "  {a:10.digits$}  {b:10.digits$}  {:6.2}  {verdict}", b / a)?;
                    }
                    None => writeln!(f, "  {:>10}  {:>10}  {:>6}  {verdict}", "-", "-", "-")?,
                }
            }
        }
        writeln!(
            f,
            "\nnoise: the rounds of A and B overlap, or differ by less than a tenth, or are under {ROUNDS_MIN}."
        )?;
        writeln!(
            f,
            "Runs at different times differ by what else the machine did: repeat A, B, A, B before you believe it."
        )?;
        if let Some((a, b)) = self.others.filter(|(a, b)| a.max(*b) > OTHERS_CORES_MAX) {
            writeln!(f, "Other programs used {a:.1} cores beside A, {b:.1} beside B: a difference may be theirs.")?;
        }
        match self.unmatched.is_empty() {
            true => Ok(()),
            false => writeln!(f, "Only in one of them:\n  {}", self.unmatched.join("\n  ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(a: &[f64], b: &[f64], more_is_better: bool) -> Verdict {
        let mid = |rounds: &[f64]| Some(rounds[rounds.len() / 2]);
        let rounds = [a, b].map(|rounds| rounds.iter().copied().map(Some).collect());
        figure("x", (mid(a), mid(b)), rounds, more_is_better).verdict
    }

    #[test]
    fn only_what_no_round_contradicts_is_a_difference() {
        assert_eq!(verdict(&[1.0, 1.1, 1.2], &[1.5, 1.6, 1.7], false), Verdict::Worse);
        assert_eq!(verdict(&[1.0, 1.1, 1.2], &[1.5, 1.6, 1.7], true), Verdict::Better);
        assert_eq!(verdict(&[1.5, 1.6, 1.7], &[1.0, 1.1, 1.2], false), Verdict::Better);
        assert_eq!(verdict(&[1.0, 1.1, 1.6], &[1.5, 1.7, 1.8], false), Verdict::Noise, "they overlap");
        assert_eq!(verdict(&[1.0, 1.01, 1.02], &[1.05, 1.06, 1.07], false), Verdict::Noise, "under a tenth");
        assert_eq!(verdict(&[1.0, 1.1], &[2.0, 2.1], false), Verdict::Noise, "two rounds");
    }

    #[test]
    fn a_refused_percentile_is_not_compared() {
        assert_eq!(figure("p99 ms", (None, Some(1.0)), [vec![], vec![]], false).verdict, Verdict::None);
    }
}
