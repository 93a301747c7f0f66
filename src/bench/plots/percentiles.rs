//! Latency by percentile.

use hdrhistogram::Histogram;
use plotters::prelude::*;

use super::super::BenchError;
use super::super::run::Outcome;
use super::super::scenario::{Load, Scenario};
use super::super::tally::BEHIND_MIN;
use super::{Drawn, GRID, INK, Plot, SIZE, colour, draw, font, ms_label, paint_legend, told};
use crate::config::{Durability, LinkUse};

/// Most lines that one can still follow.
const LINES_MAX: usize = 8;

/// Pixels for the legend's rows.
const LEGEND: i32 = 100;

/// Points of a line for each "nine".
const POINTS: usize = 40;

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
    canvas.fill(&WHITE).map_err(told)?;
    let (head, body) = canvas.split_vertically(LEGEND);
    let legend: Vec<(&str, RGBColor)> =
        lines.iter().enumerate().map(|(place, line)| (line.name.as_str(), colour(place))).collect();
    paint_legend(&head, &legend)?;
    let mut chart = ChartBuilder::on(&body)
        .margin(14)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..most_nines * 1.02, (least * 0.8..most * 1.3).log_scale())
        .map_err(told)?;
    chart
        .configure_mesh()
        .x_labels(2 * most_nines.ceil() as usize)
        .x_label_formatter(&|nines| nines_label(*nines))
        .y_label_formatter(&|ms| ms_label(*ms))
        .x_desc("percentile of requests")
        .y_desc("latency, ms")
        .label_style(font(14))
        .axis_desc_style(font(15))
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .draw()
        .map_err(told)?;
    for (place, line) in lines.iter().enumerate() {
        let style = colour(place).stroke_width(2);
        chart.draw_series(LineSeries::new(line.points.iter().copied(), style)).map_err(told)?;
    }
    Ok(())
}

/// The percentile at a whole number of nines; nothing between.
fn nines_label(nines: f64) -> String {
    match nines {
        _ if (nines - nines.round()).abs() > 1e-6 => String::new(),
        _ if nines < 1.0 => "0 %".to_owned(),
        _ => {
            let digits = (nines.round() as usize).saturating_sub(2);
            format!("{:.digits$} %", 100.0 * (1.0 - 10_f64.powf(-nines)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::nines_label;

    #[test]
    fn nines_are_named() {
        assert_eq!([0.0, 0.5, 1.0, 2.0, 3.0, 4.0].map(nines_label), ["0 %", "", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }
}
