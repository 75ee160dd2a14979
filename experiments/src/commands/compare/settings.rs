//! A resolved experiment as flat keys with their values in words: what two runs are compared by.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, bail};

use crate::config::Experiment;

/// Values by key (`stage.1.recipe.beta`), without those that tell runs of one variant apart.
pub(super) type Settings = BTreeMap<String, String>;

/// Keys of a run and of its seed.
const OF_A_RUN: [&str; 4] = ["seed", "out", "practice.out", "practice.seed"];
/// Stands for the folder of the practice set, which may be any.
const PRACTICE: &str = "practice.out";

/// The keys of an experiment.
///
/// # Errors
///
/// If it is no TOML, which a resolved one always is.
pub(super) fn settings(experiment: &Experiment) -> Result<Settings> {
    let tree: toml::Value = toml::from_str(&experiment.to_toml()).context("a resolved experiment")?;
    let practice = experiment.practice.as_ref().map(|practice| practice.out.as_path());
    let mut found = Settings::new();
    flatten(&tree, String::new(), practice, &mut found);
    found.retain(|key, _| !OF_A_RUN.contains(&key.as_str()));
    Ok(found)
}

fn flatten(value: &toml::Value, key: String, practice: Option<&Path>, found: &mut Settings) {
    let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match value {
        toml::Value::Table(table) => {
            for (name, value) in table {
                flatten(value, below(name), practice, found);
            }
        }
        toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => {
            for (index, value) in items.iter().enumerate() {
                flatten(value, below(&index.to_string()), practice, found);
            }
        }
        toml::Value::String(text) => {
            let inside = practice.and_then(|folder| Path::new(text).strip_prefix(folder).ok());
            let text = inside
                .map_or_else(|| text.clone(), |rest| Path::new(PRACTICE).join(rest).display().to_string());
            found.insert(key, text);
        }
        _ => {
            found.insert(key, value.to_string());
        }
    }
}

/// A key without the number of its stage.
pub(super) fn without_stage(key: &str) -> &str {
    let rest = key.strip_prefix("stage.").and_then(|rest| rest.split_once('.'));
    rest.map_or(key, |(_, rest)| rest)
}

/// Takes the `ignored` keys, with or without the number of a stage, out of all settings.
///
/// # Errors
///
/// If there is none like it in any of them.
pub(super) fn ignore(all: &mut [&mut Settings], ignored: &[String]) -> Result<()> {
    for wanted in ignored {
        let is_below = |key: &str| {
            let rest = key.strip_prefix(wanted.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let mut num_found = 0;
        for settings in &mut *all {
            let before = settings.len();
            settings.retain(|key, _| !is_below(key) && !is_below(without_stage(key)));
            num_found += before - settings.len();
        }
        if num_found == 0 && !OF_A_RUN.contains(&wanted.as_str()) {
            bail!(
                "--ignore {wanted}: no run has such a key; they stand in the runs' config.toml, as in --set"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const EXPERIMENT: &str = r#"
        seed = 3
        [model]
        path = "checkpoints/small"
        [practice]
        out = "DIR/practice"
        clips = 15
        [data]
        train = [{ file = "DIR/practice/train.json" }, { file = "other/train.json" }]
        [[stage]]
        name = "grpo"
        recipe = { type = "grpo" }
        trainer = { max_steps = 2, num_prompts_per_step = 1 }
        data = { tasks = ["tag", "stg"] }
    "#;

    fn settings_of(seed: u64, folder: &str) -> Settings {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("experiment.toml");
        std::fs::write(&file, EXPERIMENT.replace("DIR", folder)).unwrap();
        settings(&config::load(&file, &[format!("seed={seed}")]).unwrap()).unwrap()
    }

    #[test]
    fn seeds_and_places_are_no_settings() {
        let settings = settings_of(1, "a");
        assert_eq!(settings, settings_of(2, "b/c"));
        for (key, value) in [
            ("model.path", "checkpoints/small"),
            ("practice.clips", "15"),
            ("data.train.0.file", "practice.out/train.json"),
            ("data.train.1.file", "other/train.json"),
            ("stage.0.recipe.type", "grpo"),
            ("stage.0.trainer.max_steps", "2"),
            ("stage.0.data.tasks", r#"["tag", "stg"]"#),
        ] {
            assert_eq!(settings.get(key).map(String::as_str), Some(value), "{key}");
        }
        for key in OF_A_RUN {
            assert!(!settings.contains_key(key), "{key}");
        }
    }

    #[test]
    fn ignored_keys_go_with_all_below_and_unknown_ones_are_told() {
        let mut settings = settings_of(1, "a");
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        ignore(&mut [&mut settings], &names(&["data.train", "trainer.max_steps", "stage.0.recipe.type"]))
            .unwrap();
        let left = |start: &str| settings.keys().any(|key| key.starts_with(start));
        assert!(!left("data.train") && !left("stage.0.trainer.max_steps") && !left("stage.0.recipe.type"));
        assert!(
            left("data.on_bad_row") && left("stage.0.trainer.learning_rate") && left("stage.0.data.tasks")
        );
        let error = ignore(&mut [&mut settings], &names(&["model.pat"])).unwrap_err().to_string();
        assert!(error.contains("--ignore model.pat"), "{error}");
    }
}
