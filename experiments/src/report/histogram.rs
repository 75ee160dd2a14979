//! Distributions as histograms, pairs side by side, as one SVG.

use plotters::{
    chart::ChartBuilder,
    element::{EmptyElement, PathElement, Rectangle, Text},
    prelude::{IntoDrawingArea as _, SVGBackend},
    style::{Color as _, IntoFont as _, RGBColor, WHITE},
};

use super::ReportError;

/// A distribution to draw.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// What stands above it.
    pub title: String,
    /// Its values.
    pub values: Vec<f32>,
}

const PANEL: (u32, u32) = (460, 190);
const NUM_BINS: usize = 20;
const INK: RGBColor = RGBColor(40, 40, 40);
const BARS: [RGBColor; 2] = [RGBColor(0, 114, 178), RGBColor(0, 158, 115)];
const MEDIAN: RGBColor = RGBColor(213, 94, 0);

/// Draws a row for each pair of histograms, the second one where there is one; medians are marked.
///
/// # Errors
///
/// If the drawing library refuses.
pub fn histograms_svg(rows: &[(Histogram, Option<Histogram>)]) -> Result<String, ReportError> {
    let refused = |error: &dyn std::fmt::Display| ReportError::Draw(error.to_string());
    let size = (2 * PANEL.0, PANEL.1 * rows.len().max(1) as u32);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE).map_err(|error| refused(&error))?;
        for (row, (left, right)) in rows.iter().enumerate() {
            for (column, histogram) in std::iter::once(left).chain(right).enumerate() {
                let corner = ((column as u32 * PANEL.0) as i32, (row as u32 * PANEL.1) as i32);
                let area = root.clone().shrink(corner, PANEL);
                draw(&area, histogram, BARS[column]).map_err(|error| refused(&error))?;
            }
        }
        root.present().map_err(|error| refused(&error))?;
    }
    Ok(svg)
}

type Area<'a> = plotters::prelude::DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw(area: &Area<'_>, histogram: &Histogram, colour: RGBColor) -> Result<(), String> {
    let mut values: Vec<f64> =
        histogram.values.iter().copied().filter(|value| value.is_finite()).map(f64::from).collect();
    values.sort_by(f64::total_cmp);
    let style = ("sans-serif", 16).into_font().color(&INK);
    let title = Text::new(histogram.title.clone(), (0, 0), style);
    area.draw(&(EmptyElement::at((14, 8)) + title)).map_err(|error| error.to_string())?;
    let (Some(&low), Some(&high)) = (values.first(), values.last()) else { return Ok(()) };
    // Rewards mostly live in 0 to 1; anything else sets its own ends.
    let (low, high) = (low.min(0.0), high.max(1.0));
    let width = (high - low) / NUM_BINS as f64;
    let mut bins = [0usize; NUM_BINS];
    for value in &values {
        bins[(((value - low) / width) as usize).min(NUM_BINS - 1)] += 1;
    }
    let tallest = bins.iter().copied().max().unwrap_or(1) as f64 / values.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_top(30)
        .x_label_area_size(22)
        .y_label_area_size(48)
        .build_cartesian_2d(low..high, 0.0..tallest * 1.05)
        .map_err(|error| error.to_string())?;
    chart
        .configure_mesh()
        .disable_mesh()
        .x_labels(5)
        .y_labels(3)
        .y_label_formatter(&|share| format!("{:.0} %", share * 100.0))
        .label_style(("sans-serif", 13).into_font().color(&INK))
        .draw()
        .map_err(|error| error.to_string())?;
    let bars = bins.iter().enumerate().map(|(index, &count)| {
        let left = low + width * index as f64;
        let share = count as f64 / values.len() as f64;
        Rectangle::new([(left, 0.0), (left + width * 0.92, share)], colour.mix(0.75).filled())
    });
    chart.draw_series(bars).map_err(|error| error.to_string())?;
    let middle = values[(values.len() - 1) / 2];
    let line = PathElement::new(vec![(middle, 0.0), (middle, tallest * 1.05)], MEDIAN.stroke_width(2));
    chart.draw_series(std::iter::once(line)).map_err(|error| error.to_string())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_values_are_left_out_and_nothing_is_drawn_for_nothing() {
        let of = |values: &[f32]| Histogram { title: "<b>&".to_owned(), values: values.to_vec() };
        let svg = histograms_svg(&[
            (of(&[0.1, f32::NAN, 0.9, 0.5]), Some(of(&[-2.0, 3.0, f32::INFINITY]))),
            (of(&[]), None),
        ])
        .unwrap();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(!svg.contains("<b>"), "titles are text");
        let bars = |colour: &str| svg.matches(&format!("fill=\"{colour}\"")).count();
        assert_eq!((bars("#0072B2"), bars("#009E73")), (NUM_BINS, NUM_BINS));
        assert!(histograms_svg(&[]).unwrap().starts_with("<svg"));
    }
}
