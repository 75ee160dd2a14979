//! A small Qwen2.5-VL from nothing: tokenizer trained on the data, fresh weights, a complete checkpoint directory.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use burn::tensor::backend::Backend;
use medgrpo_datasets::{Content, Dataset};
use medgrpo_model::{
    checkpoint::{CheckpointSource, save_into},
    processor::{ImageProcessorConfig, Tokenizer, train_bpe, write_processor_files},
    qwen2_5_vl::{Qwen25Vl, Qwen25VlConfig, SpecialTokenIds, TextConfig, VisionConfig},
    weights::{SavePrecision, init_random},
};
use medgrpo_trainers::seed::derive_seed;
use serde_json::Value;

use super::data::DataFile;
use crate::config::resolved::ModelInit;

/// Texts beyond this many rows change a small tokenizer no more.
const MAX_TOKENIZER_ROWS: usize = 20_000;

/// Writes the checkpoint to `dir`, all or nothing.
pub(crate) fn init_model<B: Backend>(
    init: &ModelInit,
    train: &[DataFile],
    seed: u64,
    dir: &Path,
    device: &B::Device,
) -> Result<()> {
    let parent = dir.parent().unwrap_or(Path::new("."));
    let temporary = tempfile::Builder::new()
        .prefix(".tmp-init-")
        .tempdir_in(parent)
        .with_context(|| dir.display().to_string())?;
    let folder = temporary.path();
    let vocab_size = train_bpe(training_texts(train)?, init.vocab_size, folder)?;
    write_processor_files(
        folder,
        &ImageProcessorConfig::image_default(),
        &ImageProcessorConfig::video_default(),
    )?;

    let special = Tokenizer::from_dir(folder)?.special();
    let special = SpecialTokenIds {
        pad: special.endoftext,
        eos: special.im_end,
        image: special.image_pad,
        video: special.video_pad,
        vision_start: special.vision_start,
        vision_end: special.vision_end,
    };
    let generation =
        serde_json::json!({"eos_token_id": [special.eos, special.pad], "pad_token_id": special.pad});
    let path = folder.join("generation_config.json");
    fs::write(&path, format!("{generation:#}\n")).with_context(|| path.display().to_string())?;

    let config = config_of(init, vocab_size, special, &folder.join("config.json"))?;
    let model = init_random(
        Qwen25Vl::<B>::new(&config, device),
        derive_seed(seed, "weights", 0),
        init.initializer_range as f32,
    );
    let source = CheckpointSource { dir: folder.to_owned(), layout: config.fresh_layout() };
    save_into(&model, &source, SavePrecision::F32, folder)?;
    fs::rename(temporary.keep(), dir).with_context(|| dir.display().to_string())?;
    fs::File::open(parent).and_then(|folder| folder.sync_all()).with_context(|| parent.display().to_string())
}

/// The sizes that a model will have, but for its vocabulary, which may stay smaller.
pub(crate) fn planned(init: &ModelInit) -> Result<Qwen25VlConfig> {
    let special = SpecialTokenIds { pad: 0, eos: 0, image: 0, video: 0, vision_start: 0, vision_end: 0 };
    config_of(init, init.vocab_size, special, Path::new("model.init"))
}

fn config_of(
    init: &ModelInit,
    vocab_size: usize,
    special: SpecialTokenIds,
    path: &Path,
) -> Result<Qwen25VlConfig> {
    let (text, vision) = sizes(init, vocab_size);
    let Value::Object(raw) = Qwen25VlConfig::to_json(&text, &vision, init.tie_word_embeddings, special)
    else {
        unreachable!("to_json gives an object");
    };
    Ok(Qwen25VlConfig::from_json(&raw, path)?)
}

fn training_texts(train: &[DataFile]) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for file in train {
        let rows = file.usable.len();
        let count = rows.min(MAX_TOKENIZER_ROWS);
        for number in 0..count {
            let sample = file.usable.get(number * rows / count)?;
            for message in sample.prompt {
                texts.extend(message.content.into_iter().filter_map(|content| match content {
                    Content::Text(text) => Some(text),
                    Content::Image(_) | Content::Video(_) => None,
                }));
            }
            texts.extend(sample.answer);
        }
    }
    Ok(texts)
}

fn sizes(init: &ModelInit, vocab_size: usize) -> (TextConfig, VisionConfig) {
    // The published models give a quarter of the rotary frequencies to time and the rest to height and width.
    let half_head = init.hidden_size / init.num_attention_heads / 2;
    let text = TextConfig {
        vocab_size,
        hidden_size: init.hidden_size,
        intermediate_size: init.intermediate_size,
        num_hidden_layers: init.num_hidden_layers,
        num_attention_heads: init.num_attention_heads,
        num_key_value_heads: init.num_key_value_heads,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        mrope_section: [half_head / 4, half_head * 3 / 8, half_head * 3 / 8],
        max_position_embeddings: 32_768,
    };
    let vision = VisionConfig {
        depth: init.vision.depth,
        hidden_size: init.vision.hidden_size,
        intermediate_size: init.vision.intermediate_size,
        num_heads: init.vision.num_heads,
        in_channels: 3,
        out_hidden_size: init.hidden_size,
        patch_size: 14,
        spatial_merge_size: 2,
        temporal_patch_size: 2,
        window_size: init.vision.window_size,
        fullatt_block_indexes: init.vision.fullatt_block_indexes.clone(),
        tokens_per_second: 2.0,
    };
    (text, vision)
}
