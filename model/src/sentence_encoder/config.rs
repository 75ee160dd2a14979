//! `config.json` of a BERT encoder.
//!
//! A field that changes the numbers is honoured or refused by name. Source: `configuration_bert.py` of transformers 4.57.

use std::path::Path;

use crate::{
    ModelError,
    config_reader::{Reader, read_object},
};

/// No published encoder has a tenth of these layers: the bound keeps a hostile file from filling memory.
const MAX_LAYERS: usize = 1024;

/// Sizes and constants of the network.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BertConfig {
    pub(super) vocab_size: usize,
    pub(super) hidden_size: usize,
    pub(super) intermediate_size: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) num_attention_heads: usize,
    /// Longest text in tokens, special ones included.
    pub(super) max_position_embeddings: usize,
    pub(super) type_vocab_size: usize,
    pub(super) layer_norm_eps: f64,
}

impl BertConfig {
    /// Reads `config.json` of the network's folder.
    pub(super) fn from_dir(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join("config.json");
        let object = read_object(&path)?;
        let reader = Reader::new(&object, &path, "");
        match reader.opt_str("model_type")? {
            Some("bert") => {}
            Some(other) => {
                return Err(
                    reader.error("model_type", format!("is `{other}`: only BERT encoders are implemented"))
                );
            }
            None => return Err(reader.error("model_type", "is missing: must be `bert`")),
        }
        reader.expect_str("hidden_act", "gelu", "only the exact GELU is implemented")?;
        reader.expect_str(
            "position_embedding_type",
            "absolute",
            "only absolute positions are implemented",
        )?;
        for key in ["is_decoder", "add_cross_attention"] {
            if reader.opt_bool(key)?.unwrap_or(false) {
                return Err(reader.error(key, "is true: only encoders are implemented"));
            }
        }
        reader.refuse_unknown(&[KEYS, WITHOUT_EFFECT])?;
        let config = Self {
            vocab_size: reader.size("vocab_size")?,
            hidden_size: reader.size("hidden_size")?,
            intermediate_size: reader.size("intermediate_size")?,
            num_hidden_layers: reader.size("num_hidden_layers")?,
            num_attention_heads: reader.size("num_attention_heads")?,
            max_position_embeddings: reader.size("max_position_embeddings")?,
            type_vocab_size: reader.opt_size("type_vocab_size")?.unwrap_or(2),
            layer_norm_eps: reader.f64_or("layer_norm_eps", 1e-12)?,
        };
        if config.num_hidden_layers > MAX_LAYERS {
            return Err(reader.error("num_hidden_layers", format!("is more than {MAX_LAYERS}")));
        }
        if !config.hidden_size.is_multiple_of(config.num_attention_heads) {
            let message = format!("does not divide hidden_size {}", config.hidden_size);
            return Err(reader.error("num_attention_heads", message));
        }
        Ok(config)
    }
}

const KEYS: &[&str] = &[
    "model_type",
    "hidden_act",
    "position_embedding_type",
    "is_decoder",
    "add_cross_attention",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "type_vocab_size",
    "layer_norm_eps",
];
/// Training, heads, and how the reference stores and computes.
const WITHOUT_EFFECT: &[&str] = &[
    "attention_probs_dropout_prob",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "directionality",
    "finetuning_task",
    "gradient_checkpointing",
    "hidden_dropout_prob",
    "id2label",
    "label2id",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
    "problem_type",
    "return_dict",
    "tie_word_embeddings",
];
