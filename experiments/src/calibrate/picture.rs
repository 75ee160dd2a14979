//! Every calibrated distribution as it was measured and as the normalization leaves it, side by side, as SVG.

use anyhow::Result;
use medgrpo_rewards::compose::normalise::Normaliser;

use super::Measured;
use crate::report::{Histogram, histograms_svg};

/// Draws one row a pair: measured on the left, normalised on the right, each with its median.
pub(super) fn draw(measured: &Measured, normaliser: &dyn Normaliser) -> Result<String> {
    let mut rows = Vec::new();
    for (pair, values) in &measured.by_pair {
        if values.scored.is_empty() {
            continue;
        }
        // A pair that is too thin to be normalised is drawn as it is.
        let normalised = normaliser.normalise(pair, &values.scored).ok();
        let title = format!("{} · {} · {}", pair.dataset, pair.task, pair.component);
        let before = Histogram {
            title: format!("{title} (n = {})", values.scored.len()),
            values: values.scored.clone(),
        };
        let after = normalised.map(|values| Histogram { title: "normalised".to_owned(), values });
        rows.push((before, after));
    }
    Ok(histograms_svg(&rows)?)
}
