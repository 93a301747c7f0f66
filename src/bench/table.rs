//! A result as text.

use super::result::{RunResult, ScenarioResult};

const HEADS: [&str; 14] = [
    "scenario",
    "offered/s",
    "done/s",
    "p50 ms",
    "p90",
    "p99",
    "p99.9",
    "max",
    "errors",
    "conns",
    "links",
    "frames",
    "trips",
    "theory",
];

/// What stands for a figure that there is not.
const NONE: &str = "-";

/// What the columns mean, where their heads do not say.
const LEGEND: &str = "\
Latency counts from the intended start of a request; without a rate, each client asks again at once. - is a figure with
too few samples behind it, or none. conns, links: connections that clients and replicas opened. frames: between replicas,
for each write. trips: (p50 - p50 without delay) / round trip, of mixed scenarios by the mean; theory beside it.
";

/// The table and what belongs below it; ends with a newline.
pub(super) fn of(result: &RunResult) -> String {
    let rows: Vec<[String; HEADS.len()]> = result.scenarios.iter().map(cells).collect();
    let heads = HEADS.map(str::to_owned);
    let width = |column: usize| {
        let cells = rows.iter().chain([&heads]).map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
    let mut text = line(&heads, &widths);
    let mut before = None;
    for (row, scenario) in rows.iter().zip(&result.scenarios) {
        let group = (&scenario.mode, &scenario.links, &scenario.durability, scenario.delay_ms.to_bits());
        if before.is_some_and(|before| before != group) {
            text.push('\n');
        }
        before = Some(group);
        text += &line(row, &widths);
    }
    text + "\n" + LEGEND + &below(result)
}

fn line(row: &[String; HEADS.len()], widths: &[usize]) -> String {
    let mut line = format!("{:1$}", row[0], widths[0]);
    for (cell, width) in row.iter().zip(widths).skip(1) {
        line += &format!("  {cell:>width$}");
    }
    line.trim_end().to_owned() + "\n"
}

fn cells(scenario: &ScenarioResult) -> [String; HEADS.len()] {
    // What rounds to nothing has no sign.
    let rounded =
        |value: f64, digits: usize| (value * 10_f64.powi(digits as i32)).round() / 10_f64.powi(digits as i32) + 0.0;
    let or_none = |value: Option<f64>, digits: usize| {
        value.map_or(NONE.to_owned(), |it| format!("{:.digits$}", rounded(it, digits)))
    };
    let ms = |value: Option<f64>| or_none(value, if value.is_some_and(|it| it >= 100.0) { 1 } else { 3 });
    let latency = &scenario.latency_ms;
    [
        scenario.name.clone(),
        or_none(scenario.offered_per_s, 0),
        or_none(Some(scenario.achieved_per_s), 0),
        ms(latency.p50),
        ms(latency.p90),
        ms(latency.p99),
        ms(latency.p99_9),
        ms(latency.max),
        scenario.error_count().to_string(),
        scenario.client_connections.to_string(),
        scenario.link_connections.to_string(),
        or_none(scenario.frames_per_write, 1),
        or_none(scenario.round_trips.measured, 2),
        or_none(Some(scenario.round_trips.theory), 2),
    ]
}

/// What was checked, and what to mind.
fn below(result: &RunResult) -> String {
    let notes: usize = result.checks.iter().map(|check| check.notes).sum();
    let clusters = result.checks.len();
    let mut text = format!("\n{:.0} s, {} cores.", result.took_s, result.machine.cores);
    if result.is_consistent() {
        text += &format!(
            " Data: {notes} notes in {clusters} {} hold what was written last, the same at every replica.\n",
            if clusters == 1 { "cluster" } else { "clusters" }
        );
    } else {
        text += " Data: WRONG, see below.\n";
    }
    for warning in &result.warnings {
        text += &format!("warning: {warning}\n");
    }
    text
}
