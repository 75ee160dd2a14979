//! Repetition penalty, temperature, top-k and top-p against transformers' processors on fixed logits.

use medgrpo_model::sampling::{Sampler, Sampling};

use crate::fixture::{self, Tensors};

/// Its logits are -1, 0, 1, -1, ...
const ROW_OF_TIES: usize = 3;

#[test]
fn filtered_logits_equal_the_reference() {
    let tensors = Tensors::read(&fixture::root().join("logits_processors.safetensors"));
    let [rows, vocab] = tensors.shape("logits").try_into().unwrap();
    let (logits, ids) = (tensors.f32s("logits"), tensors.ids("input_ids"));
    let settings: Vec<&String> = tensors.0.keys().filter(|name| name.contains('=')).collect();
    assert!(settings.len() >= 10);
    for setting in settings {
        let sampling = parse(setting);
        let reference = tensors.f32s(setting);
        for row in 0..rows {
            let mut ours = logits[row * vocab..(row + 1) * vocab].to_vec();
            let seen = &ids[row * ids.len() / rows..(row + 1) * ids.len() / rows];
            let token = Sampler::new(sampling, 5, 0, seen).next(&mut ours, &[]);
            assert!(ours[token as usize].is_finite(), "{setting}, row {row}: a filtered token was drawn");
            let mut reference = reference[row * vocab..(row + 1) * vocab].to_vec();
            if row == ROW_OF_TIES && sampling.top_p < 1.0 {
                // torch's sort is not stable: how many of equal logits stay is defined, which of them is not.
                ours.sort_by(f32::total_cmp);
                reference.sort_by(f32::total_cmp);
            }
            for (id, (ours, reference)) in ours.iter().zip(&reference).enumerate() {
                let equal = ours == reference || (ours - reference).abs() <= 1e-6 * reference.abs();
                assert!(equal, "{setting}, row {row}, token {id}: {ours}, reference {reference}");
            }
        }
    }
}

/// `repetition_penalty=1.05,temperature=0.7` as settings; what is not named changes nothing.
fn parse(setting: &str) -> Sampling {
    let mut sampling = Sampling { temperature: 1.0, top_p: 1.0, top_k: 0, repetition_penalty: 1.0 };
    for part in setting.split(',') {
        let (key, value) = part.split_once('=').unwrap();
        match key {
            "repetition_penalty" => sampling.repetition_penalty = value.parse().unwrap(),
            "temperature" => sampling.temperature = value.parse().unwrap(),
            "top_k" => sampling.top_k = value.parse().unwrap(),
            "top_p" => sampling.top_p = value.parse().unwrap(),
            other => panic!("unknown setting {other}"),
        }
    }
    sampling
}
