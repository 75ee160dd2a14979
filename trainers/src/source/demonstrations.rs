//! Answers that people wrote: supervised fine-tuning.

use burn::tensor::backend::Backend;
use medgrpo_model::vlm::Vlm;

use super::GroupSource;
use crate::{
    TrainError,
    rollout::{PreparedSample, RolloutCompletion, RolloutGroup},
};

/// Gives each sample's own answer as its only completion.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demonstrations;

impl<B: Backend, M: Vlm<B>> GroupSource<B, M> for Demonstrations {
    fn collect(
        &mut self,
        _policy: &M,
        samples: Vec<PreparedSample>,
        _seed: u64,
        _device: &B::Device,
    ) -> Result<Vec<RolloutGroup>, TrainError> {
        samples.into_iter().map(demonstrate).collect()
    }
}

fn demonstrate(prepared: PreparedSample) -> Result<RolloutGroup, TrainError> {
    let Some(token_ids) = prepared.answer_ids.clone() else {
        return Err(TrainError::Sample {
            origin: prepared.origin,
            message: "has no answer to learn from; SFT needs records with a gpt turn".to_owned(),
        });
    };
    let text = prepared.sample.answer.clone().unwrap_or_default();
    Ok(RolloutGroup {
        prepared,
        completions: vec![RolloutCompletion {
            token_ids,
            text,
            truncated: false,
            score: None,
            sampling_log_probs: None,
            kl: None,
        }],
    })
}
