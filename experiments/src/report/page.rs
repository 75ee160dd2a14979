//! The page of a run: one HTML file that needs no script, no network and no other file.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use minijinja::{Environment, context};
use serde::Serialize;

use super::{
    ReportError,
    sample::{CardView, SampleCard},
    table::{Cell, EvaluationTable},
};

/// What the page of a run shows; what is empty is left out.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The name of the run.
    pub title: String,
    /// Facts in a line each: (name, value).
    pub facts: Vec<(String, String)>,
    /// What went wrong in training: (where and what, the whole of it).
    pub alarms: Vec<(String, String)>,
    /// The evaluation.
    pub table: Option<EvaluationTable>,
    /// Tables that come before the curves.
    pub first_tables: Vec<TextTable>,
    /// The curves, as [`curves_svg`](super::curves_svg) draws them.
    pub curves_svg: Option<String>,
    /// Calibrations of rewards: the stage's name, and the distributions as [`histograms_svg`](super::histograms_svg) draws
    /// them.
    pub calibrations: Vec<(String, String)>,
    /// Tables that come after them.
    pub tables: Vec<TextTable>,
    /// Samples with their answers.
    pub cards: Vec<SampleCard>,
    /// The resolved experiment.
    pub config_toml: String,
}

/// A table of cells that are text already.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TextTable {
    /// Its heading.
    pub title: String,
    /// What the columns mean.
    pub legend: String,
    /// Names of the columns.
    pub head: Vec<String>,
    /// The first cell of a row is its name.
    pub rows: Vec<Vec<String>>,
}

const TEMPLATE: &str = include_str!("page.html");

#[derive(Serialize)]
struct TableView {
    columns: Vec<String>,
    rows: Vec<RowView>,
}

#[derive(Serialize)]
struct RowView {
    metric: String,
    num_records: usize,
    cells: Vec<Cell>,
}

/// Writes the page.
///
/// # Errors
///
/// If a frame cannot be written as JPEG.
pub fn page_html(page: &Page) -> Result<String, ReportError> {
    let mut environment = Environment::new();
    // The name ends in .html, which switches escaping on.
    environment.add_template("page.html", TEMPLATE)?;
    let table = page.table.as_ref().map(|table| TableView {
        columns: table.columns.iter().map(|column| column.name.clone()).collect(),
        rows: table
            .rows
            .iter()
            .map(|row| RowView {
                metric: row.metric.clone(),
                num_records: row.num_records,
                cells: table.cells(row),
            })
            .collect(),
    });
    let cards = page.cards.iter().map(CardView::new).collect::<Result<Vec<_>, _>>()?;
    // As an image the SVG cannot reach into the page, whatever it holds.
    let embedded = |svg: &String| format!("data:image/svg+xml;base64,{}", BASE64_STANDARD.encode(svg));
    let curves = page.curves_svg.as_ref().map(embedded);
    let pictures: Vec<(&String, String)> =
        page.calibrations.iter().map(|(stage, svg)| (stage, embedded(svg))).collect();
    let context = context! {
        title => page.title,
        facts => page.facts,
        alarms => page.alarms,
        table => table,
        curves => curves,
        pictures => pictures,
        first_tables => page.first_tables,
        tables => page.tables,
        cards => cards,
        config_toml => page.config_toml,
    };
    Ok(environment.get_template("page.html")?.render(context)?)
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};
    use medgrpo_datasets::Span;

    use super::*;
    use crate::report::{Answer, BoxAt, Frame, Row};

    fn text_table(text: &str) -> TextTable {
        let text = text.to_owned();
        TextTable {
            title: text.clone(),
            legend: text.clone(),
            head: vec![text.clone()],
            rows: vec![vec![text]],
        }
    }

    fn hostile() -> Page {
        let bad = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>".to_owned();
        Page {
            title: bad.clone(),
            facts: vec![(bad.clone(), bad.clone())],
            alarms: vec![(bad.clone(), bad.clone())],
            table: Some(EvaluationTable {
                columns: EvaluationTable::columns_of(false, true, std::slice::from_ref(&bad)),
                rows: vec![Row { metric: bad.clone(), num_records: 1, values: vec![Some(0.0), Some(1.0)] }],
            }),
            first_tables: vec![text_table(&bad)],
            curves_svg: Some(bad.clone()),
            calibrations: vec![(bad.clone(), bad.clone())],
            tables: vec![text_table(&bad)],
            cards: vec![SampleCard {
                title: bad.clone(),
                question: bad.clone(),
                gold_answer: bad.clone(),
                duration_sec: Some(10.0),
                gold_spans: vec![Span { start_sec: 1.0, end_sec: 2.0 }],
                frames: vec![Frame {
                    time_sec: 1.0,
                    image: RgbImage::from_pixel(64, 48, Rgb([200, 30, 30])),
                    box_size: (640, 480),
                    gold_box: Some([1.0, 2.0, 30.0, 40.0]),
                }],
                answers: vec![Answer {
                    label: bad.clone(),
                    text: bad.clone(),
                    reward: Some(0.5),
                    boxes: vec![BoxAt { time_sec: 1.04, box_xyxy: [5.0, 5.0, f64::NAN, 9.0] }],
                    ..Answer::default()
                }],
            }],
            config_toml: bad,
        }
    }

    #[test]
    fn text_of_models_and_files_is_only_text() {
        let html = page_html(&hostile()).unwrap();
        assert!(!html.contains("<script") && !html.contains("onerror=alert(1)>\""), "{html}");
        assert!(!html.contains("<img src=x"), "{html}");
        assert!(html.contains("&lt;script&gt;"));
        assert!(!html.contains("NaN"), "a broken box reached the page");
    }

    #[test]
    fn what_is_empty_is_left_out() {
        let html = page_html(&Page { title: "empty".to_owned(), ..Page::default() }).unwrap();
        for heading in ["Alarms", "Evaluation", "Curves", "Calibration", "Samples", "Configuration"] {
            assert!(!html.contains(&format!("<h2>{heading}")), "{heading}");
        }
    }

    #[test]
    fn boxes_and_spans_are_drawn() {
        let mut page = hostile();
        page.cards[0].answers[0].boxes = vec![BoxAt { time_sec: 1.04, box_xyxy: [64.0, 48.0, 128.0, 96.0] }];
        let html = page_html(&page).unwrap();
        assert!(html.contains(r#"x="64.0" y="48.0" width="64.0" height="48.0""#), "{html}");
        assert!(html.contains("left:10.0%;width:10.0%"), "{html}");
    }
}
