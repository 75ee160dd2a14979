//! A step cut into micro-batches, and the gradients of one of them.

use burn::{
    optim::GradientsParams,
    tensor::{Tensor, TensorData, backend::AutodiffBackend},
};
use medgrpo_model::group_forward::{CompletionLogProbs, Group, LogProbOptions, completion_log_probs};

use crate::{
    TrainError,
    aggregate::StepTotals,
    objective::TokenBatch,
    recipe::{Policy, Recipe},
    rollout::RolloutGroup,
};

/// What all micro-batches of a step are cut from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepData<'a> {
    pub(crate) groups: &'a [RolloutGroup],
    /// Advantage of every completion of every group.
    pub(crate) advantages: &'a [Vec<f32>],
    pub(crate) totals: StepTotals,
}

/// What turns a micro-batch into gradients.
pub(crate) struct MicroBatchPass<'a, B: AutodiffBackend, M: Policy<B>> {
    pub(crate) recipe: &'a Recipe<B, M>,
    /// The frozen model of KL terms.
    pub(crate) reference: Option<&'a M::InnerModule>,
    pub(crate) step: StepData<'a>,
    pub(crate) device: &'a B::Device,
}

/// Named sums over a micro-batch's share of the step.
type Sums = Vec<(&'static str, f64)>;

impl<B: AutodiffBackend, M: Policy<B>> MicroBatchPass<'_, B, M> {
    /// Gradients of one piece of a step, and its share of the metrics.
    ///
    /// `old` holds the log-probabilities of the policy that drew the completions; where it is empty, `model` is that
    /// policy, and they are left there if another iteration will ask for them.
    pub(crate) fn run(
        &self,
        model: &M,
        piece: &[Slice],
        old: &mut Option<TensorData>,
    ) -> Result<(GradientsParams, Sums), TrainError> {
        let StepData { groups, advantages, totals } = self.step;
        let answers: Vec<Vec<Vec<u32>>> = piece.iter().map(|slice| slice.token_ids(groups)).collect();
        let inputs: Vec<Group<'_>> = piece
            .iter()
            .zip(&answers)
            .map(|(slice, completions)| Group { prompt: &groups[slice.group].prepared.prompt, completions })
            .collect();
        let options = LogProbOptions { temperature: self.recipe.temperature, entropy: true };
        let CompletionLogProbs { log_probs, entropy, lens } =
            completion_log_probs(model, &inputs, options, self.device)?;
        let [sequences, max_len] = log_probs.dims();

        let old_log_probs = match old {
            Some(data) => Tensor::from_data(data.clone(), self.device),
            None => {
                let detached = log_probs.clone().detach();
                if self.recipe.num_iterations > 1 {
                    *old = Some(detached.to_data());
                }
                detached
            }
        };
        let ref_log_probs = match self.reference {
            Some(reference) if self.recipe.needs_reference() => {
                let options = LogProbOptions { entropy: false, ..options };
                let reference = completion_log_probs(reference, &inputs, options, self.device)?;
                Some(Tensor::from_inner(reference.log_probs))
            }
            _ => None,
        };
        let per_sequence: Vec<f32> =
            piece.iter().flat_map(|slice| slice.of(&advantages[slice.group]).to_vec()).collect();
        let advantages =
            Tensor::<B, 2>::from_data(TensorData::new(per_sequence, [sequences, 1]), self.device);
        let batch = TokenBatch {
            log_probs,
            old_log_probs,
            ref_log_probs,
            advantages: advantages.repeat_dim(1, max_len),
        };

        let weights = self.recipe.aggregate.token_weights(&lens, totals);
        let weights = Tensor::<B, 2>::from_data(TensorData::new(weights, [sequences, max_len]), self.device);
        let share: Vec<f32> = lens
            .iter()
            .flat_map(|len| (0..max_len).map(move |place| f32::from(u8::from(place < *len))))
            .map(|real| real / totals.num_tokens as f32)
            .collect();
        let share = Tensor::<B, 2>::from_data(TensorData::new(share, [sequences, max_len]), self.device);

        let mut loss = Tensor::<B, 1>::zeros([1], self.device);
        let mut reported: Vec<(&str, Tensor<B, 1>)> = Vec::new();
        for term in &self.recipe.terms {
            let out = term.objective.losses(&batch);
            loss = loss + (out.losses * weights.clone()).sum().mul_scalar(term.weight);
            reported
                .extend(out.metrics.into_iter().map(|(name, values)| (name, (values * share.clone()).sum())));
        }
        if let Some(entropy) = entropy {
            reported.push(("entropy", (entropy * share).sum()));
        }
        reported.push(("loss", loss.clone().detach()));
        let gradients = GradientsParams::from_grads(loss.backward(), model);
        // One transfer for all numbers.
        let (names, values): (Vec<_>, Vec<_>) = reported.into_iter().unzip();
        let values = Tensor::cat(values, 0).into_data().convert::<f32>();
        Ok((gradients, names.into_iter().zip(values.iter::<f32>().map(f64::from)).collect()))
    }
}

/// Some of a group's completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    group: usize,
    first: usize,
    count: usize,
}

impl Slice {
    fn of<T>(self, completions: &[T]) -> &[T] {
        &completions[self.first..self.first + self.count]
    }

    fn token_ids(self, groups: &[RolloutGroup]) -> Vec<Vec<u32>> {
        self.of(&groups[self.group].completions)
            .iter()
            .map(|completion| completion.token_ids.clone())
            .collect()
    }
}

/// Cuts a step into pieces of at most `size` sequences: several whole groups, or parts of one.
///
/// Groups of similar prompt length go together, which keeps padding small.
pub(crate) fn cut(groups: &[RolloutGroup], size: usize) -> Vec<Vec<Slice>> {
    let mut slices: Vec<Slice> = Vec::new();
    for (group, members) in groups.iter().enumerate() {
        let total = members.completions.len();
        let parts = total.div_ceil(size);
        slices.extend((0..parts).map(|part| {
            let (first, end) = (part * total / parts, (part + 1) * total / parts);
            Slice { group, first, count: end - first }
        }));
    }
    slices.retain(|slice| slice.count > 0);
    slices.sort_by_key(|slice| {
        (slice.count, groups[slice.group].prepared.prompt.input_ids.len(), slice.group, slice.first)
    });
    let mut pieces: Vec<Vec<Slice>> = Vec::new();
    for slice in slices {
        match pieces.last_mut() {
            // The completions of one piece form a rectangle: equally many of each group.
            Some(piece) if piece[0].count == slice.count && (piece.len() + 1) * slice.count <= size => {
                piece.push(slice);
            }
            _ => pieces.push(vec![slice]),
        }
    }
    pieces
}
