//! Bars: what kept connections save, and where the time goes.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::super::BenchError;
use super::super::result::{RunResult, ScenarioResult};
use super::{Drawn, GRID, INK, Plot, SIZE, colour, draw, font, ms_label, paint_legend, round_up, told};

/// Pixels for each bar, and for what stands around all.
const BAR: u32 = 34;
const AROUND: u32 = 136;

/// Pixels for the legend's two rows.
const LEGEND: i32 = 56;

/// Most bars of one plot.
const BARS_MAX: usize = 24;

const HOW_CONNECTIONS: &str = "How to read it: the bar is the median latency without link delay, its whisker the 90th \
    percentile. Blue keeps its connections, of clients and between replicas; orange opens a client connection for every \
    request; green opens one between replicas for each turn's frames. Compare a bar with the blue one of the same name: \
    the difference is what opening costs on one machine. Over a network, each opening costs a round trip more.";

const HOW_PHASES: &str = "How to read it: a bar is the mean latency of a request, cut into what it waited for: queue (before \
    it began), forward (to the primary and back, less the primary's own work) or move (fetching the item), store (until \
    the item's primary had it on disk), update (until the slowest backup had it too, beyond store), respond, and client \
    (sockets and scheduling on the client's side). The longest piece is the one worth improving.";

/// A bar: pieces from left to right, and a whisker.
struct Bar {
    name: String,
    pieces: Vec<(f64, RGBColor)>,
    whisker: Option<f64>,
}

/// Connections kept or not; none where only one way was measured.
pub(super) fn connections(result: &RunResult) -> Result<Option<Plot>, BenchError> {
    let near = |scenario: &&ScenarioResult| {
        scenario.delay_ms == 0.0 && scenario.load == "open" && scenario.durability == "disk" && !is_mixed(scenario)
    };
    let near: Vec<&ScenarioResult> = result.scenarios.iter().filter(near).collect();
    let way = |scenario: &ScenarioResult| match (scenario.clients.as_str(), scenario.links.as_str()) {
        ("new", _) => 1,
        (_, "per-frame") => 2,
        _ => 0,
    };
    let mut shown: Vec<&ScenarioResult> = near.iter().copied().filter(|it| way(it) > 0).collect();
    if shown.is_empty() {
        return Ok(None);
    }
    let has_other = |it: &&&ScenarioResult| shown.iter().any(|other| other.mode == it.mode && other.work == it.work);
    let kept: Vec<&ScenarioResult> = near.iter().filter(|it| way(it) == 0).filter(has_other).copied().collect();
    shown.extend(kept);
    shown.sort_by_key(|it| (it.mode != "remote-write", it.work == "backup" || it.work == "elsewhere", way(it)));
    let bars = shown.iter().filter_map(|it| {
        let pieces = vec![(it.latency_ms.p50?, colour(way(it)))];
        Some(Bar { name: it.name.clone(), pieces, whisker: it.latency_ms.p90 })
    });
    let bars: Vec<Bar> = bars.take(BARS_MAX).collect();
    let legend = ["connections kept", "a client connection for each request", "a link connection for each turn"];
    let legend: Vec<(&str, RGBColor)> =
        legend.into_iter().enumerate().map(|(place, name)| (name, colour(place))).collect();
    paint_on("Connections kept or not", HOW_CONNECTIONS, &bars, &legend, "median latency, ms")
}

/// Where the time goes; none without `Server-Timing`.
pub(super) fn phases(result: &RunResult) -> Result<Option<Plot>, BenchError> {
    const PIECES: [&str; 6] = ["queue", "forward or move", "store", "update beyond store", "respond", "client"];
    let legend: Vec<(&str, RGBColor)> =
        PIECES.into_iter().zip([6, 1, 0, 4, 2, 3]).map(|(name, place)| (name, colour(place))).collect();
    let near = |scenario: &&ScenarioResult| scenario.delay_ms == 0.0 && scenario.load == "open" && !is_mixed(scenario);
    let bar = |scenario: &ScenarioResult| {
        let phases = scenario.phases_ms.as_ref()?;
        let ms = |name: &str| phases.get(name).copied().unwrap_or_default().max(0.0);
        let store = ms("store").min(ms("replicate"));
        let pieces =
            [ms("queue"), ms("forward") + ms("move"), store, ms("replicate") - store, ms("respond"), ms("client")];
        let pieces = pieces.into_iter().zip(&legend).map(|(ms, (_, colour))| (ms, *colour)).collect();
        Some(Bar { name: scenario.name.clone(), pieces, whisker: None })
    };
    let bars: Vec<Bar> = result.scenarios.iter().filter(near).filter_map(bar).take(BARS_MAX).collect();
    paint_on("Where the time goes", HOW_PHASES, &bars, &legend, "mean latency, ms")
}

fn is_mixed(scenario: &ScenarioResult) -> bool {
    scenario.work.contains('%') || scenario.work == "anywhere"
}

fn paint_on(
    title: &'static str,
    how: &str,
    bars: &[Bar],
    legend: &[(&str, RGBColor)],
    axis: &str,
) -> Result<Option<Plot>, BenchError> {
    if bars.is_empty() {
        return Ok(None);
    }
    let size = (SIZE.0, AROUND + BAR * bars.len() as u32);
    draw(title, how.to_owned(), size, |canvas| paint(canvas, bars, legend, axis))
}

fn paint(canvas: &super::Canvas<'_>, bars: &[Bar], legend: &[(&str, RGBColor)], axis: &str) -> Drawn {
    let length = |bar: &Bar| bar.pieces.iter().map(|piece| piece.0).sum::<f64>();
    let most = bars.iter().map(|bar| bar.whisker.unwrap_or_default().max(length(bar))).fold(0.0, f64::max);
    let longest_name = bars.iter().map(|bar| bar.name.len()).max().unwrap_or_default() as u32;
    canvas.fill(&WHITE).map_err(told)?;
    let (head, body) = canvas.split_vertically(LEGEND);
    paint_legend(&head, legend)?;
    let count = bars.len();
    // The first one stands at the top.
    let name_at = |place: &SegmentValue<usize>| match place {
        SegmentValue::CenterOf(place) if *place < count => bars[count - 1 - place].name.clone(),
        _ => String::new(),
    };
    let mut chart = ChartBuilder::on(&body)
        .margin(10)
        .margin_right(24)
        .x_label_area_size(48)
        .y_label_area_size(20 + longest_name * 7)
        .build_cartesian_2d(0.0..round_up(most * 1.08), (0..count).into_segmented())
        .map_err(told)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(count + 1)
        .y_label_formatter(&name_at)
        .x_label_formatter(&|ms| ms_label(*ms))
        .x_desc(axis)
        .label_style(font(13))
        .axis_desc_style(font(15))
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .draw()
        .map_err(told)?;
    for (place, bar) in bars.iter().rev().enumerate() {
        let mut from = 0.0;
        for (ms, shade) in &bar.pieces {
            let corners = [(from, SegmentValue::Exact(place)), (from + ms, SegmentValue::Exact(place + 1))];
            let mut piece = Rectangle::new(corners, shade.filled());
            piece.set_margin(6, 6, 0, 0);
            chart.draw_series([piece]).map_err(told)?;
            from += ms;
        }
        let middle = SegmentValue::CenterOf(place);
        if let Some(whisker) = bar.whisker.filter(|whisker| *whisker > from) {
            let line = PathElement::new([(from, middle.clone()), (whisker, middle.clone())], INK.stroke_width(1));
            chart.draw_series([line]).map_err(told)?;
        }
        let end = bar.whisker.unwrap_or_default().max(from);
        let style = font(12).pos(Pos::new(HPos::Left, VPos::Center));
        let label = EmptyElement::at((end, middle)) + Text::new(format!("{from:.2}"), (6, 0), style);
        chart.draw_series([label]).map_err(told)?;
    }
    Ok(())
}
