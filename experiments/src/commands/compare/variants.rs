//! Runs that differ in nothing but their seed are one variant; a variant is named by the keys that tell it from the
//! others.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};

use super::{
    run::{Replicate, Run},
    settings::{Settings, without_stage},
};

/// What stands for a key that a variant has not.
const ABSENT: &str = "absent";
/// What a recipe is; the first thing to tell variants apart by.
const RECIPE_TYPE: &str = ".recipe.type";

/// Keys with their values.
pub(super) type Pairs = Vec<(String, String)>;

/// Runs of one experiment.
#[derive(Debug)]
pub(super) struct Variant {
    /// `recipe.type = dapo`
    pub(super) name: String,
    /// The same in parts.
    pub(super) keys: Pairs,
    /// Every key in which variants differ.
    pub(super) settings: Settings,
    pub(super) runs: Vec<Run>,
}

impl Variant {
    /// The run of a seed.
    pub(super) fn run_of(&self, replicate: Replicate) -> Option<&Run> {
        self.runs.iter().find(|run| run.replicate == replicate)
    }
}

/// The variants, in the order of their first runs.
///
/// # Errors
///
/// If a variant has two runs of one seed.
pub(super) fn group(runs: Vec<Run>) -> Result<Vec<Variant>> {
    let mut grouped: Vec<Vec<Run>> = Vec::new();
    for run in runs {
        match grouped.iter_mut().find(|group| group[0].settings == run.settings) {
            Some(group) => {
                if let Some(other) = group.iter().find(|other| other.replicate == run.replicate) {
                    bail!(
                        "{} and {} are the same experiment with the same seed ({}): leave one out",
                        other.path.display(),
                        run.path.display(),
                        run.replicate
                    );
                }
                group.push(run);
            }
            None => grouped.push(vec![run]),
        }
    }
    let settings: Vec<&Settings> = grouped.iter().map(|group| &group[0].settings).collect();
    let differing = differing_keys(&settings);
    let told: Vec<(Pairs, Settings)> = match settings[..] {
        [only] => {
            let (key, value) = only
                .iter()
                .rfind(|(key, _)| key.ends_with(RECIPE_TYPE))
                .context("every stage has a recipe")?;
            vec![(vec![(without_stage(key).to_owned(), value.clone())], Settings::new())]
        }
        _ => {
            let all = |settings: &&Settings| {
                let value = |key: &&str| ((*key).to_owned(), value_of(settings, key).to_owned());
                differing.iter().map(value).collect()
            };
            names(&settings, &differing).into_iter().zip(settings.iter().map(all)).collect()
        }
    };
    let mut variants = Vec::new();
    for (runs, (keys, settings)) in grouped.into_iter().zip(told) {
        let parts: Vec<String> = keys.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        variants.push(Variant { name: parts.join(", "), keys, settings, runs });
    }
    Ok(variants)
}

fn value_of<'a>(settings: &'a Settings, key: &str) -> &'a str {
    settings.get(key).map_or(ABSENT, String::as_str)
}

/// Keys that have not the same value everywhere.
fn differing_keys<'a>(all: &[&'a Settings]) -> Vec<&'a str> {
    let keys: BTreeSet<&str> = all.iter().flat_map(|settings| settings.keys()).map(String::as_str).collect();
    let differs = |key: &&str| all.iter().any(|settings| settings.get(*key) != all[0].get(*key));
    keys.into_iter().filter(differs).collect()
}

/// Few keys and their values for each of several different settings, which no two have alike.
fn names(all: &[&Settings], differing: &[&str]) -> Vec<Pairs> {
    let chosen = telling_keys(all, differing);
    let shown = |key: &str| {
        let short = without_stage(key);
        let is_clear = chosen.iter().filter(|other| without_stage(other) == short).count() == 1;
        if is_clear { short.to_owned() } else { key.to_owned() }
    };
    let differs =
        |a: &Settings, b: &Settings, keys: &[&str]| keys.iter().any(|key| a.get(*key) != b.get(*key));
    let keys_of = |index: usize| {
        let is_alone = |keys: &[&str]| {
            let mut others = all.iter().enumerate().filter(|(other, _)| *other != index);
            others.all(|(_, other)| differs(all[index], other, keys))
        };
        let mut keys = chosen.clone();
        // The first stays where it is enough: names that start alike are read together.
        for place in (1..keys.len()).rev() {
            let removed = keys.remove(place);
            if !is_alone(&keys) {
                keys.insert(place, removed);
            }
        }
        keys
    };
    (0..all.len())
        .map(|index| {
            let value = |key: &str| (shown(key), value_of(all[index], key).to_owned());
            keys_of(index).into_iter().map(value).collect()
        })
        .collect()
}

/// As few keys as need be to tell all apart: types of recipes first, then whichever tells most, the shorter one of two.
fn telling_keys<'a>(all: &[&Settings], differing: &[&'a str]) -> Vec<&'a str> {
    let mut candidates = differing.to_vec();
    candidates.sort_by_key(|key| {
        let num_absent = all.iter().filter(|settings| !settings.contains_key(*key)).count();
        (!key.ends_with(RECIPE_TYPE), num_absent, key.matches('.').count(), key.len(), *key)
    });
    let tells = |key: &str, &(a, b): &(usize, usize)| all[a].get(key) != all[b].get(key);
    let pairs: Vec<(usize, usize)> = (0..all.len()).flat_map(|b| (0..b).map(move |a| (a, b))).collect();
    let mut left = pairs.clone();
    let mut chosen: Vec<&str> = Vec::new();
    while !left.is_empty() {
        let num_told = |key: &str| left.iter().filter(|pair| tells(key, pair)).count();
        let is_type = |key: &&&str| key.ends_with(RECIPE_TYPE) && num_told(key) > 0;
        // Of equals the first, where `max_by_key` gives the last.
        let most = candidates.iter().rev().max_by_key(|key| num_told(key));
        let Some(&best) = candidates.iter().find(is_type).or(most) else { break };
        chosen.push(best);
        left.retain(|pair| !tells(best, pair));
    }
    for place in (1..chosen.len()).rev() {
        let removed = chosen.remove(place);
        if !pairs.iter().all(|pair| chosen.iter().any(|key| tells(key, pair))) {
            chosen.insert(place, removed);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Settings {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn named(all: &[Settings]) -> Vec<String> {
        let all: Vec<&Settings> = all.iter().collect();
        let text = |keys: Pairs| {
            keys.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
        };
        names(&all, &differing_keys(&all)).into_iter().map(text).collect()
    }

    #[test]
    fn the_recipe_is_the_name_where_it_is_enough() {
        let all = [
            of(&[
                ("stage.1.name", "a"),
                ("stage.1.recipe.type", "grpo"),
                ("stage.1.recipe.beta", "0.04"),
                ("x", "1"),
            ]),
            of(&[
                ("stage.1.name", "b"),
                ("stage.1.recipe.type", "dapo"),
                ("stage.1.recipe.beta", "0"),
                ("x", "1"),
            ]),
            of(&[
                ("stage.1.name", "c"),
                ("stage.1.recipe.type", "medgrpo"),
                ("stage.1.recipe.beta", "0"),
                ("x", "1"),
            ]),
        ];
        assert_eq!(named(&all), ["recipe.type=grpo", "recipe.type=dapo", "recipe.type=medgrpo"]);
        let differing = differing_keys(&all.iter().collect::<Vec<_>>()).join(" ");
        assert_eq!(differing, "stage.1.name stage.1.recipe.beta stage.1.recipe.type");
    }

    #[test]
    fn further_keys_stand_where_they_are_needed_alone() {
        let all = [
            of(&[("stage.0.recipe.type", "grpo"), ("stage.0.recipe.beta", "0"), ("stage.0.trainer.lr", "1")]),
            of(&[
                ("stage.0.recipe.type", "grpo"),
                ("stage.0.recipe.beta", "0.1"),
                ("stage.0.trainer.lr", "1"),
            ]),
            of(&[("stage.0.recipe.type", "dapo"), ("stage.0.trainer.lr", "2")]),
        ];
        assert_eq!(
            named(&all),
            ["recipe.type=grpo recipe.beta=0", "recipe.type=grpo recipe.beta=0.1", "recipe.type=dapo"]
        );
    }

    #[test]
    fn stages_are_named_where_both_have_the_key() {
        let all = [
            of(&[("stage.0.trainer.lr", "1"), ("stage.1.trainer.lr", "1")]),
            of(&[("stage.0.trainer.lr", "2"), ("stage.1.trainer.lr", "1")]),
            of(&[("stage.0.trainer.lr", "1"), ("stage.1.trainer.lr", "2")]),
        ];
        let of_both = |a, b| format!("stage.0.trainer.lr={a} stage.1.trainer.lr={b}");
        // 2 says enough by itself.
        assert_eq!(named(&all), [of_both(1, 1), "stage.0.trainer.lr=2".to_owned(), of_both(1, 2)]);
    }

    #[test]
    fn a_key_that_only_one_has_tells_them_apart() {
        let all = [of(&[("model.path", "a")]), of(&[("model.path", "a"), ("stage.0.lora.r", "8")])];
        assert_eq!(named(&all), ["lora.r=absent", "lora.r=8"]);
    }
}
