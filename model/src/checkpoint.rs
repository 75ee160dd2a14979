//! A model directory as a whole: weights, configuration and the processor's files.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use burn::tensor::backend::Backend;
use serde_json::{Map, Value};

use crate::{
    ModelError,
    generation_config::GENERATION_CONFIG_FILE,
    lora::Adaptable,
    processor::copy_processor_files,
    vlm::Vlm,
    weights::{CheckpointLayout, SavePrecision, save_weights},
};

/// A model that reads and writes Hugging Face directories.
pub trait Pretrained<B: Backend>: Vlm<B> + Adaptable<B> {
    /// Loads `config.json` and the weights of `dir` onto `device`.
    fn from_dir(dir: &Path, device: &B::Device) -> Result<(Self, CheckpointSource), ModelError>
    where
        Self: Sized;

    /// The configuration as `config.json` holds it.
    fn config_json(&self) -> &Map<String, Value>;
}

/// Where a model came from: what saving needs to give back a directory of the same kind.
#[derive(Clone, Debug)]
pub struct CheckpointSource {
    /// The directory whose tokenizer and processor files go along.
    pub dir: PathBuf,
    /// Names and types of the stored tensors.
    pub layout: CheckpointLayout,
}

impl CheckpointSource {
    /// Looks at a checkpoint without reading its weights.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        Ok(Self { dir: dir.to_owned(), layout: CheckpointLayout::read(dir)? })
    }
}

/// Says f32 wherever `config.json` names a number format, nested configurations included.
fn name_float32(config: &mut Map<String, Value>) {
    for (key, value) in config {
        match value {
            Value::Object(nested) => name_float32(nested),
            Value::String(dtype) if matches!(key.as_str(), "torch_dtype" | "dtype") => {
                *dtype = "float32".to_owned();
            }
            _ => {}
        }
    }
}

/// Writes `model` into the existing folder `dir` as a directory that transformers loads.
///
/// An adapter is not part of it: [`save_adapter`](crate::lora::save_adapter) writes that, or merge it first.
///
/// Callers that need all or nothing give a temporary folder and rename it.
pub fn save_into<B: Backend, M: Pretrained<B>>(
    model: &M,
    source: &CheckpointSource,
    precision: SavePrecision,
    dir: &Path,
) -> Result<(), ModelError> {
    if source.dir != dir {
        copy_processor_files(&source.dir, dir)?;
        let from = source.dir.join(GENERATION_CONFIG_FILE);
        if from.exists() {
            std::fs::copy(&from, dir.join(GENERATION_CONFIG_FILE)).map_err(ModelError::io(&from))?;
        }
    }
    let mut config = model.config_json().clone();
    if precision == SavePrecision::F32 {
        name_float32(&mut config);
    }
    let path = dir.join("config.json");
    let text = serde_json::to_string_pretty(&config).expect("a JSON object always serialises");
    std::fs::write(&path, text).map_err(ModelError::io(&path))?;
    File::open(&path).and_then(|file| file.sync_all()).map_err(ModelError::io(&path))?;
    save_weights(model, &source.layout, precision, dir)
}
