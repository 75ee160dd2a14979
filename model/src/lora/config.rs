//! What an adapter is made of, and which layers it sits on: PEFT's names and rules.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{ModelError, weights::transformers_name};

/// Stands for every layer that can take an adapter.
const ALL_LINEAR: &str = "all-linear";

/// Size and place of an adapter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoraConfig {
    /// Rank of the product.
    pub r: usize,
    /// The product is scaled by this over the rank.
    pub lora_alpha: f64,
    /// Share of a layer's inputs that the adapter does not see while learning, from 0 to below 1.
    pub lora_dropout: f64,
    /// Whether the scale is over the square root of the rank instead (Kalajdzievski 2023).
    pub use_rslora: bool,
    /// Ends of the names of layers, as `q_proj` or `attn.proj`; or `all-linear` alone.
    pub target_modules: Vec<String>,
    /// Whether `target_modules` names layers of the vision tower and its merger too.
    pub vision: bool,
}

/// Whether a published name is of the vision tower or its merger.
pub(crate) fn is_of_vision(name: &str) -> bool {
    name.starts_with("visual.")
}

fn invalid(key: &'static str, message: impl Into<String>) -> ModelError {
    ModelError::Lora { key, message: message.into() }
}

impl LoraConfig {
    /// What the product of the two matrices is multiplied by.
    pub fn scale(&self) -> f64 {
        self.lora_alpha / if self.use_rslora { (self.r as f64).sqrt() } else { self.r as f64 }
    }

    /// Refuses values that make no adapter.
    pub fn check(&self) -> Result<(), ModelError> {
        if !(1..=1 << 16).contains(&self.r) {
            return Err(invalid("r", format!("is {}; give a rank from 1 to 65536", self.r)));
        }
        if !(self.lora_alpha.is_finite() && self.lora_alpha > 0.0) {
            return Err(invalid("lora_alpha", format!("is {}; give a number above 0", self.lora_alpha)));
        }
        if !(0.0..1.0).contains(&self.lora_dropout) {
            let message = format!("is {}; give a share from 0 to below 1", self.lora_dropout);
            return Err(invalid("lora_dropout", message));
        }
        if self.target_modules.is_empty() {
            return Err(invalid("target_modules", format!("is empty; name layers, or give `{ALL_LINEAR}`")));
        }
        Ok(())
    }

    /// Which of `projections` (published names) get an adapter.
    ///
    /// `others` are layers that PEFT would adapt by name and this model cannot.
    ///
    /// # Errors
    /// A name that stands for no layer, or for one of `others`; `vision` without a layer there.
    pub(crate) fn select<'n>(
        &self,
        projections: &'n [String],
        others: &[&str],
    ) -> Result<BTreeSet<&'n str>, ModelError> {
        self.check()?;
        let within = |name: &str| self.vision || !is_of_vision(name);
        let here = || projections.iter().map(String::as_str).filter(|name| within(name));
        let mut selected = BTreeSet::new();
        for target in &self.target_modules {
            if target == ALL_LINEAR {
                if self.target_modules.len() > 1 {
                    let message = format!("`{ALL_LINEAR}` stands for all layers: give it alone");
                    return Err(invalid("target_modules", message));
                }
                selected.extend(here());
                continue;
            }
            if let Some(other) = others.iter().find(|name| within(name) && is_named(name, target)) {
                return Err(invalid(
                    "target_modules",
                    format!(
                        "`{target}` also names {}, which takes no adapter; give a longer end of the name of the \
                         layers that are meant, as `attn.proj`",
                        transformers_name(other)
                    ),
                ));
            }
            let before = selected.len();
            let mut named = here().filter(|name| is_named(name, target)).peekable();
            if named.peek().is_none() {
                let elsewhere = !self.vision && projections.iter().any(|name| is_named(name, target));
                let hint = if elsewhere {
                    "layers of the vision tower alone: give `vision = true` too".to_owned()
                } else {
                    format!("no layer; there are {}", last_parts(projections))
                };
                return Err(invalid("target_modules", format!("`{target}` names {hint}")));
            }
            selected.extend(named);
            if selected.len() == before {
                return Err(invalid(
                    "target_modules",
                    format!("`{target}` adds no layer to those named before it"),
                ));
            }
        }
        if self.vision && !selected.iter().any(|name| is_of_vision(name)) {
            return Err(invalid(
                "vision",
                "is true, but `target_modules` names no layer of the vision tower (they are qkv, attn.proj, \
                 gate_proj, up_proj, down_proj, merger.mlp.0 and merger.mlp.2)",
            ));
        }
        Ok(selected)
    }

    /// `target_modules` as PEFT must be told to adapt just `selected`: it knows no `vision`.
    pub(crate) fn targets_for_peft(
        &self,
        selected: &BTreeSet<&str>,
        projections: &[String],
        others: &[&str],
    ) -> Vec<String> {
        let reached = |name: &str| self.target_modules.iter().any(|target| is_named_by_peft(name, target));
        let reaches_no_other =
            projections.iter().all(|name| reached(name) == selected.contains(name.as_str()))
                && !others.iter().any(|name| reached(name));
        if reaches_no_other {
            return self.target_modules.clone();
        }
        selected.iter().map(|name| transformers_name(name).into_owned()).collect()
    }
}

/// Whether `target` stands for the layer, by its name in either generation of transformers.
pub(crate) fn is_named(published: &str, target: &str) -> bool {
    is_end(published, target) || is_named_by_peft(published, target)
}

fn is_named_by_peft(published: &str, target: &str) -> bool {
    is_end(&transformers_name(published), target)
}

/// PEFT's rule: the whole name, or its end after a dot.
fn is_end(name: &str, target: &str) -> bool {
    !target.is_empty()
        && name.strip_suffix(target).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

fn last_parts(names: &[String]) -> String {
    let parts: BTreeSet<&str> = names
        .iter()
        .filter_map(|name| name.rsplit('.').next())
        .filter(|part| !part.bytes().all(|byte| byte.is_ascii_digit()))
        .collect();
    parts.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHERS: &[&str] = &["lm_head", "visual.patch_embed.proj"];

    fn names() -> Vec<String> {
        [
            "visual.blocks.0.attn.qkv",
            "visual.blocks.0.attn.proj",
            "visual.blocks.0.mlp.up_proj",
            "visual.merger.mlp.0",
            "model.layers.0.self_attn.q_proj",
            "model.layers.0.mlp.up_proj",
            "model.layers.1.self_attn.q_proj",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn config(targets: &[&str], vision: bool) -> LoraConfig {
        LoraConfig {
            r: 4,
            lora_alpha: 8.0,
            lora_dropout: 0.0,
            use_rslora: false,
            target_modules: targets.iter().map(|target| (*target).to_owned()).collect(),
            vision,
        }
    }

    #[test]
    fn names_end_at_a_dot_and_the_tower_is_asked_for() {
        let names = names();
        let select = |targets: &[&str], vision| {
            let selected = config(targets, vision).select(&names, OTHERS).unwrap();
            selected.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(
            select(&["q_proj"], false),
            ["model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"]
        );
        assert_eq!(select(&["up_proj"], false), ["model.layers.0.mlp.up_proj"]);
        assert_eq!(select(&["up_proj"], true), ["model.layers.0.mlp.up_proj", "visual.blocks.0.mlp.up_proj"]);
        assert_eq!(
            select(&["model.language_model.layers.1.self_attn.q_proj"], false),
            ["model.layers.1.self_attn.q_proj"]
        );
        assert_eq!(select(&["all-linear"], false).len(), 3);
        assert_eq!(select(&["all-linear"], true).len(), 7);
    }

    #[test]
    fn what_makes_no_adapter_is_refused_by_key() {
        let names = names();
        let refused = |config: LoraConfig, wanted: &str| {
            let error = config.select(&names, OTHERS).unwrap_err().to_string();
            assert!(error.contains(wanted), "`{wanted}` is not in: {error}");
        };
        refused(config(&[], false), "`target_modules`: is empty");
        refused(config(&["_proj"], false), "`_proj` names no layer; there are proj, q_proj, qkv, up_proj");
        refused(config(&["qkv"], false), "give `vision = true` too");
        refused(config(&["q_proj"], true), "`vision`: is true, but");
        refused(config(&["proj"], true), "`proj` also names model.visual.patch_embed.proj");
        refused(config(&["lm_head"], false), "takes no adapter");
        refused(config(&["q_proj", "self_attn.q_proj"], false), "adds no layer");
        refused(config(&["all-linear", "q_proj"], false), "give it alone");
        refused(LoraConfig { r: 0, ..config(&["q_proj"], false) }, "`r`: is 0");
        refused(LoraConfig { lora_alpha: -1.0, ..config(&["q_proj"], false) }, "`lora_alpha`");
        refused(LoraConfig { lora_dropout: 1.0, ..config(&["q_proj"], false) }, "`lora_dropout`");
        refused(LoraConfig { lora_dropout: f64::NAN, ..config(&["q_proj"], false) }, "`lora_dropout`");
    }

    #[test]
    fn peft_is_told_whole_names_only_where_ends_would_reach_further() {
        let names = names();
        let told = |config: LoraConfig| {
            config.targets_for_peft(&config.select(&names, OTHERS).unwrap(), &names, OTHERS)
        };
        assert_eq!(told(config(&["q_proj"], false)), ["q_proj"]);
        assert_eq!(told(config(&["up_proj"], true)), ["up_proj"]);
        assert_eq!(told(config(&["up_proj"], false)), ["model.language_model.layers.0.mlp.up_proj"]);
        assert_eq!(told(config(&["all-linear"], true))[6], "model.visual.merger.mlp.0");
    }

    #[test]
    fn the_scale_is_over_the_rank_or_its_root() {
        let plain = config(&["q_proj"], false);
        assert_eq!(plain.scale(), 2.0);
        assert_eq!(LoraConfig { use_rslora: true, ..plain }.scale(), 4.0);
    }
}
