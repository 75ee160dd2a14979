//! What a loss makes of completions that were drawn before, without a model: losses and weights in the gradient.
//!
//! At the first update of a batch the policy has not moved: every ratio to the policy before is 1, and the gradient of the
//! policy term is a sum of the tokens' own gradients, each times its weight here, the ratio to another engine that drew them
//! included. The divergence from a reference and the entropy bonus need a model and are left out.

use std::convert::Infallible;

use burn::{
    module::Param,
    tensor::{Tensor, TensorData, backend::AutodiffBackend},
};
use medgrpo_model::gradients::gradients;

use crate::{
    aggregate::StepTotals,
    cut::{GroupLens, Limits, Slice, cut},
    loss::weighted,
    loss_mask::LossMask,
    micro_batch::sampling_log_probs,
    objective::TokenBatch,
    recipe::Term,
    recipes::GrpoConfig,
    rollout::RolloutCompletion,
};

/// A group as it was recorded, or with advantages of another recipe.
#[derive(Clone, Copy, Debug)]
pub struct RecordedGroup<'a> {
    /// Length of its prompt: says which groups share a micro-batch.
    pub prompt_tokens: usize,
    /// The completions, with what the engine told that drew them, where that was not the policy itself.
    pub completions: &'a [RolloutCompletion],
    /// Log-probability of each of their tokens under the policy before its update.
    pub log_probs: &'a [Vec<f32>],
    /// Advantage of each.
    pub advantages: &'a [f32],
}

/// What a completion has in its step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    /// Its part of the loss.
    pub loss: f64,
    /// How loud it is: absolute values of the derivatives of the loss by the log-probabilities of its tokens, added up.
    pub gradient: f64,
}

/// The share of every completion of every group of a step in the policy term of `config`, the step being cut by `limits`.
///
/// # Panics
/// If the numbers of log-probabilities or advantages are not those of tokens and completions.
pub fn replay<B: AutodiffBackend>(
    config: &GrpoConfig,
    groups: &[RecordedGroup<'_>],
    limits: Limits,
    device: &B::Device,
) -> Vec<Vec<Share>> {
    let policy_term =
        GrpoConfig { beta: 0.0, entropy_coef: 0.0, top_entropy_quantile: 1.0, ..config.clone() };
    let terms: Vec<Term<B>> = policy_term.terms();
    let leaves_out =
        |completion: &RolloutCompletion| config.mask_truncated_completions && completion.truncated;
    let lens = |group: &RecordedGroup<'_>| GroupLens {
        prompt: group.prompt_tokens,
        completions: group.completions.iter().map(|completion| completion.token_ids.len()).collect(),
    };
    let lens: Vec<GroupLens> = groups.iter().map(lens).collect();
    let pieces = cut(&lens, limits);
    let completions = || groups.iter().flat_map(|group| group.completions);
    let learned = completions().filter(|completion| !leaves_out(completion));
    let totals = StepTotals {
        num_sequences: completions().count(),
        num_tokens: learned.map(|completion| completion.token_ids.len()).sum(),
        num_micro_batches: pieces.len(),
    };
    let mut shares: Vec<Vec<Share>> =
        groups.iter().map(|group| vec![Share::default(); group.completions.len()]).collect();
    for piece in &pieces {
        let found = piece_shares(&terms, groups, piece, totals, &leaves_out, device);
        for ((group, completion), share) in piece.iter().flat_map(Slice::places).zip(found) {
            shares[group][completion] = share;
        }
    }
    shares
}

fn piece_shares<B: AutodiffBackend>(
    terms: &[Term<B>],
    groups: &[RecordedGroup<'_>],
    piece: &[Slice],
    totals: StepTotals,
    leaves_out: &dyn Fn(&RolloutCompletion) -> bool,
    device: &B::Device,
) -> Vec<Share> {
    let completions: Vec<&RolloutCompletion> =
        piece.iter().flat_map(|slice| slice.of(groups[slice.group].completions)).collect();
    let lens: Vec<usize> = completions.iter().map(|completion| completion.token_ids.len()).collect();
    let loss_mask = LossMask::from_lens(&lens).silence(|sequence| leaves_out(completions[sequence]));
    let [sequences, width] = loss_mask.dims();
    if width == 0 {
        return vec![Share::default(); sequences];
    }
    let mut padded = Vec::with_capacity(sequences * width);
    let mut advantages: Vec<f32> = Vec::with_capacity(sequences);
    for slice in piece {
        let group = &groups[slice.group];
        advantages.extend(slice.of(group.advantages));
        for (completion, log_probs) in slice.of(group.completions).zip(slice.of(group.log_probs)) {
            let num_tokens = completion.token_ids.len();
            let told = completion.sampling_log_probs.as_ref().map_or(num_tokens, Vec::len);
            assert!(log_probs.len() == num_tokens && told == num_tokens, "a log-probability for each token");
            padded.extend(log_probs.iter().copied().chain(std::iter::repeat_n(0.0, width - log_probs.len())));
        }
    }
    let log_probs = Tensor::<B, 2>::from_data(TensorData::new(padded, [sequences, width]), device);
    let mask = loss_mask.tensor(log_probs.dtype(), device);
    let batch = TokenBatch {
        old_log_probs: log_probs.clone(),
        log_probs: log_probs.clone(),
        ref_log_probs: None,
        sampling_log_probs: sampling_log_probs(&completions, &log_probs),
        entropy: None,
        advantages: Tensor::from_data(TensorData::new(advantages, [sequences, 1]), device),
        loss_mask,
        mask,
    };
    let leaf = Param::from_tensor(log_probs);
    let Ok((gradients, losses)) = gradients(&leaf, |view: &Param<Tensor<B, 2>>| {
        let batch = TokenBatch { log_probs: view.val(), ..batch.clone() };
        let losses = terms
            .iter()
            .map(|term| weighted(term, &batch, totals).losses.mul_scalar(term.weight))
            .reduce(|sum, losses| sum + losses)
            .expect("a policy term is always there");
        Ok::<_, Infallible>((losses.clone().sum(), losses.detach()))
    });
    let rows = |values: TensorData| -> Vec<f64> {
        let values: Vec<f64> = values.iter::<f64>().collect();
        values.chunks(width).map(|row| row.iter().sum()).collect()
    };
    let losses = rows(losses.into_data());
    let gradients = match gradients.get::<B::InnerBackend, 2>(leaf.id) {
        Some(gradients) => rows(gradients.abs().into_data()),
        None => vec![0.0; sequences],
    };
    losses.into_iter().zip(gradients).map(|(loss, gradient)| Share { loss, gradient }).collect()
}

#[cfg(test)]
mod tests {
    use burn_flex::FlexDevice;

    use super::*;
    use crate::{
        aggregate::Aggregate,
        objective::{
            Cispo, Level,
            weight::{Beyond, TruncatedImportance},
        },
        recipes::Surrogate,
        testing::{Cpu, scored_group},
    };

    /// Two groups of two, of 2, 3 and 1, 4 tokens; the last is cut off.
    struct Step {
        completions: [Vec<RolloutCompletion>; 2],
        log_probs: [Vec<Vec<f32>>; 2],
        advantages: [Vec<f32>; 2],
    }

    fn step() -> Step {
        let completions = [[2, 3], [1, 4]].map(|lens: [usize; 2]| {
            let mut completions = scored_group(&[None, None]).completions;
            for (completion, len) in completions.iter_mut().zip(lens) {
                completion.token_ids = vec![0; len];
                completion.truncated = len == 4;
            }
            completions
        });
        let log_probs = completions
            .each_ref()
            .map(|group| group.iter().map(|completion| vec![-0.5; completion.token_ids.len()]).collect());
        Step { completions, log_probs, advantages: [vec![1.0, -1.0], vec![0.5, -2.0]] }
    }

    fn replayed(config: &GrpoConfig, micro_batch_size: usize) -> Vec<Share> {
        replayed_step(&step(), config, micro_batch_size)
    }

    fn replayed_step(step: &Step, config: &GrpoConfig, micro_batch_size: usize) -> Vec<Share> {
        let groups: Vec<RecordedGroup<'_>> = (0..2)
            .map(|group| RecordedGroup {
                prompt_tokens: 9 - group,
                completions: &step.completions[group],
                log_probs: &step.log_probs[group],
                advantages: &step.advantages[group],
            })
            .collect();
        let limits = Limits { max_sequences: micro_batch_size, max_tokens: None };
        replay::<Cpu>(config, &groups, limits, &FlexDevice).concat()
    }

    #[track_caller]
    fn assert_shares(found: &[Share], losses: [f64; 4], gradients: [f64; 4]) {
        for ((share, loss), gradient) in found.iter().zip(losses).zip(gradients) {
            assert!((share.loss - loss).abs() < 1e-6, "{found:?}");
            assert!((share.gradient - gradient).abs() < 1e-6, "{found:?}");
        }
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn by_hand_at_a_ratio_of_one() {
        // Every token's loss is -A: a mean over tokens, then over four completions.
        let grpo = GrpoConfig::default();
        assert_shares(&replayed(&grpo, 4), [-0.25, 0.25, -0.125, 0.5], [0.25, 0.25, 0.125, 0.5]);
        // Ten tokens, all alike.
        let dapo = GrpoConfig { aggregate: Aggregate::TokenMean, ..grpo.clone() };
        assert_shares(&replayed(&dapo, 4), [-0.2, 0.3, -0.05, 0.8], [0.2, 0.3, 0.05, 0.8]);
        // Six, without the one that is cut off.
        let masked = GrpoConfig { mask_truncated_completions: true, ..dapo };
        let sixth = 1.0 / 6.0;
        assert_shares(
            &replayed(&masked, 4),
            [-2.0 * sixth, 0.5, -0.5 * sixth, 0.0],
            [2.0 * sixth, 0.5, 0.5 * sixth, 0.0],
        );
        // -A log π: half of the clip's loss in value, as log π is -0.5, of the other sign; the same gradient.
        let cispo = GrpoConfig {
            surrogate: Surrogate::Cispo(Cispo { max_ratio: 5.0, level: Level::Token }),
            aggregate: Aggregate::TokenMean,
            ..GrpoConfig::default()
        };
        assert_shares(&replayed(&cispo, 4), [0.1, -0.15, 0.025, -0.4], [0.2, 0.3, 0.05, 0.8]);
    }

    #[test]
    fn what_an_engine_told_weighs_as_in_training() {
        // Tokens that the policy thinks twice, four times and half as likely as their engine did; the last engine told nothing.
        let mut step = step();
        let ratios: [&[f32]; 3] = [&[2.0, 4.0], &[1.0, 1.0, 4.0], &[0.5]];
        for (completion, ratios) in step.completions.iter_mut().flatten().zip(ratios) {
            completion.sampling_log_probs = Some(ratios.iter().map(|ratio| -0.5 - ratio.ln()).collect());
        }
        let corrected = |level, beyond| {
            let correction = TruncatedImportance { level, beyond, clip_min: None, clip_max: 3.0 };
            let config =
                GrpoConfig { importance_sampling_correction: Some(correction), ..GrpoConfig::default() };
            replayed_step(&step, &config, 4)
        };
        // Of the plain shares, 2.5, 5/3 and 1/2: means over tokens of the ratios, 4 counting as 3.
        let losses = [-0.625, 0.25 * 5.0 / 3.0, -0.0625, 0.5];
        assert_shares(&corrected(Level::Token, Beyond::Truncate), losses, losses.map(f64::abs));
        let losses = [0.0, 0.0, -0.0625, 0.5];
        assert_shares(&corrected(Level::Sequence, Beyond::Mask), losses, losses.map(f64::abs));
        // What was told changes nothing for a loss that does not ask.
        let plain = replayed_step(&step, &GrpoConfig::default(), 4);
        assert_eq!(plain, replayed(&GrpoConfig::default(), 4));
    }

    #[test]
    fn the_cut_into_micro_batches_is_that_of_training() {
        for config in [GrpoConfig::default(), GrpoConfig::dapo()] {
            for size in 1..4 {
                assert_eq!(replayed(&config, size), replayed(&config, 4), "micro-batches of {size}");
            }
        }
        // bnpo: groups of 5 tokens each, in pieces of their own, or one piece of 10.
        let shares = replayed(&GrpoConfig::bnpo(), 2);
        assert_shares(&shares, [-0.2, 0.3, -0.05, 0.8], [0.2, 0.3, 0.05, 0.8]);
        // Alone every completion weighs a quarter.
        assert_shares(
            &replayed(&GrpoConfig::bnpo(), 1),
            [-0.25, 0.25, -0.125, 0.5],
            [0.25, 0.25, 0.125, 0.5],
        );
    }
}
