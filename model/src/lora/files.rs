//! Adapter directories: PEFT's read and written, and what is refused.

use std::{collections::BTreeMap, path::Path};

use safetensors::{SafeTensors, serialize_to_file, tensor::TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Adaptable, LoraConfig, fixture::*, load_adapter, save_adapter};

const MATRICES: &str = "adapter_model.safetensors";
const CONFIG: &str = "adapter_config.json";

fn copy_of(name: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in [MATRICES, CONFIG] {
        std::fs::copy(adapter_dir(name).join(file), dir.path().join(file)).unwrap();
    }
    dir
}

fn json_of(dir: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join(CONFIG)).unwrap()).unwrap()
}

fn set(dir: &Path, key: &str, value: Value) {
    let mut config = json_of(dir);
    config[key] = value;
    std::fs::write(dir.join(CONFIG), config.to_string()).unwrap();
}

/// Renames the tensors of the file; those without a new name are left out.
fn rename(dir: &Path, new_name: impl Fn(&str) -> Option<String>) {
    let path = dir.join(MATRICES);
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors: BTreeMap<String, TensorView<'_>> =
        file.tensors().into_iter().filter_map(|(name, view)| Some((new_name(&name)?, view))).collect();
    serialize_to_file(tensors, None, &path).unwrap();
}

#[test]
fn adapters_of_peft_come_back_as_they_were() {
    for name in ADAPTERS {
        let model = load_adapter(base::<Plain>().0, &adapter_dir(name)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        save_adapter(&model, "flat_tied", dir.path()).unwrap();
        let stored = Tensors::read(&adapter_dir(name).join(MATRICES));
        assert_eq!(Tensors::read(&dir.path().join(MATRICES)), stored, "{name}");
        let (ours, theirs) = (json_of(dir.path()), json_of(&adapter_dir(name)));
        for (key, value) in ours.as_object().unwrap() {
            // PEFT's alone leaves the tower out by a pattern.
            if key != "target_modules" || name == "everywhere" {
                assert_eq!(value, &theirs[key], "{name}: {key}");
            }
        }
        let again = load_adapter(base::<Plain>().0, dir.path()).unwrap();
        assert_eq!(again.lora_config(), model.lora_config());
        assert_eq!(answers(&again), answers(&model));
    }
    let whole_names =
        load_adapter(base::<Plain>().0, &adapter_dir("language")).unwrap().lora_config().unwrap();
    assert!(!whole_names.vision);
    assert_eq!(whole_names.target_modules.len(), 14);
    assert_eq!(whole_names.target_modules[0], "model.language_model.layers.0.mlp.down_proj");
}

#[test]
fn names_of_older_transformers_are_read_too() {
    for name in ADAPTERS {
        let dir = copy_of(name);
        rename(dir.path(), |name| {
            let old = name
                .replace("model.language_model.", "model.")
                .replace("model.model.visual.", "model.visual.");
            assert_ne!(old, name);
            Some(old)
        });
        let old = load_adapter(base::<Plain>().0, dir.path()).unwrap();
        assert_eq!(answers(&old), answers(&load_adapter(base::<Plain>().0, &adapter_dir(name)).unwrap()));
    }
}

#[test]
fn a_fresh_adapter_is_stored_under_the_layers_it_sits_on() {
    let config = LoraConfig {
        r: 2,
        lora_alpha: 2.5,
        lora_dropout: 0.1,
        use_rslora: true,
        target_modules: vec!["up_proj".to_owned()],
        vision: false,
    };
    let model = base::<Plain>().0.with_lora(&config, 1).unwrap();
    let dir = tempfile::tempdir().unwrap();
    save_adapter(&model, "base", dir.path()).unwrap();
    let names: Vec<String> = Tensors::read(&dir.path().join(MATRICES)).0.into_keys().collect();
    let layer = |index| format!("base_model.model.model.language_model.layers.{index}.mlp.up_proj");
    let matrices = |index| ["A", "B"].map(|matrix| format!("{}.lora_{matrix}.weight", layer(index)));
    assert_eq!(names, [matrices(0), matrices(1)].concat());
    let written = json_of(dir.path());
    assert_eq!((&written["lora_alpha"], &written["use_rslora"]), (&json!(2.5), &json!(true)));
    assert_eq!(
        written["target_modules"],
        json!([0, 1].map(|index| format!("model.language_model.layers.{index}.mlp.up_proj")))
    );
    let again = load_adapter(base::<Plain>().0, dir.path()).unwrap().lora_config().unwrap();
    assert_eq!(LoraConfig { target_modules: config.target_modules.clone(), ..again }, config);
    assert!(
        save_adapter(&base::<Plain>().0, "base", dir.path()).unwrap_err().to_string().contains("no adapter")
    );
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let refused = |dir: &TempDir, wanted: &[&str]| {
        let error = load_adapter(base::<Plain>().0, dir.path()).unwrap_err().to_string();
        for wanted in wanted {
            assert!(error.contains(wanted), "`{wanted}` is not in: {error}");
        }
    };
    for (key, value) in [
        ("peft_type", json!("IA3")),
        ("bias", json!("all")),
        ("use_dora", json!(true)),
        ("fan_in_fan_out", json!(true)),
        ("modules_to_save", json!(["lm_head"])),
        ("rank_pattern", json!({"q_proj": 8})),
        ("init_lora_weights", json!("pissa")),
        ("r", json!(0)),
        ("lora_alpha", json!("much")),
        ("lora_alpha", json!(-1)),
        ("lora_dropout", json!(1.5)),
        ("target_modules", json!(["nothing"])),
        ("a_key_of_tomorrow", json!(3)),
    ] {
        let dir = copy_of("everywhere");
        set(dir.path(), key, value);
        refused(&dir, &[CONFIG, &format!("`{key}`")]);
    }
    let dir = copy_of("everywhere");
    std::fs::write(dir.path().join(CONFIG), "[").unwrap();
    refused(&dir, &[CONFIG]);
    let dir = copy_of("everywhere");
    std::fs::remove_file(dir.path().join(MATRICES)).unwrap();
    refused(&dir, &[MATRICES]);
    let dir = copy_of("everywhere");
    set(dir.path(), "r", json!(5));
    refused(&dir, &["wrong shape: model.layers.0.self_attn.q_proj.lora_A.weight is [3, 32]"]);

    // Each half of a pair, layers that a list stands for, and layers the model does not have.
    for name in ADAPTERS {
        let dir = copy_of(name);
        rename(dir.path(), |name| {
            (!name.ends_with("layers.1.self_attn.q_proj.lora_B.weight")).then(|| name.to_owned())
        });
        refused(&dir, &[MATRICES, "missing: model.layers.1.self_attn.q_proj.lora_B.weight [32"]);
    }
    let dir = copy_of("everywhere");
    rename(dir.path(), |name| (!name.contains("layers.1.self_attn.q_proj")).then(|| name.to_owned()));
    refused(&dir, &["missing: model.layers.1.self_attn.q_proj.lora_A.weight"]);
    let dir = copy_of("language");
    rename(dir.path(), |name| Some(name.replace("layers.1.", "layers.7.")));
    refused(&dir, &["surplus: model.layers.7.mlp.down_proj.lora_A.weight"]);
}
