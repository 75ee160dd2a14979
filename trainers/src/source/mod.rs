//! Where the token sequences of a step come from.

mod demonstrations;
mod on_policy;

use medgrpo_model::vlm::Vlm;

pub use demonstrations::Demonstrations;
pub use on_policy::OnPolicy;

use crate::{
    TrainError,
    rollout::{PreparedSample, RolloutGroup},
};
use burn::tensor::backend::Backend;

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
}
