//! The recipe of a stored run's stage with another type or other keys. How completions were drawn and paid is recorded, and stays.

use std::path::Path;

use serde::Deserialize as _;

use super::{
    check::check,
    error::{ConfigError, Problem},
    load::{apply_override, problem_at, read_file},
    resolved::{Experiment, Policy, Recipe},
    shape::Shape,
    tree::Origin,
    validate::{validate, validate_choices},
    wire::{ExperimentWire, Method},
};

/// Keys that another recipe may set: those that advantages and losses depend on while the policy has not moved.
const REPLAYED_KEYS: [&str; 15] = [
    "advantage",
    "advantage_epsilon",
    "beta",
    "dynamic_sampling",
    "kl_in",
    "loss_type",
    "mask_truncated_completions",
    "max_completion_length",
    "off_policy_mask_threshold",
    "rollout_importance_sampling_clip_max",
    "rollout_importance_sampling_clip_min",
    "rollout_importance_sampling_mode",
    "sapo_temperature_neg",
    "sapo_temperature_pos",
    "scale_rewards",
];

/// Those of them that weigh a completion by how another engine drew it: nothing is recorded to weigh by without one.
const ENGINE_KEYS: [&str; 3] = [
    "rollout_importance_sampling_clip_max",
    "rollout_importance_sampling_clip_min",
    "rollout_importance_sampling_mode",
];

/// The recipe of stage `index` of the resolved experiment in `file` as one of type `method`, with `overrides` (`key=value`, the
/// keys those of a recipe) over it.
///
/// # Errors
///
/// Everything that is wrong, as of an experiment; keys that a replay does not read.
pub(crate) fn load_replayed(
    file: &Path,
    index: usize,
    method: Option<Method>,
    overrides: &[String],
) -> Result<Policy, ConfigError> {
    let recorded = super::load(file, &[])?;
    let recorded = recorded.stages.get(index).and_then(|stage| stage.recipe.on_policy());
    let problem = |text: &str, message: String, help: String| Problem {
        origin: Some(Origin::Set(text.into())),
        message,
        help: Some(help),
    };
    let Some(recorded) = recorded else {
        let message = format!("stage {index} has no rewards to replay");
        return Err(Problem { origin: None, message, help: Some("choose another --stage".to_owned()) }.into());
    };
    if method == Some(Method::Sft) {
        let message = "\"sft\" learns from no rewards".to_owned();
        return Err(
            Problem { origin: None, message, help: Some("choose a type that does".to_owned()) }.into()
        );
    }
    let key = format!("stage.{index}.recipe");
    let mut tree = read_file(file, &mut Vec::new())?;
    if let Some(method) = method {
        let word = toml::Value::try_from(method).expect("a word");
        let Policy {
            num_generations, max_completion_length, temperature, top_p, top_k, rollout_bf16, ..
        } = recorded;
        let recipe = format!(
            "{key}={{ type = {word}, num_generations = {num_generations}, max_completion_length = \
             {max_completion_length}, temperature = {temperature:?}, top_p = {top_p:?}, top_k = {top_k}, \
             rollout_bf16 = {rollout_bf16} }}"
        );
        apply_override(&mut tree, &recipe)?;
    }
    // The resolved copy holds what the run's own loss read: a bound of its ratio is none of another's.
    if overrides.iter().any(|text| text.trim_start().starts_with("loss_type")) {
        for name in ["epsilon", "epsilon_high"] {
            tree.remove(&format!("{key}.{name}"));
        }
    }
    for text in overrides {
        let name = text.split(['=', '.']).next().unwrap_or_default().trim();
        if !REPLAYED_KEYS.contains(&name) {
            let message = format!("`{name}` is no key that a replay reads");
            let help = format!(
                "they are {}; how completions were drawn and paid is recorded, and other keys matter from the second \
                 update of a batch on",
                REPLAYED_KEYS.join(", ")
            );
            return Err(problem(text, message, help).into());
        }
        if ENGINE_KEYS.contains(&name) && !recorded.rollout_bf16 {
            let message =
                format!("`{name}` has no effect: the run drew its completions with the policy itself");
            let help = "replay a run with `rollout_bf16 = true`".to_owned();
            return Err(problem(text, message, help).into());
        }
        apply_override(&mut tree, &format!("{key}.{text}"))?;
    }
    let problems = check(&tree, &Shape::experiment());
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    let (wire, mut findings) = loop {
        let wire = ExperimentWire::deserialize(tree.to_toml()).map_err(|error| Problem {
            origin: Some(tree.origin.clone()),
            message: error.to_string(),
            help: None,
        })?;
        let findings = validate_choices(&wire);
        // What the run's recipe read and this one does not was not typed for it.
        let is_recorded = |key: &str| matches!(tree.nearest(key).origin, Origin::File { .. });
        let unread: Vec<String> =
            findings.iter().map(|finding| finding.key.clone()).filter(|key| is_recorded(key)).collect();
        if !unread.iter().any(|key| tree.remove(key)) {
            break (wire, findings);
        }
    };
    let experiment = Experiment::from_wire(wire, "");
    findings.extend(experiment.iter().flat_map(validate));
    // Rewards are the recorded ones, whatever the type would have by default.
    let rewards = format!("{key}.rewards");
    findings.retain(|finding| finding.key.starts_with(&key) && !finding.key.starts_with(&rewards));
    if !findings.is_empty() {
        let problems = findings.into_iter().map(|finding| problem_at(&tree, finding)).collect();
        return Err(ConfigError { problems });
    }
    let recipe = experiment.map(|mut experiment| experiment.stages.swap_remove(index).recipe);
    match recipe {
        Some(Recipe::Policy(policy)) => Ok(Policy { rewards: recorded.rewards.clone(), ..*policy }),
        _ => unreachable!("the run's own config is valid, and no type but \"sft\" lacks rewards"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resolved::recipe::{AdvantageType, LossType, ScaleRewards};

    /// How completions are drawn in bf16 for an update in f32.
    const BY_ENGINE: &str = "rollout_bf16 = true, rollout_importance_sampling_clip_max = 2.5,";

    /// The resolved copy of a MedGRPO run whose rewards no default has, its completions drawn as `how` says.
    fn run(how: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let typed = dir.path().join("x.toml");
        let text = format!(
            "model.path = 'm'\ndata.train = [{{ file = 't.json' }}]\n[[stage]]\nname = 'sft'\nrecipe.type = 'sft'\n\
                    trainer.max_steps = 1\n[[stage]]\nname = 'grpo'\ndata.tasks = ['tag', 'vs']\ntrainer.max_steps = 1\n\
                    recipe = {{ type = 'medgrpo', num_generations = 5, temperature = 0.7, advantage_epsilon = 0.01, {how} \
                    rewards = {{ format_factor = 0.25, embedder = 'lexical', judge = {{ type = 'offline' }} }} }}\n"
        );
        std::fs::write(&typed, text).unwrap();
        let experiment = crate::config::load(&typed, &[]).unwrap();
        let file = dir.path().join("config.toml");
        std::fs::write(&file, experiment.to_toml()).unwrap();
        (dir, file)
    }

    fn replayed(method: Option<Method>, overrides: &[&str]) -> Result<Policy, String> {
        replayed_of(BY_ENGINE, method, overrides)
    }

    fn replayed_of(how: &str, method: Option<Method>, overrides: &[&str]) -> Result<Policy, String> {
        let (_dir, file) = run(how);
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        load_replayed(&file, 1, method, &overrides).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_given_is_the_runs_own() {
        let (_dir, file) = run(BY_ENGINE);
        let Recipe::Policy(own) = crate::config::load(&file, &[]).unwrap().stages[1].recipe.clone() else {
            panic!()
        };
        assert_eq!(replayed(None, &[]).unwrap(), *own);
        // Keys that the change leaves without a reader are not held against it.
        let changed = replayed(None, &["scale_rewards=none"]).unwrap();
        assert_eq!((changed.scale_rewards, changed.advantage_epsilon), (Some(ScaleRewards::None), None));
        let changed = replayed(None, &["loss_type=cispo", "advantage=rloo"]).unwrap();
        assert_eq!((changed.epsilon, changed.epsilon_high, changed.scale_rewards), (None, Some(5.0), None));
        let changed = replayed(None, &["rollout_importance_sampling_mode=none"]).unwrap();
        assert_eq!((changed.rollout_bf16, changed.rollout_importance_sampling_clip_max), (true, None));
    }

    #[test]
    fn another_type_brings_its_own_keys_and_no_rewards() {
        let own = replayed(None, &[]).unwrap();
        for method in
            [Method::Dapo, Method::Rloo, Method::Gdpo, Method::EmaGrpo, Method::Sapo, Method::VerlGrpo]
        {
            let other = replayed(Some(method), &[]).unwrap();
            assert_eq!((other.num_generations, other.temperature), (5, 0.7), "{method:?}");
            assert_eq!((other.rollout_bf16, other.rollout_importance_sampling_clip_max), (true, Some(3.0)));
            assert_eq!((other.method, &other.rewards), (method, &own.rewards));
        }
        let dapo =
            replayed(Some(Method::Dapo), &["dynamic_sampling.enabled=false", "advantage=rloo"]).unwrap();
        assert_eq!((dapo.loss_type, dapo.advantage), (LossType::Dapo, AdvantageType::Rloo));
        assert!(!dapo.dynamic_sampling.enabled);
        assert_eq!(replayed(Some(Method::Grpo), &[]).unwrap().advantage_epsilon, Some(1e-4), "not the run's");
    }

    #[test]
    fn what_a_replay_does_not_read_is_refused() {
        for (overrides, wanted) in [
            (["rollout_bf16=false"], "`rollout_bf16` is no key that a replay reads"),
            (["temperature=1"], "`temperature` is no key that a replay reads at --set temperature=1"),
            (["rewards.format_factor=1"], "how completions were drawn and paid is recorded"),
            (["loss_type=ppo"], "cannot be \"ppo\""),
            (["advantage_epsilon=-1"], "above 0"),
            (["sapo_temperature_pos=2"], "has no effect"),
        ] {
            let told = replayed(None, &overrides).unwrap_err();
            assert!(told.contains(wanted), "{told}");
        }
        for key in ENGINE_KEYS {
            let told = replayed_of("", Some(Method::Dapo), &[&format!("{key}=2")]).unwrap_err();
            assert!(told.contains("the run drew its completions with the policy itself"), "{told}");
        }
        assert!(replayed(Some(Method::Sft), &[]).unwrap_err().contains("learns from no rewards"));
        let (_dir, file) = run(BY_ENGINE);
        let told = load_replayed(&file, 0, None, &[]).unwrap_err().to_string();
        assert!(told.contains("stage 0 has no rewards"), "{told}");
    }
}
