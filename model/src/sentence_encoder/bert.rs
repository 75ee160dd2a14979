//! The encoder of BERT (Devlin et al. 2019): post-norm layers in which every token sees every other.
//!
//! Source: `BertModel` of transformers 4.57 without its pooler, which sentence vectors do not use.

use std::borrow::Cow;

use burn::{
    module::{Initializer, Module},
    nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear},
    tensor::{Int, Tensor, backend::Backend},
};

use super::BertConfig;
use crate::{
    attention::{Attention, Heads, KeyValue, Rows},
    gated_mlp::new_linear,
    gelu::Gelu,
    weights::NameMap,
};

/// Embeddings and layers.
#[derive(Module, Debug)]
pub(super) struct Bert<B: Backend> {
    word_embeddings: Embedding<B>,
    position_embeddings: Embedding<B>,
    token_type_embeddings: Embedding<B>,
    embedding_norm: LayerNorm<B>,
    layers: Vec<BertLayer<B>>,
    #[module(skip)]
    heads: Heads,
}

/// One layer.
#[derive(Module, Debug)]
pub(super) struct BertLayer<B: Backend> {
    query: Linear<B>,
    key: Linear<B>,
    value: Linear<B>,
    attention_output: Linear<B>,
    attention_norm: LayerNorm<B>,
    intermediate: Linear<B>,
    output: Linear<B>,
    output_norm: LayerNorm<B>,
}

/// Fields of the modules above and what checkpoints call them.
const PLACES: [(&str, &str); 12] = [
    ("word_embeddings", "embeddings.word_embeddings"),
    ("position_embeddings", "embeddings.position_embeddings"),
    ("token_type_embeddings", "embeddings.token_type_embeddings"),
    ("embedding_norm", "embeddings.LayerNorm"),
    ("query", "attention.self.query"),
    ("key", "attention.self.key"),
    ("value", "attention.self.value"),
    ("attention_output", "attention.output.dense"),
    ("attention_norm", "attention.output.LayerNorm"),
    ("intermediate", "intermediate.dense"),
    ("output", "output.dense"),
    ("output_norm", "output.LayerNorm"),
];

/// How the names of `BertModel`'s tensors meet the fields above.
pub(super) const NAMES: NameMap =
    NameMap { parameter: parameter_name, stored: stored_name, is_ignorable: is_of_another_head };

/// `layers.3.query.weight` as `encoder.layer.3.attention.self.query.weight`.
fn parameter_name(path: &str) -> Cow<'_, str> {
    let in_layer = path.strip_prefix("layers.").and_then(|rest| rest.split_once('.'));
    let (prefix, rest) = match in_layer {
        Some((layer, rest)) => (format!("encoder.layer.{layer}."), rest),
        None => (String::new(), path),
    };
    let (field, leaf) = rest.split_once('.').unwrap_or((rest, ""));
    let place = PLACES.iter().find(|(ours, _)| *ours == field).map_or(field, |(_, theirs)| theirs);
    let leaf = match leaf {
        "gamma" => "weight",
        "beta" => "bias",
        other => other,
    };
    Cow::Owned(format!("{prefix}{place}.{leaf}"))
}

/// Without the prefix of checkpoints that carry a head, and with the newer names of norms.
fn stored_name(name: &str) -> Cow<'_, str> {
    let name = name.strip_prefix("bert.").unwrap_or(name);
    for (old, new) in [(".gamma", ".weight"), (".beta", ".bias")] {
        if let Some(norm) = name.strip_suffix(old) {
            return Cow::Owned(format!("{norm}{new}"));
        }
    }
    Cow::Borrowed(name)
}

/// Tensors that no sentence vector depends on.
fn is_of_another_head(name: &str) -> bool {
    name == "embeddings.position_ids" || name.starts_with("pooler.") || name.starts_with("cls.")
}

impl<B: Backend> Bert<B> {
    /// The network without weights.
    pub(super) fn new(config: &BertConfig, device: &B::Device) -> Self {
        let hidden = config.hidden_size;
        let table =
            |rows| EmbeddingConfig::new(rows, hidden).with_initializer(Initializer::Zeros).init(device);
        let heads = config.num_attention_heads;
        Self {
            word_embeddings: table(config.vocab_size),
            position_embeddings: table(config.max_position_embeddings),
            token_type_embeddings: table(config.type_vocab_size),
            embedding_norm: new_norm(config, device),
            layers: (0..config.num_hidden_layers).map(|_| BertLayer::new(config, device)).collect(),
            heads: Heads { query: heads, kv: heads, dim: hidden / heads },
        }
    }

    /// Hidden states `[batch, tokens, hidden]` of token ids `[batch, tokens]`; all tokens are real ones of sentence A.
    pub(super) fn forward(&self, ids: Tensor<B, 2, Int>) -> Tensor<B, 3> {
        let [batch, len] = ids.dims();
        let rows = Rows::independent(batch, len);
        let words = self.word_embeddings.forward(ids);
        let hidden = words.dims()[2];
        let sentence_a = self.token_type_embeddings.weight.val().narrow(0, 0, 1);
        let positions = self.position_embeddings.weight.val().narrow(0, 0, len);
        let embedded = words.reshape([rows.tokens(), hidden]) + sentence_a;
        let embedded = embedded.reshape([batch, len * hidden]) + positions.reshape([1, len * hidden]);
        let embedded = embedded.reshape([rows.tokens(), hidden]);
        let embedded = self.embedding_norm.forward(embedded);
        self.layers
            .iter()
            .fold(embedded, |x, layer| layer.forward(x, rows, self.heads))
            .reshape([batch, len, hidden])
    }
}

impl<B: Backend> BertLayer<B> {
    fn new(config: &BertConfig, device: &B::Device) -> Self {
        let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
        let linear = |input, output| new_linear(input, output, true, device);
        Self {
            query: linear(hidden, hidden),
            key: linear(hidden, hidden),
            value: linear(hidden, hidden),
            attention_output: linear(hidden, hidden),
            attention_norm: new_norm(config, device),
            intermediate: linear(hidden, intermediate),
            output: linear(intermediate, hidden),
            output_norm: new_norm(config, device),
        }
    }

    fn forward(&self, x: Tensor<B, 2>, rows: Rows, heads: Heads) -> Tensor<B, 2> {
        let own = KeyValue::new(self.key.forward(x.clone()), self.value.forward(x.clone()), rows, heads);
        let attended = Attention::full(rows, heads).attend(self.query.forward(x.clone()), &own, None);
        let x = self.attention_norm.forward(self.attention_output.forward(attended) + x);
        let widened = Gelu.forward(self.intermediate.forward(x.clone()));
        self.output_norm.forward(self.output.forward(widened) + x)
    }
}

fn new_norm<B: Backend>(config: &BertConfig, device: &B::Device) -> LayerNorm<B> {
    LayerNormConfig::new(config.hidden_size).with_epsilon(config.layer_norm_eps).init(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_stored_tensors_meet_under_one_name() {
        let wanted = "encoder.layer.3.attention.output.LayerNorm.weight";
        assert_eq!(parameter_name("layers.3.attention_norm.gamma"), wanted);
        assert_eq!(stored_name("bert.encoder.layer.3.attention.output.LayerNorm.gamma"), wanted);
        assert_eq!(stored_name(wanted), wanted);
        let word = parameter_name("word_embeddings.weight");
        assert_eq!(word, "embeddings.word_embeddings.weight");
        assert_eq!(parameter_name("embedding_norm.beta"), "embeddings.LayerNorm.bias");
        assert!(!is_of_another_head(&word) && is_of_another_head("pooler.dense.bias"));
    }
}
