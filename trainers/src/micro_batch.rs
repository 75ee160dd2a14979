//! A piece of a step: what runs through the model, and its gradients.

use burn::{
    optim::GradientsParams,
    tensor::{
        Tensor, TensorData,
        backend::{AutodiffBackend, Backend},
    },
};
use medgrpo_model::{
    group_forward::{CompletionLogProbs, Group, LogProbOptions, completion_log_probs},
    group_gradients::{Kept, completion_gradients},
    processor::Encoded,
};

use crate::{
    TrainError,
    aggregate::StepTotals,
    cut::Slice,
    loss::{Loss, loss, share},
    loss_mask::LossMask,
    objective::{Level, Metric, TokenBatch},
    recipe::{Policy, Recipe},
    rollout::{RolloutCompletion, RolloutGroup},
    seed::derive_seed,
    trainer::LoopConfig,
};

/// What all micro-batches of a step are cut from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepData<'a> {
    pub(crate) groups: &'a [RolloutGroup],
    /// Advantage of every completion of every group.
    pub(crate) advantages: &'a [Vec<f32>],
    pub(crate) totals: StepTotals,
    /// Where the step's randomness starts.
    pub(crate) seed: u64,
}

/// The inputs of a piece, with tokens of their own, as the model takes them slice by slice.
pub(crate) struct PieceInputs<'a> {
    prompts: Vec<&'a Encoded>,
    completions: Vec<Vec<Vec<u32>>>,
}

impl<'a> PieceInputs<'a> {
    pub(crate) fn new(groups: &'a [RolloutGroup], piece: &[Slice]) -> Self {
        let token_ids = |slice: &Slice| {
            slice
                .of(&groups[slice.group].completions)
                .map(|completion| completion.token_ids.clone())
                .collect()
        };
        Self {
            prompts: piece.iter().map(|slice| &groups[slice.group].prepared.prompt).collect(),
            completions: piece.iter().map(token_ids).collect(),
        }
    }

    pub(crate) fn groups(&self) -> Vec<Group<'_>> {
        let groups = self.prompts.iter().zip(&self.completions);
        groups.map(|(prompt, completions)| Group { prompt, completions }).collect()
    }
}

/// What turns a micro-batch into gradients.
pub(crate) struct MicroBatchPass<'a, B: AutodiffBackend, M: Policy<B>> {
    recipe: &'a Recipe<B, M>,
    reference: Option<&'a M::InnerModule>,
    step: StepData<'a>,
    kept: Kept,
    device: &'a B::Device,
}

/// The furthest that the ratio of a token is from 1.
const RATIO_DEVIATION_MAX: &str = "importance_ratio_deviation/max";

/// The furthest that the policy's log-probability of a token is from its engine's.
const SAMPLING_DIFFERENCE_MAX: &str = "sampling/sampling_logp_difference/max";

/// Numbers that are maxima, where others are sums.
pub(crate) const MAXIMA: [&str; 2] = [RATIO_DEVIATION_MAX, SAMPLING_DIFFERENCE_MAX];

/// Named sums over a micro-batch's share of the step.
type Sums = Vec<(&'static str, f64)>;

impl<'a, B: AutodiffBackend, M: Policy<B>> MicroBatchPass<'a, B, M> {
    /// `reference` is the frozen model of KL terms.
    pub(crate) fn new(
        recipe: &'a Recipe<B, M>,
        reference: Option<&'a M::InnerModule>,
        config: &LoopConfig,
        device: &'a B::Device,
        step: StepData<'a>,
    ) -> Self {
        Self { recipe, reference, step, kept: config.kept, device }
    }

    /// `model` for the piece at `place`: what an adapter drops is the piece's, whoever runs it and however often.
    pub(crate) fn view(&self, model: &M, place: usize) -> M {
        model.clone().with_dropout_seed(Some(derive_seed(self.step.seed, "dropout", place as u64)))
    }

    /// Gradients of one piece of a step, and its share of the metrics.
    ///
    /// `old` holds the log-probabilities of the policy before the step's first update; where it is empty, `model` is that
    /// policy, and they are left there if another iteration or the report will ask for them.
    pub(crate) fn run(
        &self,
        model: &M,
        piece: &[Slice],
        old: &mut Option<TensorData>,
    ) -> Result<(GradientsParams, Sums), TrainError> {
        let inputs = PieceInputs::new(self.step.groups, piece);
        let inputs = inputs.groups();
        let options = LogProbOptions {
            temperature: self.recipe.temperature,
            entropy: true,
            entropy_gradient: self.recipe.needs_entropy_gradient(),
            ..LogProbOptions::default()
        };
        completion_gradients(model, &inputs, options, self.kept, self.device, |scored| {
            self.loss(scored, &inputs, options, piece, old)
        })
    }

    /// The loss, `[1]`.
    fn loss(
        &self,
        scored: CompletionLogProbs<B>,
        inputs: &[Group<'_>],
        options: LogProbOptions,
        piece: &[Slice],
        old: &mut Option<TensorData>,
    ) -> Result<(Tensor<B, 1>, Sums), TrainError> {
        let StepData { groups, advantages, totals, .. } = self.step;
        let CompletionLogProbs { log_probs, entropy, lens } = scored;
        let [sequences, _] = log_probs.dims();
        let completions: Vec<&RolloutCompletion> =
            piece.iter().flat_map(|slice| slice.of(&groups[slice.group].completions)).collect();
        let loss_mask =
            LossMask::from_lens(&lens).silence(|sequence| self.recipe.leaves_out(completions[sequence]));

        let old_log_probs = match old {
            Some(data) => Tensor::from_data(data.clone(), self.device),
            None => {
                let detached = log_probs.clone().detach();
                if self.recipe.num_iterations > 1 || is_scored(&completions) {
                    *old = Some(detached.to_data());
                }
                detached
            }
        };
        let ref_log_probs = match self.reference {
            Some(reference) if self.recipe.terms_need_reference() => {
                let options = LogProbOptions { entropy: false, entropy_gradient: false, ..options };
                let reference = completion_log_probs(reference, inputs, options, self.device)?;
                Some(Tensor::from_inner(reference.log_probs))
            }
            _ => None,
        };
        let per_sequence: Vec<f32> =
            piece.iter().flat_map(|slice| slice.of(&advantages[slice.group])).copied().collect();
        let advantages =
            Tensor::<B, 2>::from_data(TensorData::new(per_sequence, [sequences, 1]), self.device);
        check_sampling_log_probs(groups, piece)?;
        let sampling_log_probs = sampling_log_probs(&completions, &old_log_probs);
        let mask = loss_mask.tensor(log_probs.dtype(), self.device);
        let batch = TokenBatch {
            log_probs,
            old_log_probs,
            ref_log_probs,
            sampling_log_probs,
            entropy,
            advantages,
            loss_mask,
            mask,
        };

        let Loss { loss, metrics: mut reported } = loss(&self.recipe.terms, &batch, totals);
        if let Some(entropy) = batch.entropy.clone() {
            let metric = Metric { name: "entropy", per: Level::Token, values: entropy.detach() };
            reported.push((metric.name, share(metric, &batch, totals)));
        }
        reported.push(("loss", loss.clone().detach()));
        if let Some(difference) = batch.sampling_difference() {
            let values = difference.abs();
            reported.push((SAMPLING_DIFFERENCE_MAX, values.clone().max()));
            let metric = Metric { name: "sampling/sampling_logp_difference/mean", per: Level::Token, values };
            reported.push((metric.name, share(metric, &batch, totals)));
        }
        if is_scored(&completions) && batch.log_probs.dims()[1] > 0 {
            let ratio = batch.log_ratio().detach().exp();
            reported.push((RATIO_DEVIATION_MAX, ratio.sub_scalar(1.0).abs().max()));
        }
        // One transfer for all numbers.
        let (names, values): (Vec<_>, Vec<_>) = reported.into_iter().unzip();
        let values = Tensor::cat(values, 0).into_data().convert::<f32>();
        Ok((loss, names.into_iter().zip(values.iter::<f32>().map(f64::from)).collect()))
    }
}

/// Whether these are completions of a policy, not demonstrations.
fn is_scored(completions: &[&RolloutCompletion]) -> bool {
    completions.iter().any(|completion| completion.score.is_some())
}

/// By group, completion and token.
pub(crate) type LogProbs = Vec<Vec<Vec<f32>>>;

/// The log-probabilities that pieces left behind; nothing for what left none.
pub(crate) fn by_completion(
    groups: &[RolloutGroup],
    pieces: &[Vec<Slice>],
    left: &[Option<TensorData>],
) -> LogProbs {
    let mut found: LogProbs = groups.iter().map(|group| vec![Vec::new(); group.completions.len()]).collect();
    for (piece, data) in pieces.iter().zip(left) {
        let Some(data) = data else { continue };
        let values: Vec<f32> = data.iter::<f32>().collect();
        let places = piece.iter().flat_map(Slice::places);
        for ((group, completion), row) in places.zip(values.chunks(data.shape[1].max(1))) {
            let num_tokens = groups[group].completions[completion].token_ids.len();
            found[group][completion] = row[..num_tokens].to_vec();
        }
    }
    found
}

/// What the engines that drew the completions said, `[sequences, tokens]`; where one drew with the policy itself, the
/// policy's own. `None` where all did.
pub(crate) fn sampling_log_probs<B: Backend>(
    completions: &[&RolloutCompletion],
    old_log_probs: &Tensor<B, 2>,
) -> Option<Tensor<B, 2>> {
    if completions.iter().all(|completion| completion.sampling_log_probs.is_none()) {
        return None;
    }
    let [_, width] = old_log_probs.dims();
    let (mut told, mut known) = (Vec::new(), Vec::new());
    for completion in completions {
        let log_probs = completion.sampling_log_probs.as_deref().unwrap_or_default();
        told.extend(padded(log_probs.to_vec(), width));
        known.extend(padded(vec![1.0; log_probs.len()], width));
    }
    let tensor = |values: Vec<f32>| {
        Tensor::<B, 2>::from_data(TensorData::new(values, old_log_probs.dims()), &old_log_probs.device())
    };
    Some(tensor(told) + old_log_probs.clone() * tensor(known).neg().add_scalar(1.0))
}

/// Whether every completion has as many of them as tokens, if it has any.
fn check_sampling_log_probs(groups: &[RolloutGroup], piece: &[Slice]) -> Result<(), TrainError> {
    for slice in piece {
        let group = &groups[slice.group];
        for completion in slice.of(&group.completions) {
            let wanted = completion.token_ids.len();
            let got = completion.sampling_log_probs.as_ref().map_or(wanted, Vec::len);
            if got != wanted {
                return Err(TrainError::Sample {
                    origin: group.prepared.origin.clone(),
                    message: format!(
                        "{got} sampling log-probabilities came with a completion of {wanted} tokens"
                    ),
                });
            }
        }
    }
    Ok(())
}

fn padded(mut row: Vec<f32>, width: usize) -> Vec<f32> {
    row.resize(width, 0.0);
    row
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;

    use super::*;
    use crate::{
        cut::{GroupLens, Limits, cut},
        testing::{Cpu, numbers, scored_group, tensor},
    };

    /// Two completions of the tokens' lengths, with what their engines said, and both of them as a piece.
    fn piece(lens: [usize; 2], told: [Option<Vec<f32>>; 2]) -> ([RolloutGroup; 1], Vec<Slice>) {
        let mut group = scored_group(&[None, None]);
        for ((completion, len), told) in group.completions.iter_mut().zip(lens).zip(told) {
            completion.token_ids = vec![0; len];
            completion.sampling_log_probs = told;
        }
        let groups = [group];
        let pieces = cut(&GroupLens::of(&groups), Limits { max_sequences: 2, max_tokens: None });
        assert_eq!(pieces.len(), 1);
        (groups, pieces.concat())
    }

    fn old() -> Tensor<Cpu, 2> {
        tensor(&[-1.0, -2.0, -3.0, 0.0], [2, 2], DType::F32)
    }

    #[test]
    fn what_an_engine_said_takes_the_place_of_the_policys_own() {
        let found = |told| {
            let (groups, _) = piece([2, 1], told);
            let completions: Vec<&RolloutCompletion> = groups[0].completions.iter().collect();
            sampling_log_probs(&completions, &old()).map(|found| numbers(found.inner()))
        };
        assert_eq!(found([None, Some(vec![-3.5])]).unwrap(), [-1.0, -2.0, -3.5, 0.0]);
        assert!(found([None, None]).is_none());
    }

    #[test]
    fn a_wrong_number_of_them_is_refused() {
        let (groups, both) = piece([2, 1], [Some(vec![-1.0]), None]);
        let error = check_sampling_log_probs(&groups, &both).unwrap_err().to_string();
        assert!(error.contains("row 0: 1 sampling log-probabilities"), "{error}");
    }
}
