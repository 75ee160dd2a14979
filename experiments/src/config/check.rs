//! Compares what was typed with the keys there are: unknown keys, wrong types and missing keys, with their lines.

use std::collections::BTreeMap;

use super::{
    error::Problem,
    shape::{Key, Shape},
    tree::{Node, Tree},
};

/// Names that other frameworks give to a key of ours: a hint, never an alias.
const ELSEWHERE: &[(&str, &str)] = &[
    ("adv_estimator", "type"),
    ("algorithm", "recipe"),
    ("batch_size", "num_prompts_per_step"),
    ("clip_ratio", "epsilon"),
    ("clip_ratio_high", "epsilon_high"),
    ("clip_ratio_low", "epsilon"),
    ("eps_clip", "epsilon"),
    ("eps_clip_higher", "epsilon_high"),
    ("freeze_visual_encoder", "freeze_vision_tower"),
    ("freeze_vision", "freeze_vision_tower"),
    ("freeze_vision_encoder", "freeze_vision_tower"),
    ("freeze_vit", "freeze_vision_tower"),
    ("global_batch_size", "num_prompts_per_step"),
    ("gradient_accumulation_steps", "micro_batch_size"),
    ("group_size", "num_generations"),
    ("kl_coef", "beta"),
    ("kl_loss_coef", "beta"),
    ("loss_agg_mode", "loss_type"),
    ("loss_avg_mode", "loss_type"),
    ("load_best_model_at_end", "metric_for_best_model"),
    ("lr", "learning_rate"),
    ("lr_scheduler", "lr_scheduler_type"),
    ("lr_warmup_steps", "warmup_steps"),
    ("max_num_batched_tokens", "max_tokens_per_rollout_batch"),
    ("max_prompt_length", "max_prompt_tokens"),
    ("max_response_length", "max_completion_length"),
    ("mini_batch_size", "num_iterations"),
    ("n", "num_generations"),
    ("norm_adv_by_std_in_grpo", "scale_rewards"),
    ("per_device_train_batch_size", "micro_batch_size"),
    ("ppo_epochs", "num_iterations"),
    ("ppo_max_token_len_per_gpu", "max_tokens_per_micro_batch"),
    ("ppo_micro_batch_size_per_gpu", "micro_batch_size"),
    ("rollout_batch_size", "num_prompts_per_step"),
    ("save_freq", "save_steps"),
    ("stages", "stage"),
    ("test_freq", "eval_steps"),
    ("train_batch_size", "num_prompts_per_step"),
    ("use_kl_in_reward", "kl_in"),
    ("use_kl_loss", "kl_in"),
    ("val_before_train", "before"),
    ("video_fps", "fps"),
];

/// Everything in `node` that `shape` does not allow.
pub(super) fn check(node: &Node, shape: &Shape) -> Vec<Problem> {
    let mut checker = Checker { root: shape, problems: Vec::new() };
    checker.visit(node, shape, "");
    checker.problems
}

struct Checker<'a> {
    root: &'a Shape,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn visit(&mut self, node: &Node, shape: &Shape, path: &str) {
        match (shape, &node.value) {
            (Shape::Table(keys), Tree::Table(table)) => self.table(node, table, keys, path),
            (Shape::Tagged(variants), Tree::Table(table)) => {
                let tags: Vec<_> = variants.iter().map(|variant| variant.tag.as_str()).collect();
                let Some(tag) = table.get("type") else {
                    let known = tags.iter().map(|tag| format!("\"{tag}\"")).collect::<Vec<_>>().join(", ");
                    return self.report(
                        node,
                        format!("`{path}` has no `type`"),
                        Some(format!("give one of {known}")),
                    );
                };
                let Tree::Leaf(toml::Value::String(typed)) = &tag.value else {
                    return self.wrong_type(tag, "a string", &join(path, "type"));
                };
                match variants.iter().find(|variant| variant.tag == *typed) {
                    Some(variant) => {
                        let mut table = table.clone();
                        table.remove("type");
                        self.table(node, &table, &variant.keys, path);
                    }
                    None => self.unknown_word(tag, typed, &tags, &join(path, "type")),
                }
            }
            (Shape::List(inner), Tree::List(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.visit(item, inner, &join(path, &index.to_string()));
                }
            }
            (Shape::Choice(words), Tree::Leaf(toml::Value::String(typed))) => {
                let words: Vec<_> = words.iter().map(|(word, _)| word.as_str()).collect();
                if !words.contains(&typed.as_str()) {
                    self.unknown_word(node, typed, &words, path);
                }
            }
            (Shape::Unsigned, Tree::Leaf(toml::Value::Integer(0..)))
            | (Shape::Number, Tree::Leaf(toml::Value::Integer(_) | toml::Value::Float(_)))
            | (Shape::Text, Tree::Leaf(toml::Value::String(_)))
            | (Shape::Bool, Tree::Leaf(toml::Value::Boolean(_))) => {}
            _ => self.wrong_type(node, &shape.describe(), path),
        }
    }

    fn table(&mut self, node: &Node, table: &BTreeMap<String, Node>, keys: &[Key], path: &str) {
        for (name, child) in table {
            match keys.iter().find(|key| key.name == *name) {
                Some(key) => self.visit(child, &key.shape, &join(path, name)),
                None => self.unknown_key(child, name, keys, path),
            }
        }
        for key in keys.iter().filter(|key| key.required && !table.contains_key(&key.name)) {
            let message = format!("`{}` is missing", join(path, &key.name));
            self.report(node, message, Some(format!("it takes {}", key.shape.describe())));
        }
    }

    fn unknown_key(&mut self, node: &Node, name: &str, keys: &[Key], path: &str) {
        let known: Vec<_> = keys.iter().map(|key| key.name.as_str()).collect();
        let renamed = ELSEWHERE.iter().find(|(theirs, _)| *theirs == name).map(|&(_, ours)| ours);
        let mut homes = Vec::new();
        homes_of(self.root, renamed.unwrap_or(name), "", &mut homes);
        let here = renamed.filter(|ours| known.contains(ours));
        let help = if let Some(ours) = here {
            format!("use `{ours}`")
        } else if let Some(close) = closest(name, &known) {
            format!("did you mean `{close}`?")
        } else if !homes.is_empty() {
            format!("did you mean {}?", homes.join(" or "))
        } else if known.is_empty() {
            "this table takes no keys".to_owned()
        } else {
            format!(
                "the keys here are {}",
                known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
            )
        };
        let place = if path.is_empty() { String::new() } else { format!(" in `{path}`") };
        self.report(node, format!("unknown key `{name}`{place}"), Some(help));
    }

    fn unknown_word(&mut self, node: &Node, typed: &str, words: &[&str], path: &str) {
        let help = match closest(typed, words) {
            Some(close) => format!("did you mean \"{close}\"?"),
            None => format!(
                "it takes {}",
                words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
            ),
        };
        self.report(node, format!("`{path}` cannot be {typed:?}"), Some(help));
    }

    fn wrong_type(&mut self, node: &Node, wanted: &str, path: &str) {
        let place = if path.is_empty() { "the file" } else { &format!("`{path}`") };
        self.report(node, format!("{place} takes {wanted}, not {}", found(node)), None);
    }

    fn report(&mut self, node: &Node, message: String, help: Option<String>) {
        self.problems.push(Problem { origin: Some(node.origin.clone()), message, help });
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The paths of all keys of this name, with list numbers left out.
fn homes_of(shape: &Shape, name: &str, path: &str, homes: &mut Vec<String>) {
    let mut visit = |keys: &[Key], condition: &str| {
        for key in keys {
            let path = join(path, &key.name);
            if key.name == name {
                homes.push(format!("`{path}`{condition}"));
            }
            homes_of(&key.shape, name, &path, homes);
        }
    };
    match shape {
        Shape::Table(keys) => visit(keys, ""),
        Shape::Tagged(variants) => {
            for variant in variants {
                visit(&variant.keys, &format!(" of type \"{}\"", variant.tag));
            }
        }
        Shape::List(inner) => homes_of(inner, name, path, homes),
        _ => {}
    }
}

/// The most similar word, if it is similar at all.
fn closest<'a>(typed: &str, words: &[&'a str]) -> Option<&'a str> {
    let distance = |word: &str| strsim::damerau_levenshtein(typed, word);
    let best = words.iter().copied().min_by_key(|word| distance(word))?;
    let longest = typed.chars().count().max(best.chars().count());
    (distance(best) * 3 <= longest).then_some(best)
}

fn found(node: &Node) -> String {
    match &node.value {
        Tree::Table(_) => "a table".to_owned(),
        Tree::List(_) => "a list".to_owned(),
        Tree::Leaf(toml::Value::String(text)) => {
            let shown: String = text.chars().take(40).collect();
            format!("the string {shown:?}")
        }
        Tree::Leaf(value) => value.to_string(),
    }
}
