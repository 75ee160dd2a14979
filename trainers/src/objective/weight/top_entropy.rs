//! Only tokens at which the policy decides something.

use burn::tensor::{Tensor, backend::Backend};

use super::TokenWeight;
use crate::{
    loss_mask::LossMask,
    objective::{Level, Metric, TokenBatch},
};

/// Keeps the tokens whose entropy is at or above a quantile of the micro-batch's.
///
/// The quantile is that of the micro-batch, as in TRL: with it, how a step is cut matters. Source: Wang et al. 2025
/// (Beyond the 80/20 rule); TRL's `top_entropy_quantile`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopEntropy {
    /// Share of tokens to keep, from 0 to 1.
    pub top_entropy_quantile: f64,
}

impl TopEntropy {
    /// The tokens that are kept.
    pub fn kept<B: Backend>(&self, batch: &TokenBatch<B>) -> LossMask {
        let entropies: Vec<f64> = batch.entropy().detach().into_data().convert::<f64>().iter().collect();
        let learned = entropies.iter().zip(batch.loss_mask.as_slice()).filter(|(_, learns)| **learns);
        // f32, as in TRL: entropies are compared in their own precision, the threshold is one of an f32 quantile.
        let sorted: Vec<f32> = {
            let mut values: Vec<f32> = learned.map(|(entropy, _)| *entropy as f32).collect();
            values.sort_unstable_by(f32::total_cmp);
            values
        };
        let threshold = quantile(&sorted, 1.0 - self.top_entropy_quantile);
        batch
            .loss_mask
            .filter(|place| threshold.is_some_and(|threshold| entropies[place] >= f64::from(threshold)))
    }
}

/// The quantile of ascending `values`, linear between neighbours; `None` of nothing.
fn quantile(values: &[f32], level: f64) -> Option<f32> {
    let rank = level as f32 * values.len().checked_sub(1)? as f32;
    let (below, above) =
        (values[rank.floor() as usize], values[(rank.ceil() as usize).min(values.len() - 1)]);
    let share = rank.fract();
    // From the nearer neighbour: exact at both ends.
    Some(if share < 0.5 { below + share * (above - below) } else { above - (above - below) * (1.0 - share) })
}

impl<B: Backend> TokenWeight<B> for TopEntropy {
    fn weights(&self, batch: &TokenBatch<B>) -> (Tensor<B, 2>, Vec<Metric<B>>) {
        let kept = self.kept(batch).tensor(batch.dtype(), &batch.log_probs.device());
        let metric = Metric { name: "top_entropy/kept", per: Level::Token, values: kept.clone() };
        (kept, vec![metric])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_by_hand() {
        let values = [1.0, 2.0, 4.0];
        let quantiles: Vec<f32> =
            [0.0, 0.25, 0.5, 0.75, 1.0].map(|level| quantile(&values, level).unwrap()).to_vec();
        assert_eq!(quantiles, [1.0, 1.5, 2.0, 3.0, 4.0]);
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[3.0], 0.7), Some(3.0));
    }
}
