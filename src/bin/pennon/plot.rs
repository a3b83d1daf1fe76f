//! Draws recall against queries per second as SVG.

use plotters::prelude::*;

use crate::measure::Measurement;
use anyhow::{Context, Result};

const SIZE: (u32, u32) = (900, 600);
const LINE: RGBColor = RGBColor(31, 119, 180);

/// An SVG document: a point per measurement, labeled with its ef.
pub fn draw(title: &str, k: usize, measurements: &[Measurement]) -> Result<String> {
    let mut svg = String::new();
    draw_into(&mut svg, title, k, measurements).context("cannot draw the plot")?;
    Ok(svg)
}

type Outcome = std::result::Result<(), DrawingAreaErrorKind<std::io::Error>>;

fn draw_into(svg: &mut String, title: &str, k: usize, measurements: &[Measurement]) -> Outcome {
    let points: Vec<(f64, f64)> =
        measurements.iter().map(|point| (point.recall, point.queries_per_second)).collect();
    let (left, right) = recall_range(&points);
    let (low, high) = speed_range(&points);

    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(80)
        .build_cartesian_2d(
            left..right,
            // Its own choice of ticks are powers of ten, of which the range may hold none.
            (low..high).log_scale().with_key_points(ticks(low, high)),
        )?;
    chart
        .configure_mesh()
        .x_desc(format!("recall@{k}"))
        .y_desc("queries per second")
        .axis_desc_style(("sans-serif", 16))
        .label_style(("sans-serif", 14))
        .x_label_formatter(&|recall| format!("{recall:.3}"))
        .y_label_formatter(&|speed| format!("{speed:.0}"))
        .draw()?;
    let line = LineSeries::new(points.iter().copied(), LINE.stroke_width(2));
    chart.draw_series(line)?;
    chart.draw_series(points.iter().zip(measurements).map(|(point, measured)| {
        EmptyElement::at(*point)
            + Circle::new((0, 0), 4, LINE.filled())
            + Text::new(format!("ef {}", measured.ef), (7, -14), ("sans-serif", 13))
    }))?;
    root.present()
}

/// From a little below the lowest recall to a little above the highest.
fn recall_range(points: &[(f64, f64)]) -> (f64, f64) {
    let (low, high) = extremes(points.iter().map(|point| point.0));
    let margin = ((high - low) * 0.08).max(0.005);
    (low - margin, high + margin)
}

/// From below the lowest speed to above the highest, by a factor.
fn speed_range(points: &[(f64, f64)]) -> (f64, f64) {
    let (low, high) = extremes(points.iter().map(|point| point.1));
    (low.max(1e-3) / 1.3, high.max(1e-3) * 1.3)
}

fn extremes(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let start = (f64::INFINITY, f64::NEG_INFINITY);
    values.fold(start, |(low, high), value| (low.min(value), high.max(value)))
}

/// 1, 2 and 5 times every power of ten between two positive numbers; the two themselves if
/// there are not two such ticks.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let first = low.log10().floor() as i32;
    let last = high.log10().ceil() as i32;
    let powers = (first..=last).map(|power| 10_f64.powi(power));
    let ticks = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * power));
    let ticks: Vec<f64> = ticks.filter(|tick| (low..=high).contains(tick)).collect();
    if ticks.len() < 2 {
        return vec![low, high];
    }
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_lie_inside_the_range() {
        assert_eq!(ticks(1_500.0, 6_000.0), [2_000.0, 5_000.0]);
        assert_eq!(ticks(9.0, 21.0), [10.0, 20.0]);
        assert_eq!(ticks(3.0, 4.0), [3.0, 4.0]);
    }
}
