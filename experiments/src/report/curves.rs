//! Curves as one SVG: blocks under headings (a run's stages), in them a small panel per metric. SVG needs no font to be
//! written.

use std::ops::Range;

use plotters::{
    chart::ChartBuilder,
    coord::Shift,
    element::{EmptyElement, PathElement, Polygon, Rectangle, Text},
    prelude::{DrawingArea, IntoDrawingArea as _, LineSeries, SVGBackend},
    style::{Color as _, IntoFont as _, RGBColor, WHITE},
};

use super::{
    ReportError,
    history::History,
    panels::{Panel, panels},
};

/// Okabe and Ito's colours: told apart by colour-blind eyes too.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
];
const INK: RGBColor = RGBColor(40, 40, 40);
const FAINT: RGBColor = RGBColor(225, 225, 225);

const NUM_COLUMNS: usize = 3;
const PANEL: (u32, u32) = (560, 350);
const HEADING_HEIGHT: u32 = 56;
const MARGIN: u32 = 20;
/// From this many points on, the single values step back behind their running mean.
const SMOOTH_FROM: usize = 40;

/// Draws all stages that have metrics; `stage_names[i]` is the name of stage `i`.
///
/// # Errors
///
/// If the drawing library refuses.
pub fn curves_svg(history: &History, stage_names: &[String]) -> Result<String, ReportError> {
    let stages: Vec<_> = history
        .stages
        .iter()
        .map(|(&index, stage)| {
            let name = stage_names.get(index).map_or_else(|| format!("stage {index}"), Clone::clone);
            (name, panels(stage))
        })
        .collect();
    blocks_svg(&stages)
}

/// Draws blocks of panels below each other, each under its heading; blocks without panels are left out.
///
/// # Errors
///
/// If the drawing library refuses.
pub(crate) fn blocks_svg(blocks: &[(String, Vec<Panel>)]) -> Result<String, ReportError> {
    let blocks: Vec<_> = blocks.iter().filter(|(_, panels)| !panels.is_empty()).collect();
    let num_rows = |panels: &[Panel]| panels.len().div_ceil(NUM_COLUMNS) as u32;
    let height: u32 = blocks.iter().map(|(_, panels)| HEADING_HEIGHT + num_rows(panels) * PANEL.1).sum();
    let size = (NUM_COLUMNS as u32 * PANEL.0 + 2 * MARGIN, height.max(HEADING_HEIGHT) + 2 * MARGIN);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE).map_err(refused)?;
        if blocks.is_empty() {
            write(&root, "no metrics yet", (MARGIN as i32, MARGIN as i32), 24, INK)?;
        }
        let mut top = MARGIN;
        for (name, panels) in blocks {
            write(&root, name, (MARGIN as i32 + 10, top as i32 + 14), 32, INK)?;
            top += HEADING_HEIGHT;
            for (index, panel) in panels.iter().enumerate() {
                let column = (index % NUM_COLUMNS) as u32;
                let row = (index / NUM_COLUMNS) as u32;
                let corner = ((MARGIN + column * PANEL.0) as i32, (top + row * PANEL.1) as i32);
                draw_panel(&root.clone().shrink(corner, PANEL), panel)?;
            }
            top += num_rows(panels) * PANEL.1;
        }
        root.present().map_err(refused)?;
    }
    Ok(svg)
}

fn refused(error: impl std::fmt::Display) -> ReportError {
    ReportError::Draw(error.to_string())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn write(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    size: i32,
    colour: RGBColor,
) -> Result<(), ReportError> {
    let style = ("sans-serif", size).into_font().color(&colour);
    area.draw(&(EmptyElement::at(at) + Text::new(text.to_owned(), (0, 0), style))).map_err(refused)
}

fn draw_panel(area: &Area<'_>, panel: &Panel) -> Result<(), ReportError> {
    write(area, &panel.title, (24, 10), 22, INK)?;
    let legend_rows = draw_legend(area, panel)?;
    let (Some(x_range), Some(y_range)) = ranges(panel) else {
        return write(area, "nothing to draw", (24, 60), 18, INK);
    };
    let mut chart = ChartBuilder::on(area)
        .margin_left(10)
        .margin_right(24)
        .margin_top(40 + 24 * legend_rows)
        .margin_bottom(10)
        .x_label_area_size(28)
        .y_label_area_size(72)
        .build_cartesian_2d(x_range, y_range.clone())
        .map_err(refused)?;
    let number = |value: &f64| short(*value, &y_range);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .bold_line_style(FAINT)
        .axis_style(RGBColor(150, 150, 150))
        .label_style(("sans-serif", 17).into_font().color(&RGBColor(90, 90, 90)))
        .x_labels(6)
        .y_labels(5)
        .x_label_formatter(&|step| {
            if step.fract() == 0.0 { format!("{step:.0}") } else { String::new() }
        })
        .y_label_formatter(&number)
        .draw()
        .map_err(refused)?;
    for (index, series) in panel.series.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        if series.band.len() > 1 {
            let upper = series.band.iter().map(|&(step, _, high)| (step, high));
            let lower = series.band.iter().rev().map(|&(step, low, _)| (step, low));
            let outline: Vec<_> = upper.chain(lower).collect();
            chart.draw_series([Polygon::new(outline, colour.mix(0.16))]).map_err(refused)?;
        }
        if let [(step, value)] = series.points[..] {
            let dash = vec![(step - 0.2, value), (step + 0.2, value)];
            chart.draw_series([PathElement::new(dash, colour.stroke_width(5))]).map_err(refused)?;
        } else if series.points.len() < SMOOTH_FROM {
            let line = LineSeries::new(series.points.iter().copied(), colour.stroke_width(3));
            chart.draw_series(line).map_err(refused)?;
        } else {
            let raw = LineSeries::new(series.points.iter().copied(), colour.mix(0.3).stroke_width(1));
            chart.draw_series(raw).map_err(refused)?;
            let mean = LineSeries::new(running_mean(&series.points), colour.stroke_width(3));
            chart.draw_series(mean).map_err(refused)?;
        }
    }
    Ok(())
}

/// Labels under the title; gives the number of rows they took.
fn draw_legend(area: &Area<'_>, panel: &Panel) -> Result<u32, ReportError> {
    const ROW_HEIGHT: i32 = 24;
    let (mut left, mut row) = (24, 0);
    let mut num_labels = 0;
    for (index, series) in panel.series.iter().enumerate().filter(|(_, series)| !series.label.is_empty()) {
        // No font is at hand to measure with: 9 units a letter is a safe guess at this size.
        let width = 34 + 9 * series.label.chars().count() as i32;
        if left + width > PANEL.0 as i32 && left > 24 {
            (left, row) = (24, row + 1);
        }
        let colour = COLOURS[index % COLOURS.len()];
        let top = 40 + row * ROW_HEIGHT;
        let mark = Rectangle::new([(left, top + 6), (left + 16, top + 10)], colour.filled());
        area.draw(&mark).map_err(refused)?;
        write(area, &series.label, (left + 22, top), 17, INK)?;
        left += width;
        num_labels += 1;
    }
    Ok(if num_labels == 0 { 0 } else { row as u32 + 1 })
}

/// The axes' ranges, with some air; `None` without points or where they cannot be drawn.
fn ranges(panel: &Panel) -> (Option<Range<f64>>, Option<Range<f64>>) {
    let points = || panel.series.iter().flat_map(|series| series.points.iter());
    let bands = || panel.series.iter().flat_map(|series| series.band.iter());
    let steps = points().map(|point| point.0);
    let values = points().map(|point| point.1).chain(bands().flat_map(|band| [band.1, band.2]));
    (around(steps, 0.0, 0.5), around(values, 0.06, 0.0))
}

/// From the least to the greatest, wider by `air` of the width, and by `least_air` at least.
fn around(values: impl Iterator<Item = f64>, air: f64, least_air: f64) -> Option<Range<f64>> {
    let (low, high) = values
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    let width = high - low;
    if !width.is_finite() || low.abs().max(high.abs()) > 1e100 {
        return None;
    }
    let pad = if width <= 1e-12 * low.abs().max(high.abs()) {
        // A constant: a tenth of itself to either side keeps it in the middle.
        if low == 0.0 { 0.5 } else { 0.1 * low.abs() }
    } else {
        air * width
    };
    let pad = pad.max(least_air);
    Some(low - pad..high + pad)
}

/// Mean over a centred window of about a twentieth of the points.
fn running_mean(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let reach = (points.len() / 40).max(2);
    let mean_at = |index: usize| {
        let window = &points[index.saturating_sub(reach)..(index + reach + 1).min(points.len())];
        (points[index].0, window.iter().map(|point| point.1).sum::<f64>() / window.len() as f64)
    };
    (0..points.len()).map(mean_at).collect()
}

/// A label with as many digits as the axis needs.
fn short(value: f64, range: &Range<f64>) -> String {
    let width = range.end - range.start;
    let largest = range.start.abs().max(range.end.abs());
    if value.abs() < 1e-9 * largest {
        "0".to_owned()
    } else if !(1e-3..1e5).contains(&largest) {
        format!("{value:.1e}")
    } else {
        let decimals = (1.0 - (width / 5.0).log10().floor()).clamp(0.0, 6.0) as usize;
        let text = format!("{value:.decimals$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::report::history::StageHistory;

    fn history(series: &[(&str, &[(usize, f64)])]) -> History {
        let series = series.iter().map(|&(name, points)| (name.to_owned(), points.to_vec())).collect();
        History { stages: BTreeMap::from([(0, StageHistory { series })]) }
    }

    #[test]
    fn every_metric_has_a_panel_and_text_is_escaped() {
        let history = history(&[
            ("loss", &[(1, 2.0), (2, 1.0)]),
            ("reward", &[(1, 0.2), (2, 0.4)]),
            ("reward_std", &[(1, 0.1), (2, 0.1)]),
            ("rewards/tag/<b>&/mean", &[(1, 0.2), (2, 0.4)]),
            ("my_own", &[(1, 3.0)]),
            ("step_time", &[(1, 3.0)]),
            ("time/update", &[(1, 2.0)]),
        ]);
        let titles: Vec<_> = panels(&history.stages[&0]).into_iter().map(|panel| panel.title).collect();
        assert_eq!(
            titles,
            ["loss", "reward (mean ± standard deviation)", "reward: tag", "seconds of a step", "my_own"]
        );
        let svg = curves_svg(&history, &["<sft>".to_owned()]).unwrap();
        assert!(!svg.contains("<b>") && svg.contains("&lt;b&gt;&amp;"), "text is not escaped");
        assert!(svg.contains("&lt;sft&gt;"));
        assert!(svg.contains("<polygon"), "the band is missing");
    }

    #[test]
    fn odd_values_are_drawn_or_left_out_but_never_hang() {
        for points in [
            &[][..],
            &[(0, 0.0)],
            &[(5, 1e-300), (6, 2e-300)],
            &[(1, f64::MAX), (2, -f64::MAX)],
            &[(1, 7.0), (2, 7.0)],
            &[(usize::MAX, 1.0), (1, 2.0)],
            &[(3, -1e-9), (3, 1e9)],
        ] {
            curves_svg(&history(&[("loss", points)]), &[]).unwrap();
        }
        assert!(curves_svg(&History::default(), &[]).unwrap().contains("no metrics yet"));
    }

    #[test]
    fn the_running_mean_keeps_a_straight_line_and_halves_noise() {
        let points: Vec<_> =
            (0..100).map(|step| (step as f64, if step % 2 == 0 { 1.0 } else { -1.0 })).collect();
        let mean = running_mean(&points);
        // A window of 5 of alternating ±1 has mean ±0.2.
        assert!((mean[50].1 - 0.2).abs() < 1e-12, "{:?}", mean[50]);
        let line: Vec<_> = (0..100).map(|step| (step as f64, step as f64)).collect();
        assert!((running_mean(&line)[50].1 - 50.0).abs() < 1e-12);
    }

    #[test]
    fn labels_have_the_digits_the_axis_needs() {
        assert_eq!(short(0.25, &(0.0..1.0)), "0.25");
        assert_eq!(short(20.0, &(0.0..100.0)), "20");
        assert_eq!(short(1e-5, &(0.0..3e-5)), "1.0e-5");
        assert_eq!(short(1e-17, &(-1.0..1.0)), "0");
    }
}
