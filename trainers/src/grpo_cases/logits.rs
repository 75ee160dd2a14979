//! From logits to log-probabilities and entropies, and the tokens of high entropy.

use burn::tensor::DType;
use serde_json::Value;

use super::{all_close, table};
use crate::{loss_mask::LossMask, objective::weight::TopEntropy, testing::Rows};

/// Checks the entry.
pub(super) fn check(entry: &Value) -> Result<(), String> {
    let logits: Vec<Vec<Vec<f64>>> = entry["logits"]
        .as_array()
        .ok_or("logits are no list")?
        .iter()
        .map(table)
        .collect::<Result<_, _>>()?;
    let index = table(&entry["index"])?;
    let distributions = |temperature: f64| -> Vec<Vec<f64>> {
        logits.iter().flatten().map(|logits| log_softmax(logits, temperature)).collect()
    };
    for key in ["logps_t1", "logps_t0.9"] {
        let temperature: f64 = key[7..].parse().map_err(|error| format!("{key}: {error}"))?;
        let chosen = distributions(temperature).into_iter().zip(index.concat());
        let ours: Vec<f64> = chosen.map(|(log_probs, token)| log_probs[token as usize]).collect();
        all_close(key, &ours, &table(&entry[key])?.concat(), 1e-10)?;
    }
    let entropy = |log_probs: Vec<f64>| -log_probs.iter().map(|it| it.exp() * it).sum::<f64>();
    let entropies: Vec<f64> = distributions(1.0).into_iter().map(entropy).collect();
    all_close("entropy_t1", &entropies, &table(&entry["entropy_t1"])?.concat(), 1e-10)?;

    let mask: Vec<Vec<bool>> =
        table(&entry["mask"])?.into_iter().map(|row| row.into_iter().map(|it| it != 0.0).collect()).collect();
    let entropy: Vec<Vec<f64>> = entropies.chunks(mask[0].len()).map(<[f64]>::to_vec).collect();
    let rows = Rows {
        log_probs: entropy.clone(),
        old: None,
        reference: None,
        sampling: None,
        advantages: vec![0.0; mask.len()],
        entropy,
        mask: LossMask::from_rows(&mask),
    };
    let prefix = "high_entropy_mask_threshold_";
    let keys: Vec<&String> = entry
        .as_object()
        .into_iter()
        .flat_map(|it| it.keys())
        .filter(|key| key.starts_with(prefix))
        .collect();
    if keys.is_empty() {
        return Err("no mask of high entropy".to_owned());
    }
    for key in keys {
        let level: f64 = key[prefix.len()..].parse().map_err(|error| format!("{key}: {error}"))?;
        let kept = TopEntropy { top_entropy_quantile: 1.0 - level }.kept(&rows.batch(DType::F64));
        let ours: Vec<f64> = kept.as_slice().iter().map(|kept| f64::from(u8::from(*kept))).collect();
        all_close(key, &ours, &table(&entry[key])?.concat(), 0.0)?;
    }
    Ok(())
}

fn log_softmax(logits: &[f64], temperature: f64) -> Vec<f64> {
    let scaled: Vec<f64> = logits.iter().map(|logit| logit / temperature).collect();
    let largest = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sum = scaled.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln() + largest;
    scaled.into_iter().map(|logit| logit - log_sum).collect()
}
