//! What objectives see of a micro-batch.

use burn::tensor::{Bool, DType, Tensor, backend::Backend};

use crate::loss_mask::LossMask;

/// A micro-batch of completions; tensors are `[sequences, tokens]` unless said otherwise.
#[derive(Clone, Debug)]
pub struct TokenBatch<B: Backend> {
    /// Under the policy, with gradient.
    pub log_probs: Tensor<B, 2>,
    /// Under the policy before the step's first update.
    pub old_log_probs: Tensor<B, 2>,
    /// Under the reference; there if an objective [needs](super::Objective::needs_reference) it.
    pub ref_log_probs: Option<Tensor<B, 2>>,
    /// As told by the engine that drew the completions, where that is not the policy itself.
    pub sampling_log_probs: Option<Tensor<B, 2>>,
    /// Entropy of the policy at every token; with gradient if an objective
    /// [needs](super::Objective::needs_entropy_gradient) it.
    pub entropy: Option<Tensor<B, 2>>,
    /// Of each completion, `[sequences, 1]`.
    pub advantages: Tensor<B, 2>,
    /// What is learned from.
    pub loss_mask: LossMask,
    /// The same as numbers: [`LossMask::tensor`].
    pub mask: Tensor<B, 2>,
}

impl<B: Backend> TokenBatch<B> {
    /// `log policy - log old policy` with gradient; 0 where nothing is learned, so that no ratio overflows there.
    pub fn log_ratio(&self) -> Tensor<B, 2> {
        (self.log_probs.clone() - self.old_log_probs.clone()) * self.mask.clone()
    }

    /// `log old policy - log engine`, 0 where nothing is learned; `None` where the policy itself drew the completions.
    pub(crate) fn sampling_difference(&self) -> Option<Tensor<B, 2>> {
        let drawn = self.sampling_log_probs.clone()?;
        Some((self.old_log_probs.clone() - drawn) * self.mask.clone())
    }

    /// Mean of `values` over the tokens of each sequence that are learned from, `[sequences, 1]`; 0 where there are none.
    pub fn sequence_mean(&self, values: Tensor<B, 2>) -> Tensor<B, 2> {
        (values * self.mask.clone()).sum_dim(1) / self.mask.clone().sum_dim(1).clamp_min(1.0)
    }

    /// Entropies.
    ///
    /// # Panics
    /// If the loop did not give them.
    pub(crate) fn entropy(&self) -> Tensor<B, 2> {
        self.entropy.clone().expect("the loop gives entropies")
    }

    /// Number type of all tensors.
    pub(crate) fn dtype(&self) -> DType {
        self.log_probs.dtype()
    }

    /// 1 where a condition holds, else 0.
    pub(crate) fn indicator(&self, condition: Tensor<B, 2, Bool>) -> Tensor<B, 2> {
        condition.float().cast(self.dtype())
    }

    /// 1 for sequences whose advantage is below 0, else 0: `[sequences, 1]`.
    pub(crate) fn is_negative(&self) -> Tensor<B, 2> {
        self.indicator(self.advantages.clone().lower_elem(0.0))
    }

    /// 1 for sequences whose advantage is above 0, else 0: `[sequences, 1]`.
    pub(crate) fn is_positive(&self) -> Tensor<B, 2> {
        self.indicator(self.advantages.clone().greater_elem(0.0))
    }

    /// `negative` for sequences whose advantage is below 0, else `other`: `[sequences, 1]`.
    pub(crate) fn by_sign(&self, negative: f64, other: f64) -> Tensor<B, 2> {
        self.is_negative().mul_scalar(negative - other).add_scalar(other)
    }
}
