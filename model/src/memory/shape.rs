//! What of a model decides how much memory it takes.

use std::collections::BTreeMap;

use super::{
    layers::{DecoderLayer, Learning, Mlp, Projection, VisionBlock},
    tape::NUMBER,
};
use crate::{
    attention::Heads,
    lora::LoraConfig,
    qwen2_5_vl::{Qwen25VlConfig, TextConfig, VisionConfig},
    trainable::Trainable,
};

/// The sizes of a model, of its adapter, and which of its parts learn.
#[derive(Clone, Debug)]
pub struct ModelShape {
    pub(super) layers: Vec<DecoderLayer>,
    pub(super) vision: VisionShape,
    pub(super) heads: Heads,
    pub(super) hidden: usize,
    pub(super) vocab_size: usize,
    pub(super) tied: bool,
    pub(super) learns: Trainable,
    adapter_on_vision: bool,
}

/// The same of a vision tower.
#[derive(Clone, Debug)]
pub(super) struct VisionShape {
    pub(super) config: VisionConfig,
    pub(super) blocks: Vec<VisionBlock>,
    pub(super) merger: [Projection; 2],
}

/// Bytes of a model's parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParameterBytes {
    /// All that are held.
    pub all: usize,
    /// Those that learn.
    pub learning: usize,
    /// The largest tensor that learns.
    pub largest_learning: usize,
}

/// An adapter and the sizes of the layers that it sits on, as
/// [`lora_layers`](crate::lora::Adaptable::lora_layers) gives them.
pub type AdapterShape<'a> = (&'a LoraConfig, &'a BTreeMap<String, [usize; 2]>);

impl ModelShape {
    /// A model without adapter, of which `learns` learns, or with one that learns alone.
    pub fn new(config: &Qwen25VlConfig, learns: Trainable, adapter: Option<AdapterShape<'_>>) -> Self {
        let linear = |name: String, [input, output]: [usize; 2], bias| {
            let on_it = adapter.filter(|(_, layers)| layers.contains_key(&name));
            let lora = on_it.map(|(lora, _)| (lora.r, lora.lora_dropout > 0.0));
            Projection { input, output, bias, lora }
        };
        let text = &config.text;
        Self {
            layers: (0..text.num_hidden_layers).map(|index| decoder_layer(text, index, &linear)).collect(),
            vision: VisionShape {
                config: config.vision.clone(),
                blocks: (0..config.vision.depth)
                    .map(|index| vision_block(&config.vision, index, &linear))
                    .collect(),
                merger: merger(&config.vision, &linear),
            },
            heads: Heads::from(text),
            hidden: text.hidden_size,
            vocab_size: text.vocab_size,
            tied: config.tie_word_embeddings,
            learns: if adapter.is_some() { Trainable::NONE } else { learns },
            adapter_on_vision: adapter.is_some_and(|(lora, _)| lora.vision),
        }
    }

    /// The same as it samples: without dropout.
    pub(super) fn sampling(&self) -> Self {
        let mut shape = self.clone();
        let keep_all = |projection: &mut Projection| {
            projection.lora = projection.lora.map(|(rank, _)| (rank, false));
        };
        shape.layers.iter_mut().flat_map(DecoderLayer::projections_mut).for_each(keep_all);
        shape
    }

    pub(super) fn language_learning(&self) -> Learning {
        Learning { base: self.learns.language_model, adapters: true }
    }

    pub(super) fn vision_learns(&self) -> bool {
        self.learns.vision_tower || self.learns.merger || self.adapter_on_vision
    }

    /// The parameters.
    pub fn parameters(&self) -> ParameterBytes {
        let mut found = ParameterBytes::default();
        let mut count = |len: usize, learns: bool| {
            let bytes = len * NUMBER;
            found.all += bytes;
            if learns {
                found.learning += bytes;
                found.largest_learning = found.largest_learning.max(bytes);
            }
        };
        let Trainable { vision_tower, merger, language_model } = self.learns;
        let VisionShape { config, blocks, merger: merging } = &self.vision;
        let table = self.vocab_size * self.hidden;
        count(table, language_model);
        count(if self.tied { 0 } else { table }, language_model);
        count(self.hidden * (1 + 2 * self.layers.len()), language_model);
        count(config.patch_dim() * config.hidden_size, vision_tower);
        count(2 * config.hidden_size * blocks.len(), vision_tower);
        count(config.hidden_size, merger);
        let layers = self.layers.iter().flat_map(DecoderLayer::projections);
        let layers = layers.map(|projection| (projection, language_model));
        let blocks = blocks.iter().flat_map(VisionBlock::projections);
        let blocks = blocks.map(|projection| (projection, vision_tower));
        let merging = merging.iter().map(|projection| (projection, merger));
        for (projection, learns) in layers.chain(blocks).chain(merging) {
            projection.base().into_iter().for_each(|len| count(len, learns));
            projection.adapter().into_iter().for_each(|len| count(len, true));
        }
        found
    }
}

fn decoder_layer(
    config: &TextConfig,
    index: usize,
    linear: &impl Fn(String, [usize; 2], bool) -> Projection,
) -> DecoderLayer {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let kv = config.num_key_value_heads * config.head_dim();
    let of = |name: &str, size, bias| linear(format!("model.layers.{index}.{name}"), size, bias);
    DecoderLayer {
        query: of("self_attn.q_proj", [hidden, hidden], true),
        key: of("self_attn.k_proj", [hidden, kv], true),
        value: of("self_attn.v_proj", [hidden, kv], true),
        output: of("self_attn.o_proj", [hidden, hidden], false),
        mlp: mlp([hidden, inner], false, |name, size, bias| of(&format!("mlp.{name}"), size, bias)),
    }
}

fn mlp(
    [hidden, inner]: [usize; 2],
    bias: bool,
    linear: impl Fn(&str, [usize; 2], bool) -> Projection,
) -> Mlp {
    Mlp {
        gate: linear("gate_proj", [hidden, inner], bias),
        up: linear("up_proj", [hidden, inner], bias),
        down: linear("down_proj", [inner, hidden], bias),
    }
}

fn vision_block(
    config: &VisionConfig,
    index: usize,
    linear: &impl Fn(String, [usize; 2], bool) -> Projection,
) -> VisionBlock {
    let width = config.hidden_size;
    let of = |name: &str, size, bias| linear(format!("visual.blocks.{index}.{name}"), size, bias);
    VisionBlock {
        qkv: of("attn.qkv", [width, 3 * width], true),
        proj: of("attn.proj", [width, width], true),
        mlp: mlp([width, config.intermediate_size], true, |name, size, bias| {
            of(&format!("mlp.{name}"), size, bias)
        }),
    }
}

fn merger(
    config: &VisionConfig,
    linear: &impl Fn(String, [usize; 2], bool) -> Projection,
) -> [Projection; 2] {
    let merged = config.hidden_size * config.merge_unit();
    [
        linear("visual.merger.mlp.0".to_owned(), [merged, merged], true),
        linear("visual.merger.mlp.2".to_owned(), [merged, config.out_hidden_size], true),
    ]
}
