//! Confidence intervals by resampling videos.
//!
//! Questions about one video stand or fall together, so videos, not records, are drawn with replacement (a cluster
//! bootstrap; Efron and Tibshirani 1993, percentile method).

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    evaluate::summarise,
    report::{Interval, Rules, headlines},
    rows::Entry,
};

/// How intervals are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bootstrap {
    /// Number of resamples.
    pub num_resamples: usize,
    /// The share of resamples inside the interval, in `(0, 1)`.
    pub confidence: f64,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { num_resamples: 1000, confidence: 0.95, seed: 0 }
    }
}

/// An interval for every headline number; a resample that lacks a task says nothing about it.
pub(crate) fn intervals(
    entries: &[Entry<'_>],
    rules: Rules,
    task_errors: &BTreeMap<&'static str, String>,
    bootstrap: Bootstrap,
) -> BTreeMap<&'static str, Interval> {
    let mut by_video: BTreeMap<&str, Vec<&Entry<'_>>> = BTreeMap::new();
    for entry in entries {
        by_video.entry(&entry.row.sample.video_id).or_default().push(entry);
    }
    let videos: Vec<Vec<&Entry<'_>>> = by_video.into_values().collect();
    let mut rng = ChaCha8Rng::seed_from_u64(bootstrap.seed);
    let mut drawn: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for _ in 0..bootstrap.num_resamples {
        let resample = (0..videos.len()).map(|_| rng.random_range(0..videos.len())).collect::<Vec<_>>();
        let rows = resample.iter().flat_map(|&video| videos[video].iter().copied());
        let summary = summarise(rows, rules, task_errors.clone());
        for (name, value) in headlines(&summary.overall, &summary.captions) {
            drawn.entry(name).or_default().push(value);
        }
    }
    let tail = (1.0 - bootstrap.confidence) / 2.0;
    drawn
        .into_iter()
        .map(|(name, mut values)| {
            values.sort_by(f64::total_cmp);
            let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
            (name, Interval { low: at(tail), high: at(1.0 - tail) })
        })
        .collect()
}
