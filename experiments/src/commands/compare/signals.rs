//! What training looked like: metrics of a stage as means over the seeds of a variant, between their least and greatest.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{run::Run, statistics::Estimate, variants::Variant};
use crate::report::{Panel, Series, title};

/// Metrics with a panel, in this order; below the prefixes each gets one.
const DRAWN: [&str; 16] = [
    "reward",
    "reward_std",
    "raw/",
    "frac_reward_zero_std",
    "frac_effective_tokens",
    "entropy",
    "kl",
    "completions/mean_length",
    "completions/clipped_ratio",
    "frac_unparsed",
    "loss",
    "grad_norm",
    "clip_ratio/region_mean",
    "importance_ratio_deviation",
    "eval/",
    "step_time",
];
/// Metrics whose means over the last stage are told.
const TOLD: [&str; 10] = [
    "reward",
    "frac_reward_zero_std",
    "frac_effective_tokens",
    "entropy",
    "kl",
    "completions/mean_length",
    "completions/clipped_ratio",
    "loss",
    "grad_norm",
    "step_time",
];

/// A stage in all variants.
#[derive(Debug, Serialize)]
pub(super) struct StageCurves {
    /// The names that it has.
    pub(super) stage: String,
    pub(super) metrics: Vec<MetricCurves>,
}

/// A metric of a stage in all variants.
#[derive(Debug, Serialize)]
pub(super) struct MetricCurves {
    pub(super) metric: String,
    /// One a variant; without steps where it has none.
    pub(super) variants: Vec<Curve>,
}

/// A metric over the steps of a stage; of each step those runs that have it.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Curve {
    pub(super) step: Vec<usize>,
    pub(super) mean: Vec<f64>,
    pub(super) min: Vec<f64>,
    pub(super) max: Vec<f64>,
}

/// Stages are matched from the last one back: runs may have come to it by different ways.
pub(super) fn curves(variants: &[Variant]) -> Vec<StageCurves> {
    let runs = || variants.iter().flat_map(|variant| &variant.runs);
    let most = runs().map(|run| run.stages.len()).max().unwrap_or(0);
    (0..most)
        .rev()
        .map(|from_last| stage(variants, from_last))
        .filter(|stage| !stage.metrics.is_empty())
        .collect()
}

fn stage(variants: &[Variant], from_last: usize) -> StageCurves {
    let place = |run: &Run| run.stages.len().checked_sub(1 + from_last);
    let mut names: Vec<&str> = Vec::new();
    let mut metrics: BTreeSet<&str> = BTreeSet::new();
    for run in variants.iter().flat_map(|variant| &variant.runs) {
        let Some(index) = place(run) else { continue };
        if !names.contains(&run.stages[index].as_str()) {
            names.push(&run.stages[index]);
        }
        metrics.extend(
            run.history
                .stages
                .get(&index)
                .into_iter()
                .flat_map(|stage| stage.series.keys())
                .map(String::as_str),
        );
    }
    let is_of = |metric: &str, drawn: &str| {
        if drawn.ends_with('/') { metric.starts_with(drawn) } else { metric == drawn }
    };
    let drawn = DRAWN.iter().flat_map(|drawn| metrics.iter().filter(move |metric| is_of(metric, drawn)));
    let metrics = drawn.map(|&metric| {
        let curve = |variant: &Variant| {
            let series = variant.runs.iter().filter_map(|run| {
                run.history.stages.get(&place(run)?)?.series.get(metric).map(Vec::as_slice)
            });
            Curve::of(series)
        };
        MetricCurves { metric: metric.to_owned(), variants: variants.iter().map(curve).collect() }
    });
    StageCurves { stage: names.join(", "), metrics: metrics.collect() }
}

impl Curve {
    fn of<'a>(series: impl Iterator<Item = &'a [(usize, f64)]>) -> Self {
        let mut by_step: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for &(step, value) in series.flatten() {
            by_step.entry(step).or_default().push(value);
        }
        let mut curve = Self::default();
        for (step, values) in by_step {
            curve.step.push(step);
            curve.mean.push(values.iter().sum::<f64>() / values.len() as f64);
            curve.min.push(values.iter().copied().fold(f64::INFINITY, f64::min));
            curve.max.push(values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        }
        curve
    }

    fn series(&self, label: &str) -> Series {
        let steps = || self.step.iter().map(|&step| step as f64);
        let band = steps().zip(self.min.iter().zip(&self.max)).map(|(step, (&min, &max))| (step, min, max));
        Series {
            label: label.to_owned(),
            points: steps().zip(self.mean.iter().copied()).collect(),
            // Of a single run it would only thicken the line.
            band: if self.min == self.max { Vec::new() } else { band.collect() },
        }
    }
}

/// The curves as a picture's blocks.
pub(super) fn blocks(stages: &[StageCurves], names: &[&str]) -> Vec<(String, Vec<Panel>)> {
    let panel = |curves: &MetricCurves| Panel {
        title: title(&curves.metric).to_owned(),
        series: curves.variants.iter().zip(names).map(|(curve, name)| curve.series(name)).collect(),
    };
    let block = |stage: &StageCurves| (stage.stage.clone(), stage.metrics.iter().map(panel).collect());
    stages.iter().map(block).collect()
}

/// A metric's means over the steps of the last stage.
#[derive(Debug, Serialize)]
pub(super) struct Signal {
    pub(super) metric: &'static str,
    /// One a variant, over its runs that have done all steps.
    pub(super) variants: Vec<Option<Estimate>>,
}

/// What was logged of the last stage, as one number a run.
pub(super) fn signals(variants: &[Variant]) -> Vec<Signal> {
    let mean = |run: &Run, metric: &str| {
        let series = run.history.stages.get(&(run.stages.len() - 1))?.series.get(metric)?;
        let values: Vec<f64> = series.iter().map(|&(_, value)| value).collect();
        Estimate::of(&values).filter(|_| run.steps_done() == run.max_steps).map(|estimate| estimate.mean)
    };
    let signal = |metric| {
        let of = |variant: &Variant| {
            Estimate::of(&variant.runs.iter().filter_map(|run| mean(run, metric)).collect::<Vec<f64>>())
        };
        Signal { metric, variants: variants.iter().map(of).collect() }
    };
    let is_there = |signal: &Signal| signal.variants.iter().any(Option::is_some);
    TOLD.into_iter().map(signal).filter(is_there).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_the_mean_of_the_runs_that_have_the_step() {
        let runs: [&[(usize, f64)]; 2] = [&[(1, 1.0), (2, 2.0), (4, 4.0)], &[(1, 3.0), (2, 2.0)]];
        let curve = Curve::of(runs.into_iter());
        let by_hand = Curve {
            step: vec![1, 2, 4],
            mean: vec![2.0, 2.0, 4.0],
            min: vec![1.0, 2.0, 4.0],
            max: vec![3.0, 2.0, 4.0],
        };
        assert_eq!(curve, by_hand);
        let series = curve.series("a");
        assert_eq!(series.points, [(1.0, 2.0), (2.0, 2.0), (4.0, 4.0)]);
        assert_eq!(series.band, [(1.0, 1.0, 3.0), (2.0, 2.0, 2.0), (4.0, 4.0, 4.0)]);
        assert!(Curve::of(runs.into_iter().take(1)).series("a").band.is_empty());
    }
}
