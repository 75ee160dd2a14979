//! Adapters as PEFT's directories: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! A setting of PEFT that changes the numbers is honoured or refused by name. Which layers are adapted is read from the
//! tensors: `target_modules` may be a pattern in PEFT's own language, and then only PEFT can read it.

use std::{
    collections::BTreeSet,
    fs::File,
    path::{Path, PathBuf},
};

use burn::tensor::backend::Backend;
use serde_json::{Map, Value, json};

use super::{
    Adaptable, LoraConfig,
    adaptable::attach,
    config::{is_named, is_of_vision},
};
use crate::{
    ModelError,
    config_reader::{Reader, read_object},
    weights::{adapter_layers, load_adapter_weights, save_adapter_weights, transformers_name},
};

const CONFIG_FILE: &str = "adapter_config.json";

/// Keys that say where an adapter comes from or how PEFT started it, and those that only choose layers.
const BOOKKEEPING: &[&str] = &[
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    // A default that stands there without a `megatron_config`, which is refused.
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
];
/// Keys that choose layers besides `target_modules`.
const CHOOSING: &[&str] = &["exclude_modules", "layers_to_transform", "layers_pattern"];

/// Puts the adapter that PEFT (or [`save_adapter`]) wrote into `dir` on `model` and freezes everything else.
///
/// # Errors
/// A setting that is not implemented here; all missing, surplus and wrong-shaped tensors; layers the model does not have.
pub fn load_adapter<B: Backend, M: Adaptable<B>>(mut model: M, dir: &Path) -> Result<M, ModelError> {
    let names: Vec<String> = model.projections().into_iter().map(|(name, _)| name).collect();
    let (config, selected) = read_config(&dir.join(CONFIG_FILE), &adapter_layers(dir)?, &names)?;
    load_adapter_weights(attach(model, &config, &selected)?, dir)
}

/// The configuration and the layers it stands for.
fn read_config(
    path: &Path,
    layers: &BTreeSet<String>,
    names: &[String],
) -> Result<(LoraConfig, BTreeSet<String>), ModelError> {
    let object = read_object(path)?;
    let reader = Reader::new(&object, path, "");
    refuse_other_methods(&object, &reader)?;
    let chooses = |key: &&str| object.get(*key).is_some_and(|value| !is_neutral(value));
    let listed = match object.get("target_modules") {
        Some(Value::Array(_)) if !CHOOSING.iter().any(chooses) => reader.strings("target_modules")?,
        _ => None,
    };
    // A list stands for all of its layers, so that one that is not in the file is missed.
    let is_meant = |name: &String| match &listed {
        Some(listed) => listed.iter().any(|target| is_named(name, target)),
        None => layers.contains(name),
    };
    let selected: BTreeSet<String> = names.iter().filter(|name| is_meant(name)).cloned().collect();
    if selected.is_empty() {
        return Err(reader.error("target_modules", "names no layer of this model"));
    }
    let whole_names = || selected.iter().map(|name| transformers_name(name).into_owned()).collect();
    let config = LoraConfig {
        r: reader.size("r")?,
        lora_alpha: reader.f64("lora_alpha")?,
        lora_dropout: reader.f64_or("lora_dropout", 0.0)?,
        use_rslora: reader.opt_bool("use_rslora")?.unwrap_or(false),
        vision: selected.iter().any(|name| is_of_vision(name)),
        target_modules: listed.unwrap_or_else(whole_names),
    };
    match config.check() {
        Err(ModelError::Lora { key, message }) => Err(reader.error(key, message)),
        other => other.map(|()| (config, selected)),
    }
}

/// `null`, `false` and empty collections ask for nothing.
fn is_neutral(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        _ => false,
    }
}

fn refuse_other_methods(object: &Map<String, Value>, reader: &Reader<'_>) -> Result<(), ModelError> {
    const READ: &[&str] = &["r", "lora_alpha", "lora_dropout", "use_rslora", "target_modules"];
    if reader.opt_str("peft_type")? != Some("LORA") {
        return Err(reader.error("peft_type", "must be `LORA`"));
    }
    reader.expect_str("bias", "none", "adapters that train biases are not implemented; train with `none`")?;
    for (key, value) in object {
        let known = [READ, BOOKKEEPING, CHOOSING].iter().any(|keys| keys.contains(&key.as_str()));
        if known || matches!(key.as_str(), "peft_type" | "bias") || is_neutral(value) {
            continue;
        }
        // Other starts than these change the base's weights too.
        if key == "init_lora_weights" && (value == true || value == "gaussian") {
            continue;
        }
        return Err(reader.error(key, format!("is {value}, which is not implemented for adapters")));
    }
    Ok(())
}

/// Writes the adapter on `model` into the existing folder `dir`, as a directory that PEFT loads.
///
/// `base` is the name or path under which others find the model below; PEFT takes it as a suggestion.
///
/// # Errors
/// A model without an adapter, and what the file system says.
pub fn save_adapter<B: Backend, M: Adaptable<B>>(
    model: &M,
    base: &str,
    dir: &Path,
) -> Result<(), ModelError> {
    let Some(config) = model.lora_config() else {
        return Err(ModelError::file(dir, "the model has no adapter to be written here"));
    };
    let mut view = model.clone();
    let projections = view.projections();
    let names: Vec<String> = projections.iter().map(|(name, _)| name.clone()).collect();
    let selected: BTreeSet<&str> = projections
        .iter()
        .filter(|(_, projection)| projection.lora.is_some())
        .map(|(name, _)| name.as_str())
        .collect();
    let targets = config.targets_for_peft(&selected, &names, model.without_adapter());
    write_config(&config, &targets, base, dir.join(CONFIG_FILE))?;
    save_adapter_weights(model, dir)
}

fn write_config(
    config: &LoraConfig,
    targets: &[String],
    base: &str,
    path: PathBuf,
) -> Result<(), ModelError> {
    let alpha = config.lora_alpha;
    // PEFT declares a whole number, and older versions of its readers insist on one.
    let whole = alpha.fract() == 0.0 && alpha < f64::from(1 << 30);
    let object = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.r,
        "lora_alpha": if whole { json!(alpha as i64) } else { json!(alpha) },
        "lora_dropout": config.lora_dropout,
        "use_rslora": config.use_rslora,
        "target_modules": targets,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "modules_to_save": null,
        "use_dora": false,
    });
    let text = serde_json::to_string_pretty(&object).expect("a JSON object always serialises");
    std::fs::write(&path, text).map_err(ModelError::io(&path))?;
    File::open(&path).and_then(|file| file.sync_all()).map_err(ModelError::io(path))
}
