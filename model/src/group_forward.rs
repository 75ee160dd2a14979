//! Log-probabilities of completions, each prompt run once for all of its completions.
//!
//! This is the forward pass of SFT, of every policy-gradient recipe and of `medgrpo score`. Only real completion tokens
//! reach the output head, a chunk of them at a time.

use burn::tensor::{Tensor, backend::Backend};

use crate::{ModelError, group_layout::GroupLayout, processor::Encoded, token_scores::TokenScores, vlm::Vlm};

/// A prompt and what was said in answer to it.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// The prompt.
    pub prompt: &'a Encoded,
    /// Token ids of each completion; the groups of one batch have equally many, each of at least one token.
    pub completions: &'a [Vec<u32>],
}

/// Log-probabilities of the tokens of several completions.
#[derive(Clone, Debug)]
pub struct CompletionLogProbs<B: Backend> {
    /// `[sequences, max_len]`, groups one after the other; 0 in the padding.
    pub log_probs: Tensor<B, 2>,
    /// Entropy of the distribution each token was drawn from, same shape; if it was asked for.
    pub entropy: Option<Tensor<B, 2>>,
    /// Number of tokens of each sequence.
    pub lens: Vec<usize>,
}

/// How log-probabilities are computed.
#[derive(Clone, Copy, Debug)]
pub struct LogProbOptions {
    /// Logits are divided by this first, as they were when sampling.
    pub temperature: f64,
    /// Whether to give entropies too.
    pub entropy: bool,
    /// Whether these carry their gradient, which costs a backward pass through them.
    pub entropy_gradient: bool,
    /// Of how many tokens there are logits at a time; if it is not said, of as many as 64 megabytes of them hold.
    pub logits_at_once: Option<usize>,
}

impl Default for LogProbOptions {
    fn default() -> Self {
        Self { temperature: 1.0, entropy: false, entropy_gradient: false, logits_at_once: None }
    }
}

/// Log-probability of every token of every completion given its prompt and what came before it.
///
/// Gradients may be taken of them, but then all logits are kept for that:
/// [`completion_gradients`](crate::group_gradients::completion_gradients) does with less.
pub fn completion_log_probs<B: Backend, M: Vlm<B>>(
    model: &M,
    groups: &[Group<'_>],
    options: LogProbOptions,
    device: &B::Device,
) -> Result<CompletionLogProbs<B>, ModelError> {
    let layout = GroupLayout::new(model, groups)?;
    let hidden = layout.decode(model, device);
    let scores = TokenScores::in_chunks(&model.head(), &hidden, &layout.targets, options);
    Ok(CompletionLogProbs::new(&layout, scores))
}

impl<B: Backend> CompletionLogProbs<B> {
    pub(crate) fn new(layout: &GroupLayout<'_>, scores: TokenScores<B>) -> Self {
        Self {
            log_probs: layout.by_sequence(scores.log_probs),
            entropy: scores.entropy.map(|entropy| layout.by_sequence(entropy)),
            lens: layout.lens.clone(),
        }
    }
}
