//! Sentence vectors equal to those of sentence-transformers 5.7: `tests/data/sentence_encoder/README.md`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use burn::tensor::backend::{AutodiffBackend, Backend};
use medgrpo::device::{Device, Job, run_on};
use medgrpo_model::sentence_encoder::SentenceEncoder;
use medgrpo_rewards::embed::cosine;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::loading::write_tensors;
use crate::{
    device::on_device,
    fixture::{Deviation, Tensors},
};

/// Folder of all-MiniLM-L6-v2, which is too large to be stored here.
const MINILM_DIR: &str = "MEDGRPO_MINILM_DIR";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/sentence_encoder")
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

fn rows(value: &Value) -> Vec<Vec<f32>> {
    let row = |row: &Value| row.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
    value.as_array().unwrap().iter().map(row).collect()
}

/// A copy of the tiny encoder with `files` put over its own.
fn tiny_with(files: &Value) -> TempDir {
    let guard = tempfile::tempdir().unwrap();
    std::fs::create_dir(guard.path().join("1_Pooling")).unwrap();
    let tiny = root().join("tiny");
    for folder in ["", "1_Pooling"] {
        for entry in std::fs::read_dir(tiny.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::copy(&path, guard.path().join(path.strip_prefix(&tiny).unwrap())).unwrap();
            }
        }
    }
    for (name, content) in files.as_object().unwrap() {
        std::fs::write(guard.path().join(name), content.to_string()).unwrap();
    }
    guard
}

/// Largest 1 - cosine and the deviations of single numbers; texts are encoded together and the first few alone.
fn compare<B: Backend>(dir: &Path, texts: &[&str], reference: &[Vec<f32>], what: &str, device: &B::Device) {
    let encoder =
        SentenceEncoder::<B>::from_dir(dir, device).unwrap_or_else(|error| panic!("{what}: {error}"));
    let vectors = encoder.encode(texts).unwrap();
    assert_eq!(vectors.len(), reference.len(), "{what}");
    let (mut numbers, mut angle) = (Deviation::default(), 0.0_f64);
    for ((text, ours), reference) in texts.iter().zip(&vectors).zip(reference) {
        numbers.add(&format!("{what}, `{text:.40}`"), ours, reference);
        angle = angle.max(1.0 - cosine(ours, reference));
    }
    println!("{what}: 1 - cosine at most {angle:.1e}");
    assert!(angle < 1e-6, "{what}: 1 - cosine {angle:e}");
    numbers.check(what, 2e-5, 2e-6);

    let mut alone = Deviation::default();
    for (text, together) in texts.iter().zip(&vectors).take(4) {
        alone.add(what, &encoder.encode(&[text]).unwrap()[0], together);
    }
    alone.check(&format!("{what}, alone against together"), 2e-5, 2e-6);
    assert!(encoder.encode(&[]).unwrap().is_empty());
}

#[test]
fn every_form_of_the_directory_gives_the_reference_vectors() {
    struct Variants(Value);

    impl Job for Variants {
        type Output = ();

        fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<()> {
            let texts = strings(&self.0["sentences"]);
            let variants = self.0["variants"].as_array().unwrap();
            assert!(variants.len() >= 10 && texts.len() >= 24);
            for variant in variants {
                let dir = tiny_with(&variant["files"]);
                let name = variant["name"].as_str().unwrap();
                compare::<B::InnerBackend>(dir.path(), &texts, &rows(&variant["vectors"]), name, device);
            }
            Ok(())
        }
    }

    on_device(Variants(read_json(&root().join("tiny.json"))));
}

#[test]
fn published_minilm_gives_the_reference_vectors() {
    struct MiniLm(PathBuf);

    impl Job for MiniLm {
        type Output = ();

        fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<()> {
            let reference = read_json(&root().join("all-MiniLM-L6-v2.json"));
            let texts = strings(&reference["sentences"]);
            let vectors = rows(&reference["vectors"]);
            compare::<B::InnerBackend>(&self.0, &texts, &vectors, "all-MiniLM-L6-v2", device);
            Ok(())
        }
    }

    match std::env::var_os(MINILM_DIR) {
        Some(dir) => {
            on_device(MiniLm(dir.into()));
        }
        // Not the word by which scripts/test knows a device that cannot be used.
        None => println!("\n*** not run: {MINILM_DIR} names no folder of all-MiniLM-L6-v2\n"),
    }
}

/// The tiny encoder's vectors after `change` to its tensors, or why it does not load.
fn vectors_after(change: impl Fn(&mut Tensors), texts: &[&str]) -> Result<Vec<Vec<f32>>> {
    let dir = tiny_with(&json!({}));
    let path = dir.path().join("model.safetensors");
    let mut tensors = Tensors::read(&path);
    change(&mut tensors);
    write_tensors(&tensors, &path);
    encode_on_cpu(dir.path(), texts)
}

fn encode_on_cpu(dir: &Path, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
    struct Encode<'a>(&'a Path, &'a [&'a str]);

    impl Job for Encode<'_> {
        type Output = Vec<Vec<f32>>;

        fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<Vec<Vec<f32>>> {
            Ok(SentenceEncoder::<B::InnerBackend>::from_dir(self.0, device)?.encode(self.1)?)
        }
    }

    run_on(Device::Cpu, Encode(dir, texts))
}

#[test]
fn tensors_are_known_by_their_older_names_and_every_misfit_is_named() {
    let texts = ["the hook cuts", ""];
    let wanted = vectors_after(|_| {}, &texts).unwrap();
    let renamed = vectors_after(
        |tensors| {
            let old = |name: String| {
                let name = name.replace("LayerNorm.weight", "LayerNorm.gamma");
                format!("bert.{}", name.replace("LayerNorm.bias", "LayerNorm.beta"))
            };
            tensors.0 =
                std::mem::take(&mut tensors.0).into_iter().map(|(name, it)| (old(name), it)).collect();
        },
        &texts,
    );
    assert_eq!(renamed.unwrap(), wanted);

    let error = vectors_after(
        |tensors| {
            let taken = tensors.0.remove("encoder.layer.1.attention.self.key.bias").unwrap();
            tensors.0.insert("encoder.layer.7.attention.self.key.bias".to_owned(), taken);
            let table = tensors.0.get_mut("embeddings.position_embeddings.weight").unwrap();
            table.shape[0] -= 1;
            table.bytes.truncate(table.bytes.len() - 24 * 4);
        },
        &texts,
    );
    let error = format!("{:#}", error.unwrap_err());
    for wanted in [
        "missing: encoder.layer.1.attention.self.key.bias [24]",
        "surplus: encoder.layer.7.attention.self.key.bias",
        "wrong shape: embeddings.position_embeddings.weight is [39, 24], the config asks for [40, 24]",
    ] {
        assert!(error.contains(wanted), "`{wanted}` is not in:\n{error}");
    }

    let damaged = vectors_after(
        |tensors| {
            let bytes = &mut tensors.0.get_mut("embeddings.LayerNorm.bias").unwrap().bytes;
            bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        },
        &texts,
    );
    assert!(format!("{:#}", damaged.unwrap_err()).contains("not finite"));
}

#[test]
fn what_changes_the_vectors_is_honoured_or_refused_by_file_and_key() {
    let tiny = root().join("tiny");
    let changed = |file: &str, key: &str, value: Value| {
        let mut content = read_json(&tiny.join(file));
        content[key] = value;
        (file.to_owned(), content, format!("`{key}`"))
    };
    let module = |class: &str| json!({"idx": 1, "name": "1", "path": "1_Pooling", "type": class});
    let transformer = json!({"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"});
    let modules = |list: Value, wanted: &str| ("modules.json".to_owned(), list, wanted.to_owned());
    let (config, sentence) = ("config.json", "sentence_bert_config.json");
    let cases = [
        changed(config, "model_type", json!("roberta")),
        changed(config, "model_type", Value::Null),
        changed(config, "hidden_act", json!("gelu_new")),
        changed(config, "position_embedding_type", json!("relative_key")),
        changed(config, "is_decoder", json!(true)),
        changed(config, "num_attention_heads", json!(5)),
        changed(config, "num_hidden_layers", json!(10_000)),
        changed(config, "embedding_size", json!(12)),
        changed(sentence, "do_lower_case", json!(true)),
        changed(sentence, "max_seq_length", json!("32")),
        changed(sentence, "transformer_task", json!("fill-mask")),
        changed(sentence, "processing_kwargs", json!({"text": {"padding": "max_length"}})),
        changed(sentence, "half", json!(true)),
        changed("tokenizer_config.json", "truncation_side", json!("middle")),
        changed("1_Pooling/config.json", "pooling_mode_lasttoken", json!(true)),
        (sentence.to_owned(), json!({"max_seq_length": 41}), "max_position_embeddings, 40".to_owned()),
        (sentence.to_owned(), json!({"max_seq_length": 2}), "after 2 tokens".to_owned()),
        (config.to_owned(), json!([]), "not a JSON object".to_owned()),
        (
            "config_sentence_transformers.json".to_owned(),
            json!({"prompts": {"q": "query: "}, "default_prompt_name": "q"}),
            "`default_prompt_name`".to_owned(),
        ),
        ("tokenizer.json".to_owned(), json!({"model": 3}), "not a tokenizer".to_owned()),
        modules(json!({}), "not a list of modules"),
        modules(json!([transformer]), "[Transformer]"),
        modules(
            json!([
                transformer,
                module("sentence_transformers.models.Pooling"),
                module("elsewhere.Normalize")
            ]),
            "[Transformer, Pooling, elsewhere.Normalize]",
        ),
        modules(
            json!([{"path": "../up", "type": "sentence_transformers.models.Transformer"},
                   module("sentence_transformers.models.Pooling")]),
            "`../up` is not a folder in here",
        ),
    ];
    for (file, content, wanted) in cases {
        let dir = tiny_with(&json!({(file.as_str()): content}));
        let error = format!("{:#}", encode_on_cpu(dir.path(), &["a"]).unwrap_err());
        assert!(error.contains(&wanted), "{file}: `{wanted}` is not in: {error}");
        let named = file.split('/').next().unwrap();
        assert!(error.contains(named) || error.contains(dir.path().to_str().unwrap()), "{file}: {error}");
    }
    for file in
        ["modules.json", "config.json", "tokenizer.json", "1_Pooling/config.json", "model.safetensors"]
    {
        let dir = tiny_with(&json!({}));
        std::fs::remove_file(dir.path().join(file)).unwrap();
        let error = format!("{:#}", encode_on_cpu(dir.path(), &["a"]).unwrap_err());
        assert!(error.contains(file), "{file}: {error}");
    }
}
