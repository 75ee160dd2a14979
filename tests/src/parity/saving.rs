//! A model that was loaded and saved again is the same directory: names, types, bits, configuration.

use std::path::Path;

use anyhow::Result;
use burn::tensor::backend::AutodiffBackend;
use medgrpo::device::Job;
use medgrpo_model::{
    checkpoint::{Pretrained, save_into},
    qwen2_5_vl::Qwen25Vl,
    weights::SavePrecision,
};
use safetensors::Dtype;
use serde_json::Value;

use super::{forward::full_logits, loading::copy_of};
use crate::{
    device::on_device,
    fixture::{self, Stored, Tensors},
};

#[test]
fn saved_checkpoints_equal_their_source_bit_for_bit() {
    on_device(Saving);
}

struct Saving;

impl Job for Saving {
    type Output = ();

    fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<()> {
        for fixture in fixture::all() {
            let name = &fixture.name;
            let (model, source) = Qwen25Vl::<B::InnerBackend>::from_dir(&fixture.dir, device)?;
            let original = Tensors::read_checkpoint(&fixture.dir);
            let dir = tempfile::tempdir()?;
            save_into(&model, &source, SavePrecision::AsLoaded, dir.path())?;
            compare(name, &Tensors::read_checkpoint(dir.path()), &original);
            assert_eq!(
                json(&dir.path().join("config.json")),
                json(&fixture.dir.join("config.json")),
                "{name}"
            );
            for entry in std::fs::read_dir(&fixture.dir)? {
                let path = entry?.path();
                let file = path.file_name().unwrap().to_str().unwrap();
                if file != "config.json" && !file.starts_with("model") {
                    let saved = std::fs::read(dir.path().join(file))
                        .unwrap_or_else(|error| panic!("{name}: {file}: {error}"));
                    assert!(saved == std::fs::read(&path)?, "{name}: {file} differs");
                }
            }

            let wide = tempfile::tempdir()?;
            save_into(&model, &source, SavePrecision::F32, wide.path())?;
            let widened =
                Tensors(original.0.iter().map(|(name, stored)| (name.clone(), widen(stored))).collect());
            compare(name, &Tensors::read_checkpoint(wide.path()), &widened);
            let config = std::fs::read_to_string(wide.path().join("config.json"))?;
            assert!(!config.contains("float16"), "{name}: config.json still names another type than float32");
            let (again, _) = Qwen25Vl::<B::InnerBackend>::from_dir(wide.path(), device)?;
            let input = &fixture.records[0].conversation;
            assert_eq!(full_logits(&again, input, device), full_logits(&model, input, device), "{name}");
            println!("{name}: {} tensors come back bit for bit", original.0.len());
        }
        Ok(())
    }
}

#[test]
fn wide_checkpoints_name_float32_in_nested_configurations_too() {
    // transformers from 4.57 on writes the type into `text_config` as well.
    let (_guard, dir) = copy_of("nested_tied_f16");
    let path = dir.join("config.json");
    let mut config = json(&path);
    config["text_config"]["dtype"] = "float16".into();
    std::fs::write(&path, config.to_string()).unwrap();
    let wide = tempfile::tempdir().unwrap();
    on_device(SaveWide { from: &dir, to: wide.path() });
    let saved = json(&wide.path().join("config.json"));
    assert_eq!((&saved["dtype"], &saved["text_config"]["dtype"]), (&"float32".into(), &"float32".into()));
}

struct SaveWide<'a> {
    from: &'a Path,
    to: &'a Path,
}

impl Job for SaveWide<'_> {
    type Output = ();

    fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<()> {
        let (model, source) = Qwen25Vl::<B::InnerBackend>::from_dir(self.from, device)?;
        Ok(save_into(&model, &source, SavePrecision::F32, self.to)?)
    }
}

fn compare(what: &str, ours: &Tensors, reference: &Tensors) {
    let names = |tensors: &Tensors| tensors.0.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(ours), names(reference), "{what}: names of the tensors");
    for (name, stored) in &reference.0 {
        let ours = ours.get(name);
        assert_eq!((ours.dtype, &ours.shape), (stored.dtype, &stored.shape), "{what}: {name}");
        assert!(ours.bytes == stored.bytes, "{what}: bits of {name}");
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn widen(stored: &Stored) -> Stored {
    let pairs = || stored.bytes.as_chunks::<2>().0.iter().map(|bytes| u16::from_le_bytes(*bytes));
    let bytes = match stored.dtype {
        Dtype::F32 => stored.bytes.clone(),
        Dtype::BF16 => pairs().flat_map(|bits| (u32::from(bits) << 16).to_le_bytes()).collect(),
        Dtype::F16 => pairs().flat_map(|bits| half_to_f32(bits).to_le_bytes()).collect(),
        other => panic!("{other:?}"),
    };
    Stored { dtype: Dtype::F32, shape: stored.shape.clone(), bytes }
}

/// IEEE 754 binary16, written out so that the loader is not compared with itself.
fn half_to_f32(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    match exponent {
        0 => sign * fraction * 2.0_f32.powi(-24),
        31 => panic!("weights are finite"),
        _ => sign * (1.0 + fraction / 1024.0) * 2.0_f32.powi(exponent - 15),
    }
}
