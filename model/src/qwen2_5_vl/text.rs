//! The language model: pre-norm decoder layers with grouped-query attention and multimodal rotary positions.

use burn::{
    module::{Initializer, Module},
    nn::{Embedding, EmbeddingConfig},
    tensor::{Tensor, backend::Backend},
};

use super::TextConfig;
use crate::{
    attention::{Attention, Heads, KeyValue, Mask, PassMask, Rows},
    decoder::{DecoderPass, Layer},
    gated_mlp::GatedMlp,
    precision::{Precision, raised},
    projection::{Projection, named},
    rms_norm::RmsNorm,
    rotary::{RotaryTable, inverse_frequencies},
    vlm::Positions,
};

/// Embedding table, layers and final norm.
#[derive(Module, Debug)]
pub struct TextModel<B: Backend> {
    pub(super) embed_tokens: Embedding<B>,
    layers: Vec<DecoderLayer<B>>,
    pub(super) norm: RmsNorm<B>,
}

/// One layer.
#[derive(Module, Debug)]
pub struct DecoderLayer<B: Backend> {
    input_layernorm: RmsNorm<B>,
    self_attn: SelfAttention<B>,
    post_attention_layernorm: RmsNorm<B>,
    mlp: GatedMlp<B>,
}

/// Projections of one layer's attention.
#[derive(Module, Debug)]
pub struct SelfAttention<B: Backend> {
    q_proj: Projection<B>,
    k_proj: Projection<B>,
    v_proj: Projection<B>,
    o_proj: Projection<B>,
}

impl From<&TextConfig> for Heads {
    fn from(config: &TextConfig) -> Self {
        Self { query: config.num_attention_heads, kv: config.num_key_value_heads, dim: config.head_dim() }
    }
}

/// What all layers share in a pass over tokens at `positions`.
pub(super) fn new_pass<B: Backend>(
    config: &TextConfig,
    rows: Rows,
    positions: &Positions,
    own_mask: Option<&Mask>,
    prompt_mask: Option<&Mask>,
    precision: Precision,
) -> DecoderPass<B> {
    let heads = Heads::from(config);
    let angles = mrope_angles(config, positions);
    let rotary_q = RotaryTable::new(&angles, heads.dim / 2, heads.query);
    DecoderPass {
        attention: Attention {
            rows,
            heads,
            own_mask: own_mask.map(|mask| PassMask::own(mask.clone())),
            prompt_mask: prompt_mask.map(|mask| PassMask::of_prompts(mask.clone(), rows)),
            packing: None,
        },
        rotary_k: rotary_q.with_heads(heads.kv),
        rotary_q,
        precision,
    }
}

impl<B: Backend> TextModel<B> {
    pub(super) fn new(config: &TextConfig, device: &B::Device) -> Self {
        Self {
            embed_tokens: EmbeddingConfig::new(config.vocab_size, config.hidden_size)
                .with_initializer(Initializer::Zeros)
                .init(device),
            layers: (0..config.num_hidden_layers).map(|_| DecoderLayer::new(config, device)).collect(),
            norm: RmsNorm::new(config.hidden_size, config.rms_norm_eps, device),
        }
    }

    /// The layers an adapter may sit on, under their published names.
    pub(super) fn projections(&mut self) -> impl Iterator<Item = (String, &mut Projection<B>)> {
        self.layers.iter_mut().enumerate().flat_map(|(index, layer)| {
            let SelfAttention { q_proj, k_proj, v_proj, o_proj } = &mut layer.self_attn;
            let attention = [("q_proj", q_proj), ("k_proj", k_proj), ("v_proj", v_proj), ("o_proj", o_proj)];
            named(&format!("model.layers.{index}.self_attn"), attention)
                .chain(layer.mlp.projections(&format!("model.layers.{index}.mlp")))
        })
    }

    pub(super) fn layers(&self) -> &[DecoderLayer<B>] {
        &self.layers
    }
}

impl<B: Backend> DecoderLayer<B> {
    fn new(config: &TextConfig, device: &B::Device) -> Self {
        let (hidden, head_dim) = (config.hidden_size, config.head_dim());
        let kv = config.num_key_value_heads * head_dim;
        Self {
            input_layernorm: RmsNorm::new(hidden, config.rms_norm_eps, device),
            self_attn: SelfAttention {
                q_proj: Projection::new(hidden, hidden, true, device),
                k_proj: Projection::new(hidden, kv, true, device),
                v_proj: Projection::new(hidden, kv, true, device),
                o_proj: Projection::new(hidden, hidden, false, device),
            },
            post_attention_layernorm: RmsNorm::new(hidden, config.rms_norm_eps, device),
            mlp: GatedMlp::new(hidden, config.intermediate_size, false, device),
        }
    }
}

impl<B: Backend> Layer<B> for DecoderLayer<B> {
    fn key_value(&self, hidden: Tensor<B, 2>, pass: &DecoderPass<B>) -> KeyValue<B> {
        self.self_attn.key_value(pass.precision.lower(self.input_layernorm.forward(hidden)), pass)
    }

    fn forward(
        &self,
        hidden: Tensor<B, 2>,
        pass: &DecoderPass<B>,
        prompt: Option<&KeyValue<B>>,
        past: Option<KeyValue<B>>,
    ) -> (Tensor<B, 2>, KeyValue<B>) {
        let normed = pass.precision.lower(self.input_layernorm.forward(hidden.clone()));
        let (attended, key_value) = self.self_attn.forward(normed, pass, prompt, past);
        let hidden = hidden + raised(attended);
        let normed = pass.precision.lower(self.post_attention_layernorm.forward(hidden.clone()));
        (hidden + raised(self.mlp.forward(normed)), key_value)
    }
}

impl<B: Backend> SelfAttention<B> {
    fn key_value(&self, x: Tensor<B, 2>, pass: &DecoderPass<B>) -> KeyValue<B> {
        let key = pass.rotary_k.rotate(self.k_proj.forward(x.clone()));
        pass.attention.key_value(key, self.v_proj.forward(x))
    }

    fn forward(
        &self,
        x: Tensor<B, 2>,
        pass: &DecoderPass<B>,
        prompt: Option<&KeyValue<B>>,
        past: Option<KeyValue<B>>,
    ) -> (Tensor<B, 2>, KeyValue<B>) {
        let query = pass.rotary_q.rotate(self.q_proj.forward(x.clone()));
        let new = self.key_value(x, pass);
        let own = match past {
            Some(past) => past.append(new),
            None => new,
        };
        let attended = pass.attention.attend(query, &own, prompt);
        (self.o_proj.forward(attended), own)
    }
}

/// Rotary angles `[tokens, head_dim / 2]`: each frequency follows the axis its section names.
fn mrope_angles(config: &TextConfig, positions: &Positions) -> Vec<f32> {
    let frequencies = inverse_frequencies(config.rope_theta, config.head_dim());
    let axes: Vec<usize> = config
        .mrope_section
        .iter()
        .enumerate()
        .flat_map(|(axis, count)| std::iter::repeat_n(axis, *count))
        .collect();
    let by_axis = [&positions.t, &positions.h, &positions.w];
    (0..positions.t.len())
        .flat_map(|token| {
            let (axes, frequencies) = (&axes, &frequencies);
            (0..axes.len()).map(move |i| by_axis[axes[i]][token] as f32 * frequencies[i])
        })
        .collect()
}
