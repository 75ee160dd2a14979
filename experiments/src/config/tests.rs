//! What a user sees of a config: meaning, layering, and messages.

use std::{fs, path::Path};

use medgrpo_datasets::TaskKind;
use tempfile::TempDir;

use super::{
    ConfigError, Experiment, load,
    resolved::{
        ModelSource, Policy, Recipe,
        recipe::{AdvantageType, ImportanceSamplingLevel, LossType, Method, RolloutImportanceSamplingMode},
    },
    shape::{Key, Shape},
};

/// A file with every table and most keys; line numbers below refer to it.
const FULL: &str = r#"seed = 3
out = "runs/full"
[practice]
out = "data/practice"
clips = 20
[model.init]
hidden_size = 64
num_hidden_layers = 2
[data]
train = [{ file = "a/train.json", weight = 2.0 }, { file = "b.json.gz", root = "media", tasks = ["tag", "dvc"] }]
eval = [{ file = "a/test.json.gz" }]
[[stage]]
name = "sft"
recipe = { type = "sft" }
trainer = { max_steps = 50, warmup_ratio = 0.05 }
[[stage]]
name = "grpo"
recipe = { type = "grpo", epsilon = 0.1 }
data = { tasks = ["tag", "stg"] }
[stage.trainer]
max_steps = 10
learning_rate = 3e-6
[evaluate]
limit = 4
max_new_tokens = { tag = 10 }
"#;

fn load_text(text: &str, overrides: &[&str]) -> Result<Experiment, ConfigError> {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("x.toml");
    fs::write(&file, text).unwrap();
    load_in(&file, overrides)
}

fn load_in(file: &Path, overrides: &[&str]) -> Result<Experiment, ConfigError> {
    load(file, &overrides.iter().map(|&text| text.to_owned()).collect::<Vec<_>>())
}

/// The whole message, with the temporary directory taken out.
fn message(text: &str, overrides: &[&str]) -> String {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("x.toml");
    fs::write(&file, text).unwrap();
    let error = load_in(&file, overrides).expect_err("the file is wrong");
    error.to_string().replace(&format!("{}/", dir.path().display()), "")
}

#[test]
fn defaults_are_filled_in() {
    let experiment = load_text(FULL, &[]).unwrap();
    assert_eq!(
        experiment.practice.as_ref().unwrap().seed,
        3,
        "the practice set follows the experiment's seed"
    );
    let ModelSource::Init(init) = &experiment.model else { panic!("{:?}", experiment.model) };
    assert_eq!((init.hidden_size, init.intermediate_size, init.vision.depth), (64, 192, 4));
    assert_eq!(init.vision.fullatt_block_indexes, [3]);
    assert_eq!(experiment.data.train[0].root, Path::new("a"));
    assert_eq!(experiment.data.train[1].root, Path::new("media"));
    assert_eq!(experiment.data.train[1].tasks, [TaskKind::Tag, TaskKind::DenseCaptioning]);
    assert_eq!(experiment.data.eval[0].name, "test");
    // 0.05 × 50 = 2.5, rounded up.
    assert_eq!(experiment.stages[0].trainer.warmup_steps, 3);
    assert_eq!(experiment.stages[0].trainer.learning_rate, 1e-5);
    assert_eq!(experiment.stages[0].recipe, Recipe::Sft);
    let Recipe::Policy(grpo) = &experiment.stages[1].recipe else { panic!("{:?}", experiment.stages[1]) };
    assert_eq!(
        (grpo.epsilon, grpo.epsilon_high, grpo.num_generations, grpo.beta),
        (Some(0.1), Some(0.1), 8, 0.0)
    );
    let evaluate = experiment.evaluate.unwrap();
    assert_eq!(evaluate.splits, ["test"]);
    assert_eq!(evaluate.max_new_tokens.get(TaskKind::Tag), 10);
    assert_eq!(evaluate.max_new_tokens.get(TaskKind::Stg), 384);
}

#[test]
fn without_eval_files_nothing_is_evaluated() {
    let text = "model.path = \"m\"\ndata.train = [{ file = \"t.json\" }]\n\
                [[stage]]\nname = \"sft\"\nrecipe.type = \"sft\"\ntrainer.max_steps = 1\n";
    let experiment = load_text(text, &[]).unwrap();
    assert_eq!(experiment.evaluate, None);
    assert_eq!(experiment.out, Path::new("runs/x"), "named after the file");
}

#[test]
fn the_resolved_copy_reads_back_as_the_same_value() {
    let experiment = load_text(FULL, &[]).unwrap();
    assert_eq!(load_text(&experiment.to_toml(), &[]).unwrap(), experiment);
}

#[test]
fn every_shipped_config_is_valid_and_round_trips() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")];
    let mut num_configs = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "toml") {
                let experiment =
                    load(&path, &[]).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                assert_eq!(load_text(&experiment.to_toml(), &[]).unwrap(), experiment, "{}", path.display());
                num_configs += 1;
            }
        }
    }
    assert!(num_configs > 0, "no config found");
}

#[test]
fn unknown_keys_name_their_line_and_the_nearest_key() {
    let typo = FULL.replace("learning_rate", "lerning_rate");
    assert_eq!(
        message(&typo, &[]),
        "unknown key `lerning_rate` in `stage.1.trainer` at line 22 of x.toml; did you mean `learning_rate`?"
    );
    let foreign = FULL.replace("epsilon = 0.1", "clip_ratio_high = 0.1");
    assert_eq!(
        message(&foreign, &[]),
        "unknown key `clip_ratio_high` in `stage.1.recipe` at line 18 of x.toml; use `epsilon_high`"
    );
    let misplaced = FULL.replace("recipe = { type = \"sft\" }", "recipe = { type = \"sft\", beta = 0.1 }");
    assert_eq!(
        message(&misplaced, &[]),
        "`stage.0.recipe.beta` has no effect on this recipe at line 14 of x.toml; leave it out, or choose a type that learns from rewards"
    );
    let nowhere = FULL.replace("clips = 20", "clips = 20\nzzzzzzz = 1");
    assert_eq!(
        message(&nowhere, &[]),
        "unknown key `zzzzzzz` in `practice` at line 6 of x.toml; the keys here are `out`, `clips`, `seed`"
    );
}

#[test]
fn wrong_types_words_and_missing_keys_name_their_line() {
    assert_eq!(
        message(&FULL.replace("clips = 20", "clips = \"many\""), &[]),
        "`practice.clips` takes a whole number, 0 or more, not the string \"many\" at line 5 of x.toml"
    );
    assert_eq!(
        message(&FULL.replace("seed = 3", "seed = -3"), &[]),
        "`seed` takes a whole number, 0 or more, not -3 at line 1 of x.toml"
    );
    assert_eq!(
        message(&FULL.replace("\"stg\"]", "\"sgt\"]"), &[]),
        "`stage.1.data.tasks.1` cannot be \"sgt\" at line 19 of x.toml; did you mean \"stg\"?"
    );
    let foreign = message(&FULL.replace("type = \"grpo\"", "type = \"ppo\""), &[]);
    let wanted =
        "`stage.1.recipe.type` cannot be \"ppo\" at line 18 of x.toml; it takes \"sft\", \"grpo\", \"dapo\",";
    assert!(foreign.starts_with(wanted), "{foreign}");
    let untyped = message(&FULL.replace("type = \"grpo\", ", ""), &[]);
    assert!(
        untyped.starts_with("`stage.1.recipe.type` is missing at line 18 of x.toml; it takes"),
        "{untyped}"
    );
    assert_eq!(
        message(&FULL.replace("max_steps = 10\n", ""), &[]),
        "`stage.1.trainer.max_steps` is missing at line 20 of x.toml; it takes a whole number, 0 or more"
    );
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = FULL.replace("seed = 3", "sed = 3").replace("limit = 4", "limit = true");
    assert_eq!(message(&text, &[]).lines().count(), 2);
}

#[test]
fn a_key_that_the_algorithm_does_not_read_is_refused() {
    for (keys, wanted) in [
        ("type = \"grpo\", sapo_temperature_pos = 2.0", "sapo_temperature_pos` has no effect"),
        ("type = \"sapo\", epsilon = 0.1", "recipe.epsilon` has no effect"),
        ("type = \"rloo\", scale_rewards = \"batch\"", "scale_rewards` has no effect"),
        ("type = \"grpo\", kl_estimator = \"k2\"", "set beta above 0"),
        (
            "type = \"dapo\", dynamic_sampling = { enabled = false, max_rounds = 3 }",
            "while `enabled` is false",
        ),
        ("type = \"grpo\", clip_ratio_c = 1.0", "above 1"),
        (
            "type = \"gdpo\", rewards = { captions = { rouge_l = 0.5 }, open = { rouge_l = 1.0 } }",
            "`rouge_l` has different weights",
        ),
        ("type = \"medgrpo\", advantage = \"gdpo\"", "normalization` has no effect"),
        ("type = \"gdpo\", rewards = { overlong = { cache_length = 4 } }", "overlong` has no effect"),
        ("type = \"dr_grpo\", advantage_epsilon = 0.1", "divided by no deviation"),
        ("type = \"grpo\", kl_in = \"reward\"", "set beta above 0"),
        ("type = \"grpo\", beta = 0.1, kl_in = \"reward\", kl_estimator = \"k2\"", "kl_in = \"loss\""),
        ("type = \"rloo\", beta = 0.1, use_bias_correction_kl = true", "kl_in = \"loss\""),
        ("type = \"gdpo\", beta = 0.1, kl_in = \"reward\"", "components of the reward alone"),
        ("type = \"cispo\", epsilon_high = 0.3", "1 or above"),
        ("type = \"sft\", rollout_bf16 = true", "choose a type that learns from rewards"),
        ("type = \"grpo\", rollout_importance_sampling_mode = \"none\"", "set rollout_bf16 = true"),
        (
            "type = \"grpo\", rollout_importance_sampling_clip_min = 0.5",
            "a rollout_importance_sampling_mode that corrects",
        ),
        (
            "type = \"grpo\", rollout_bf16 = true, rollout_importance_sampling_mode = \"none\", \
             rollout_importance_sampling_clip_max = 2.0",
            "clip_max` has no effect",
        ),
        ("type = \"grpo\", rollout_bf16 = true, rollout_importance_sampling_clip_max = 0.9", "1 or above"),
        ("type = \"grpo\", rollout_bf16 = true, rollout_importance_sampling_clip_min = 1.1", "at most 1"),
    ] {
        let text = FULL
            .replace("type = \"grpo\", epsilon = 0.1", keys)
            .replace("\"stg\"]", "\"stg\", \"vs\", \"open\"]");
        let told = message(&text, &[]);
        assert!(told.contains(wanted), "{keys}: {told}");
    }
}

#[test]
fn a_type_is_a_choice_of_defaults() {
    let policy = |keys: &str| {
        let text = FULL.replace("type = \"grpo\", epsilon = 0.1", keys);
        let experiment = load_text(&text, &[]).unwrap();
        assert_eq!(load_text(&experiment.to_toml(), &[]).unwrap(), experiment, "{keys}");
        let Recipe::Policy(policy) = experiment.stages[1].recipe.clone() else { panic!("{keys}") };
        *policy
    };
    let dapo = policy("type = \"dapo\"");
    assert_eq!((dapo.epsilon, dapo.epsilon_high), (Some(0.2), Some(0.28)));
    assert_eq!((dapo.loss_type, dapo.dynamic_sampling.max_rounds), (LossType::Dapo, Some(10)));
    let off = policy("type = \"dapo\", dynamic_sampling = { enabled = false }");
    assert_eq!((off.dynamic_sampling.enabled, off.dynamic_sampling.tolerance), (false, None));
    let on = policy("type = \"grpo\", dynamic_sampling = {}");
    assert!(on.dynamic_sampling.enabled && !policy("type = \"grpo\"").dynamic_sampling.enabled);
    let cispo = policy("type = \"cispo\"");
    assert_eq!((cispo.epsilon, cispo.epsilon_high, cispo.delta), (None, Some(5.0), None));
    assert_eq!(policy("type = \"gspo\", loss_type = \"cispo\"").epsilon_high, Some(5.0));
    assert_eq!(policy("type = \"cispo\", loss_type = \"grpo\"").epsilon_high, Some(0.2));
    assert_eq!(policy("type = \"gdpo\"").advantage, AdvantageType::Gdpo);
    let gspo = policy("type = \"gspo\"");
    assert_eq!(gspo.importance_sampling_level, Some(ImportanceSamplingLevel::Sequence));
    let verl = policy("type = \"verl_grpo\"");
    assert_eq!((verl.clip_ratio_c, verl.beta, verl.advantage_epsilon), (Some(3.0), 0.01, Some(1e-6)));
    let trl = policy("type = \"trl_dapo\"");
    assert!(trl.mask_truncated_completions && !trl.dynamic_sampling.enabled);
    let unmasked = policy("type = \"trl_dapo\", mask_truncated_completions = false, dynamic_sampling = {}");
    assert_eq!(Policy { method: Method::Dapo, ..unmasked }, dapo);
    let in_bf16 = policy("type = \"dapo\", rollout_bf16 = true");
    assert_eq!(
        (in_bf16.rollout_importance_sampling_mode, in_bf16.rollout_importance_sampling_clip_max),
        (Some(RolloutImportanceSamplingMode::SequenceMask), Some(3.0))
    );
    let own = Policy {
        rollout_bf16: false,
        rollout_importance_sampling_mode: None,
        rollout_importance_sampling_clip_max: None,
        ..in_bf16
    };
    assert_eq!(own, dapo);
    let weighs = "type = \"grpo\", loss_type = \"vespo\", rollout_bf16 = true, rollout_importance_sampling_clip_min = 0.1";
    assert_eq!(policy(weighs).rollout_importance_sampling_clip_min, Some(0.1));
    // Named parts of a method give the method.
    let by_hand = policy("type = \"grpo\", loss_type = \"dr_grpo\", scale_rewards = \"none\"");
    assert_eq!(Policy { method: Method::DrGrpo, ..by_hand }, policy("type = \"dr_grpo\""));
}

#[test]
fn a_budget_of_tokens_stands_for_a_number_of_sequences() {
    let sizes = |trainer: &str, recipe: &str| {
        let typed = format!("max_steps = 10\nnum_prompts_per_step = 6\n{trainer}");
        let text = FULL.replace("max_steps = 10", &typed);
        let text = text.replace("epsilon = 0.1", &format!("num_generations = 4{recipe}"));
        let experiment = load_text(&text, &[]).unwrap();
        assert_eq!(load_text(&experiment.to_toml(), &[]).unwrap(), experiment, "{trainer}{recipe}");
        let stage = &experiment.stages[1];
        let (trainer, policy) = (&stage.trainer, stage.recipe.on_policy().unwrap());
        [
            (trainer.micro_batch_size, trainer.max_tokens_per_micro_batch),
            (policy.rollout_batch_size, policy.max_tokens_per_rollout_batch),
        ]
    };
    assert_eq!(sizes("", ""), [(1, None), (4, None)]);
    assert_eq!(sizes("micro_batch_size = 3", ""), [(3, None), (12, None)]);
    let budget = "max_tokens_per_micro_batch = 1000";
    // All of the step: 6 prompts of 4 completions.
    assert_eq!(sizes(budget, ""), [(24, Some(1000)), (24, Some(4000))]);
    assert_eq!(sizes(budget, ", rollout_batch_size = 2"), [(24, Some(1000)), (2, None)]);
    assert_eq!(sizes("", ", max_tokens_per_rollout_batch = 500"), [(1, None), (24, Some(500))]);
}

#[test]
fn broken_files_are_refused() {
    assert!(message("seed = 3\nmodel = {", &[]).contains("not valid TOML"));
    assert!(message("seed = 3\nseed = 4\n", &[]).contains("at line 2 of x.toml"));
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("latin.toml");
    fs::write(&file, b"out = \"caf\xe9\"").unwrap();
    assert!(load_in(&file, &[]).unwrap_err().to_string().contains("byte 10 is not UTF-8"));
    let absent = load_in(&dir.path().join("absent.toml"), &[]).unwrap_err().to_string();
    assert!(absent.contains("absent.toml: No such file"), "{absent}");
}

#[test]
fn no_prefix_of_a_file_panics() {
    for end in 0..FULL.len() {
        // Most prefixes are wrong, a few are right; none may panic.
        let _ = load_text(&FULL[..end], &[]);
    }
}

#[test]
fn set_reaches_every_level() {
    let experiment = load_text(
        FULL,
        &[
            "seed=11",
            "stage.0.trainer.max_steps = 70",
            "stage.grpo.recipe.beta=0.04",
            "stage.grpo.data.tasks=[\"stg\"]",
            "model={ path = \"/models/qwen\" }",
            "data.eval.0.root=/media/frames",
            "video.fps=2",
        ],
    )
    .unwrap();
    assert_eq!(experiment.seed, 11);
    assert_eq!(experiment.stages[0].trainer.max_steps, 70);
    let Recipe::Policy(grpo) = &experiment.stages[1].recipe else { panic!("{:?}", experiment.stages[1]) };
    assert_eq!(grpo.beta, 0.04);
    assert_eq!(experiment.stages[1].data.tasks, [TaskKind::Stg]);
    assert_eq!(experiment.model, ModelSource::Path("/models/qwen".into()));
    assert_eq!(experiment.data.eval[0].root, Path::new("/media/frames"));
    assert_eq!(experiment.video.fps, Some(2.0));
}

#[test]
fn mistakes_in_set_name_it() {
    assert_eq!(message(FULL, &["seed"]), "there is no `=` at --set seed; write --set key.path=value");
    assert_eq!(message(FULL, &["sed=4"]), "unknown key `sed` at --set sed=4; did you mean `seed`?");
    assert_eq!(
        message(FULL, &["stage.2.name=x"]),
        "cannot set `stage.2.name`: the list has no element `2`; it has 0 (\"sft\"), 1 (\"grpo\") at --set stage.2.name=x"
    );
    assert_eq!(
        message(FULL, &["stage.1.trainer.max_steps=many"]),
        "`stage.1.trainer.max_steps` takes a whole number, 0 or more, not the string \"many\" at --set \
         stage.1.trainer.max_steps=many"
    );
    // A line break must not smuggle in a second key.
    assert!(message(FULL, &["seed=1\nout=2"]).contains("takes a whole number"));
    assert!(message(FULL, &["a..b=1"]).contains("is not a key path"));
    assert!(message(FULL, &[&format!("{}=1", vec!["a"; 100_000].join("."))]).contains("100000 parts"));
}

#[test]
fn a_base_is_read_first_and_a_cycle_is_refused() {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    };
    write("full.toml", FULL);
    write("deep/middle.toml", "base = \"../full.toml\"\nseed = 4\n[practice]\nclips = 21\n");
    let top = write(
        "top.toml",
        "base = \"deep/middle.toml\"\nset = { \"stage.grpo.trainer.max_steps\" = 12, \"video.max_frames\" = 8 }\n\
         [evaluate]\nlimit = 5\n",
    );
    let experiment = load_in(&top, &[]).unwrap();
    assert_eq!((experiment.seed, experiment.evaluate.as_ref().unwrap().limit), (4, 5));
    let practice = experiment.practice.unwrap();
    assert_eq!((practice.clips, practice.out.as_path()), (21, Path::new("data/practice")));
    assert_eq!(experiment.stages[1].trainer.max_steps, 12);
    assert_eq!(experiment.stages[1].trainer.learning_rate, 3e-6, "the rest of the table stays");
    assert_eq!(experiment.video.max_frames, Some(8));

    // A mistake is told at the file it stands in.
    write("deep/middle.toml", "base = \"../full.toml\"\n\n[practice]\nclips = false\n");
    let error = load_in(&top, &[]).unwrap_err().to_string();
    assert!(error.contains("not false at line 4 of") && error.ends_with("middle.toml"), "{error}");

    write("deep/middle.toml", "\nbase = \"../top.toml\"\n");
    let error = load_in(&top, &[]).unwrap_err().to_string();
    assert!(error.contains("leads back to") && error.contains("line 2 of"), "{error}");
    write("deep/middle.toml", "base = \"nowhere.toml\"\n");
    assert!(load_in(&top, &[]).unwrap_err().to_string().contains("nowhere.toml: No such file"));
    write("deep/middle.toml", "base = 3\n");
    assert!(load_in(&top, &[]).unwrap_err().to_string().contains("`base` takes a string"));
}

#[test]
fn senseless_values_are_refused_with_the_remedy() {
    // (override, part of the message)
    let cases = [
        ("practice.clips=0", "it must be at least 1"),
        ("model.path=m", "`model` takes either `path` or `init`"),
        ("model.init.vocab_size=10", "at least 300"),
        ("model.init.hidden_size=100", "divided by num_attention_heads (4) it must be a multiple of 16"),
        ("model.init.num_key_value_heads=3", "must be a multiple of num_key_value_heads (3)"),
        ("model.init.num_attention_heads=0", "`model.init.num_attention_heads` is 0"),
        ("model.init.vision.fullatt_block_indexes=[4]", "the tower has layers 0 to 3"),
        ("model.init.vision.window_size=30", "multiple of the merged patch (28)"),
        ("model.init.initializer_range=nan", "above 0"),
        ("data.max_prompt_tokens=0", "at least 1"),
        ("data.questions_per_clip=0", "`data.questions_per_clip` is 0 at"),
        ("data.train=[]", "`data.train` names no file"),
        ("data.train.0.weight=-1", "above 0"),
        ("data.train.0.tasks=[]", "name at least one task"),
        ("data.train.1.tasks=[\"tag\",\"tag\"]", "names tag twice"),
        ("data.eval=[]", "`data.eval` names no file"),
        ("data.eval.0.name=a/b", "cannot name a directory"),
        ("video.fps=0", "`video.fps` is 0"),
        ("video.max_pixels=100", "at least 784"),
        ("video={ min_pixels = 5000, max_pixels = 4000 }", "lower it to 4000 or less"),
        ("stage.1.name=sft", "two stages are named \"sft\""),
        ("stage.1.name=base", "column of the evaluation table"),
        ("stage.0.data={ tasks = [] }", "name at least one task"),
        ("stage.0.trainer.warmup_steps=3", "give one of them"),
        ("stage.0.trainer.warmup_ratio=2.0", "at most 1"),
        ("stage.1.trainer.warmup_steps=11", "the stage has only 10 steps"),
        ("stage.1.trainer.learning_rate=inf", "above 0"),
        ("stage.1.trainer.adam_beta2=1", "below 1"),
        ("stage.1.trainer.vision_cache_mb=5", "the stage changes what the vision tower gives"),
        ("stage.1.trainer.merger_lr=0", "above 0"),
        (
            "stage.1.trainer={ max_steps = 1, freeze_vision_tower = true, vision_lr = 1e-4 }",
            "leaves nothing to learn there",
        ),
        (
            "stage.1.trainer={ max_steps = 1, freeze_vision_tower = true, freeze_language_model = true }",
            "let one of them learn",
        ),
        (
            "stage.1.trainer={ max_steps = 1, freeze_vision_tower = true, vision_cache_mb = 9000000000 }",
            "at most 1073741824",
        ),
        ("stage.1.lora={ r = 0 }", "`stage.1.lora.r` is 0; give a rank"),
        (
            "stage.1={ name = \"a\", recipe = { type = \"sft\" }, lora = {}, \
             trainer = { max_steps = 1, freeze_merger = true } }",
            "freezes the whole model",
        ),
        (
            "stage.1={ name = \"a\", recipe = { type = \"sft\" }, lora = {}, \
             trainer = { max_steps = 1, vision_lr = 1e-4 } }",
            "on the language model alone",
        ),
        ("stage.0.trainer.max_tokens_per_micro_batch=0", "at least 1"),
        (
            "stage.0.trainer={ max_steps = 1, micro_batch_size = 1, max_tokens_per_micro_batch = 9000 }",
            "leave out stage.0.trainer.micro_batch_size",
        ),
        (
            "stage.1.recipe={ type = \"grpo\", rollout_batch_size = 15, max_tokens_per_rollout_batch = 9000 }",
            "lets a batch have one prompt only",
        ),
        ("stage.0.recipe.max_tokens_per_rollout_batch=9000", "has no effect on this recipe"),
        ("stage.1.recipe.rewards.format_factor=2", "between 0 and 1"),
        ("stage.1.recipe.rewards.normalization={ type = \"median_logistic\", k = 0 }", "above 0"),
        ("stage.1.recipe.rewards.normalization={ type = \"ema\" }", "set scale_rewards = \"none\""),
        ("stage.1.recipe.rewards.overlong={ cache_length = 9999 }", "more than the 512 tokens"),
        ("stage.1.recipe.rewards.judge={ type = \"llm\", base_url = \"x\", model = \"m\" }", "ends in /v1"),
        ("stage.1.recipe.num_generations=1", "use type = \"sft\""),
        ("stage.1.recipe.temperature=0", "greedy"),
        ("stage.1.recipe.top_p=0", "above 0 and at most 1"),
        ("stage.1.recipe.epsilon=1.5", "below 1"),
        ("evaluate.splits=[\"train\"]", "the splits are test"),
        ("evaluate.batch_size=0", "at least 1"),
        ("alarms.window=0", "at least 1"),
        ("alarms.max_truncated_share=1", "below 1"),
        ("alarms.max_length_factor=0.5", "0 (off) or above 1"),
        ("evaluate.max_new_tokens.dvc=0", "`evaluate.max_new_tokens.dvc` is 0"),
    ];
    for (set, expected) in cases {
        let text = message(FULL, &[set]);
        assert!(text.contains(expected), "--set {set} gave: {text}");
        assert!(text.contains("line ") || text.contains("--set"), "no place in: {text}");
    }
    for (set, expected) in [
        ("stage.1.recipe.rewards.captions.rouge_l=0", "trains on vs, whose reward has no component"),
        ("stage.1.recipe.rewards.captions.similarity=1", "names no encoder"),
        ("stage.1.recipe.rewards.captions.judge=1", "asks a judge"),
    ] {
        let text = message(FULL, &["stage.1.data.tasks=[\"tag\",\"vs\"]", set]);
        assert!(text.contains(expected), "--set {set} gave: {text}");
    }
    let text = message(FULL, &["bf16=true", "stage.1.recipe.rollout_bf16=true"]);
    assert!(text.starts_with("`stage.1.recipe.rollout_bf16` has no effect: with `bf16`"), "{text}");
    let text = message(FULL, &["stage.1.recipe.rollout_bf16=true", "stage.1.lora={ lora_dropout = 0.1 }"]);
    assert!(text.contains("the adapter drops some of its input"), "{text}");
    let unoffered = FULL.replace("{ file = \"a/train.json\", weight = 2.0 }, ", "");
    assert!(message(&unoffered, &[]).contains("names stg, which no file of `data.train` offers"));
}

/// Every leaf of the schema as (path, shape), with list elements and variants that [`FULL`] has.
fn leaves(shape: &Shape, path: &str, found: &mut Vec<(String, Shape)>) {
    let mut visit = |keys: &[Key], path: &str| {
        for key in keys {
            let path = if path.is_empty() { key.name.clone() } else { format!("{path}.{}", key.name) };
            leaves(&key.shape, &path, found);
        }
    };
    match shape {
        Shape::Table(keys) => visit(keys, path),
        Shape::Tagged(variants) => variants.iter().for_each(|variant| visit(&variant.keys, path)),
        Shape::List(inner) if matches!(**inner, Shape::Table(_)) => {
            let element = if path == "stage" { 1 } else { 0 };
            leaves(inner, &format!("{path}.{element}"), found);
        }
        _ => found.push((path.to_owned(), shape.clone())),
    }
}

#[test]
fn every_key_changes_the_resolved_experiment_or_is_rejected() {
    let before = load_text(FULL, &[]).unwrap();
    let mut found = Vec::new();
    leaves(&Shape::experiment(), "", &mut found);
    assert!(found.len() > 70, "only {} keys were found", found.len());
    for (path, shape) in found {
        let typed: Vec<String> = match &shape {
            Shape::Unsigned => vec!["7".into(), "1024".into()],
            Shape::Number => vec!["0.125".into()],
            Shape::Bool => vec!["true".into(), "false".into()],
            Shape::Text => vec!["other".into()],
            Shape::Choice(words) => words.iter().map(|(word, _)| word.clone()).collect(),
            Shape::List(inner) => match &**inner {
                Shape::Choice(_) => vec!["[\"stg\"]".into()],
                Shape::Unsigned => vec!["[0]".into()],
                _ => vec!["[\"other\"]".into()],
            },
            _ => panic!("{path} is no leaf"),
        };
        let dead = typed.iter().all(|value| {
            load_text(FULL, &[&format!("{path}={value}")]).is_ok_and(|experiment| experiment == before)
        });
        assert!(!dead, "setting `{path}` to any of {typed:?} changes nothing");
        // And the resolved copy holds the change.
        for value in &typed {
            if let Ok(experiment) = load_text(FULL, &[&format!("{path}={value}")]) {
                assert_eq!(load_text(&experiment.to_toml(), &[]).unwrap(), experiment, "{path} = {value}");
            }
        }
    }
}
