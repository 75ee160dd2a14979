//! Vision features, logits of whole sequences (single and padded) and log-probabilities of answers.

use anyhow::Result;
use burn::tensor::{
    Tensor,
    backend::{AutodiffBackend, Backend},
};
use medgrpo::device::Job;
use medgrpo_model::{
    attention::{Mask, Rows},
    checkpoint::Pretrained,
    group_forward::{Group, LogProbOptions, completion_log_probs},
    processor::Encoded,
    qwen2_5_vl::Qwen25Vl,
    vlm::{DecoderContext, Positions, Vlm},
};

use crate::{
    device::on_device,
    fixture::{self, Deviation, Fixture},
};

/// Allowed distance of logits and log-probabilities; `reference/`'s own float32 noise is up to 2e-5.
pub(super) const MAX: f64 = 1e-3;
pub(super) const MEAN: f64 = 2e-5;

#[test]
fn features_logits_and_log_probs_equal_the_reference() {
    on_device(Forward);
}

struct Forward;

impl Job for Forward {
    type Output = ();

    fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<()> {
        for fixture in fixture::all() {
            let (model, _) = Qwen25Vl::<B::InnerBackend>::from_dir(&fixture.dir, device)?;
            features(&fixture, &model, device);
            logits(&fixture, &model, device);
            padded(&fixture, &model, device);
            log_probs(&fixture, &model, device)?;
            entropies(&fixture, &model, device)?;
            if fixture.name == "flat_tied" {
                resaved::<B>(&fixture, device)?;
            }
        }
        Ok(())
    }
}

fn features<B: Backend>(fixture: &Fixture, model: &Qwen25Vl<B>, device: &B::Device) {
    let mut deviation = Deviation::default();
    for (index, record) in fixture.records.iter().enumerate() {
        let mut reference = Vec::new();
        for key in ["image_features", "video_features"] {
            let name = format!("{index}.{key}");
            if fixture.reference.has(&name) {
                reference.extend(fixture.reference.f32s(&name));
            }
        }
        let ours = model.encode_vision(&[&record.conversation], device);
        assert_eq!(ours.is_some(), !reference.is_empty());
        if let Some(ours) = ours {
            deviation.add(&record.name, &numbers(ours), &reference);
        }
    }
    deviation.check(&format!("{}, vision features", fixture.name), MAX, MEAN);
}

fn logits<B: Backend>(fixture: &Fixture, model: &Qwen25Vl<B>, device: &B::Device) {
    let mut deviation = Deviation::default();
    for (index, record) in fixture.records.iter().enumerate() {
        let ours = full_logits(model, &record.conversation, device);
        compare_logits(fixture, index, &ours, &mut deviation);
    }
    deviation.check(&format!("{}, logits", fixture.name), MAX, MEAN);
}

/// `flat_tied` as transformers writes it when it saves it again: another layout of `config.json`, the same model.
fn resaved<B: AutodiffBackend>(fixture: &Fixture, device: &B::Device) -> Result<()> {
    let dir = tempfile::tempdir()?;
    for entry in std::fs::read_dir(fixture::root().join("flat_tied.resaved"))? {
        let path = entry?.path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap()))?;
    }
    std::fs::copy(fixture.dir.join("model.safetensors"), dir.path().join("model.safetensors"))?;
    let (model, _) = Qwen25Vl::<B::InnerBackend>::from_dir(dir.path(), device)?;
    logits(fixture, &model, device);
    Ok(())
}

/// Logits of every token of one unpadded conversation.
pub(super) fn full_logits<B: Backend>(model: &Qwen25Vl<B>, input: &Encoded, device: &B::Device) -> Vec<f32> {
    let valid = vec![vec![true; input.input_ids.len()]];
    let positions = model.positions(input).unwrap();
    run(model, &[input], std::slice::from_ref(&input.input_ids), &valid, &positions, device)
}

fn run<B: Backend>(
    model: &Qwen25Vl<B>,
    inputs: &[&Encoded],
    sequences: &[Vec<u32>],
    valid: &[Vec<bool>],
    positions: &Positions,
    device: &B::Device,
) -> Vec<f32> {
    let features = model.encode_vision(inputs, device);
    let mask = Mask::causal(valid);
    let context = DecoderContext { own_mask: Some(&mask), prompt: None, prompt_mask: None, own: None };
    let hidden = model.embed(sequences, features, device);
    let hidden =
        model.decode(hidden, Rows::independent(sequences.len(), sequences[0].len()), positions, context);
    numbers(model.logits(hidden))
}

fn compare_logits(fixture: &Fixture, index: usize, ours: &[f32], deviation: &mut Deviation) {
    let reference = fixture.reference.f32s(&format!("{index}.logits"));
    let vocab = fixture.reference.shape(&format!("{index}.logits"))[1];
    // What stands before is the beginning of an earlier record, where it was compared.
    let start = fixture.reference.i64s(&format!("{index}.logits_start"))[0] as usize;
    deviation.add(&fixture.records[index].name, &ours[start * vocab..], &reference);
}

/// Batches of the reference's own making, padded on either side.
fn padded<B: Backend>(fixture: &Fixture, model: &Qwen25Vl<B>, device: &B::Device) {
    let tensors = &fixture.reference;
    if !tensors.has("batch.records") {
        return;
    }
    let records: Vec<usize> = tensors.i64s("batch.records").into_iter().map(|index| index as usize).collect();
    let inputs: Vec<&Encoded> = records.iter().map(|index| &fixture.records[*index].conversation).collect();
    for side in ["left", "right"] {
        let key = |key: &str| format!("batch.{side}.{key}");
        let len = tensors.shape(&key("input_ids"))[1];
        let sequences: Vec<Vec<u32>> =
            tensors.ids(&key("input_ids")).chunks(len).map(<[u32]>::to_vec).collect();
        let mask = tensors.i64s(&key("attention_mask"));
        let valid: Vec<Vec<bool>> =
            mask.chunks(len).map(|row| row.iter().map(|valid| *valid == 1).collect()).collect();
        let axes = tensors.i64s(&key("position_ids"));
        let axes: Vec<&[i64]> = axes.chunks(records.len() * len).collect();
        let positions = Positions { t: axes[0].to_vec(), h: axes[1].to_vec(), w: axes[2].to_vec() };
        for (row, input) in inputs.iter().enumerate() {
            let own = model.positions(input).unwrap();
            for (axis, own) in axes.iter().zip([&own.t, &own.h, &own.w]) {
                let kept = real(&axis[row * len..(row + 1) * len], &valid[row], 1);
                assert_eq!(kept, *own, "{}, {side}: positions of row {row}", fixture.name);
            }
            let delta = own.next() - own.len() as i64 - (len - own.len()) as i64;
            let reference = tensors.i64s(&key("rope_deltas"))[row];
            // Stock code counts the padding into the delta of a row of a batch with media.
            assert!(
                reference == delta || reference == delta + (len - own.len()) as i64,
                "{side}: rope_deltas"
            );
        }
        let ours = run(model, &inputs, &sequences, &valid, &positions, device);
        let vocab = model.vocab_size();
        let mut deviation = Deviation::default();
        for (row, index) in records.iter().enumerate() {
            let ours = real(&ours[row * len * vocab..(row + 1) * len * vocab], &valid[row], vocab);
            compare_logits(fixture, *index, &ours, &mut deviation);
        }
        deviation.check(&format!("{}, logits padded on the {side}", fixture.name), MAX, MEAN);
    }
}

/// The rows of `values`, `width` numbers each, that are not padding.
fn real<T: Copy>(values: &[T], valid: &[bool], width: usize) -> Vec<T> {
    values.chunks(width).zip(valid).filter(|(_, valid)| **valid).flat_map(|(row, _)| row.to_vec()).collect()
}

/// All records in one batch of mixed lengths, and each alone.
fn log_probs<B: Backend>(fixture: &Fixture, model: &Qwen25Vl<B>, device: &B::Device) -> Result<()> {
    let answers: Vec<Vec<Vec<u32>>> =
        fixture.records.iter().map(|record| vec![record.answer.clone()]).collect();
    let groups: Vec<Group<'_>> = fixture
        .records
        .iter()
        .zip(&answers)
        .map(|(record, completions)| Group { prompt: &record.prompt, completions })
        .collect();
    for (how, batches) in [("alone", groups.chunks(1)), ("in one batch", groups.chunks(groups.len()))] {
        let mut deviation = Deviation::default();
        let mut index = 0;
        for batch in batches {
            let scored = completion_log_probs(model, batch, LogProbOptions::default(), device)?;
            let [rows, len] = scored.log_probs.dims();
            assert_eq!(rows, batch.len());
            let values = numbers(scored.log_probs);
            for (row, num_tokens) in values.chunks(len).zip(scored.lens) {
                let reference = fixture.reference.f32s(&format!("{index}.answer_logprobs"));
                deviation.add(&fixture.records[index].name, &row[..num_tokens], &reference);
                assert!(row[num_tokens..].iter().all(|padding| *padding == 0.0), "padding must be 0");
                index += 1;
            }
        }
        deviation.check(&format!("{}, log-probabilities {how}", fixture.name), MAX, MEAN);
    }
    Ok(())
}

/// Log-probabilities and entropies at another temperature, against the reference's logits in float64.
fn entropies<B: Backend>(fixture: &Fixture, model: &Qwen25Vl<B>, device: &B::Device) -> Result<()> {
    let options = LogProbOptions { temperature: 0.7, entropy: true, ..LogProbOptions::default() };
    let mut deviations = [Deviation::default(); 2];
    for (index, record) in fixture.records.iter().enumerate() {
        let completions = [record.answer.clone()];
        let group = Group { prompt: &record.prompt, completions: &completions };
        let scored = completion_log_probs(model, &[group], options, device)?;

        let logits = fixture.reference.f32s(&format!("{index}.logits"));
        let vocab = fixture.reference.shape(&format!("{index}.logits"))[1];
        let start = fixture.reference.i64s(&format!("{index}.logits_start"))[0] as usize;
        let first = record.prompt.input_ids.len() - 1 - start;
        let (mut log_probs, mut entropies) = (Vec::new(), Vec::new());
        for (row, id) in logits.chunks(vocab).skip(first).zip(&record.answer) {
            let row: Vec<f64> = row.iter().map(|logit| f64::from(*logit) / options.temperature).collect();
            let log_total = row.iter().map(|logit| logit.exp()).sum::<f64>().ln();
            log_probs.push((row[*id as usize] - log_total) as f32);
            entropies
                .push(-row.iter().map(|logit| (logit - log_total).exp() * (logit - log_total)).sum::<f64>()
                    as f32);
        }
        deviations[0].add(&record.name, &numbers(scored.log_probs), &log_probs);
        deviations[1].add(&record.name, &numbers(scored.entropy.unwrap()), &entropies);
    }
    deviations[0].check(&format!("{}, log-probabilities at temperature 0.7", fixture.name), MAX, MEAN);
    deviations[1].check(&format!("{}, entropies", fixture.name), MAX, MEAN);
    Ok(())
}

/// The numbers of a tensor, on the host.
pub(super) fn numbers<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().into_vec().unwrap()
}
