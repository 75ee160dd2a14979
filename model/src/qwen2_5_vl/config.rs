//! `config.json` of Qwen2.5-VL: flat (as published) and nested (`text_config`) layouts.
//!
//! A field that changes the numbers is honoured or refused by name; generic bookkeeping fields of the Hugging Face
//! base class are kept untouched for saving. Source: `configuration_qwen2_5_vl.py` of transformers 4.57.

use std::path::Path;

use safetensors::Dtype;
use serde_json::{Map, Value, json};

use crate::{
    ModelError,
    config_reader::{Reader, read_object},
    weights::{CheckpointLayout, StoredTensor},
};

/// Sizes and constants of the whole model.
#[derive(Clone, Debug, PartialEq)]
pub struct Qwen25VlConfig {
    /// The language model.
    pub text: TextConfig,
    /// The vision tower.
    pub vision: VisionConfig,
    /// Whether the output head is the embedding table.
    pub tie_word_embeddings: bool,
    /// Id of `<|image_pad|>`.
    pub image_token_id: u32,
    /// Id of `<|video_pad|>`.
    pub video_token_id: u32,
    /// Id of `<|vision_start|>`.
    pub vision_start_token_id: u32,
    /// Id of `<|vision_end|>`.
    pub vision_end_token_id: u32,
    /// The file as read, written back on save.
    pub raw: Map<String, Value>,
}

/// The language model.
#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    /// Rows of the embedding table; may exceed the tokenizer's vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the gated MLP.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads, shared by groups of query heads.
    pub num_key_value_heads: usize,
    /// Epsilon of the norms.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How many rotary frequencies follow the temporal, height and width position.
    pub mrope_section: [usize; 3],
    /// Longest sequence the model was made for.
    pub max_position_embeddings: usize,
}

impl TextConfig {
    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }
}

/// The vision tower.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionConfig {
    /// Number of blocks.
    pub depth: usize,
    /// Width of a patch vector.
    pub hidden_size: usize,
    /// Width of the gated MLP.
    pub intermediate_size: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Colour channels.
    pub in_channels: usize,
    /// Width handed to the language model.
    pub out_hidden_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Patches merged per side into one token.
    pub spatial_merge_size: usize,
    /// Frames per patch.
    pub temporal_patch_size: usize,
    /// Side of an attention window in pixels.
    pub window_size: usize,
    /// Blocks that attend over a whole temporal slice.
    pub fullatt_block_indexes: Vec<usize>,
    /// Temporal positions per second of video.
    pub tokens_per_second: f64,
}

impl VisionConfig {
    /// Length of one flattened patch.
    pub fn patch_dim(&self) -> usize {
        self.in_channels * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// Patches that become one token.
    pub fn merge_unit(&self) -> usize {
        self.spatial_merge_size * self.spatial_merge_size
    }

    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_heads
    }
}

impl Qwen25VlConfig {
    /// Reads `config.json` of a checkpoint directory.
    pub fn from_dir(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join("config.json");
        Self::from_json(&read_object(&path)?, &path)
    }

    /// Reads a parsed `config.json`; `path` is for messages.
    pub fn from_json(raw: &Map<String, Value>, path: &Path) -> Result<Self, ModelError> {
        let root = Reader::new(raw, path, "");
        root.expect_str("model_type", "qwen2_5_vl", "only Qwen2.5-VL checkpoints are implemented")?;
        let nested = root.object("text_config")?;
        let text_reader = nested.as_ref().unwrap_or(&root);
        let vision_reader = root
            .object("vision_config")?
            .ok_or_else(|| root.error("vision_config", "missing: this is no vision-language checkpoint"))?;

        let text = read_text(text_reader)?;
        let vision = read_vision(&vision_reader)?;
        if vision.out_hidden_size != text.hidden_size {
            return Err(vision_reader.error(
                "out_hidden_size",
                format!(
                    "{} differs from the language model's hidden_size {}",
                    vision.out_hidden_size, text.hidden_size
                ),
            ));
        }
        let tied = match root.opt_bool("tie_word_embeddings")? {
            Some(tied) => tied,
            None => text_reader.opt_bool("tie_word_embeddings")?.unwrap_or(false),
        };
        let config = Self {
            tie_word_embeddings: tied,
            image_token_id: root.u32_or("image_token_id", 151_655)?,
            video_token_id: root.u32_or("video_token_id", 151_656)?,
            vision_start_token_id: root.u32_or("vision_start_token_id", 151_652)?,
            vision_end_token_id: root.u32_or("vision_end_token_id", 151_653)?,
            text,
            vision,
            raw: raw.clone(),
        };
        root.refuse_unknown(&[ROOT_KEYS, TOKEN_KEYS, TEXT_KEYS])?;
        if let Some(nested) = &nested {
            nested.refuse_unknown(&[TEXT_KEYS, TOKEN_KEYS])?;
        }
        vision_reader.refuse_unknown(&[VISION_KEYS])?;
        Ok(config)
    }

    /// The layout of a fresh checkpoint: published names, f32, and all five axes of the patch embedding, which is a
    /// convolution elsewhere and two axes here.
    pub fn fresh_layout(&self) -> CheckpointLayout {
        let vision = &self.vision;
        let (time, side) = (vision.temporal_patch_size, vision.patch_size);
        let name = "visual.patch_embed.proj.weight".to_owned();
        let shape = vec![vision.hidden_size, vision.in_channels, time, side, side];
        let tensor = StoredTensor { name: name.clone(), dtype: Dtype::F32, shape };
        CheckpointLayout { tensors: [(name, tensor)].into() }
    }

    /// The `config.json` of a fresh checkpoint in the published flat layout.
    pub fn to_json(
        text: &TextConfig,
        vision: &VisionConfig,
        tie_word_embeddings: bool,
        special: SpecialTokenIds,
    ) -> Value {
        json!({
            "architectures": ["Qwen2_5_VLForConditionalGeneration"],
            "model_type": "qwen2_5_vl",
            "vocab_size": text.vocab_size,
            "hidden_size": text.hidden_size,
            "intermediate_size": text.intermediate_size,
            "num_hidden_layers": text.num_hidden_layers,
            "num_attention_heads": text.num_attention_heads,
            "num_key_value_heads": text.num_key_value_heads,
            "hidden_act": "silu",
            "rms_norm_eps": text.rms_norm_eps,
            "rope_theta": text.rope_theta,
            "rope_scaling": {"type": "mrope", "mrope_section": text.mrope_section},
            "max_position_embeddings": text.max_position_embeddings,
            "use_sliding_window": false,
            "attention_dropout": 0.0,
            "tie_word_embeddings": tie_word_embeddings,
            "torch_dtype": "float32",
            "bos_token_id": special.pad,
            "pad_token_id": special.pad,
            "eos_token_id": special.eos,
            "image_token_id": special.image,
            "video_token_id": special.video,
            "vision_start_token_id": special.vision_start,
            "vision_end_token_id": special.vision_end,
            "vision_config": {
                "model_type": "qwen2_5_vl",
                "depth": vision.depth,
                "hidden_size": vision.hidden_size,
                "hidden_act": "silu",
                "intermediate_size": vision.intermediate_size,
                "num_heads": vision.num_heads,
                "in_channels": vision.in_channels,
                "out_hidden_size": vision.out_hidden_size,
                "patch_size": vision.patch_size,
                "spatial_merge_size": vision.spatial_merge_size,
                "temporal_patch_size": vision.temporal_patch_size,
                "window_size": vision.window_size,
                "fullatt_block_indexes": vision.fullatt_block_indexes,
                "tokens_per_second": vision.tokens_per_second,
            },
        })
    }
}

/// Ids that a fresh checkpoint's config names.
#[derive(Clone, Copy, Debug)]
pub struct SpecialTokenIds {
    /// `<|endoftext|>`.
    pub pad: u32,
    /// `<|im_end|>`.
    pub eos: u32,
    /// `<|image_pad|>`.
    pub image: u32,
    /// `<|video_pad|>`.
    pub video: u32,
    /// `<|vision_start|>`.
    pub vision_start: u32,
    /// `<|vision_end|>`.
    pub vision_end: u32,
}

fn read_text(reader: &Reader<'_>) -> Result<TextConfig, ModelError> {
    reader.expect_str("hidden_act", "silu", "only SiLU is implemented")?;
    if reader.opt_bool("use_sliding_window")?.unwrap_or(false) {
        return Err(reader.error("use_sliding_window", "sliding-window attention is not implemented"));
    }
    if reader.f64_or("attention_dropout", 0.0)? != 0.0 {
        return Err(reader.error("attention_dropout", "attention dropout is not implemented; set it to 0.0"));
    }
    if let Some(types) = reader.strings("layer_types")?
        && let Some(other) = types.iter().find(|kind| kind.as_str() != "full_attention")
    {
        return Err(reader.error("layer_types", format!("layer type `{other}` is not implemented")));
    }
    let scaling = match reader.object("rope_parameters")? {
        Some(parameters) => Some(parameters),
        None => reader.object("rope_scaling")?,
    };
    let scaling =
        scaling.ok_or_else(|| reader.error("rope_scaling", "missing: M-RoPE needs its sections"))?;
    for key in ["type", "rope_type"] {
        if let Some(kind) = scaling.opt_str(key)?
            && kind != "mrope"
            && kind != "default"
        {
            return Err(scaling.error(key, format!("rotary embedding `{kind}` is not implemented")));
        }
    }
    scaling.refuse_unknown(&[&["type", "rope_type", "mrope_section", "rope_theta"]])?;
    let rope_theta = match scaling.opt_f64("rope_theta")? {
        Some(theta) => theta,
        None => reader.f64("rope_theta")?,
    };
    let hidden_size = reader.size("hidden_size")?;
    let heads = reader.size("num_attention_heads")?;
    let config = TextConfig {
        vocab_size: reader.size("vocab_size")?,
        hidden_size,
        intermediate_size: reader.size("intermediate_size")?,
        num_hidden_layers: reader.size("num_hidden_layers")?,
        num_attention_heads: heads,
        num_key_value_heads: reader.opt_size("num_key_value_heads")?.unwrap_or(heads),
        rms_norm_eps: reader.f64_or("rms_norm_eps", 1e-6)?,
        rope_theta,
        mrope_section: scaling.sizes("mrope_section")?.as_slice().try_into().map_err(|_| {
            scaling.error("mrope_section", "must hold three numbers: temporal, height, width")
        })?,
        max_position_embeddings: reader.opt_size("max_position_embeddings")?.unwrap_or(32_768),
    };
    if !hidden_size.is_multiple_of(heads) || !config.head_dim().is_multiple_of(2) {
        return Err(reader.error(
            "num_attention_heads",
            format!("{heads} heads do not divide hidden_size {hidden_size} into even parts"),
        ));
    }
    if heads % config.num_key_value_heads != 0 {
        return Err(reader.error(
            "num_key_value_heads",
            format!("{} does not divide num_attention_heads {heads}", config.num_key_value_heads),
        ));
    }
    let total: usize = config.mrope_section.iter().sum();
    if total != config.head_dim() / 2 {
        return Err(scaling.error(
            "mrope_section",
            format!("sums to {total}, but half a head is {}", config.head_dim() / 2),
        ));
    }
    Ok(config)
}

fn read_vision(reader: &Reader<'_>) -> Result<VisionConfig, ModelError> {
    reader.expect_str("hidden_act", "silu", "only SiLU is implemented")?;
    let in_channels = match reader.opt_size("in_channels")? {
        Some(channels) => channels,
        None => reader.opt_size("in_chans")?.unwrap_or(3),
    };
    let config = VisionConfig {
        depth: reader.size("depth")?,
        hidden_size: reader.size("hidden_size")?,
        intermediate_size: reader.size("intermediate_size")?,
        num_heads: reader.size("num_heads")?,
        in_channels,
        out_hidden_size: reader.size("out_hidden_size")?,
        patch_size: reader.opt_size("patch_size")?.or(reader.opt_size("spatial_patch_size")?).unwrap_or(14),
        spatial_merge_size: reader.opt_size("spatial_merge_size")?.unwrap_or(2),
        temporal_patch_size: reader.opt_size("temporal_patch_size")?.unwrap_or(2),
        window_size: reader.opt_size("window_size")?.unwrap_or(112),
        fullatt_block_indexes: reader
            .opt_sizes("fullatt_block_indexes")?
            .unwrap_or_else(|| vec![7, 15, 23, 31]),
        tokens_per_second: reader.f64_or("tokens_per_second", 4.0)?,
    };
    if config.in_channels != 3 {
        return Err(reader.error("in_channels", "only RGB input is implemented"));
    }
    if !config.hidden_size.is_multiple_of(config.num_heads) || !config.head_dim().is_multiple_of(4) {
        return Err(reader.error("num_heads", "must divide hidden_size into parts that are multiples of 4"));
    }
    if config.window_size / config.spatial_merge_size / config.patch_size == 0 {
        return Err(reader.error("window_size", "is smaller than one merged patch"));
    }
    Ok(config)
}

const ROOT_KEYS: &[&str] = &["text_config", "vision_config", "model_type", "vision_token_id"];
const TOKEN_KEYS: &[&str] =
    &["image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id", "vision_token_id"];
const TEXT_KEYS: &[&str] = &[
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "max_position_embeddings",
    "use_sliding_window",
    "sliding_window",
    "max_window_layers",
    "layer_types",
    "attention_dropout",
    "tie_word_embeddings",
];
const VISION_KEYS: &[&str] = &[
    "model_type",
    "depth",
    "hidden_size",
    "hidden_act",
    "intermediate_size",
    "num_heads",
    "in_channels",
    "in_chans",
    "out_hidden_size",
    "patch_size",
    "spatial_patch_size",
    "spatial_merge_size",
    "temporal_patch_size",
    "window_size",
    "fullatt_block_indexes",
    "tokens_per_second",
];
