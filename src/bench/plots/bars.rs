//! Bars: what kept connections save, what HTTP costs, how many requests a second there are, and where the time goes.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::super::BenchError;
use super::super::result::{RunResult, ScenarioResult};
use super::{Axis, Drawn, INK, Plot, SIZE, colour, draw, font, ms_label, paint_axes, paint_legend, round_up, told};

/// Pixels for each bar, and for what stands around all.
const BAR: u32 = 34;
const AROUND: u32 = 136;

/// Pixels for the legend's two rows.
const LEGEND: i32 = 56;

/// Most bars of one plot.
const BARS_MAX: usize = 24;

const HOW_CONNECTIONS: &str = "How to read it: the bar is the median latency without link delay, its whisker the 90th \
    percentile; the figures are these two. Blue keeps its connections, of clients and between replicas; orange opens a client connection for every \
    request; green opens one between replicas for each turn's frames. Compare a bar with the blue one of the same name: \
    the difference is what opening costs on one machine. Over a network, each opening costs a round trip more.";

const HOW_PHASES: &str = "How to read it: a bar is the mean latency of a request, cut into what it waited for: queue (before \
    it began), forward (to the primary and back, less the primary's own work) or move (fetching the item), store (until \
    the item's primary had it on disk), update (until the slowest backup had it too, beyond store), respond, and client \
    (sockets and scheduling on the client's side). The longest piece is the one worth improving.";

const HOW_SPEECH: &str = "How to read it: the bar is the median latency without link delay, its whisker the 90th percentile, \
    the figures are these two; blue by HTTP, orange the same requests by frames. The difference within a pair is what HTTP costs: its longer texts, \
    and reading them on both sides. Where a write waits for a disk, that is little of the whole.";

const HOW_RATES: &str = "How to read it: the bar is how many requests a second were done by clients that ask again as soon \
    as they are answered, so that the longer bar is the better one. N-in-flight is one connection that always has so many \
    requests on its way: what pipelining brings. With keys, each write can be sent again and takes effect once; the \
    replicas keep a table for that. The load generator has one thread, on the cores of the replicas.";

/// What a bar's length means.
struct Scale {
    axis: &'static str,
    /// A mark's text on the axis, and a bar's at its end.
    mark: fn(f64) -> String,
    end: fn(f64) -> String,
}

const MEDIAN: Scale = Scale { axis: "median latency, ms", mark: ms_label, end: hundredths };
const MEAN: Scale = Scale { axis: "mean latency, ms", ..MEDIAN };
const RATE: Scale = Scale { axis: "requests a second", mark: thousands, end: thousands };

/// A bar: pieces from left to right, and a whisker.
struct Bar {
    name: String,
    pieces: Vec<(f64, RGBColor)>,
    whisker: Option<f64>,
}

/// Connections kept or not; none where only one way was measured.
pub(super) fn connections(result: &RunResult) -> Result<Option<Plot>, BenchError> {
    let Some(by) = result.scenarios.first().map(|first| &first.by) else { return Ok(None) };
    let near = near(result).filter(|scenario| scenario.durability == "disk" && scenario.by == *by);
    let near: Vec<&ScenarioResult> = near.collect();
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
    let bars: Vec<Bar> = shown.into_iter().filter_map(|it| median(it, way(it))).take(BARS_MAX).collect();
    let legend = ["connections kept", "a client connection for each request", "a link connection for each turn"];
    let legend: Vec<(&str, RGBColor)> =
        legend.into_iter().enumerate().map(|(place, name)| (name, colour(place))).collect();
    paint_on("Connections kept or not", HOW_CONNECTIONS, &bars, &legend, &MEDIAN)
}

/// HTTP beside frames; none where only one was spoken.
pub(super) fn speech(result: &RunResult) -> Result<Option<Plot>, BenchError> {
    let twins = near(result).filter(|it| it.by == "http").filter_map(|http| {
        let name = format!("{}/frames", http.name);
        let frames = result.scenarios.iter().find(|other| other.name == name)?;
        Some([median(http, 0)?, median(frames, 1)?])
    });
    let bars: Vec<Bar> = twins.flatten().take(BARS_MAX).collect();
    paint_on("HTTP beside frames", HOW_SPEECH, &bars, &speeches(), &MEDIAN)
}

/// Requests a second in closed loops without delay; none where there were none.
pub(super) fn rates(result: &RunResult) -> Result<Option<Plot>, BenchError> {
    let closed = result.scenarios.iter().filter(|it| it.load == "closed" && it.delay_ms == 0.0 && it.done > 0);
    let bar = |it: &ScenarioResult| {
        let shade = colour(usize::from(it.by == "frames"));
        Bar { name: it.name.clone(), pieces: vec![(it.achieved_per_s, shade)], whisker: None }
    };
    let bars: Vec<Bar> = closed.map(bar).take(BARS_MAX).collect();
    paint_on("Requests a second", HOW_RATES, &bars, &speeches(), &RATE)
}

fn speeches() -> [(&'static str, RGBColor); 2] {
    [("by HTTP", colour(0)), ("by frames", colour(1))]
}

/// Requests of one kind at a rate, without delay.
fn near(result: &RunResult) -> impl Iterator<Item = &ScenarioResult> {
    let is_mixed = |scenario: &ScenarioResult| scenario.work.contains('%') || scenario.work == "anywhere";
    result.scenarios.iter().filter(move |it| it.delay_ms == 0.0 && it.load == "open" && !is_mixed(it))
}

/// The bar of a median; none where it was refused.
fn median(scenario: &ScenarioResult, shade: usize) -> Option<Bar> {
    let pieces = vec![(scenario.latency_ms.p50?, colour(shade))];
    Some(Bar { name: scenario.name.clone(), pieces, whisker: scenario.latency_ms.p90 })
}

fn hundredths(value: f64) -> String {
    format!("{value:.2}")
}

/// A whole number with a comma before each three digits.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Where the time goes; none without `Server-Timing`.
pub(super) fn phases(result: &RunResult) -> Result<Option<Plot>, BenchError> {
    const PIECES: [&str; 6] = ["queue", "forward or move", "store", "update beyond store", "respond", "client"];
    let legend: Vec<(&str, RGBColor)> =
        PIECES.into_iter().zip([6, 1, 0, 4, 2, 3]).map(|(name, place)| (name, colour(place))).collect();
    let bar = |scenario: &ScenarioResult| {
        let phases = scenario.phases_ms.as_ref()?;
        let ms = |name: &str| phases.get(name).copied().unwrap_or_default().max(0.0);
        let store = ms("store").min(ms("replicate"));
        let pieces =
            [ms("queue"), ms("forward") + ms("move"), store, ms("replicate") - store, ms("respond"), ms("client")];
        let pieces = pieces.into_iter().zip(&legend).map(|(ms, (_, colour))| (ms, *colour)).collect();
        Some(Bar { name: scenario.name.clone(), pieces, whisker: None })
    };
    let bars: Vec<Bar> = near(result).filter_map(bar).take(BARS_MAX).collect();
    paint_on("Where the time goes", HOW_PHASES, &bars, &legend, &MEAN)
}

fn paint_on(
    title: &'static str,
    how: &str,
    bars: &[Bar],
    legend: &[(&str, RGBColor)],
    scale: &Scale,
) -> Result<Option<Plot>, BenchError> {
    if bars.is_empty() {
        return Ok(None);
    }
    let size = (SIZE.0, AROUND + BAR * bars.len() as u32);
    draw(title, how.to_owned(), size, |canvas| paint(canvas, bars, legend, scale))
}

fn paint(canvas: &super::Canvas<'_>, bars: &[Bar], legend: &[(&str, RGBColor)], scale: &Scale) -> Drawn {
    let length = |bar: &Bar| bar.pieces.iter().map(|piece| piece.0).sum::<f64>();
    let most = bars.iter().map(|bar| bar.whisker.unwrap_or_default().max(length(bar))).fold(0.0, f64::max);
    // Right of the longest bar stands its figure.
    let longest_name = bars.iter().map(|bar| bar.name.len()).max().unwrap_or_default() as u32;
    let (head, body) = canvas.split_vertically(LEGEND);
    paint_legend(&head, legend)?;
    let count = bars.len();
    // The first one stands at the top.
    let name_at = |place: &SegmentValue<usize>| match place {
        SegmentValue::CenterOf(place) if *place < count => bars[count - 1 - place].name.clone(),
        _ => String::new(),
    };
    // A range holds its end here, and must have a length.
    let places = count.max(2);
    let mut chart = ChartBuilder::on(&body)
        .margin(10)
        .margin_right(24)
        .x_label_area_size(48)
        .y_label_area_size(20 + longest_name * 7)
        .build_cartesian_2d(0.0..round_up(most * 1.15), (0..places - 1).into_segmented())
        .map_err(told)?;
    let x = Axis { desc: scale.axis, labels: 10, label: &|value: &f64| (scale.mark)(*value) };
    paint_axes(&mut chart, &x, &Axis { desc: "", labels: count + 1, label: &name_at })?;
    for (place, bar) in bars.iter().rev().enumerate() {
        let mut from = 0.0;
        for (length, shade) in &bar.pieces {
            let above = if place + 1 < places { SegmentValue::Exact(place + 1) } else { SegmentValue::Last };
            let corners = [(from, SegmentValue::Exact(place)), (from + length, above)];
            let mut piece = Rectangle::new(corners, shade.filled());
            piece.set_margin(6, 6, 0, 0);
            chart.draw_series([piece]).map_err(told)?;
            from += length;
        }
        let (middle, mut figures) = (SegmentValue::CenterOf(place), (scale.end)(from));
        let end = bar.whisker.unwrap_or(from).max(from);
        if let Some(whisker) = bar.whisker {
            let line = PathElement::new([(from, middle.clone()), (end, middle.clone())], INK.stroke_width(1));
            chart.draw_series([line]).map_err(told)?;
            figures += &format!(", {}", (scale.end)(whisker));
        }
        let style = font(12).pos(Pos::new(HPos::Left, VPos::Center));
        let label = EmptyElement::at((end, middle)) + Text::new(figures, (6, 0), style);
        chart.draw_series([label]).map_err(told)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn rates_are_written_in_threes() {
        assert_eq!([0.4, 999.0, 1_000.2, 1_234_567.0].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
