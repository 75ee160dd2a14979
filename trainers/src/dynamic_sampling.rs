//! The groups of a step: drawn, looked through by a filter, and drawn again in place of those that were dropped.
//!
//! Source: DAPO (Yu et al. 2025), section 3.2. Each draw asks for as many prompts as groups are still missing. So a step
//! never has more groups than it wants: nothing that was kept is thrown away or learned from when the policy has moved on.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use burn::tensor::backend::AutodiffBackend;
use serde_json::Value;

use crate::{
    TrainError,
    feeder::Feeder,
    filter::{GroupFilter, Verdict},
    metrics::Metrics,
    recipe::{Policy, Recipe},
    rollout::RolloutGroup,
    seed::derive_seed,
};

/// Draws again for groups that the filter drops.
pub struct DynamicSampling {
    /// Which groups are worth a step.
    pub filter: Box<dyn GroupFilter>,
    /// Draws a step, the first included, before the run ends for lack of a signal.
    pub max_rounds: usize,
}

/// A group that is not learned from.
#[derive(Clone, Debug)]
pub struct DroppedGroup {
    /// The group.
    pub group: RolloutGroup,
    /// The filter's reason.
    pub reason: &'static str,
}

/// What a step has to learn from, and what it cost to find.
#[derive(Default)]
pub(crate) struct Collected {
    pub(crate) kept: Vec<RolloutGroup>,
    pub(crate) dropped: Vec<DroppedGroup>,
    /// Samples that were left out.
    pub(crate) num_skipped: usize,
    pub(crate) stream_state: Value,
    pub(crate) num_rounds: usize,
    /// Time spent waiting for samples.
    pub(crate) waited: Duration,
}

/// Collects the groups of the step after `done` others; samples beyond it are prepared ahead if `more` will be wanted.
pub(crate) fn collect<B: AutodiffBackend, M: Policy<B>>(
    recipe: &mut Recipe<B, M>,
    feeder: &mut Feeder,
    policy: &M::InnerModule,
    (done, seed): (usize, u64),
    more: bool,
    device: &B::Device,
) -> Result<Collected, TrainError> {
    let wanted = feeder.num_prompts_per_step();
    let max_rounds = recipe.dynamic_sampling.as_ref().map_or(1, |sampling| sampling.max_rounds);
    let mut collected = Collected::default();
    while collected.num_rounds < max_rounds && collected.kept.len() < wanted {
        let started = Instant::now();
        let batch = feeder.take(wanted - collected.kept.len(), more)?;
        collected.waited += started.elapsed();
        for reason in &batch.skipped {
            tracing::warn!("sample left out: {reason}");
        }
        collected.num_skipped += batch.skipped.len();
        collected.stream_state = batch.stream_state;
        let seed = match collected.num_rounds {
            0 => seed,
            round => derive_seed(seed, "round", round as u64),
        };
        collected.num_rounds += 1;
        for group in recipe.source.collect(policy, batch.samples, seed, device)? {
            let sampling = recipe.dynamic_sampling.as_ref();
            match sampling.map(|sampling| sampling.filter.verdict(&group.completions)) {
                None | Some(Verdict::Keep) => collected.kept.push(group),
                Some(Verdict::Drop(reason)) => collected.dropped.push(DroppedGroup { group, reason }),
            }
        }
    }
    if recipe.dynamic_sampling.is_some() && collected.kept.len() < wanted {
        return Err(TrainError::NoSignal { step: done + 1, message: collected.lack_of_signal(wanted) });
    }
    recipe.source.end_step();
    Ok(collected)
}

/// Groups of one task and dataset.
#[derive(Default)]
struct Tally {
    drawn: usize,
    dropped: BTreeMap<&'static str, usize>,
}

impl Collected {
    /// All groups that were drawn.
    pub(crate) fn drawn(&self) -> impl Iterator<Item = &RolloutGroup> + Clone {
        self.kept.iter().chain(self.dropped.iter().map(|dropped| &dropped.group))
    }

    /// Draws, and the share of groups that were dropped, in all and by task and dataset.
    pub(crate) fn metrics(&self) -> Metrics {
        let drawn = self.kept.len() + self.dropped.len();
        let mut metrics = Metrics::from([
            ("dynamic_sampling/num_rounds".to_owned(), self.num_rounds as f64),
            ("dynamic_sampling/frac_dropped".to_owned(), self.dropped.len() as f64 / drawn.max(1) as f64),
        ]);
        for (name, tally) in self.tally() {
            let dropped: usize = tally.dropped.values().sum();
            metrics
                .insert(format!("dynamic_sampling/frac_dropped/{name}"), dropped as f64 / tally.drawn as f64);
        }
        metrics
    }

    /// By `task/dataset`.
    fn tally(&self) -> BTreeMap<String, Tally> {
        let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
        let name = |group: &RolloutGroup| {
            let sample = &group.prepared.sample;
            format!("{}/{}", sample.task, sample.source)
        };
        for group in self.drawn() {
            tallies.entry(name(group)).or_default().drawn += 1;
        }
        for DroppedGroup { group, reason } in &self.dropped {
            *tallies.entry(name(group)).or_default().dropped.entry(reason).or_default() += 1;
        }
        tallies
    }

    fn lack_of_signal(&self, wanted: usize) -> String {
        let mut message = format!(
            "after {} draws only {} of {wanted} groups have anything to compare:",
            self.num_rounds,
            self.kept.len()
        );
        for (name, Tally { drawn, dropped }) in self.tally() {
            let reasons: Vec<String> =
                dropped.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            let count: usize = dropped.values().sum();
            message += &format!("\n  {name}: {count} of {drawn} groups dropped ({})", reasons.join(", "));
        }
        if self.num_skipped > 0 {
            message += &format!("\n  {} samples could not be read and were left out", self.num_skipped);
        }
        message
            + "\nleave out tasks without a signal, raise `num_generations`, `temperature` or \
               `dynamic_sampling.max_rounds`, or train the model further by demonstrations first"
    }
}
