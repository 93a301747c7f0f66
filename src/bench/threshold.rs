//! Thresholds: `--fail-if 'remote-write/primary p99 > 5ms'`.

use std::fmt;
use std::str::FromStr;

use super::BenchError;
use super::pattern;
use super::result::{RunResult, ScenarioResult};
use super::scenario::Scenario;

/// What a threshold looks like.
const SHAPE: &str = "write 'NAME METRIC > VALUE', for instance 'remote-write/primary p99 > 5ms'";

/// What must not be.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    text: String,
    name: String,
    metric: Metric,
    comparison: Comparison,
    /// In ms where the metric is a time.
    value: f64,
}

/// A text that is no threshold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; {SHAPE}")]
pub struct ThresholdError(String);

/// A threshold that was missed by a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Which scenario.
    pub name: String,
    /// The threshold and what was measured.
    pub why: String,
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.why)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Metric {
    P50,
    P90,
    P99,
    P999,
    Max,
    Mean,
    Rate,
    Errors,
    RoundTrips,
}

/// The words of the metrics.
const METRICS: [(&str, Metric); 9] = [
    ("p50", Metric::P50),
    ("p90", Metric::P90),
    ("p99", Metric::P99),
    ("p99.9", Metric::P999),
    ("max", Metric::Max),
    ("mean", Metric::Mean),
    ("rate", Metric::Rate),
    ("errors", Metric::Errors),
    ("round-trips", Metric::RoundTrips),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Units of time, and how many ms each has.
const UNITS: [(&str, f64); 4] = [("us", 0.001), ("µs", 0.001), ("ms", 1.0), ("s", 1000.0)];

impl Threshold {
    /// Whether any scenario of the run is meant; else it could never be missed.
    pub(super) fn check_names(&self, scenarios: &[Scenario]) -> Result<(), BenchError> {
        let names: Vec<String> = scenarios.iter().map(ToString::to_string).collect();
        match names.iter().any(|name| pattern::fits(&self.name, name)) {
            true => Ok(()),
            false => Err(BenchError::NothingToJudge { threshold: self.text.clone(), names: names.join("\n  ") }),
        }
    }

    /// Every scenario that misses it. What was refused for want of samples misses it too: nobody knows.
    pub fn missed(&self, result: &RunResult) -> Vec<Missed> {
        let meant = result.scenarios.iter().filter(|scenario| pattern::fits(&self.name, &scenario.name));
        meant.filter_map(|scenario| self.missed_by(scenario)).collect()
    }

    fn missed_by(&self, scenario: &ScenarioResult) -> Option<Missed> {
        let missed = |why: String| Some(Missed { name: scenario.name.clone(), why: format!("{} ({why})", self.text) });
        let Some(measured) = self.metric.of(scenario) else {
            return missed("not known: too few samples, measure longer by --duration".to_owned());
        };
        match self.comparison.holds(measured, self.value) {
            true if self.metric.is_time() => missed(format!("it is {measured:.3} ms")),
            true => missed(format!("it is {measured:.2}")),
            false => None,
        }
    }
}

impl Metric {
    fn is_time(self) -> bool {
        !matches!(self, Metric::Rate | Metric::Errors | Metric::RoundTrips)
    }

    fn of(self, scenario: &ScenarioResult) -> Option<f64> {
        let latency = &scenario.latency_ms;
        match self {
            Metric::P50 => latency.p50,
            Metric::P90 => latency.p90,
            Metric::P99 => latency.p99,
            Metric::P999 => latency.p99_9,
            Metric::Max => latency.max,
            Metric::Mean => scenario.mean_ms,
            Metric::Rate => Some(scenario.achieved_per_s),
            Metric::Errors => Some(scenario.error_count() as f64),
            Metric::RoundTrips => scenario.round_trips.measured,
        }
    }
}

impl Comparison {
    fn holds(self, measured: f64, value: f64) -> bool {
        match self {
            Comparison::Less => measured < value,
            Comparison::LessOrEqual => measured <= value,
            Comparison::Greater => measured > value,
            Comparison::GreaterOrEqual => measured >= value,
        }
    }
}

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Threshold, ThresholdError> {
        let no = |why: String| ThresholdError(why);
        let words: Vec<&str> = text.split_whitespace().collect();
        let [name, metric, sign, value @ ..] = &words[..] else {
            return Err(no(format!("{text:?} has too few words")));
        };
        let known = METRICS.iter().find(|(word, _)| word == metric);
        let metric = known.map(|(_, metric)| *metric).ok_or_else(|| {
            let words = METRICS.map(|(word, _)| word).join(", ");
            no(format!("{metric:?} is no metric; the metrics are {words}"))
        })?;
        let comparison = match *sign {
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            other => return Err(no(format!("{other:?} is none of < <= > >="))),
        };
        let value = read_value(metric, &value.concat()).ok_or_else(|| {
            let wanted = if metric.is_time() { "a time with its unit, us, ms or s" } else { "a number" };
            no(format!("{:?} is not {wanted}", value.join(" ")))
        })?;
        Ok(Threshold { text: text.to_owned(), name: (*name).to_owned(), metric, comparison, value })
    }
}

/// A number; of a time, in ms, with its unit.
fn read_value(metric: Metric, text: &str) -> Option<f64> {
    let (number, factor) = match metric.is_time() {
        false => (text, 1.0),
        true => UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))?,
    };
    let value = number.parse::<f64>().ok()?;
    value.is_finite().then_some(value * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Threshold, String> {
        text.parse().map_err(|error: ThresholdError| error.to_string())
    }

    #[test]
    fn times_have_units_and_counts_have_none() {
        let value = |text: &str| parse(text).map(|threshold| threshold.value);
        assert_eq!(value("a p99 > 5ms"), Ok(5.0));
        assert_eq!(value("a p99.9 >= 1.5 s"), Ok(1500.0));
        assert_eq!(value("a/b/* max < 250us"), Ok(0.25));
        assert_eq!(value("a rate < 1000"), Ok(1000.0));
        assert_eq!(value("a round-trips > 1.03"), Ok(1.03));
    }

    #[test]
    fn what_is_no_threshold_says_why() {
        for (text, why) in [
            ("a p99", "too few words"),
            ("a p98 > 5ms", "\"p98\" is no metric"),
            ("a p99 = 5ms", "\"=\" is none of"),
            ("a p99 > 5", "\"5\" is not a time with its unit"),
            ("a p99 > fastms", "not a time"),
            ("a p99 > infs", "not a time"),
            ("a errors > 5ms", "not a number"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why) && error.ends_with(SHAPE), "{text}: {error}");
        }
    }
}
