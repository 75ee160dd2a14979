//! What an experiment file means: every default filled in, every choice made.
//!
//! Written to the run directory as TOML; reading that file gives the same value again. An `Option` that is left stands
//! for a choice that is not the experiment's (the checkpoint's own setting). `resolve` fills it in; whether the values
//! make sense together is `validate`'s part.

pub mod alarms;
pub mod recipe;
pub mod rewards;

use std::path::PathBuf;

use medgrpo_datasets::TaskKind;
use medgrpo_model::lora::LoraConfig;
use serde::{Serialize, Serializer, ser::SerializeMap};

pub use alarms::Alarms;
pub use recipe::{Policy, Recipe};
pub use rewards::Rewards;

pub use super::wire::{LrSchedulerType, OnBadRow};

/// Every task a record may have, in the order of tables.
pub(crate) const ALL_TASKS: [TaskKind; 9] = [
    TaskKind::Tag,
    TaskKind::Stg,
    TaskKind::DenseCaptioning,
    TaskKind::NextAction,
    TaskKind::Cvs,
    TaskKind::VideoSummary,
    TaskKind::RegionCaption,
    TaskKind::SkillAssessment,
    TaskKind::OpenQuestion,
];

/// One run. See [`ExperimentWire`](super::wire::ExperimentWire) for what the keys mean, here and below.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the wire structs document every key")]
pub struct Experiment {
    pub seed: u64,
    pub out: PathBuf,
    pub bf16: bool,
    pub practice: Option<Practice>,
    pub model: ModelSource,
    pub data: Data,
    pub video: Video,
    #[serde(rename = "stage")]
    pub stages: Vec<Stage>,
    /// `None` where there is nothing to evaluate on.
    pub evaluate: Option<Evaluate>,
    pub alarms: Alarms,
}

/// A practice set to render.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the wire structs document every key")]
pub struct Practice {
    pub out: PathBuf,
    pub clips: usize,
    pub seed: u64,
}

/// Where the first weights come from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelSource {
    /// A Hugging Face checkpoint directory.
    Path(PathBuf),
    /// Random weights of these sizes.
    Init(ModelInit),
}

/// Sizes of a model made from nothing.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the wire structs document every key")]
pub struct ModelInit {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub tie_word_embeddings: bool,
    pub initializer_range: f64,
    pub vision: VisionInit,
}

/// Sizes of its vision tower.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the wire structs document every key")]
pub struct VisionInit {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub depth: usize,
    pub num_heads: usize,
    pub window_size: usize,
    pub fullatt_block_indexes: Vec<usize>,
}

/// The records.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the wire structs document every key")]
pub struct Data {
    pub on_bad_row: OnBadRow,
    pub max_prompt_tokens: usize,
    pub questions_per_clip: usize,
    pub train: Vec<TrainFile>,
    pub eval: Vec<EvalFile>,
}

/// A file to train on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the wire structs document every key")]
pub struct TrainFile {
    pub file: PathBuf,
    pub root: PathBuf,
    pub weight: f64,
    #[serde(serialize_with = "task_keys")]
    pub tasks: Vec<TaskKind>,
}

/// A file to evaluate on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the wire structs document every key")]
pub struct EvalFile {
    pub name: String,
    pub file: PathBuf,
    pub root: PathBuf,
    #[serde(serialize_with = "task_keys")]
    pub tasks: Vec<TaskKind>,
}

/// Overrides of the checkpoint's processor; `None` is the checkpoint's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the wire structs document every key")]
pub struct Video {
    pub fps: Option<f64>,
    pub max_frames: Option<usize>,
    pub min_pixels: Option<usize>,
    pub max_pixels: Option<usize>,
}

/// One training stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the wire structs document every key")]
pub struct Stage {
    pub name: String,
    pub recipe: Recipe,
    pub trainer: Trainer,
    /// `None` trains the model's own weights.
    pub lora: Option<LoraConfig>,
    pub data: StageData,
}

/// Steps, batches, optimizer and schedule.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the wire structs document every key")]
pub struct Trainer {
    pub max_steps: usize,
    pub num_prompts_per_step: usize,
    pub micro_batch_size: usize,
    /// `None` is off.
    pub max_tokens_per_micro_batch: Option<usize>,
    pub gradient_checkpointing: bool,
    pub learning_rate: f64,
    pub lr_scheduler_type: LrSchedulerType,
    /// `warmup_ratio` is resolved into it.
    pub warmup_steps: usize,
    pub max_grad_norm: f64,
    pub weight_decay: f64,
    pub adam_beta1: f64,
    pub adam_beta2: f64,
    pub adam_epsilon: f64,
    /// `None` beside an adapter, as the two below: then the whole model is frozen.
    pub freeze_vision_tower: Option<bool>,
    pub freeze_merger: Option<bool>,
    pub freeze_language_model: Option<bool>,
    /// `None` is `learning_rate`.
    pub vision_lr: Option<f64>,
    pub merger_lr: Option<f64>,
    /// `None`, as the one below, where the features change with each step.
    pub vision_cache_mb: Option<u64>,
    pub vision_cache_disk_mb: Option<u64>,
    pub logging_steps: usize,
    pub save_steps: usize,
    pub save_total_limit: usize,
    /// `None` is off.
    pub metric_for_best_model: Option<String>,
    /// `None` without the one above.
    pub greater_is_better: Option<bool>,
    pub eval_steps: usize,
}

impl Stage {
    /// Whether the vision tower and its merger stay as they are.
    pub fn keeps_vision(&self) -> bool {
        match &self.lora {
            Some(lora) => !lora.vision,
            None => [self.trainer.freeze_vision_tower, self.trainer.freeze_merger] == [Some(true); 2],
        }
    }
}

/// The choice of records of one stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the wire structs document every key")]
pub struct StageData {
    #[serde(serialize_with = "task_keys")]
    pub tasks: Vec<TaskKind>,
}

/// How the model is judged.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the wire structs document every key")]
pub struct Evaluate {
    pub splits: Vec<String>,
    pub before: bool,
    pub limit: usize,
    pub limit_during_training: usize,
    pub batch_size: usize,
    pub max_new_tokens: MaxNewTokens,
}

/// Most tokens of an answer, by task.
#[derive(Clone, Debug, PartialEq)]
pub struct MaxNewTokens(pub(super) [usize; ALL_TASKS.len()]);

impl MaxNewTokens {
    /// The limit of one task.
    pub fn get(&self, task: TaskKind) -> usize {
        let index = ALL_TASKS.iter().position(|&known| known == task);
        self.0[index.expect("ALL_TASKS holds every TaskKind")]
    }

    /// Every task with its limit.
    pub fn iter(&self) -> impl Iterator<Item = (TaskKind, usize)> + '_ {
        ALL_TASKS.into_iter().zip(self.0.iter().copied())
    }
}

impl Serialize for MaxNewTokens {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (task, limit) in self.iter() {
            map.serialize_entry(task.key(), &limit)?;
        }
        map.end()
    }
}

fn task_keys<S: Serializer>(tasks: &[TaskKind], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(tasks.iter().map(|task| task.key()))
}

impl Experiment {
    /// The TOML that [`load`](super::load) reads back as the same value.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("plain tables with string keys")
    }
}
