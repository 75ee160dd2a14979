//! A run as pictures and a page: curves from its metrics, the evaluation table, samples with their answers.
//!
//! Plain data in, text out: nothing here knows a model or opens a video. All text may come from a model or a data file
//! and is shown as text, whatever it holds; broken numbers are left out of a picture, never drawn.

mod curves;
mod histogram;
mod history;
mod page;
mod panels;
mod sample;
mod table;

pub(crate) use curves::blocks_svg;
pub use curves::curves_svg;
pub use histogram::{Histogram, histograms_svg};
pub use history::{History, StageHistory};
pub use page::{Page, TextTable, page_html};
pub(crate) use panels::{Panel, Series, title};
pub use sample::{Answer, BoxAt, Frame, SampleCard};
pub(crate) use table::aligned;
pub use table::{Column, EvaluationTable, Row};

/// What can go wrong with a report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A line of metrics is not what a run writes.
    #[error("{path}, line {line}: {message}")]
    Metrics {
        /// The file.
        path: String,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// The drawing library refused.
    #[error("the curves cannot be drawn: {0}")]
    Draw(String),
    /// A frame cannot be written as JPEG.
    #[error("a frame cannot be written as JPEG: {0}")]
    Encode(#[from] image::ImageError),
    /// The page's template does not fit its data.
    #[error("the page cannot be written: {0}")]
    Template(#[from] minijinja::Error),
}
