//! Latency against link delay, with theory's lines.

use plotters::prelude::*;

use super::super::BenchError;
use super::super::result::{RunResult, ScenarioResult};
use super::{Axis, Drawn, Plot, SIZE, bold, colour, draw, ms_label, paint_axes, paint_names, round_up, told};

const HOW: &str = "How to read it: a dot is the median latency measured at a simulated one-way delay between replicas; \
    the dashed line through it is what theory says, the median without delay and so many round trips more. A dot on its \
    line means that the program waits for the network no more often than the protocol must. The steeper the line, the \
    more round trips: that is the price of being far from the primary, and of links that are dialed anew.";

/// One kind of request at several delays.
struct Series {
    name: String,
    theory: f64,
    /// Delay and median, both in ms.
    points: Vec<(f64, f64)>,
}

/// The plot; none where nothing was measured with a delay.
pub(super) fn plot(result: &RunResult) -> Result<Option<Plot>, BenchError> {
    let panels: Vec<(&str, Vec<Series>)> = ["remote-write", "local-write"]
        .map(|mode| (mode, series(result, mode)))
        .into_iter()
        .filter(|(_, series)| !series.is_empty())
        .collect();
    if panels.is_empty() {
        return Ok(None);
    }
    draw("Latency against link delay", HOW.to_owned(), SIZE, |canvas| {
        let most = |pick: fn(&(f64, f64)) -> f64, room: f64| {
            let points = panels.iter().flat_map(|(_, series)| series).flat_map(|series| &series.points);
            round_up(points.map(pick).fold(0.0, f64::max) * room)
        };
        // The legend stands above the highest dot.
        let most = (most(|point| point.0, 1.0), most(|point| point.1, 1.5));
        let areas = canvas.split_evenly((1, panels.len()));
        panels.iter().zip(areas).try_for_each(|((mode, series), area)| paint(&area, mode, series, most))
    })
}

fn series(result: &RunResult, mode: &str) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for scenario in result.scenarios.iter().filter(|scenario| is_shown(scenario, mode)) {
        let Some(p50) = scenario.latency_ms.p50 else { continue };
        let mut name = scenario.work.clone();
        name += if scenario.links == "per-frame" { ", links per frame" } else { "" };
        name += if scenario.by == "frames" { ", by frames" } else { "" };
        let point = (scenario.delay_ms, p50);
        match all.iter_mut().find(|series| series.name == name) {
            Some(series) => series.points.push(point),
            None => all.push(Series { name, theory: scenario.round_trips.theory, points: vec![point] }),
        }
    }
    all.retain(|series| series.points.len() > 1 && series.points.iter().any(|point| point.0 == 0.0));
    all
}

/// Durable, open loop, connections kept, and no mixture.
fn is_shown(scenario: &ScenarioResult, mode: &str) -> bool {
    let mixed = scenario.work.contains('%') || scenario.work == "anywhere";
    scenario.mode == mode
        && scenario.load == "open"
        && scenario.clients == "kept"
        && scenario.durability == "disk"
        && !mixed
}

fn paint(area: &super::Canvas<'_>, mode: &str, series: &[Series], most: (f64, f64)) -> Drawn {
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .caption(mode, bold(17))
        .x_label_area_size(48)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..most.0 * 1.04, 0.0..most.1)
        .map_err(told)?;
    let x = Axis { desc: "link delay one way, ms", labels: 6, label: &|ms: &f64| ms_label(*ms) };
    paint_axes(&mut chart, &x, &Axis { desc: "median latency, ms", labels: 8, ..x })?;
    for (place, Series { name, theory, points }) in series.iter().enumerate() {
        let shade = colour(place);
        let near = points.iter().find(|point| point.0 == 0.0).map_or(0.0, |point| point.1);
        let far = points.iter().map(|point| point.0).fold(0.0, f64::max);
        let line = [(0.0, near), (far, near + theory * 2.0 * far)];
        chart.draw_series(DashedLineSeries::new(line, 6, 4, shade.stroke_width(2))).map_err(told)?;
        let dots = points.iter().map(|point| Circle::new(*point, 5, shade.filled()));
        chart
            .draw_series(dots)
            .map_err(told)?
            .label(format!("{name}: {theory} round trip{}", if *theory == 1.0 { "" } else { "s" }))
            .legend(move |(x, y)| Circle::new((x + 10, y), 5, shade.filled()));
    }
    paint_names(&mut chart, SeriesLabelPosition::UpperLeft)
}
