//! Where the token sequences of a step come from.

mod demonstrations;
mod on_policy;

use burn::tensor::backend::Backend;
use medgrpo_model::vlm::Vlm;
use serde_json::Value;

pub use demonstrations::Demonstrations;
pub use on_policy::OnPolicy;

use crate::{
    TrainError,
    rollout::{PreparedSample, RolloutGroup},
};

/// Turns the prompts of a step into groups of answers.
///
/// `policy` is the model without autodiff. All randomness must follow from `seed` and the samples, so that a resumed run
/// draws the same answers.
pub trait GroupSource<B: Backend, M: Vlm<B>>: Send + Sync {
    /// One group per sample, in order.
    fn collect(
        &mut self,
        policy: &M,
        samples: Vec<PreparedSample>,
        seed: u64,
        device: &B::Device,
    ) -> Result<Vec<RolloutGroup>, TrainError>;

    /// Called when the groups of a step are together, from however many draws.
    fn end_step(&mut self) {}

    /// What it has learned so far beyond the policy, for a checkpoint: the running statistics of a normalisation.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Goes on from a checkpoint's [`state`](Self::state).
    fn restore(&mut self, state: &Value) -> Result<(), TrainError> {
        let _ = state;
        Ok(())
    }
}
