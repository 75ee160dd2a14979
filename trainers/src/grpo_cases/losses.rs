//! Losses on given log-probabilities: value, gradient, metrics, ratio and divergence.

use burn::tensor::DType;
use serde::Deserialize;
use serde_json::Value;

use super::{all_close, close, is_f32, list, number, table};
use crate::{
    aggregate::Aggregate,
    loss_mask::LossMask,
    objective::{Cispo, Clip, KlToReference, Level, Objective, Sapo},
    recipe::Term,
    recipes::{GrpoConfig, Surrogate},
    testing::{Cpu, Rows, numbers, outcome},
};

/// `max_completion_length` of all cases.
const MAX_COMPLETION_LENGTH: usize = 12;

/// Metrics that are extremes over sequences, or of a controller; this crate reports means.
const UNREPORTED: [&str; 4] = ["clip_ratio/low_min", "clip_ratio/high_max", "policy_loss", "entropy_coef"];

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    loss_type: String,
    level: Option<String>,
    el: Option<f64>,
    eh: Option<f64>,
    beta: Option<f64>,
    delta: Option<f64>,
    /// Top-entropy quantile.
    q: Option<f64>,
    /// Gradient accumulation.
    accum: Option<f64>,
    /// Steps per generation.
    spg: Option<f64>,
    bias_kl: Option<bool>,
    /// Entropy bonus.
    ecoef: Option<f64>,
    /// Off-policy sequence mask.
    opsm: Option<f64>,
    /// Tokens of the generation batch.
    num_items: Option<f64>,
}

impl Config {
    fn level(&self) -> Result<Level, String> {
        match self.level.as_deref() {
            None | Some("token") => Ok(Level::Token),
            Some("sequence") => Ok(Level::Sequence),
            Some(other) => Err(format!("unknown level {other:?}")),
        }
    }

    /// The same as a config of ours.
    fn ours(&self) -> Result<GrpoConfig, String> {
        let level = self.level()?;
        let epsilon = self.el.unwrap_or(0.2);
        let epsilon_high = self.eh.unwrap_or(epsilon);
        let clip =
            Surrogate::Clip(Clip { epsilon, epsilon_high, level, delta: self.delta, clip_ratio_c: None });
        let config = match self.loss_type.as_str() {
            "grpo" => GrpoConfig { surrogate: clip, ..GrpoConfig::default() },
            "bnpo" => GrpoConfig { surrogate: clip, ..GrpoConfig::bnpo() },
            "dr_grpo" => GrpoConfig { surrogate: clip, ..GrpoConfig::dr_grpo(MAX_COMPLETION_LENGTH) },
            "dapo" => GrpoConfig { surrogate: clip, ..GrpoConfig::dapo() },
            "luspo" => GrpoConfig { surrogate: clip, ..GrpoConfig::luspo() },
            "cispo" => GrpoConfig {
                surrogate: Surrogate::Cispo(Cispo { max_ratio: epsilon_high, level }),
                ..GrpoConfig::cispo()
            },
            "sapo" => GrpoConfig {
                // `torch.where` of two Python numbers is f32, whatever the other tensors are.
                surrogate: Surrogate::Sapo(Sapo {
                    temperature_pos: 1.0,
                    temperature_neg: f64::from(1.05_f32),
                    level,
                }),
                ..GrpoConfig::sapo()
            },
            "vespo" => GrpoConfig::vespo(),
            other => return Err(format!("unknown loss type {other:?}")),
        };
        let bias_correction = self.bias_kl.unwrap_or(false).then_some(level);
        Ok(GrpoConfig {
            beta: self.beta.unwrap_or(0.0),
            kl: KlToReference { bias_correction, ..KlToReference::default() },
            entropy_coef: self.ecoef.unwrap_or(0.0),
            top_entropy_quantile: self.q.unwrap_or(1.0),
            off_policy_mask_threshold: self.opsm,
            ..config
        })
    }

    /// Terms whose sum is the original's loss: that of a micro-batch is here the share of a step which that micro-batch
    /// is alone, there one of `accum` shares.
    fn terms(&self, rows: &Rows, num_items: f64, spg: f64) -> Result<Vec<Term<Cpu>>, String> {
        let config = self.ours()?;
        let accum = self.accum.unwrap_or(1.0);
        let num_tokens = rows.mask.num_tokens() as f64;
        let policy = match config.aggregate {
            Aggregate::TokenMean => num_tokens / num_items.max(1.0) * spg / accum,
            _ => 1.0 / accum,
        };
        let mut terms = config.terms();
        for term in &mut terms {
            // Only the bonus asks for this gradient.
            let is_bonus = term.objective.needs_entropy_gradient();
            term.weight *= if is_bonus { 1.0 / accum } else { policy };
        }
        Ok(terms)
    }
}

/// Checks one entry in f64 and in f32; gives the names of metrics that are not reported here.
pub(super) fn check(entry: &Value, inputs: &Value) -> Result<Vec<String>, String> {
    let config: Config = serde_json::from_value(entry["config"].clone())
        .map_err(|error| format!("{}: {error}", entry["config"]))?;
    let input = match &entry["input"] {
        Value::String(name) => inputs.get(name).ok_or_else(|| format!("no input {name:?}"))?,
        given => given,
    };
    let rows = rows(input).map_err(|error| format!("input {}: {error}", entry["input"]))?;
    let num_items = [&entry["num_items"], &input["num_items"]].into_iter().find_map(Value::as_f64);
    let num_items = config.num_items.or(num_items).unwrap_or(rows.mask.num_tokens() as f64);
    // Where an entry gives none, it is 1 for a bare call and `accum` for a trainer's default config.
    let spgs = config.spg.map_or_else(|| vec![1.0, config.accum.unwrap_or(1.0)], |spg| vec![spg]);
    let double = if is_f32(input) { 1e-5 } else { 1e-10 };
    let mut outcomes = spgs.into_iter().map(|spg| -> Result<Vec<String>, String> {
        let terms = config.terms(&rows, num_items, spg)?;
        let unreported = check_in(entry, &config, &rows, &terms, DType::F64, double)?;
        // The original compares f64 entropies with an f32 threshold: rounding them first can change the choice of tokens.
        if is_f32(input) || config.q.is_none_or(|q| q >= 1.0) {
            check_in(entry, &config, &rows, &terms, DType::F32, 1e-5)?;
        }
        Ok(unreported)
    });
    let first = outcomes.next().expect("at least one reading");
    let outcome = if first.is_err() { outcomes.find(Result::is_ok).unwrap_or(first) } else { first };
    outcome.map_err(|error| format!("input {}, {}: {error}", entry["input"], entry["config"]))
}

fn rows(input: &Value) -> Result<Rows, String> {
    let optional = |key: &str| match input.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => table(value).map(Some),
    };
    let mask: Vec<Vec<bool>> =
        table(&input["mask"])?.into_iter().map(|row| row.into_iter().map(|it| it != 0.0).collect()).collect();
    Ok(Rows {
        log_probs: table(&input["logps"])?,
        old: optional("old")?,
        reference: optional("ref")?,
        sampling: optional("sampling")?,
        entropy: table(&input["entropies"])?,
        advantages: list(&input["advantages"])?,
        mask: LossMask::from_rows(&mask),
    })
}

fn check_in(
    entry: &Value,
    config: &Config,
    rows: &Rows,
    terms: &[Term<Cpu>],
    dtype: DType,
    tolerance: f64,
) -> Result<Vec<String>, String> {
    let outcome = outcome(terms, rows, rows.totals(), dtype);
    let error = |error: String| format!("{dtype:?}: {error}");
    close("loss", outcome.loss, number(&entry["loss"])?, tolerance).map_err(error)?;
    let gradient = table(&entry["grad_logps"])?.concat();
    all_close("grad_logps", &outcome.gradient, &gradient, tolerance).map_err(error)?;
    if let Some(expected) = entry.get("grad_entropies") {
        all_close("grad_entropies", &outcome.entropy_gradient, &table(expected)?.concat(), tolerance)
            .map_err(error)?;
    }
    let mut unreported = Vec::new();
    for (name, expected) in entry["metrics"].as_object().into_iter().flatten() {
        match outcome.metrics.get(name.as_str()) {
            Some(ours) => {
                // The original takes means of what is clipped in f32.
                let tolerance = if name.contains("clip") { tolerance.max(1e-7) } else { tolerance };
                close(name, *ours, number(expected)?, tolerance).map_err(error)?;
            }
            None if UNREPORTED.contains(&name.as_str()) => unreported.push(name.clone()),
            None => return Err(format!("metric {name:?} is not reported")),
        }
    }
    let batch = rows.batch(dtype);
    if let Some(expected) = entry.get("ratio").filter(|ratio| !ratio.is_null()) {
        let level = config.level()?;
        let ratio = numbers(level.ratio(&batch).inner());
        let expected = table(expected)?.concat();
        let (ours, theirs) = match level {
            Level::Token => (learned(&ratio, rows)?, learned(&expected, rows)?),
            Level::Sequence => (ratio, expected),
        };
        all_close("ratio", &ours, &theirs, tolerance).map_err(error)?;
    }
    if let Some(expected) = entry.get("kl_k3").filter(|kl| !kl.is_null()) {
        let kl = numbers(KlToReference::default().losses(&batch).losses.inner());
        let expected = learned(&table(expected)?.concat(), rows)?;
        all_close("kl_k3", &learned(&kl, rows)?, &expected, tolerance).map_err(error)?;
    }
    Ok(unreported)
}

/// The values at tokens that are learned from: elsewhere ours are those of equal policies.
fn learned(values: &[f64], rows: &Rows) -> Result<Vec<f64>, String> {
    let mask = rows.mask.as_slice();
    if values.len() != mask.len() {
        return Err(format!("{} values for {} tokens", values.len(), mask.len()));
    }
    Ok(values.iter().zip(mask).filter(|(_, learns)| **learns).map(|(value, _)| *value).collect())
}
