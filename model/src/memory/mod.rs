//! How much memory a stage of training will take, from sizes alone: no weight is loaded and nothing is computed.
//!
//! The passes are walked with tensors that have a length and no numbers. What is alive at a time then follows from the
//! same rules as in the real pass (`tape`), and the peak from what is alive; no constant is fitted. Parameters and the
//! state of the optimizer rest beside that: [`ParameterBytes`].

mod arena;
#[cfg(test)]
mod laws;
mod layers;
mod ops;
mod rollout;
mod shape;
mod tape;
mod update;

use burn::tensor::backend::Backend;

pub use self::shape::{AdapterShape, ModelShape, ParameterBytes};
use self::{arena::Arena, update::Update};
use crate::{group_forward::LogProbOptions, group_gradients::Kept};

/// What a backend does in its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Habits {
    /// Whether attention, norms and the like are operations of ours (docs/decisions/008): then nothing is as large as
    /// tokens times keys. Composed of tensor operations they write the scores of all pairs of tokens.
    pub own_operations: bool,
    /// Whether matrix products and zeros are made in one place and copied to an aligned one, as burn-flex 0.21 does.
    pub aligns_by_copying: bool,
}

impl Habits {
    /// Those of a backend.
    pub fn of<B: Backend>() -> Self {
        let in_memory = crate::host_op::serves::<B>();
        Self { own_operations: in_memory, aligns_by_copying: in_memory }
    }
}

/// The media of all prompts of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MediaShape {
    /// Tokens that stand for them.
    pub num_tokens: usize,
    /// Patches of the largest image or pair of frames.
    pub slice_patches: usize,
}

/// A batch of prompts, each with as many completions.
#[derive(Clone, Copy, Debug)]
pub struct PassShape {
    /// What computes it.
    pub habits: Habits,
    /// On how many threads.
    pub threads: usize,
    /// Number of prompts.
    pub prompts: usize,
    /// Tokens of the longest.
    pub prompt_tokens: usize,
    /// Completions of each.
    pub completions: usize,
    /// Tokens of the longest, at least one.
    pub completion_tokens: usize,
    /// What the prompts show.
    pub media: MediaShape,
    /// What is computed of their tokens.
    pub options: LogProbOptions,
    /// Whether the loss asks a reference for log-probabilities.
    pub has_reference: bool,
}

impl ModelShape {
    /// Bytes at the peak of [`completion_gradients`](crate::group_gradients::completion_gradients), the gradients that it
    /// gives included, above the parameters.
    pub fn update_bytes(&self, shape: &PassShape, kept: Kept) -> usize {
        let arena = Arena::new(shape.habits.aligns_by_copying);
        Update { model: self, shape, arena: &arena }.run(kept);
        arena.peak()
    }

    /// Bytes at the peak of [`generate`](crate::generate::generate) without autodiff, above the parameters.
    pub fn rollout_bytes(&self, shape: &PassShape) -> usize {
        let arena = Arena::new(shape.habits.aligns_by_copying);
        rollout::run(self, shape, &arena);
        arena.peak()
    }
}
