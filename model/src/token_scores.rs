//! Log-probabilities and entropies of tokens from what the last layer made, so many tokens' logits at a time.
//!
//! Logits are the widest tensors by far: a vocabulary of numbers for every token, and several such tensors for a
//! softmax and its gradient.

use std::{ops::Range, sync::Arc};

use burn::tensor::{Tensor, activation::log_softmax, backend::Backend};
use rayon::prelude::*;

use crate::{
    group_forward::LogProbOptions,
    group_layout::ints,
    host_op::{HostOp, apply},
    lanes::{Exponentials, exp, vectorized},
    output_head::OutputHead,
};

/// What logits may take at a time if nobody says otherwise, in bytes.
const LOGITS_BYTES: usize = 64 << 20;

/// One number a token, `[tokens, 1]`.
#[derive(Clone)]
pub(crate) struct TokenScores<B: Backend> {
    pub(crate) log_probs: Tensor<B, 2>,
    pub(crate) entropy: Option<Tensor<B, 2>>,
}

impl<B: Backend> TokenScores<B> {
    /// Those of `targets`, one a row of `hidden`, `[tokens, hidden]`; all logits at a time.
    pub(crate) fn new(
        head: &OutputHead<B>,
        hidden: Tensor<B, 2>,
        targets: &[i32],
        options: LogProbOptions,
    ) -> Self {
        Self::of_logits(head.forward(hidden), targets, options)
    }

    fn of_logits(logits: Tensor<B, 2>, targets: &[i32], options: LogProbOptions) -> Self {
        let op = Choices {
            targets: targets.into(),
            vocab_size: logits.dims()[1],
            temperature: options.temperature as f32,
            entropy: options.entropy,
        };
        let Some(found) = apply(&op, [logits.clone().into_primitive()]) else {
            return Self::composed(logits, targets, options);
        };
        let found = Tensor::<B, 2>::from_primitive(found);
        let entropy = options.entropy.then(|| {
            let entropy = found.clone().narrow(1, 1, 1);
            if options.entropy_gradient { entropy } else { entropy.detach() }
        });
        Self { log_probs: found.narrow(1, 0, 1), entropy }
    }

    fn composed(logits: Tensor<B, 2>, targets: &[i32], options: LogProbOptions) -> Self {
        let targets = ints::<B>(targets.to_vec(), &logits.device()).reshape([targets.len(), 1]);
        let all = log_softmax(logits.div_scalar(options.temperature), 1);
        let entropy = options.entropy.then(|| {
            let all = if options.entropy_gradient { all.clone() } else { all.clone().detach() };
            (all.clone().exp() * all).sum_dim(1).neg()
        });
        Self { log_probs: all.gather(1, targets), entropy }
    }

    /// The same, from a chunk of logits after the other.
    pub(crate) fn in_chunks(
        head: &OutputHead<B>,
        hidden: &Tensor<B, 2>,
        targets: &[i32],
        options: LogProbOptions,
    ) -> Self {
        let (mut log_probs, mut entropies) = (Vec::new(), Vec::new());
        for chunk in chunks(head, hidden, options) {
            let rows = hidden.clone().narrow(0, chunk.start, chunk.len());
            let scores = Self::new(head, rows, &targets[chunk], options);
            log_probs.push(scores.log_probs);
            entropies.extend(scores.entropy);
        }
        Self {
            log_probs: Tensor::cat(log_probs, 0),
            entropy: options.entropy.then(|| Tensor::cat(entropies, 0)),
        }
    }
}

/// From logits, `[tokens, vocab_size]`, to the log-probability of each row's target and, if asked for, the row's entropy:
/// `[tokens, 1 or 2]`.
#[derive(Clone, Debug)]
struct Choices {
    targets: Arc<[i32]>,
    vocab_size: usize,
    temperature: f32,
    entropy: bool,
}

impl Choices {
    fn width(&self) -> usize {
        1 + usize::from(self.entropy)
    }
}

impl HostOp<1> for Choices {
    type Kept = Vec<Exponentials>;

    fn output_shape(&self) -> Vec<usize> {
        vec![self.targets.len(), self.width()]
    }

    fn forward(&self, [logits]: [&[f32]; 1]) -> (Vec<f32>, Vec<Exponentials>) {
        let mut found = vec![0.0; self.targets.len() * self.width()];
        let rows = logits.par_chunks_exact(self.vocab_size).zip(&*self.targets);
        let kept = found
            .par_chunks_exact_mut(self.width())
            .zip(rows)
            .map(|(found, (logits, target))| {
                let all = Exponentials::of(logits, 1.0 / self.temperature);
                found[0] = all.log_prob(logits[*target as usize]);
                if let Some(entropy) = found.get_mut(1) {
                    *entropy = all.entropy();
                }
                all
            })
            .collect();
        (found, kept)
    }

    fn gradients(
        &self,
        [logits]: [&[f32]; 1],
        _: &[f32],
        kept: &Vec<Exponentials>,
        grad: &[f32],
    ) -> [Vec<f32>; 1] {
        let mut found = vec![0.0; logits.len()];
        let rows = logits.par_chunks_exact(self.vocab_size).zip(grad.par_chunks_exact(self.width()));
        let places = kept.par_iter().zip(&*self.targets);
        found.par_chunks_exact_mut(self.vocab_size).zip(rows).zip(places).for_each(
            |((found, (logits, grad)), (all, target))| {
                let (of_choice, of_entropy) = (grad[0], grad.get(1).copied().unwrap_or(0.0));
                let (sum, log_sum, entropy) = (all.sum(), all.log_sum(), all.entropy());
                vectorized(
                    #[inline(always)]
                    || {
                        for (found, x) in found.iter_mut().zip(logits) {
                            let distance = all.distance(*x);
                            let probability = exp(distance) / sum;
                            let surprise = distance - log_sum + entropy;
                            *found = -probability * (of_choice + of_entropy * surprise) / self.temperature;
                        }
                    },
                );
                found[*target as usize] += of_choice / self.temperature;
            },
        );
        [found]
    }
}

/// Which rows of `hidden` go through the head together.
pub(crate) fn chunks<B: Backend>(
    head: &OutputHead<B>,
    hidden: &Tensor<B, 2>,
    options: LogProbOptions,
) -> Vec<Range<usize>> {
    let [num_tokens, _] = hidden.dims();
    let size = rows_at_once(head.vocab_size(), hidden.dtype().size(), options);
    (0..num_tokens).step_by(size).map(|start| start..(start + size).min(num_tokens)).collect()
}

/// How many rows of logits there are at a time, if a number takes `number_bytes`.
pub(crate) fn rows_at_once(vocab_size: usize, number_bytes: usize, options: LogProbOptions) -> usize {
    let fitting = || LOGITS_BYTES / (vocab_size * number_bytes).max(1);
    options.logits_at_once.unwrap_or_else(fitting).max(1)
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use burn_flex::Flex;

    use super::*;
    use crate::rms_norm::RmsNorm;

    fn ranges(num_tokens: usize, vocab_size: usize, logits_at_once: Option<usize>) -> Vec<Range<usize>> {
        let device = Default::default();
        let weight = Param::from_tensor(Tensor::<Flex, 2>::zeros([1, vocab_size], &device));
        let head = OutputHead::new(RmsNorm::new(1, 1e-6, &device), weight);
        let options = LogProbOptions { logits_at_once, ..LogProbOptions::default() };
        chunks(&head, &Tensor::zeros([num_tokens, 1], &device), options)
    }

    #[test]
    fn every_token_is_in_one_chunk_and_no_chunk_is_larger_than_asked() {
        assert_eq!(ranges(7, 10, Some(3)), [0..3, 3..6, 6..7]);
        assert_eq!(ranges(6, 10, Some(3)), [0..3, 3..6]);
        assert_eq!(ranges(2, 10, Some(3)).len(), 1);
        // A user who asks for none gets the least there is.
        assert_eq!(ranges(2, 10, Some(0)), [0..1, 1..2]);
    }

    #[test]
    fn unless_asked_a_chunk_of_logits_fits_its_budget() {
        let vocab_size = 151_936;
        let found = ranges(500, vocab_size, None);
        assert_eq!((found[0].len(), found.last().unwrap().end), (110, 500));
        assert!(110 * vocab_size * 4 <= LOGITS_BYTES && 111 * vocab_size * 4 > LOGITS_BYTES);
    }

    #[test]
    fn one_operation_equals_the_composed_ones() {
        let targets: Vec<i32> = (0..20).map(|row| row * 7 % 50).collect();
        for (entropy, entropy_gradient) in [(false, false), (true, false), (true, true)] {
            let options =
                LogProbOptions { temperature: 0.7, entropy, entropy_gradient, ..LogProbOptions::default() };
            let both = |scores: TokenScores<_>| {
                Tensor::cat(std::iter::once(scores.log_probs).chain(scores.entropy).collect(), 1)
            };
            crate::host_op::check(
                "choices",
                [[20, 50]],
                |[logits]| both(TokenScores::of_logits(logits, &targets, options)),
                |[logits]| both(TokenScores::composed(logits, &targets, options)),
            );
        }
    }
}
