//! What is known of a step whose numbers are not finite, for whoever keeps it to be looked at.

use burn::tensor::{TensorData, backend::AutodiffBackend};
use serde::Serialize;

use crate::{
    TrainError,
    cut::Slice,
    learner::gradient_norm,
    micro_batch::{MicroBatchPass, StepData, by_completion},
    recipe::Policy,
    rollout::RolloutGroup,
    trainer::Stage,
};

/// A step that could not be finished.
pub struct FailedStep<'a> {
    /// Steps done before it.
    pub done: usize,
    /// In which of its iterations, from 0. After the first the model is that of no step, and not one to be saved.
    pub iteration: usize,
    /// Why.
    pub error: &'a TrainError,
    /// What would have been learned from; none where no group had a signal.
    pub groups: &'a [RolloutGroup],
    /// Advantage of every completion.
    pub advantages: &'a [Vec<f32>],
    /// Log-probability of every token under the policy before its update, as far as known.
    pub log_probs: &'a [Vec<Vec<f32>>],
    /// What was not finite first.
    pub culprit: Option<Culprit>,
}

/// The first of a step's micro-batches whose numbers are not finite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Culprit {
    /// Its place in the step, from 0.
    pub micro_batch: usize,
    /// The (group, completion) of each of its sequences.
    pub sequences: Vec<(usize, usize)>,
    /// `loss` or `gradient`.
    pub what: &'static str,
    /// The first of them that is not finite by itself; `None` where each alone is.
    pub completion: Option<(usize, usize)>,
}

impl<B: AutodiffBackend, M: Policy<B>> Stage<'_, B, M> {
    /// Runs the micro-batches of a failed step once more up to the first that is not finite, then each of its sequences alone.
    /// `None` where only their sum is not finite.
    pub(crate) fn culprit(
        &self,
        model: &M,
        pieces: &[Vec<Slice>],
        step: StepData<'_>,
        old: &[Option<TensorData>],
    ) -> Option<Culprit> {
        tracing::warn!("a number of the step is not finite; looking for the first completion to blame");
        let Self { recipe, reference, config, device, .. } = self;
        let pass = MicroBatchPass::new(recipe, reference.as_ref(), config, device, step);
        let fault = |place: usize, piece: &[Slice], mut old: Option<TensorData>| {
            let (gradients, metrics) = pass.run(&pass.view(model, place), piece, &mut old).ok()?;
            if metrics.iter().any(|(name, value)| *name == "loss" && !value.is_finite()) {
                return Some("loss");
            }
            (!gradient_norm(model, &gradients).is_finite()).then_some("gradient")
        };
        let (micro_batch, what) = pieces
            .iter()
            .zip(old)
            .enumerate()
            .find_map(|(place, (piece, old))| Some((place, fault(place, piece, old.clone())?)))?;
        let known = by_completion(step.groups, pieces, old);
        let sequences: Vec<(usize, usize)> = pieces[micro_batch].iter().flat_map(Slice::places).collect();
        let completion = sequences.iter().copied().find(|&(group, completion)| {
            let row = &known[group][completion];
            let old = (!row.is_empty()).then(|| TensorData::new(row.clone(), [1, row.len()]));
            fault(micro_batch, &[Slice::one(group, completion)], old).is_some()
        });
        Some(Culprit { micro_batch, sequences, what, completion })
    }
}
