//! Checkpoints that cannot be loaded say why, by name.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Result;
use burn::tensor::backend::AutodiffBackend;
use medgrpo::device::{Device, Job, run_on};
use medgrpo_model::{checkpoint::Pretrained, qwen2_5_vl::Qwen25Vl};
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::{self, Tensors};

#[test]
fn every_missing_surplus_and_wrong_shaped_tensor_is_named() {
    let (_guard, dir) = copy_of("nested_untied_sharded");
    let mut spoilt = Vec::new();
    for shard in shards(&dir) {
        let mut tensors = Tensors::read(&shard);
        let mut rename = |from: &str, to: &str| {
            if let Some(stored) = tensors.0.remove(from) {
                tensors.0.insert(to.to_owned(), stored);
                spoilt.push(from.to_owned());
            }
        };
        rename(
            "model.language_model.layers.2.self_attn.v_proj.bias",
            "model.language_model.layers.9.self_attn.v_proj.bias",
        );
        rename("model.visual.merger.mlp.2.weight", "visual.extra");
        for name in ["lm_head.weight", "model.visual.patch_embed.proj.weight"] {
            if let Some(stored) = tensors.0.get_mut(name) {
                // One row less.
                let row = stored.bytes.len() / stored.shape[0];
                stored.bytes.truncate(stored.bytes.len() - row);
                stored.shape[0] -= 1;
                spoilt.push(name.to_owned());
            }
        }
        write_tensors(&tensors, &shard);
    }
    assert_eq!(spoilt.len(), 4);
    std::fs::remove_file(dir.join("model.safetensors.index.json")).unwrap();
    let index = shards(&dir).iter().flat_map(|shard| in_file(shard)).collect::<BTreeMap<String, String>>();
    let index = json!({"metadata": {}, "weight_map": index}).to_string();
    std::fs::write(dir.join("model.safetensors.index.json"), index).unwrap();

    let error = load_error(&dir);
    for wanted in [
        dir.to_str().unwrap(),
        "missing: model.layers.2.self_attn.v_proj.bias [16]",
        "missing: visual.merger.mlp.2.weight [32, 64]",
        "surplus: model.layers.9.self_attn.v_proj.bias",
        "surplus: visual.extra",
        "wrong shape: lm_head.weight is [399, 32], the config asks for [400, 32]",
        "wrong shape: visual.patch_embed.proj.weight is [15, 3, 2, 14, 14]",
    ] {
        assert!(error.contains(wanted), "`{wanted}` is not in:\n{error}");
    }
}

#[test]
fn broken_weight_files_are_named() {
    let weights = "model.safetensors";
    let spoil = |change: &dyn Fn(&mut Vec<u8>)| {
        let (_guard, dir) = copy_of("flat_tied");
        let mut bytes = std::fs::read(dir.join(weights)).unwrap();
        change(&mut bytes);
        std::fs::write(dir.join(weights), bytes).unwrap();
        let error = load_error(&dir);
        assert!(error.contains(dir.join(weights).to_str().unwrap()), "the file is not named: {error}");
    };
    spoil(&|bytes| bytes.clear());
    spoil(&|bytes| bytes.truncate(5));
    spoil(&|bytes| bytes.truncate(100));
    spoil(&|bytes| bytes.truncate(bytes.len() - 1));
    spoil(&|bytes| bytes.truncate(bytes.len() / 2));
    spoil(&|bytes| bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes()));
    spoil(&|bytes| bytes[..8].copy_from_slice(&(1_u64 << 40).to_le_bytes()));
    spoil(&|bytes| bytes[8] = b'[');
    spoil(&|bytes| bytes[20] = 0xff);

    let (_guard, dir) = copy_of("nested_untied_sharded");
    let shard = "model-00002-of-00003.safetensors";
    let bytes = std::fs::read(dir.join(shard)).unwrap();
    std::fs::write(dir.join(shard), &bytes[..bytes.len() - 100]).unwrap();
    let error = load_error(&dir);
    assert!(error.contains(shard), "{error}");
    std::fs::remove_file(dir.join(shard)).unwrap();
    let error = load_error(&dir);
    assert!(error.contains(shard), "{error}");
    std::fs::write(dir.join("model.safetensors.index.json"), r#"{"weight_map": {"a": "../b.safetensors"}}"#)
        .unwrap();
    let error = load_error(&dir);
    assert!(error.contains("index.json") && error.contains("../b.safetensors"), "{error}");
}

#[test]
fn config_fields_that_change_the_numbers_are_honoured_or_refused_by_name() {
    let cases: [(&str, Value, &str); 13] = [
        ("/use_sliding_window", json!(true), "`use_sliding_window`"),
        ("/attention_dropout", json!(0.1), "`attention_dropout`"),
        ("/hidden_act", json!("gelu"), "`hidden_act`"),
        ("/logit_softcap", json!(30.0), "`logit_softcap`"),
        ("/model_type", json!("qwen3_vl"), "`model_type`"),
        ("/hidden_size", json!("32"), "`hidden_size`"),
        ("/num_hidden_layers", json!(-1), "`num_hidden_layers`"),
        ("/num_key_value_heads", json!(3), "`num_key_value_heads`"),
        ("/rope_scaling/type", json!("yarn"), "`rope_scaling.type`"),
        ("/rope_scaling/factor", json!(4.0), "`rope_scaling.factor`"),
        ("/rope_scaling/mrope_section", json!([1, 1, 1]), "`rope_scaling.mrope_section`"),
        ("/vision_config/window_size", json!(1), "`vision_config.window_size`"),
        ("/vision_config/deepstack_visual_indexes", json!([1]), "`vision_config.deepstack_visual_indexes`"),
    ];
    for (pointer, value, wanted) in cases {
        let (_guard, dir) = copy_of("flat_tied");
        let path = dir.join("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[key] = value;
        std::fs::write(&path, config.to_string()).unwrap();
        let error = load_error(&dir);
        assert!(error.contains(wanted) && error.contains(path.to_str().unwrap()), "{pointer}: {error}");
    }
    for text in ["", "[]", "{\"model_type\":", "\u{feff}nonsense"] {
        let (_guard, dir) = copy_of("flat_tied");
        std::fs::write(dir.join("config.json"), text).unwrap();
        let error = load_error(&dir);
        assert!(error.contains("config.json"), "{error}");
    }
}

/// A copy of a fixture's checkpoint to be spoilt.
pub(crate) fn copy_of(name: &str) -> (TempDir, PathBuf) {
    let guard = tempfile::tempdir().unwrap();
    let copy = guard.path().join(name);
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(fixture::root().join(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    (guard, copy)
}

fn load_error(dir: &Path) -> String {
    struct Load<'a>(&'a Path);

    impl Job for Load<'_> {
        type Output = ();

        fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<()> {
            Qwen25Vl::<B::InnerBackend>::from_dir(self.0, device)?;
            Ok(())
        }
    }

    let error = run_on(Device::Cpu, Load(dir)).expect_err("a spoilt checkpoint must not load");
    format!("{error:#}")
}

fn shards(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "safetensors")).collect()
}

fn in_file(shard: &Path) -> Vec<(String, String)> {
    let file = shard.file_name().unwrap().to_str().unwrap();
    Tensors::read(shard).0.into_keys().map(|name| (name, file.to_owned())).collect()
}

pub(crate) fn write_tensors(tensors: &Tensors, path: &Path) {
    let views = tensors.0.iter().map(|(name, stored)| {
        (name, TensorView::new(stored.dtype, stored.shape.clone(), &stored.bytes).unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}
