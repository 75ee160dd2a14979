//! The distance from a reference as a part of the reward: `r - beta · Σ_t (log policy - log reference)`, before advantages.
//!
//! Sources: Ahmadian et al. 2024 (RLOO), eq. 2, as TRL's `RLOOTrainer` has it; verl's `use_kl_in_reward` with
//! `kl_penalty = "kl"`. Both models run without a graph, a micro-batch a worker, so this takes less memory than an update.

use burn::tensor::backend::Backend;
use medgrpo_model::{
    group_forward::{LogProbOptions, completion_log_probs},
    vlm::Vlm,
};

use crate::{
    TrainError,
    cut::{GroupLens, Limits, Slice, cut},
    micro_batch::PieceInputs,
    rollout::RolloutGroup,
    workers::Workers,
};

/// What completions are compared with, and how.
pub(crate) struct RewardKl<'a, B: Backend, M> {
    pub(crate) reference: &'a M,
    pub(crate) temperature: f64,
    pub(crate) limits: Limits,
    pub(crate) workers: &'a Workers,
    pub(crate) device: &'a B::Device,
}

impl<B: Backend, M: Vlm<B>> RewardKl<'_, B, M> {
    /// Notes in every completion how far `policy`, as it is before its update, is from the reference; gives the mean over all tokens.
    pub(crate) fn measure(&self, policy: &M, groups: &mut [RolloutGroup]) -> Result<f64, TrainError> {
        let pieces = cut(&GroupLens::of(groups), self.limits);
        let of_piece = {
            let groups = &*groups;
            self.workers.map(pieces.iter().collect(), |piece| self.of_piece(policy, groups, piece))
        };
        let (mut sum, mut num_tokens) = (0.0, 0);
        for (piece, found) in pieces.iter().zip(of_piece) {
            let places = piece.iter().flat_map(Slice::places);
            for ((group, completion), kl) in places.zip(found?) {
                let completion = &mut groups[group].completions[completion];
                completion.kl = Some(kl as f32);
                sum += kl;
                num_tokens += completion.token_ids.len();
            }
        }
        Ok(sum / num_tokens.max(1) as f64)
    }

    /// One number a sequence.
    fn of_piece(&self, policy: &M, groups: &[RolloutGroup], piece: &[Slice]) -> Result<Vec<f64>, TrainError> {
        let inputs = PieceInputs::new(groups, piece);
        let inputs = inputs.groups();
        let options = LogProbOptions { temperature: self.temperature, ..LogProbOptions::default() };
        let own = completion_log_probs(policy, &inputs, options, self.device)?;
        let reference = completion_log_probs(self.reference, &inputs, options, self.device)?;
        let [_, width] = own.log_probs.dims();
        let distances = (own.log_probs - reference.log_probs).into_data().convert::<f32>();
        let distances: Vec<f32> = distances.iter::<f32>().collect();
        let rows = (0..own.lens.len()).map(|row| &distances[row * width..(row + 1) * width]);
        // What is beyond a completion's end is none of its own.
        Ok(rows.zip(&own.lens).map(|(row, len)| row[..*len].iter().copied().map(f64::from).sum()).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use burn_flex::{Flex, FlexDevice};
    use medgrpo_model::{
        checkpoint::Pretrained,
        group_forward::Group,
        lora::{Adaptable, LoraConfig},
        processor::Encoded,
        qwen2_5_vl::Qwen25Vl,
    };

    use super::*;
    use crate::{
        advantage::{Advantage, Rloo},
        testing::scored_group,
    };

    type Model = Qwen25Vl<Flex>;

    /// Two models of the same shape: the second with an adapter that was merged, scaled so that it matters.
    fn models() -> [Model; 2] {
        let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/parity");
        let model = |name: &str| Model::from_dir(&checkpoint.join(name), &FlexDevice).unwrap().0;
        let adapter = checkpoint.join("../lora/language");
        let adapted = medgrpo_model::lora::load_adapter(model("flat_tied"), &adapter).unwrap();
        let config = LoraConfig {
            r: 2,
            lora_alpha: 4.0,
            lora_dropout: 0.0,
            use_rslora: false,
            target_modules: vec!["q_proj".to_owned()],
            vision: false,
        };
        // A fresh adapter changes nothing: it is merged to have both models without one.
        [model("flat_tied").with_lora(&config, 1).unwrap().merged(), adapted.merged()]
    }

    fn groups() -> Vec<RolloutGroup> {
        let prompts: [&[u32]; 2] = [&[371, 5, 9, 200, 33], &[371, 40, 8]];
        let answers: [[&[u32]; 3]; 2] =
            [[&[7, 8, 372], &[40, 372], &[9, 9, 9, 9]], [&[372], &[5, 6, 7, 8, 372], &[11, 372]]];
        prompts
            .iter()
            .zip(answers)
            .map(|(prompt, answers)| {
                let mut group = scored_group(&[Some((1.0, 1.0)), Some((0.0, 0.0)), Some((0.5, 0.5))]);
                group.prepared.prompt = Encoded { input_ids: prompt.to_vec(), ..Encoded::default() };
                for (completion, answer) in group.completions.iter_mut().zip(answers) {
                    completion.token_ids = answer.to_vec();
                }
                group
            })
            .collect()
    }

    #[test]
    fn each_completion_has_its_own_sum_however_the_step_is_cut() {
        let [policy, reference] = models();
        let alone = |model: &Model, group: &RolloutGroup, place: usize| -> f64 {
            let completions = [group.completions[place].token_ids.clone()];
            let input = Group { prompt: &group.prepared.prompt, completions: &completions };
            let options = LogProbOptions { temperature: 0.7, ..LogProbOptions::default() };
            let found = completion_log_probs(model, &[input], options, &FlexDevice).unwrap();
            found.log_probs.into_data().iter::<f32>().map(f64::from).sum()
        };
        let mut expected = Vec::new();
        for group in groups() {
            expected
                .extend((0..3).map(|place| alone(&policy, &group, place) - alone(&reference, &group, place)));
        }
        assert!(expected.iter().any(|kl| kl.abs() > 1e-2), "the two models do not differ: {expected:?}");
        for (max_sequences, max_tokens, num_workers) in
            [(1, None, 1), (2, None, 2), (3, None, 1), (6, None, 1), (6, Some(14), 2)]
        {
            let workers = Workers::new(num_workers, 2).unwrap();
            let against = |reference| RewardKl::<Flex, Model> {
                reference,
                temperature: 0.7,
                limits: Limits { max_sequences, max_tokens },
                workers: &workers,
                device: &FlexDevice,
            };
            let mut groups = groups();
            let mean = against(&reference).measure(&policy, &mut groups).unwrap();
            let found: Vec<f64> = groups
                .iter()
                .flat_map(|group| &group.completions)
                .map(|completion| f64::from(completion.kl.unwrap()))
                .collect();
            for (found, expected) in found.iter().zip(&expected) {
                assert!(
                    (found - expected).abs() < 1e-4,
                    "{found} {expected} in pieces of {max_sequences}, {max_tokens:?}"
                );
            }
            let num_tokens = 3 + 2 + 4 + 1 + 5 + 2;
            assert!((mean - expected.iter().sum::<f64>() / f64::from(num_tokens)).abs() < 1e-4);
            assert_eq!(
                against(&policy).measure(&policy, &mut groups).unwrap(),
                0.0,
                "from itself it is no way"
            );
        }
    }

    #[test]
    fn rewards_by_hand() {
        // TRL's RLOO: rewards 1, 0, 0.5 and sums 2, -1, 0 at beta 0.1 are 0.8, 0.1, 0.5, and each less the others' mean.
        let mut group = groups().swap_remove(0);
        for (completion, kl) in group.completions.iter_mut().zip([2.0, -1.0, 0.0]) {
            completion.kl = Some(kl);
        }
        let paid = |beta: f64| -> Vec<f64> {
            group.completions.iter().map(|completion| completion.payment(beta).unwrap().total).collect()
        };
        let close = |found: &[f64], expected: [f64; 3]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}");
        };
        close(&paid(0.1), [0.8, 0.1, 0.5]);
        close(&paid(0.0), [1.0, 0.0, 0.5]);
        let payments = vec![group.completions.iter().map(|completion| completion.payment(0.1)).collect()];
        close(&Rloo.advantages(&payments)[0], [0.5, -0.55, 0.05]);
        assert_eq!(group.completions[0].reward(), Some(1.0), "the reward itself stays as it is");
    }
}
