//! What an adapter may and may not change.

use std::collections::BTreeMap;

use burn::{
    module::{AutodiffModule, Module, ModuleVisitor, Param, ParamId},
    tensor::{Tensor, TensorData, backend::Backend},
};

use super::{Adaptable, LoraConfig, fixture::*, load_adapter};
use crate::{
    checkpoint::save_into, qwen2_5_vl::Qwen25Vl, trainable::Trainable, vlm::Vlm, weights::SavePrecision,
};

fn config(lora_dropout: f64, vision: bool) -> LoraConfig {
    LoraConfig {
        r: 4,
        lora_alpha: 8.0,
        lora_dropout,
        use_rslora: false,
        target_modules: vec!["all-linear".to_owned()],
        vision,
    }
}

fn wide(values: &[f32]) -> impl Iterator<Item = f64> {
    values.iter().map(|value| f64::from(*value))
}

#[test]
fn off_is_the_base_to_the_bit_and_merged_is_on() {
    let plain = answers(&base::<Plain>().0);
    for name in ADAPTERS {
        let model = load_adapter(base::<Plain>().0, &adapter_dir(name)).unwrap();
        assert_eq!(answers(&model.clone().with_adapter(false)), plain, "{name}: off");
        let on = answers(&model.clone().with_adapter(false).with_adapter(true));
        assert_eq!(answers(&model), on);
        let merged = model.merged();
        assert_eq!(merged.lora_config(), None);
        let away = answers(&merged)
            .iter()
            .zip(&on)
            .map(|(merged, on)| furthest(merged, wide(on)))
            .fold(0.0, f64::max);
        println!("{name}: merged is {away:.1e} away");
        assert!(away < 2e-5, "{name}: merged");
    }
}

#[test]
fn everything_learns_again_once_merged() {
    let model = load_adapter(base::<Learning>().0, &adapter_dir("everywhere")).unwrap().merged();
    let mut untouched = base::<Learning>().0;
    let merged = gradients(&model, loss);
    assert!(merged.contains_key("model.embed_tokens.weight"));
    assert!(merged.contains_key("model.layers.1.mlp.down_proj.weight"));
    let plain = gradients(&untouched, loss);
    assert!(merged.keys().eq(plain.keys()));
    assert!(untouched.projections().iter().all(|(_, projection)| projection.lora.is_none()));
}

#[test]
fn a_shared_prompt_changes_neither_log_probs_nor_gradients() {
    let model = load_adapter(base::<Learning>().0, &adapter_dir("everywhere")).unwrap();
    let records = records();
    let prompt = &records[1].prompt;
    // Ragged, one of a single token.
    let completions = [records[1].answer.clone(), records[0].answer[..1].to_vec(), records[2].answer.clone()];
    let weighted = |log_probs: Tensor<Learning, 2>, first: usize| {
        let [rows, len] = log_probs.dims();
        let weights: Vec<f32> = (0..rows * len)
            .map(|place| (1.0 + (first + place / len) as f32 - 0.3 * (place % len) as f32) / 8.0)
            .collect();
        let weights = TensorData::new(weights, [rows, len]);
        (log_probs * Tensor::from_data(weights, &Default::default())).sum()
    };
    let shared = score(&model, prompt, &completions);
    let [_, len] = shared.dims();
    let rows = numbers(shared);
    let mut worst = 0.0_f64;
    let apart = gradients(&model, |model| {
        let terms = completions.iter().enumerate().map(|(index, completion)| {
            let alone = score(model, prompt, std::slice::from_ref(completion));
            let numbers = numbers(alone.clone());
            worst = worst.max(furthest(&rows[index * len..index * len + numbers.len()], wide(&numbers)));
            weighted(alone, index)
        });
        Tensor::cat(terms.collect(), 0).sum()
    });
    let together = gradients(&model, |model| weighted(score(model, prompt, &completions), 0));
    let worst_gradient =
        together.iter().map(|(name, values)| relative_l2(values, wide(&apart[name]))).fold(0.0, f64::max);
    println!("shared prompt: log-probabilities within {worst:.1e}, gradients within {worst_gradient:.1e}");
    assert!(together.keys().eq(apart.keys()));
    assert!(worst < 1e-5 && worst_gradient < 1e-5);
}

#[test]
fn a_fresh_adapter_changes_nothing_and_comes_from_its_seed() {
    let (plain, source) = base::<Plain>();
    let values = |seed| {
        let mut model = base::<Plain>().0.with_lora(&config(0.0, true), seed).unwrap();
        let name_and_values = |(name, projection): (String, &mut crate::projection::Projection<Plain>)| {
            let lora = projection.lora.as_ref().unwrap();
            (name, numbers(lora.a.val()), numbers(lora.b.val()))
        };
        model.projections().into_iter().map(name_and_values).collect::<Vec<_>>()
    };
    let first = values(3);
    assert_eq!(first, values(3));
    for ((name, a, b), (_, other, _)) in first.iter().zip(values(4)) {
        assert!(b.iter().all(|value| *value == 0.0), "{name}");
        assert_ne!(*a, other, "{name}");
        // Uniform within 1/√input: the largest of many is near the bound, the spread is the bound over √3.
        let bound = 1.0 / ((a.len() / 4) as f64).sqrt();
        let largest = wide(a).map(f64::abs).fold(0.0, f64::max);
        assert!(largest <= bound && largest > 0.8 * bound, "{name}: {largest} of {bound}");
        let spread = (wide(a).map(|value| value * value).sum::<f64>() / a.len() as f64).sqrt();
        assert!((spread * 3.0_f64.sqrt() / bound - 1.0).abs() < 0.25, "{name}: spread {spread}");
    }
    let layers: std::collections::BTreeSet<_> =
        first.iter().map(|(_, a, _)| format!("{:?}", &a[..4])).collect();
    assert_eq!(layers.len(), first.len(), "each layer has numbers of its own");

    let adapted = plain.clone().with_lora(&config(0.0, true), 3).unwrap();
    assert_eq!(answers(&adapted), answers(&plain));
    // A checkpoint of the model below is what it was.
    let [with, without] = [adapted, plain].map(|model| {
        let dir = tempfile::tempdir().unwrap();
        save_into(&model, &source, SavePrecision::AsLoaded, dir.path()).unwrap();
        std::fs::read(dir.path().join("model.safetensors")).unwrap()
    });
    assert!(with == without);
    assert!(
        base::<Plain>().0.with_lora(&config(0.0, true), 3).unwrap().with_lora(&config(0.0, true), 3).is_err()
    );
}

#[test]
fn dropout_comes_from_its_seed_and_only_while_asked_for() {
    // B must not be zero, or nothing is seen.
    let model = || {
        let mut model = load_adapter(base::<Learning>().0, &adapter_dir("everywhere")).unwrap();
        for (_, projection) in model.projections() {
            if let Some(lora) = projection.lora.as_mut() {
                lora.config = std::sync::Arc::new(LoraConfig { lora_dropout: 0.2, ..(*lora.config).clone() });
            }
        }
        model
    };
    let still = answers(&model());
    assert_eq!(answers(&load_adapter(base::<Learning>().0, &adapter_dir("everywhere")).unwrap()), still);
    let first = answers(&model().with_dropout_seed(Some(1)));
    assert_ne!(first, still);
    assert_eq!(first, answers(&model().with_dropout_seed(Some(1))));
    assert_ne!(first, answers(&model().with_dropout_seed(Some(2))));
    assert_eq!(still, answers(&model().with_dropout_seed(Some(1)).with_dropout_seed(None)));
    let off = answers(&model().with_dropout_seed(Some(1)).with_adapter(false));
    assert_eq!(off, answers(&base::<Learning>().0));
    let gradient = |seed| gradients(&model().with_dropout_seed(seed), loss);
    assert_eq!(gradient(Some(1)), gradient(Some(1)));
    assert_ne!(gradient(Some(1)), gradient(None));
}

#[test]
fn parameters_keep_their_ids_and_views_their_tensors() {
    let model = base::<Learning>().0.with_lora(&config(0.0, true), 1).unwrap();
    let ids = |model: &Qwen25Vl<Learning>| {
        let mut ids = Ids(Vec::new());
        model.visit(&mut ids);
        ids.0
    };
    let all = ids(&model);
    assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
    let other = base::<Learning>().0.with_lora(&config(0.0, true), 2).unwrap();
    assert_eq!(ids(&other), all);
    assert_eq!(ids(&model.clone().with_adapter(false).with_dropout_seed(Some(1))), all);
    let merged = ids(&model.clone().merged());
    assert_eq!(merged, ids(&base::<Learning>().0));
    // The reference: without autodiff, off.
    let reference = model.with_adapter(false).valid();
    assert_eq!(answers(&reference), answers(&base::<Plain>().0));
}

struct Ids(Vec<ParamId>);

impl<B: Backend> ModuleVisitor<B> for Ids {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.0.push(param.id);
    }
}

#[test]
fn each_part_learns_or_is_frozen_by_itself() {
    let found = |parts: Trainable, adapted: bool| {
        let mut model = base::<Learning>().0;
        if adapted {
            model = model.with_lora(&config(0.0, true), 1).unwrap();
        }
        let model = model.with_trainable(parts);
        let mut counts = BTreeMap::from([("tower", 0), ("merger", 0), ("language", 0), ("adapter", 0)]);
        for name in gradients(&model, loss).keys() {
            let part = match name {
                name if name.contains("lora_") => "adapter",
                name if name.starts_with("visual.merger.") => "merger",
                name if name.starts_with("visual.") => "tower",
                _ => "language",
            };
            *counts.get_mut(part).unwrap() += 1;
        }
        ["tower", "merger", "language", "adapter"].map(|part| counts[part])
    };
    // 3 blocks of 12 with the patch embedding; the merger; 2 layers of 12 with the table and the last norm.
    let (tower, merger, language) = (37, 5, 26);
    assert_eq!(found(Trainable::ALL, false), [tower, merger, language, 0]);
    assert_eq!(found(Trainable { vision_tower: false, ..Trainable::ALL }, false), [0, merger, language, 0]);
    assert_eq!(found(Trainable { merger: false, ..Trainable::ALL }, false), [tower, 0, language, 0]);
    assert_eq!(found(Trainable { language_model: false, ..Trainable::ALL }, false), [tower, merger, 0, 0]);
    // 3 blocks of 5 layers, 2 in the merger, 2 layers of 7; two matrices each.
    assert_eq!(found(Trainable::NONE, true), [0, 0, 0, 62]);
    assert_eq!(found(Trainable { merger: true, ..Trainable::NONE }, true), [0, merger, 0, 62]);
}
