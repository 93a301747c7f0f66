//! Local-write against locality, beside remote-write.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::super::BenchError;
use super::super::result::{RunResult, ScenarioResult};
use super::{Axis, Drawn, INK, Plot, SIZE, bold, colour, draw, ms_label, paint_axes, paint_names, round_up, told};

/// Fewest shares that make a line of interest.
const POINTS_MIN: usize = 3;

/// What is drawn.
struct Lines {
    delay_ms: f64,
    /// Percent of the writes at the item's primary, and mean latency in ms.
    local: Vec<(f64, f64)>,
    /// Mean latency of remote-write with clients everywhere alike.
    remote: f64,
    /// Percent from which on local-write is the faster one.
    crossing: Option<f64>,
}

/// The plot; none without remote-write at every replica and a few shares of local-write under one delay.
pub(super) fn plot(result: &RunResult) -> Result<Option<Plot>, BenchError> {
    let mut delays: Vec<f64> = result.scenarios.iter().map(|scenario| scenario.delay_ms).collect();
    delays.sort_by(f64::total_cmp);
    // The longest delay tells most: the rest of the latency weighs least.
    let Some(lines) = delays.iter().rev().find_map(|delay_ms| lines(result, *delay_ms)) else { return Ok(None) };
    let crossing = match lines.crossing {
        Some(percent) => format!("here at {percent:.0} %"),
        None => "which did not happen here".to_owned(),
    };
    let how = format!(
        "How to read it: at the left every write arrives at a replica that is not the item's primary, so that local-write \
         moves the item each time (two round trips); at the right every write arrives where the item already is (one). \
         Remote-write does not care who wrote last: with clients at every replica alike, its mean is the straight line. \
         Local-write pays from where its line falls below that, {crossing}. Means, at {} ms one way.",
        ms_label(lines.delay_ms)
    );
    draw("Local-write against locality", how, SIZE, |canvas| paint(canvas, &lines))
}

fn lines(result: &RunResult, delay_ms: f64) -> Option<Lines> {
    // Shares are measured in one speech only, that of the first scenario.
    let by = &result.scenarios.first()?.by;
    let plain = |scenario: &&ScenarioResult| {
        scenario.delay_ms.total_cmp(&delay_ms).is_eq()
            && (scenario.links == "persistent" && scenario.durability == "disk")
            && (scenario.load == "open" && scenario.clients == "kept" && scenario.by == *by)
    };
    let mut local: Vec<(f64, f64)> = result
        .scenarios
        .iter()
        .filter(plain)
        .filter(|scenario| scenario.mode == "local-write")
        .filter_map(|scenario| Some((share(&scenario.work)?, scenario.mean_ms?)))
        .collect();
    local.sort_by(|one, other| one.0.total_cmp(&other.0));
    let anywhere = |scenario: &&ScenarioResult| scenario.mode == "remote-write" && scenario.work == "anywhere";
    let remote = result.scenarios.iter().filter(plain).find(anywhere)?.mean_ms?;
    let crossing = crossing(&local, remote);
    (local.len() >= POINTS_MIN).then_some(Lines { delay_ms, local, remote, crossing })
}

/// Percent of the writes at the item's primary.
fn share(work: &str) -> Option<f64> {
    match work {
        "elsewhere" => Some(0.0),
        "item-primary" => Some(100.0),
        other => other.strip_suffix('%')?.parse().ok(),
    }
}

/// Where the line falls below `level`, between two of its points.
fn crossing(line: &[(f64, f64)], level: f64) -> Option<f64> {
    line.windows(2).find_map(|pair| match pair {
        [(x, y), (next_x, next_y)] if *y >= level && *next_y < level => {
            Some(x + (next_x - x) * (y - level) / (y - next_y))
        }
        _ => None,
    })
}

fn paint(canvas: &super::Canvas<'_>, lines: &Lines) -> Drawn {
    let Lines { local, remote, crossing, .. } = lines;
    let most = round_up(local.iter().map(|point| point.1).fold(*remote, f64::max) * 1.25);
    let (blue, orange) = (colour(0), colour(1));
    let mut chart = ChartBuilder::on(canvas)
        .margin(14)
        .margin_right(28)
        .x_label_area_size(48)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..100.0, 0.0..most)
        .map_err(told)?;
    let x = Axis {
        desc: "writes that arrive at the item's primary",
        labels: 11,
        label: &|percent: &f64| format!("{percent:.0} %"),
    };
    paint_axes(&mut chart, &x, &Axis { desc: "mean latency, ms", labels: 8, label: &|ms| ms_label(*ms) })?;
    chart
        .draw_series(LineSeries::new(local.iter().copied(), blue.filled().stroke_width(2)).point_size(5))
        .map_err(told)?
        .label("local-write")
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], blue.stroke_width(2)));
    chart
        .draw_series(LineSeries::new([(0.0, *remote), (100.0, *remote)], orange.stroke_width(2)))
        .map_err(told)?
        .label("remote-write, clients at every replica alike")
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], orange.stroke_width(2)));
    if let Some(percent) = crossing {
        let foot = [(*percent, 0.0), (*percent, *remote)];
        chart.draw_series(DashedLineSeries::new(foot, 5, 4, INK.stroke_width(1))).map_err(told)?;
        // Beside its foot, on the side that has room.
        let (side, away) = if *percent < 60.0 { (HPos::Left, 8) } else { (HPos::Right, -8) };
        let text = format!("from {percent:.0} % on, local-write is faster");
        let style = bold(14).pos(Pos::new(side, VPos::Bottom));
        let label = EmptyElement::at((*percent, most * 0.04)) + Text::new(text, (away, 0), style);
        chart.draw_series([label]).map_err(told)?;
    }
    paint_names(&mut chart, SeriesLabelPosition::UpperRight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crossing_lies_between_two_points() {
        assert_eq!(crossing(&[(0.0, 20.0), (50.0, 15.0), (100.0, 10.0)], 17.5), Some(25.0));
        assert_eq!(crossing(&[(0.0, 20.0), (100.0, 10.0)], 5.0), None);
        assert_eq!(crossing(&[(0.0, 20.0), (100.0, 10.0)], 25.0), None, "it is faster throughout");
    }

    #[test]
    fn shares_are_read_from_works() {
        assert_eq!(["elsewhere", "25%", "item-primary", "read"].map(share), [Some(0.0), Some(25.0), Some(100.0), None]);
    }
}
