//! Sizes of a model made from nothing.

use super::Judge;
use crate::config::resolved::ModelInit;

/// The least a byte-level tokenizer needs: 256 bytes and the special tokens of Qwen2.5-VL.
const MIN_VOCAB_SIZE: usize = 300;

impl Judge {
    pub(super) fn model_init(&mut self, init: &ModelInit) {
        let vision = &init.vision;
        self.at_least("model.init.vocab_size", init.vocab_size, MIN_VOCAB_SIZE);
        for (key, value) in [
            ("model.init.hidden_size", init.hidden_size),
            ("model.init.intermediate_size", init.intermediate_size),
            ("model.init.num_hidden_layers", init.num_hidden_layers),
            ("model.init.num_attention_heads", init.num_attention_heads),
            ("model.init.num_key_value_heads", init.num_key_value_heads),
            ("model.init.vision.hidden_size", vision.hidden_size),
            ("model.init.vision.intermediate_size", vision.intermediate_size),
            ("model.init.vision.depth", vision.depth),
            ("model.init.vision.num_heads", vision.num_heads),
        ] {
            self.at_least(key, value, 1);
        }
        let range = init.initializer_range;
        self.number("model.init.initializer_range", range, range > 0.0, "above 0");
        self.multiple(
            "model.init.hidden_size",
            init.hidden_size,
            "num_attention_heads",
            init.num_attention_heads,
            16,
        );
        let kv_heads = init.num_key_value_heads;
        self.multiple(
            "model.init.num_attention_heads",
            init.num_attention_heads,
            "num_key_value_heads",
            kv_heads,
            1,
        );
        self.multiple("model.init.vision.hidden_size", vision.hidden_size, "num_heads", vision.num_heads, 4);
        // 28 = patch size 14 times the merger's 2: windows hold whole merged patches.
        self.multiple("model.init.vision.window_size", vision.window_size, "the merged patch", 28, 1);
        for (index, &block) in vision.fullatt_block_indexes.iter().enumerate() {
            if block >= vision.depth {
                self.note(
                    format!("model.init.vision.fullatt_block_indexes.{index}"),
                    format!("`model.init.vision.fullatt_block_indexes` names layer {block}"),
                    format!("the tower has layers 0 to {}", vision.depth.saturating_sub(1)),
                );
            }
        }
    }
}
