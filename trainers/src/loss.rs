//! The loss of a micro-batch: terms, each shared among tokens by its own rule.

use burn::tensor::{Tensor, TensorData, backend::Backend};

use crate::{
    aggregate::StepTotals,
    objective::{Level, Metric, TokenBatch, TokenLosses},
    recipe::Term,
};

/// A micro-batch's share of a step.
pub(crate) struct Loss<B: Backend> {
    /// With gradient, `[1]`.
    pub(crate) loss: Tensor<B, 1>,
    /// Named shares of means over the step, `[1]` each.
    pub(crate) metrics: Vec<(&'static str, Tensor<B, 1>)>,
}

/// Adds up the terms.
pub(crate) fn loss<B: Backend>(terms: &[Term<B>], batch: &TokenBatch<B>, totals: StepTotals) -> Loss<B> {
    let mut loss = batch.log_probs.clone().detach().sum().zeros_like();
    let mut metrics = Vec::new();
    for term in terms {
        let out = weighted(term, batch, totals);
        loss = loss + out.losses.sum().mul_scalar(term.weight);
        metrics.extend(out.metrics.into_iter().map(|metric| (metric.name, share(metric, batch, totals))));
    }
    Loss { loss, metrics }
}

/// The losses of a term's tokens, each times the token's share in the step; without the term's own factor.
pub(crate) fn weighted<B: Backend>(
    term: &Term<B>,
    batch: &TokenBatch<B>,
    totals: StepTotals,
) -> TokenLosses<B> {
    let out = term.objective.losses(batch);
    let weights = term.aggregate.token_weights(&batch.loss_mask, totals);
    let weights = TensorData::new(weights, batch.loss_mask.dims());
    let weights = Tensor::<B, 2>::from_data(weights, (&batch.log_probs.device(), batch.dtype()));
    TokenLosses { losses: out.losses * weights, ..out }
}

/// What a micro-batch adds to the mean of a quantity over the step.
pub(crate) fn share<B: Backend>(
    metric: Metric<B>,
    batch: &TokenBatch<B>,
    totals: StepTotals,
) -> Tensor<B, 1> {
    match metric.per {
        Level::Token => {
            (metric.values * batch.mask.clone()).sum().div_scalar(totals.num_tokens.max(1) as f64)
        }
        Level::Sequence => metric.values.sum().div_scalar(totals.num_sequences.max(1) as f64),
    }
}
