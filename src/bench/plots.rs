//! The plots of a report, as SVG.

mod bars;
mod delay;
mod locality;
mod percentiles;

use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;
use plotters::style::FontStyle;

use super::BenchError;
use super::run::Outcome;

/// A plot's size in pixels.
const SIZE: (u32, u32) = (940, 440);

/// Colours that can be told apart with any eyes (Okabe and Ito), the clearest first.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(90, 90, 90),
    RGBColor(140, 100, 60),
];

/// Pixels from one row of a legend to the next.
const LEGEND_ROW: i32 = 22;

/// Text and axes.
const INK: RGBColor = RGBColor(40, 44, 52);
const GRID: RGBColor = RGBColor(226, 229, 234);

/// A plot and how to read it.
#[derive(Clone, Debug)]
pub(super) struct Plot {
    pub(super) title: &'static str,
    /// How to read it.
    pub(super) how: String,
    /// The whole `<svg>`.
    pub(super) svg: String,
}

/// Why the library did not draw.
type Drawn = Result<(), String>;

/// Every plot that the scenarios of the run give.
pub(super) fn all(outcome: &Outcome) -> Result<Vec<Plot>, BenchError> {
    let plots = [
        percentiles::plot(outcome),
        delay::plot(&outcome.result),
        locality::plot(&outcome.result),
        bars::connections(&outcome.result),
        bars::speech(&outcome.result),
        bars::rates(&outcome.result),
        bars::phases(&outcome.result),
    ];
    plots.into_iter().filter_map(Result::transpose).collect()
}

/// Draws one on a canvas of its own.
fn draw(
    title: &'static str,
    how: String,
    size: (u32, u32),
    paint: impl FnOnce(&Canvas<'_>) -> Drawn,
) -> Result<Option<Plot>, BenchError> {
    let mut svg = String::new();
    let canvas = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    let drawn = paint(&canvas).and_then(|()| canvas.present().map_err(told));
    drop(canvas);
    drawn.map_err(|why| BenchError::Plot { plot: title, why })?;
    Ok(Some(Plot { title, how, svg }))
}

type Canvas<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn told(error: impl std::error::Error) -> String {
    error.to_string()
}

fn font(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

fn bold(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().style(FontStyle::Bold).color(&INK)
}

fn colour(place: usize) -> RGBColor {
    COLOURS[place % COLOURS.len()]
}

/// One axis of a chart.
struct Axis<'a, T> {
    /// What it shows, with its unit.
    desc: &'a str,
    /// How many labels it has at most, and what they say.
    labels: usize,
    label: &'a dyn Fn(&T) -> String,
}

/// Draws both axes and the grid, the same in all charts.
fn paint_axes<X, Y, XT, YT>(
    chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<X, Y>>,
    x: &Axis<'_, XT>,
    y: &Axis<'_, YT>,
) -> Drawn
where
    X: Ranged<ValueType = XT> + ValueFormatter<XT>,
    Y: Ranged<ValueType = YT> + ValueFormatter<YT>,
{
    let mut mesh = chart.configure_mesh();
    // What has no unit has names, and no lines between them.
    if y.desc.is_empty() {
        mesh.disable_y_mesh();
    }
    mesh.x_labels(x.labels)
        .y_labels(y.labels)
        .x_label_formatter(&x.label)
        .y_label_formatter(&y.label)
        .x_desc(x.desc)
        .y_desc(y.desc)
        .label_style(font(14))
        .axis_desc_style(font(15))
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .draw()
        .map_err(told)
}

/// Draws the names of a chart's series into one of its corners.
fn paint_names<'a, 'b: 'a, X: Ranged, Y: Ranged>(
    chart: &mut ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>,
    corner: SeriesLabelPosition,
) -> Drawn {
    chart
        .configure_series_labels()
        .position(corner)
        .legend_area_size(28)
        .margin(8)
        .background_style(WHITE.mix(0.9))
        .border_style(GRID)
        .label_font(font(13))
        .draw()
        .map_err(told)
}

/// The colours' names, in as many rows as they need from the top of `area`.
fn paint_legend(area: &Canvas<'_>, legend: &[(&str, RGBColor)]) -> Drawn {
    let width = legend.iter().map(|(name, _)| 48 + 7 * name.len() as i32).max().unwrap_or(1);
    let columns = ((SIZE.0 as i32 - 24) / width).max(1);
    for (place, (name, shade)) in (0..).zip(legend) {
        let (x, y) = (24 + place % columns * width, 10 + place / columns * LEGEND_ROW);
        area.draw(&Rectangle::new([(x, y), (x + 14, y + 14)], shade.filled())).map_err(told)?;
        area.draw(&Text::new((*name).to_owned(), (x + 20, y + 1), font(13))).map_err(told)?;
    }
    Ok(())
}

/// A round number at or above `value`: 1, 1.5, 2, 3, 5, 7 or 10 of its power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(1e-6).log10().floor());
    let steps = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|step| *step >= value * 0.999).unwrap_or(10.0 * power)
}

/// A time on an axis, with as many digits as it needs.
fn ms_label(ms: f64) -> String {
    match ms {
        _ if ms >= 10.0 || ms == 0.0 => format!("{ms:.0}"),
        _ if ms >= 1.0 => format!("{ms:.1}").trim_end_matches(".0").to_owned(),
        _ => format!("{ms:.3}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        for (value, expected) in [(0.43, 0.5), (1.0, 1.0), (82.0, 100.0), (61.0, 80.0), (12.0, 15.0)] {
            assert!((round_up(value) - expected).abs() < 1e-9, "{value}: {}", round_up(value));
        }
        assert_eq!([0.0, 0.05, 0.2, 1.0, 2.5, 40.0].map(ms_label), ["0", "0.05", "0.2", "1", "2.5", "40"]);
    }
}
