//! Latency by percentile.

use std::ops::Range;

use hdrhistogram::Histogram;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::prelude::*;

use super::super::BenchError;
use super::super::run::Outcome;
use super::super::scenario::{Load, Scenario};
use super::super::tally::BEHIND_MIN;
use super::{Axis, Drawn, Plot, SIZE, colour, draw, ms_label, paint_axes, paint_legend, told};
use crate::config::{Durability, LinkUse};

/// Most lines that one can still follow.
const LINES_MAX: usize = 8;

/// Pixels for the legend's rows.
const LEGEND: i32 = 100;

/// Points of a line for each "nine".
const POINTS: usize = 40;

/// Where the median lies, in nines: log10 of 2.
const MEDIAN_NINES: f64 = std::f64::consts::LOG10_2;

const HOW: &str = "How to read it: each line is one scenario without link delay; at 90 % on the way from left to right, \
    nine of ten requests were no slower than the height of the line. Both axes are logarithmic, the lower one in nines, \
    so that the slow few can be seen. A line ends where fewer than ten samples lie behind it. A flat line is a steady \
    service; where it turns up, something now and then held requests up.";

/// One scenario's line: nines, and ms.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// The plot; none where no scenario has enough samples.
pub(super) fn plot(outcome: &Outcome) -> Result<Option<Plot>, BenchError> {
    let lines: Vec<Line> = outcome
        .histograms
        .iter()
        .filter(|(scenario, histogram)| is_shown(scenario) && histogram.len() as f64 > 2.0 * BEHIND_MIN)
        // One speech is enough here; what they differ in has a plot of its own.
        .filter(|(scenario, _)| outcome.histograms.first().is_some_and(|(first, _)| first.by == scenario.by))
        .take(LINES_MAX)
        .map(|(scenario, histogram)| Line { name: scenario.to_string(), points: points(histogram) })
        .collect();
    if lines.is_empty() {
        return Ok(None);
    }
    let size = (SIZE.0, SIZE.1 + LEGEND as u32);
    draw("Latency by percentile", HOW.to_owned(), size, |canvas| paint(canvas, &lines))
}

/// Plain clusters under an open loop.
fn is_shown(scenario: &Scenario) -> bool {
    let setup = scenario.setup;
    setup.delay_us == 0
        && setup.links == LinkUse::Persistent
        && setup.durability == Durability::Disk
        && matches!(scenario.load, Load::Open { .. })
        && !scenario.work.is_mixed()
}

fn points(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let most = (histogram.len() as f64 / BEHIND_MIN).log10();
    let count = (most * POINTS as f64).ceil() as usize;
    let at = |place: usize| {
        let nines = most * place as f64 / count.max(1) as f64;
        let quantile = 1.0 - 10_f64.powf(-nines);
        (nines, histogram.value_at_quantile(quantile).max(1_000) as f64 / 1e6)
    };
    (0..=count).map(at).collect()
}

fn paint(canvas: &super::Canvas<'_>, lines: &[Line]) -> Drawn {
    let all = || lines.iter().flat_map(|line| &line.points);
    let most_nines = all().map(|(nines, _)| *nines).fold(1.0, f64::max);
    let least = all().map(|(_, ms)| *ms).fold(f64::INFINITY, f64::min);
    let most = all().map(|(_, ms)| *ms).fold(0.0, f64::max);
    let (head, body) = canvas.split_vertically(LEGEND);
    let legend: Vec<(&str, RGBColor)> =
        lines.iter().enumerate().map(|(place, line)| (line.name.as_str(), colour(place))).collect();
    paint_legend(&head, &legend)?;
    let (least, most) = (least * 0.8, most * 1.3);
    let nines = Marked { range: 0.0..most_nines * 1.02, marks: nines_marks(most_nines) };
    let powers = Marked { range: least.log10()..most.log10(), marks: log_marks(least, most) };
    let mut chart = ChartBuilder::on(&body)
        .margin(14)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d(nines, powers)
        .map_err(told)?;
    let x = Axis { desc: "percentile of requests", labels: 8, label: &|nines: &f64| nines_label(*nines) };
    let power_label = |power: &f64| ms_label(10_f64.powf(*power));
    paint_axes(&mut chart, &x, &Axis { desc: "latency, ms", labels: 8, label: &power_label })?;
    for (place, line) in lines.iter().enumerate() {
        let style = colour(place).stroke_width(2);
        let points = line.points.iter().map(|(nines, ms)| (*nines, ms.log10()));
        chart.draw_series(LineSeries::new(points, style)).map_err(told)?;
    }
    Ok(())
}

/// A linear axis with marks of our own choice: the library's lie where they tell nothing of nines and of powers.
struct Marked {
    range: Range<f64>,
    marks: Vec<f64>,
}

impl Ranged for Marked {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        limit.0 + (f64::from(limit.1 - limit.0) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.marks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

/// Nines that are marked: the median, and each whole one.
fn nines_marks(most: f64) -> Vec<f64> {
    let whole = (0..=most.floor() as usize).map(|nines| nines as f64);
    whole.chain([MEDIAN_NINES]).collect()
}

/// The logarithms of 1, 2 and 5 times each power of ten between two times.
fn log_marks(least: f64, most: f64) -> Vec<f64> {
    let powers = least.log10().floor() as i32..=most.log10().ceil() as i32;
    let marks = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
    marks.filter(|mark| (least..=most).contains(mark)).map(f64::log10).collect()
}

/// The percentile at a mark.
fn nines_label(nines: f64) -> String {
    match nines {
        _ if nines == MEDIAN_NINES => "50 %".to_owned(),
        _ if nines < 1.0 => "0 %".to_owned(),
        _ => {
            let digits = (nines.round() as usize).saturating_sub(2);
            format!("{:.digits$} %", 100.0 * (1.0 - 10_f64.powf(-nines)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nines_are_named() {
        let labels: Vec<String> = nines_marks(4.3).into_iter().map(nines_label).collect();
        assert_eq!(labels, ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "50 %"]);
    }

    #[test]
    fn times_are_marked_three_to_a_power_of_ten() {
        let marks: Vec<String> = log_marks(0.07, 6.0).into_iter().map(|power| ms_label(10_f64.powf(power))).collect();
        assert_eq!(marks, ["0.1", "0.2", "0.5", "1", "2", "5"]);
    }
}
