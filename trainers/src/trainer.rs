//! The only training loop: it knows no method, a [`Recipe`] knows no loop.
//!
//! A step collects groups from the recipe's source, turns their rewards into advantages, runs the groups through the
//! model micro-batch by micro-batch and hands the gradients to the learner. What to log, save or evaluate is the
//! observer's business.

use std::time::Instant;

use burn::tensor::{Tensor, TensorData, backend::AutodiffBackend};
use medgrpo_model::group_forward::{CompletionLogProbs, Group, LogProbOptions, completion_log_probs};
use serde_json::Value;

use crate::{
    TrainError,
    aggregate::StepTotals,
    feeder::Feeder,
    learner::Learner,
    metrics::{Metrics, rollout_metrics},
    objective::TokenBatch,
    recipe::{Policy, Recipe},
    rollout::RolloutGroup,
    seed::derive_seed,
};

/// Lengths and sizes of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopConfig {
    /// Optimizer steps.
    pub max_steps: usize,
    /// Sequences per forward and backward pass.
    pub micro_batch_size: usize,
    /// Where the stage's randomness starts.
    pub seed: u64,
}

/// What a step leaves behind, for whoever watches.
pub struct StepReport<'a> {
    /// Steps done, this one included.
    pub step: usize,
    /// Its numbers.
    pub metrics: Metrics,
    /// What was learned from.
    pub groups: &'a [RolloutGroup],
    /// Advantage of every completion.
    pub advantages: &'a [Vec<f32>],
    /// Place of the sample stream after this step.
    pub stream_state: &'a Value,
}

/// Whether the loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// With the next step.
    Continue,
    /// Not: it was asked to stop. The observer has saved what it needs.
    Stop,
}

/// Watches a training stage: logs, saves, evaluates.
pub trait Observer<B: AutodiffBackend, M: Policy<B>> {
    /// Called after every step with the model and optimizer as they are then.
    fn on_step(
        &mut self,
        report: &StepReport<'_>,
        model: &M,
        learner: &Learner<B, M>,
    ) -> Result<Flow, TrainError>;

    /// Called when a step could not be finished because a number was not finite, with the state after the `done` steps
    /// before it.
    fn on_failure(
        &mut self,
        groups: &[RolloutGroup],
        model: &M,
        learner: &Learner<B, M>,
        done: usize,
    ) -> Result<(), TrainError>;
}

/// Everything a stage trains with.
pub struct Stage<'a, B: AutodiffBackend, M: Policy<B>> {
    /// The method.
    pub recipe: Recipe<B, M>,
    /// The frozen model of KL terms.
    pub reference: Option<M::InnerModule>,
    /// Optimizer.
    pub learner: Learner<B, M>,
    /// Samples.
    pub feeder: Feeder,
    /// Sizes.
    pub config: LoopConfig,
    /// Where to compute.
    pub device: &'a B::Device,
}

impl<B: AutodiffBackend, M: Policy<B>> Stage<'_, B, M> {
    /// Trains `model` from step `done` to the end of the stage, or until the observer stops it.
    pub fn run(
        &mut self,
        mut model: M,
        done: usize,
        observer: &mut dyn Observer<B, M>,
    ) -> Result<M, TrainError> {
        for done in done..self.config.max_steps {
            let started = Instant::now();
            let batch = self.feeder.next_batch(done + 1 < self.config.max_steps)?;
            let waited = started.elapsed();
            let num_skipped = batch.skipped.len();
            for reason in &batch.skipped {
                tracing::warn!("sample left out: {reason}");
            }

            let seed = derive_seed(self.config.seed, "step", done as u64);
            let policy = model.clone().valid();
            let groups = self.recipe.source.collect(&policy, batch.samples, seed, self.device)?;
            drop(policy);
            let collected = started.elapsed();
            let rewards: Vec<Vec<Option<f32>>> = groups
                .iter()
                .map(|group| group.completions.iter().map(|completion| completion.reward()).collect())
                .collect();
            let advantages = self.recipe.advantage.advantages(&rewards);

            let mut metrics = rollout_metrics(&groups);
            let outcome;
            (model, outcome) = self.update(model, &groups, &advantages, done, &mut metrics);
            if let Err(error) = outcome {
                if matches!(error, TrainError::NotFinite { .. }) {
                    observer.on_failure(&groups, &model, &self.learner, done)?;
                }
                return Err(error);
            }
            let total = started.elapsed();
            metrics.insert("step_time".to_owned(), total.as_secs_f64());
            metrics.insert("time/data".to_owned(), waited.as_secs_f64());
            metrics.insert("time/collect".to_owned(), (collected - waited).as_secs_f64());
            metrics.insert("time/update".to_owned(), (total - collected).as_secs_f64());
            metrics.insert("data/skipped".to_owned(), num_skipped as f64);
            let report = StepReport {
                step: done + 1,
                metrics,
                groups: &groups,
                advantages: &advantages,
                stream_state: &batch.stream_state,
            };
            if observer.on_step(&report, &model, &self.learner)? == Flow::Stop {
                break;
            }
        }
        Ok(model)
    }

    /// One step of the optimizer, or as many as the recipe iterates. On failure the model is that of the last good one.
    fn update(
        &mut self,
        mut model: M,
        groups: &[RolloutGroup],
        advantages: &[Vec<f32>],
        done: usize,
        metrics: &mut Metrics,
    ) -> (M, Result<(), TrainError>) {
        let pieces = cut(groups, self.config.micro_batch_size);
        if pieces.is_empty() {
            return (model, Ok(()));
        }
        let lens = || {
            groups.iter().flat_map(|group| &group.completions).map(|completion| completion.token_ids.len())
        };
        let totals = StepTotals {
            num_sequences: lens().count(),
            num_tokens: lens().sum(),
            num_micro_batches: pieces.len(),
        };
        metrics.insert("num_tokens".to_owned(), totals.num_tokens as f64);
        // Log-probabilities of the policy that drew the completions: those of the first iteration.
        let mut old: Vec<Option<TensorData>> = vec![None; pieces.len()];
        for iteration in 0..self.recipe.num_iterations {
            let sums = match self.gather(&model, &pieces, groups, advantages, totals, &mut old) {
                Ok(sums) => sums,
                Err(error) => return (model, Err(error)),
            };
            let loss = sums["loss"];
            if !loss.is_finite() {
                return (model, Err(TrainError::NotFinite { step: done + 1, what: "loss", value: loss }));
            }
            // The schedule counts steps of the loop, however often each is iterated.
            let outcome;
            (model, outcome) = self.learner.step(model, done);
            match outcome {
                Ok(outcome) if iteration == 0 => {
                    metrics.insert("grad_norm".to_owned(), outcome.grad_norm);
                    metrics.insert("learning_rate".to_owned(), outcome.learning_rate);
                }
                Ok(_) => {}
                Err(error) => return (model, Err(error)),
            }
            // The last iteration's numbers: the ones in which the ratio has moved furthest.
            metrics.extend(sums);
        }
        (model, Ok(()))
    }

    /// Runs all pieces forward and backward; gives their metrics.
    fn gather(
        &mut self,
        model: &M,
        pieces: &[Vec<Slice>],
        groups: &[RolloutGroup],
        advantages: &[Vec<f32>],
        totals: StepTotals,
        old: &mut [Option<TensorData>],
    ) -> Result<Metrics, TrainError> {
        let mut sums = Metrics::new();
        for (piece, old) in pieces.iter().zip(old) {
            let loss = self.micro_batch(model, piece, groups, advantages, totals, old, &mut sums)?;
            self.learner.gather(model, &loss);
        }
        Ok(sums)
    }

    /// The loss of one piece of a step; adds its share of the metrics to `sums`.
    #[expect(clippy::too_many_arguments, reason = "the state of one iteration, used here only")]
    fn micro_batch(
        &self,
        model: &M,
        piece: &[Slice],
        groups: &[RolloutGroup],
        advantages: &[Vec<f32>],
        totals: StepTotals,
        old: &mut Option<TensorData>,
        sums: &mut Metrics,
    ) -> Result<Tensor<B, 1>, TrainError> {
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
        let ref_log_probs = match &self.reference {
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
        // One transfer for all numbers.
        let (names, values): (Vec<_>, Vec<_>) = reported.into_iter().unzip();
        let values = Tensor::cat(values, 0).into_data().convert::<f32>();
        for (name, value) in names.into_iter().zip(values.iter::<f32>()) {
            *sums.entry(name.to_owned()).or_insert(0.0) += f64::from(value);
        }
        Ok(loss)
    }
}

/// Some of a group's completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slice {
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
fn cut(groups: &[RolloutGroup], size: usize) -> Vec<Vec<Slice>> {
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
