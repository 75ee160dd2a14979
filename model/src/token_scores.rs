//! Log-probabilities and entropies of tokens from what the last layer made, so many tokens' logits at a time.
//!
//! Logits are the widest tensors by far: a vocabulary of numbers for every token, and several such tensors for a
//! softmax and its gradient.

use std::ops::Range;

use burn::tensor::{Tensor, activation::log_softmax, backend::Backend};

use crate::{group_forward::LogProbOptions, group_layout::ints, output_head::OutputHead};

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
        let targets = ints::<B>(targets.to_vec(), &hidden.device()).reshape([targets.len(), 1]);
        let all = log_softmax(head.forward(hidden).div_scalar(options.temperature), 1);
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

/// Which rows of `hidden` go through the head together.
pub(crate) fn chunks<B: Backend>(
    head: &OutputHead<B>,
    hidden: &Tensor<B, 2>,
    options: LogProbOptions,
) -> Vec<Range<usize>> {
    let [num_tokens, _] = hidden.dims();
    let fitting = || LOGITS_BYTES / (head.vocab_size() * hidden.dtype().size()).max(1);
    let size = options.logits_at_once.unwrap_or_else(fitting).max(1);
    (0..num_tokens).step_by(size).map(|start| start..(start + size).min(num_tokens)).collect()
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
}
