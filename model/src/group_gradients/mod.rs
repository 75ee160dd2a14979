//! Gradients of what is asked of completions' log-probabilities, in stages: at no time is everything kept that one
//! backward pass through the whole model would need (docs/decisions/007).
//!
//! Every stage runs forward without a graph and, once it is known what is asked of its output, again with one: the sum
//! of the output times what is asked has just that for its gradient.

#[cfg(test)]
mod laws;

use std::convert::Infallible;

use burn::{
    module::{AutodiffModule, Param},
    optim::{GradientsAccumulator, GradientsParams},
    tensor::{Tensor, backend::AutodiffBackend},
};

use crate::{
    ModelError,
    decoder::DecoderPass,
    gradients::gradients,
    group_forward::{CompletionLogProbs, Group, LogProbOptions},
    group_layout::{GroupLayout, Passes, Streams},
    token_scores::{TokenScores, chunks},
    vlm::Vlm,
};

/// What of a forward pass is kept for the backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kept {
    /// All that the layers need; logits only as long as their tokens are the only ones.
    #[default]
    Activations,
    /// The inputs of the decoder's layers: each runs a second time, alone (Chen et al. 2016).
    LayerInputs,
}

/// A model whose completions can be learned from.
pub trait LearningVlm<B: AutodiffBackend>:
    AutodiffModule<B, InnerModule: Vlm<B::InnerBackend>> + Vlm<B, Layer: AutodiffModule<B>>
{
}

impl<B: AutodiffBackend, M> LearningVlm<B> for M where
    M: AutodiffModule<B, InnerModule: Vlm<B::InnerBackend>> + Vlm<B, Layer: AutodiffModule<B>>
{
}

/// The gradients of a loss, `[1]`, that `loss` makes of the log-probabilities of completions, by the ids of `model`'s
/// parameters; and what else `loss` gives.
///
/// They are those of [`completion_log_probs`](crate::group_forward::completion_log_probs) under
/// [`gradients`], up to rounding.
///
/// # Errors
/// Those of the forward pass, and those of `loss`.
pub fn completion_gradients<B, M, T, E>(
    model: &M,
    groups: &[Group<'_>],
    options: LogProbOptions,
    kept: Kept,
    device: &B::Device,
    loss: impl FnOnce(CompletionLogProbs<B>) -> Result<(Tensor<B, 1>, T), E>,
) -> Result<(GradientsParams, T), E>
where
    B: AutodiffBackend,
    M: LearningVlm<B>,
    E: From<ModelError>,
{
    let layout = GroupLayout::new::<B, M>(model, groups)?;
    let staged = Staged { model, layout: &layout, options, device };
    match kept {
        Kept::Activations => staged.keep_activations(loss),
        Kept::LayerInputs => staged.keep_layer_inputs(loss),
    }
}

struct Staged<'a, B: AutodiffBackend, M> {
    model: &'a M,
    layout: &'a GroupLayout<'a>,
    options: LogProbOptions,
    device: &'a B::Device,
}

impl<B: AutodiffBackend, M: LearningVlm<B>> Staged<'_, B, M> {
    fn keep_activations<T, E>(
        &self,
        loss: impl FnOnce(CompletionLogProbs<B>) -> Result<(Tensor<B, 1>, T), E>,
    ) -> Result<(GradientsParams, T), E> {
        let mut sum = GradientsAccumulator::new();
        let (found, rest) = gradients(self.model, |view| {
            let hidden = self.layout.decode(view, self.device);
            let head = view.head();
            if chunks(&head, &hidden, self.options).len() == 1 {
                // All logits are there at once anyway. A backward pass of their own would wait for those of other
                // threads: burn's clean-up after it wants the locks of all graphs.
                let scores = TokenScores::new(&head, hidden, &self.layout.targets, self.options);
                return loss(CompletionLogProbs::new(self.layout, scores));
            }
            let (asked, rest) = self.through_head(hidden.clone().inner(), &mut sum, loss)?;
            Ok((asked_of(hidden, asked), rest))
        })?;
        sum.accumulate(self.model, found);
        Ok((sum.grads(), rest))
    }

    fn keep_layer_inputs<T, E>(
        &self,
        loss: impl FnOnce(CompletionLogProbs<B>) -> Result<(Tensor<B, 1>, T), E>,
    ) -> Result<(GradientsParams, T), E> {
        let Self { model, layout, device, .. } = *self;
        let Some((last, before)) = model.layers().split_last() else {
            return self.keep_activations(loss);
        };
        let plain = model.valid();
        let features = plain.encode_vision(&layout.inputs, device);
        let passes = layout.passes(&plain);
        let mut streams = layout.embed(&plain, features.clone(), device);
        let mut inputs = Vec::with_capacity(before.len());
        for layer in &plain.layers()[..before.len()] {
            inputs.push(streams.clone());
            streams = passes.run(layer, streams);
        }
        let hidden = passes.run_last(&plain.layers()[before.len()], streams.clone());

        let mut sum = GradientsAccumulator::new();
        let (asked, rest) = self.through_head(layout.of_pass(hidden), &mut sum, loss)?;
        let passes = Passes::from_inner(&passes);
        let mut asked = self.through_layer(last, streams, &mut sum, |layer, streams| {
            asked_of(passes.run_last(layer, streams), layout.as_pass(asked))
        });
        for (layer, streams) in before.iter().zip(inputs).rev() {
            asked = self.through_layer(layer, streams, &mut sum, |layer, streams| {
                passes.run(layer, streams).asked(asked)
            });
        }
        let Ok((found, ())) = gradients(model, |view| {
            let features = if model.vision_learns() {
                view.encode_vision(&layout.inputs, device)
            } else {
                features.map(Tensor::from_inner)
            };
            Ok::<_, Infallible>((layout.embed(view, features, device).asked(asked), ()))
        });
        sum.accumulate(model, found);
        Ok((sum.grads(), rest))
    }

    /// What is asked of `hidden`, `[num_tokens, hidden]`, the last layer's output.
    fn through_head<T, E>(
        &self,
        hidden: Tensor<B::InnerBackend, 2>,
        sum: &mut GradientsAccumulator<M>,
        loss: impl FnOnce(CompletionLogProbs<B>) -> Result<(Tensor<B, 1>, T), E>,
    ) -> Result<(Tensor<B::InnerBackend, 2>, T), E> {
        let Self { model, layout, options, .. } = *self;
        let head = model.head();
        let plain = head.valid();
        let chunks = chunks(&plain, &hidden, options);
        if chunks.len() == 1 {
            // All logits are there at once: the loss can be made of them directly.
            let part = (head, leaf(hidden));
            let (mut found, rest) = gradients(&part, |(head, hidden)| {
                let scores = TokenScores::new(head, hidden.val(), &layout.targets, options);
                loss(CompletionLogProbs::new(layout, scores))
            })?;
            let asked = take(&mut found, &part.1);
            sum.accumulate(model, found);
            return Ok((asked, rest));
        }

        let scores = TokenScores::in_chunks(&plain, &hidden, &layout.targets, options);
        let CompletionLogProbs { log_probs, entropy, lens } = CompletionLogProbs::new(layout, scores);
        let (learned, fixed) = if options.entropy_gradient { (entropy, None) } else { (None, entropy) };
        let scored = (leaf(log_probs), learned.map(leaf));
        let (mut found, rest) = gradients(&scored, |(log_probs, learned)| {
            let fixed = fixed.map(Tensor::from_inner);
            let entropy = learned.as_ref().map(Param::val).or(fixed);
            loss(CompletionLogProbs { log_probs: log_probs.val(), entropy, lens })
        })?;
        let of_log_probs = layout.by_token(take(&mut found, &scored.0));
        let of_entropy = scored.1.as_ref().map(|entropy| layout.by_token(take(&mut found, entropy)));

        let options = LogProbOptions { entropy: of_entropy.is_some(), ..options };
        let mut asked = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let rows =
                |tensor: &Tensor<B::InnerBackend, 2>| tensor.clone().narrow(0, chunk.start, chunk.len());
            let part = (head.clone(), leaf(rows(&hidden)));
            let Ok((mut found, ())) = gradients(&part, |(head, hidden)| {
                let scores = TokenScores::new(head, hidden.val(), &layout.targets[chunk.clone()], options);
                let of_log_probs = asked_of(scores.log_probs, rows(&of_log_probs));
                let of_all = match (scores.entropy, &of_entropy) {
                    (Some(entropy), Some(asked)) => of_log_probs + asked_of(entropy, rows(asked)),
                    _ => of_log_probs,
                };
                Ok::<_, Infallible>((of_all, ()))
            });
            asked.push(take(&mut found, &part.1));
            sum.accumulate(model, found);
        }
        Ok((Tensor::cat(asked, 0), rest))
    }

    /// What is asked of `streams`, the input of `layer`, if `asked` is made of its output.
    fn through_layer(
        &self,
        layer: &M::Layer,
        streams: Streams<B::InnerBackend>,
        sum: &mut GradientsAccumulator<M>,
        asked: impl FnOnce(&M::Layer, Streams<B>) -> Tensor<B, 1>,
    ) -> Streams<B::InnerBackend> {
        let part = (layer.clone(), leaf::<B>(streams.prompts), leaf::<B>(streams.completions));
        let Ok((mut found, ())) = gradients(&part, |(layer, prompts, completions)| {
            let streams = Streams { prompts: prompts.val(), completions: completions.val() };
            Ok::<_, Infallible>((asked(layer, streams), ()))
        });
        let asked = Streams { prompts: take(&mut found, &part.1), completions: take(&mut found, &part.2) };
        sum.accumulate(self.model, found);
        asked
    }
}

impl<B: AutodiffBackend> Streams<B> {
    /// See [`asked_of`].
    fn asked(self, asked: Streams<B::InnerBackend>) -> Tensor<B, 1> {
        asked_of(self.prompts, asked.prompts) + asked_of(self.completions, asked.completions)
    }
}

impl<B: AutodiffBackend> Passes<B> {
    fn from_inner(passes: &Passes<B::InnerBackend>) -> Self {
        Self {
            prompts: DecoderPass::from_inner(&passes.prompts),
            completions: DecoderPass::from_inner(&passes.completions),
        }
    }
}

/// A scalar whose gradient with respect to `output` is `asked`.
fn asked_of<B: AutodiffBackend>(output: Tensor<B, 2>, asked: Tensor<B::InnerBackend, 2>) -> Tensor<B, 1> {
    (output * Tensor::from_inner(asked)).sum()
}

fn leaf<B: AutodiffBackend>(tensor: Tensor<B::InnerBackend, 2>) -> Param<Tensor<B, 2>> {
    Param::from_tensor(Tensor::from_inner(tensor))
}

/// The gradient of `leaf`; zeros if nothing depends on it.
fn take<B: AutodiffBackend>(
    found: &mut GradientsParams,
    leaf: &Param<Tensor<B, 2>>,
) -> Tensor<B::InnerBackend, 2> {
    found.remove(leaf.id).unwrap_or_else(|| leaf.val().inner().zeros_like())
}
