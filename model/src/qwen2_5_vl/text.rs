//! The language model: pre-norm decoder layers with grouped-query attention and multimodal rotary positions.

use burn::{
    module::{Initializer, Module},
    nn::{Embedding, EmbeddingConfig},
    tensor::{Tensor, backend::Backend},
};

use super::TextConfig;
use crate::{
    attention::{ExpandedMask, Heads, KeyValue, Mask, Rows, attend, split_heads},
    gated_mlp::GatedMlp,
    projection::{Projection, named},
    rms_norm::RmsNorm,
    rotary::{RotaryTable, inverse_frequencies},
    vlm::{DecoderContext, Positions},
};

/// Embedding table, layers and final norm.
#[derive(Module, Debug)]
pub struct TextModel<B: Backend> {
    pub(super) embed_tokens: Embedding<B>,
    layers: Vec<DecoderLayer<B>>,
    norm: RmsNorm<B>,
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

/// What every layer of one pass shares.
struct Pass<'a, B: Backend> {
    rows: Rows,
    heads: Heads,
    rotary_q: RotaryTable<B>,
    rotary_k: RotaryTable<B>,
    own_mask: Option<ExpandedMask<B>>,
    prompt: Option<&'a [KeyValue<B>]>,
    prompt_mask: Option<ExpandedMask<B>>,
}

impl From<&TextConfig> for Heads {
    fn from(config: &TextConfig) -> Self {
        Self { query: config.num_attention_heads, kv: config.num_key_value_heads, dim: config.head_dim() }
    }
}

impl<B: Backend> Pass<'_, B> {
    /// A pass of tokens that see nothing but their own sequence.
    fn over_own(
        config: &TextConfig,
        rows: Rows,
        positions: &Positions,
        mask: Option<&Mask<B>>,
        device: &B::Device,
    ) -> Self {
        let heads = Heads::from(config);
        let angles = mrope_angles(config, positions);
        Self {
            rows,
            heads,
            rotary_q: RotaryTable::new(&angles, heads.dim / 2, heads.query, device),
            rotary_k: RotaryTable::new(&angles, heads.dim / 2, heads.kv, device),
            own_mask: mask.map(|mask| mask.expand(rows, heads)),
            prompt: None,
            prompt_mask: None,
        }
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

    /// Keys and values that `hidden`, `[tokens, hidden_size]`, leaves in all layers; the last does no more than that.
    pub(super) fn prefill(
        &self,
        config: &TextConfig,
        mut hidden: Tensor<B, 2>,
        rows: Rows,
        positions: &Positions,
        mask: &Mask<B>,
    ) -> Vec<KeyValue<B>> {
        let pass = Pass::over_own(config, rows, positions, Some(mask), &hidden.device());
        let mut key_values = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.layers.iter().enumerate() {
            if index + 1 == self.layers.len() {
                key_values.push(layer.self_attn.key_value(layer.input_layernorm.forward(hidden), &pass));
                break;
            }
            let (next, key_value) = layer.forward(hidden, &pass, index, None);
            hidden = next;
            key_values.push(key_value);
        }
        key_values
    }

    /// Runs `hidden`, `[tokens, hidden_size]`, through all layers and the final norm.
    ///
    /// Keys and values of these tokens are appended to `context.own` where it is given.
    pub(super) fn forward(
        &self,
        config: &TextConfig,
        mut hidden: Tensor<B, 2>,
        rows: Rows,
        positions: &Positions,
        context: DecoderContext<'_, B>,
    ) -> Tensor<B, 2> {
        let DecoderContext { own_mask, prompt, prompt_mask, mut own } = context;
        let pass = Pass {
            prompt: prompt.map(Vec::as_slice),
            prompt_mask: prompt_mask.map(|mask| mask.expand(rows, config.into())),
            ..Pass::over_own(config, rows, positions, own_mask, &hidden.device())
        };
        let mut grown = Vec::with_capacity(self.layers.len());
        let mut past = own.as_deref_mut().map(std::mem::take).unwrap_or_default().into_iter();
        for (index, layer) in self.layers.iter().enumerate() {
            let (next, key_value) = layer.forward(hidden, &pass, index, past.next());
            hidden = next;
            if own.is_some() {
                grown.push(key_value);
            }
        }
        if let Some(own) = own {
            *own = grown;
        }
        self.norm.forward(hidden)
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

    fn forward(
        &self,
        hidden: Tensor<B, 2>,
        pass: &Pass<'_, B>,
        index: usize,
        past: Option<KeyValue<B>>,
    ) -> (Tensor<B, 2>, KeyValue<B>) {
        let (attended, key_value) =
            self.self_attn.forward(self.input_layernorm.forward(hidden.clone()), pass, index, past);
        let hidden = hidden + attended;
        let mlp = self.mlp.forward(self.post_attention_layernorm.forward(hidden.clone()));
        (hidden + mlp, key_value)
    }
}

impl<B: Backend> SelfAttention<B> {
    fn key_value(&self, x: Tensor<B, 2>, pass: &Pass<'_, B>) -> KeyValue<B> {
        let Pass { rows, heads, .. } = *pass;
        let key = pass.rotary_k.rotate(self.k_proj.forward(x.clone()));
        KeyValue {
            key: split_heads(key, rows, heads.kv, heads.dim),
            value: split_heads(self.v_proj.forward(x), rows, heads.kv, heads.dim),
        }
    }

    fn forward(
        &self,
        x: Tensor<B, 2>,
        pass: &Pass<'_, B>,
        index: usize,
        past: Option<KeyValue<B>>,
    ) -> (Tensor<B, 2>, KeyValue<B>) {
        let Pass { rows, heads, .. } = *pass;
        let query =
            pass.rotary_q.rotate(self.q_proj.forward(x.clone())).mul_scalar((heads.dim as f64).powf(-0.5));
        let new = self.key_value(x, pass);
        let own = match past {
            Some(past) => past.append(new),
            None => new,
        };
        let attended = attend(
            split_heads(query, rows, heads.kv, heads.dim),
            own.clone(),
            pass.own_mask.as_ref(),
            pass.prompt.map(|prompt| (&prompt[index], pass.prompt_mask.as_ref())),
            rows,
            heads,
        );
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
