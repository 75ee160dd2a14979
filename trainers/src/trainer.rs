//! The only training loop: it knows no method, a [`Recipe`] knows no loop.
//!
//! A step collects groups from the recipe's source, turns their rewards into advantages, runs the groups through the
//! model micro-batch by micro-batch and hands the gradients to the learner. What to log, save or evaluate is the
//! observer's business.

use std::{path::PathBuf, sync::Arc, time::Instant};

use burn::tensor::{TensorData, backend::AutodiffBackend};
use medgrpo_model::group_gradients::Kept;
use serde_json::Value;

use crate::{
    TrainError,
    aggregate::StepTotals,
    cut::{GroupLens, Limits, Slice, cut, frac_padding},
    dynamic_sampling::{DroppedGroup, collect},
    failure::{Culprit, FailedStep},
    feeder::Feeder,
    learner::Learner,
    metrics::{Metrics, effective_tokens, num_clips, rollout_metrics},
    micro_batch::{LogProbs, MAXIMA, MicroBatchPass, StepData, by_completion},
    recipe::{Policy, Recipe},
    reward_kl::RewardKl,
    rollout::{RolloutCompletion, RolloutGroup, advantages},
    seed::derive_seed,
    workers::Workers,
};

/// Lengths and sizes of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopConfig {
    /// Optimizer steps.
    pub max_steps: usize,
    /// Of one forward and backward pass.
    pub micro_batch: Limits,
    /// Where the stage's randomness starts.
    pub seed: u64,
    /// What a micro-batch's forward pass keeps for its backward pass.
    pub kept: Kept,
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
    /// Log-probability of every token of every completion under the policy before its update, as that has computed them;
    /// empty for demonstrations.
    pub log_probs: &'a [Vec<Vec<f32>>],
    /// What was drawn and not learned from.
    pub dropped: &'a [DroppedGroup],
    /// Place of the sample stream after this step.
    pub stream_state: &'a Value,
    /// What the source has learned after this step.
    pub source_state: &'a Value,
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

    /// Called when a step could not be finished because a number was not finite or no group had a signal, with the model
    /// as it was before the iteration that failed. Gives the place where the step's batch is kept, if it is.
    fn on_failure(
        &mut self,
        failed: &FailedStep<'_>,
        model: &M,
        learner: &Learner<B, M>,
    ) -> Result<Option<PathBuf>, TrainError>;
}

/// Why a step could not be finished.
struct Failure {
    error: TrainError,
    iteration: usize,
    log_probs: LogProbs,
    culprit: Option<Culprit>,
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
    /// Who runs micro-batches.
    pub workers: Arc<Workers>,
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
            let seed = derive_seed(self.config.seed, "step", done as u64);
            let policy = model.clone().valid();
            let more = done + 1 < self.config.max_steps;
            let Self { recipe, feeder, device, .. } = self;
            let collected = collect(recipe, feeder, &policy, (done, seed), more, device);
            let mut collected = match collected {
                Ok(collected) => collected,
                Err(error) => {
                    if matches!(error, TrainError::NoSignal { .. }) {
                        let failed = FailedStep {
                            done,
                            iteration: 0,
                            error: &error,
                            groups: &[],
                            advantages: &[],
                            log_probs: &[],
                            culprit: None,
                        };
                        observer.on_failure(&failed, &model, &self.learner)?;
                    }
                    return Err(error);
                }
            };
            let kl = self.reward_kl(&policy, &mut collected.kept)?;
            drop(policy);
            let collected_at = started.elapsed();
            let groups = &collected.kept;
            let completions = groups.iter().map(|group| group.completions.as_slice());
            let advantages = advantages(&*self.recipe.advantage, self.recipe.reward_beta, completions);

            let mut metrics = rollout_metrics(collected.drawn());
            let leaves_out = |completion: &RolloutCompletion| self.recipe.leaves_out(completion);
            let effective = effective_tokens(groups, &advantages, leaves_out);
            metrics.extend(effective.map(|share| ("frac_effective_tokens".to_owned(), share)));
            if self.recipe.dynamic_sampling.is_some() {
                metrics.extend(collected.metrics());
            }
            metrics.extend(kl.map(|kl| ("kl".to_owned(), kl)));
            let outcome;
            (model, outcome) = self.update(model, groups, &advantages, (done, seed), &mut metrics);
            let log_probs = match outcome {
                Ok(log_probs) => log_probs,
                Err(Failure { error, iteration, log_probs, culprit }) => {
                    if !matches!(error, TrainError::NotFinite { .. }) {
                        return Err(error);
                    }
                    let failed = FailedStep {
                        done,
                        iteration,
                        error: &error,
                        groups,
                        advantages: &advantages,
                        log_probs: &log_probs,
                        culprit,
                    };
                    let kept = observer.on_failure(&failed, &model, &self.learner)?;
                    return Err(error.kept_in(kept));
                }
            };
            let total = started.elapsed();
            metrics.insert("step_time".to_owned(), total.as_secs_f64());
            let tokens = collected.drawn().map(RolloutGroup::num_tokens).sum::<usize>() as f64;
            metrics.insert("perf/tokens_per_sec".to_owned(), tokens / total.as_secs_f64());
            metrics.insert("time/data".to_owned(), collected.waited.as_secs_f64());
            metrics.insert("time/collect".to_owned(), (collected_at - collected.waited).as_secs_f64());
            metrics.insert("time/update".to_owned(), (total - collected_at).as_secs_f64());
            metrics.insert("data/skipped".to_owned(), collected.num_skipped as f64);
            metrics.insert("data/clips".to_owned(), num_clips(collected.drawn()) as f64);
            let report = StepReport {
                step: done + 1,
                metrics,
                groups,
                advantages: &advantages,
                log_probs: &log_probs,
                dropped: &collected.dropped,
                stream_state: &collected.stream_state,
                source_state: &self.recipe.source.state(),
            };
            if observer.on_step(&report, &model, &self.learner)? == Flow::Stop {
                break;
            }
        }
        Ok(model)
    }

    /// Notes how far each completion is from the reference, if rewards are reduced by that; gives the mean over tokens.
    fn reward_kl(
        &self,
        policy: &M::InnerModule,
        groups: &mut [RolloutGroup],
    ) -> Result<Option<f64>, TrainError> {
        let Some(reference) = self.reference.as_ref().filter(|_| self.recipe.reward_beta != 0.0) else {
            return Ok(None);
        };
        let against = RewardKl::<B::InnerBackend, M::InnerModule> {
            reference,
            temperature: self.recipe.temperature,
            limits: self.config.micro_batch,
            workers: &self.workers,
            device: self.device,
        };
        against.measure(policy, groups).map(Some)
    }

    /// One step of the optimizer, or as many as the recipe iterates; gives the log-probabilities of the report. On failure the
    /// model is that of the last good one.
    fn update(
        &mut self,
        mut model: M,
        groups: &[RolloutGroup],
        advantages: &[Vec<f32>],
        (done, seed): (usize, u64),
        metrics: &mut Metrics,
    ) -> (M, Result<LogProbs, Failure>) {
        let lens = GroupLens::of(groups);
        let pieces = cut(&lens, self.config.micro_batch);
        if pieces.is_empty() {
            return (model, Ok(Vec::new()));
        }
        let completions = || groups.iter().flat_map(|group| &group.completions);
        let learned = completions().filter(|completion| !self.recipe.leaves_out(completion));
        let totals = StepTotals {
            num_sequences: completions().count(),
            num_tokens: learned.map(|completion| completion.token_ids.len()).sum(),
            num_micro_batches: pieces.len(),
        };
        metrics.insert("num_tokens".to_owned(), totals.num_tokens as f64);
        metrics.insert("frac_padding".to_owned(), frac_padding(&lens, &pieces));
        // Log-probabilities of the policy before its update: those of the first iteration.
        let mut old: Vec<Option<TensorData>> = vec![None; pieces.len()];
        let step = StepData { groups, advantages, totals, seed };
        let failure = |stage: &Self, model: &M, error: TrainError, iteration, old: &[Option<TensorData>]| {
            let is_number = matches!(error, TrainError::NotFinite { .. });
            let culprit = is_number.then(|| stage.culprit(model, &pieces, step, old)).flatten();
            Failure { error, iteration, log_probs: by_completion(groups, &pieces, old), culprit }
        };
        for iteration in 0..self.recipe.num_iterations {
            let sums = match self.gather(&model, &pieces, step, &mut old) {
                Ok(sums) => sums,
                Err(error) => {
                    let failure = failure(self, &model, error, iteration, &old);
                    return (model, Err(failure));
                }
            };
            let loss = sums["loss"];
            if !loss.is_finite() {
                let error = TrainError::not_finite(done + 1, "loss", loss);
                let failure = failure(self, &model, error, iteration, &old);
                return (model, Err(failure));
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
                Err(error) => {
                    let failure = failure(self, &model, error, iteration, &old);
                    return (model, Err(failure));
                }
            }
            // The last iteration's numbers: the ones in which the ratio has moved furthest.
            metrics.extend(sums);
        }
        let log_probs = by_completion(groups, &pieces, &old);
        (model, Ok(log_probs))
    }

    /// Runs all pieces forward and backward, as many at a time as there are workers; gives their metrics.
    fn gather(
        &mut self,
        model: &M,
        pieces: &[Vec<Slice>],
        step: StepData<'_>,
        old: &mut [Option<TensorData>],
    ) -> Result<Metrics, TrainError> {
        let Self { recipe, reference, learner, config, workers, device, .. } = self;
        let pass = MicroBatchPass::new(recipe, reference.as_ref(), config, device, step);
        let mut views = (0..pieces.len()).map(|place| pass.view(model, place));
        let mut sums = Metrics::new();
        let at_once = workers.count();
        for (pieces, old) in pieces.chunks(at_once).zip(old.chunks_mut(at_once)) {
            let items = views.by_ref().take(pieces.len()).zip(pieces).zip(old).collect();
            let outcomes =
                workers.map(items, |((model, piece), old): ((M, _), _)| pass.run(&model, piece, old));
            // In the order of the pieces, so that sums round alike however many workers there are.
            for outcome in outcomes {
                let (gradients, metrics) = outcome?;
                learner.accumulate(model, gradients);
                for (name, value) in metrics {
                    let sum = sums.entry(name.to_owned()).or_insert(0.0);
                    // Every other number is a share of the step's.
                    *sum = if MAXIMA.contains(&name) { sum.max(value) } else { *sum + value };
                }
            }
        }
        Ok(sums)
    }
}
