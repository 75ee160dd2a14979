//! What a person may type: the keys of an experiment file, before any default is filled in.
//!
//! The doc comment of a field is its text in `docs/config-reference.md`. Keys of algorithms carry TRL's names, keys of
//! models those of Hugging Face. [`resolved`](super::resolved) says what an absent key means.

mod alarms;
mod recipe;
pub mod rewards;

use std::path::PathBuf;

use medgrpo_datasets::TaskKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use alarms::AlarmsWire;
pub use recipe::{
    AdvantageType, DynamicSamplingWire, ImportanceSamplingLevel, KlEstimator, KlIn, LossType, Method,
    RecipeWire, RolloutImportanceSamplingMode, ScaleRewards,
};
pub use rewards::{JudgeWording, RewardsWire, UnseenPair};

/// One run: what to train, on what, and how to judge it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExperimentWire {
    /// Where all randomness of the run starts: initial weights, order of the data, sampled completions.
    pub seed: Option<u64>,
    /// The run directory. `--out` on the command line goes first. The default is `runs/` and the name of the experiment file.
    pub out: Option<PathBuf>,
    /// Whether matrix products, and what lies between two of them, are computed in bfloat16, as `torch.autocast` does it. Weights, optimizer, norms, softmax and loss stay f32. A device without bfloat16 is refused; on the CPU it saves nothing.
    pub bf16: Option<bool>,
    /// A practice set to render before anything else.
    pub practice: Option<PracticeWire>,
    /// The model the first stage starts from: exactly one of `path` and `init`.
    pub model: ModelWire,
    /// The records to train on and to evaluate on.
    pub data: DataWire,
    /// How clips become vision tokens. An absent key leaves the choice to the checkpoint's own processor files.
    pub video: Option<VideoWire>,
    /// The stages, one after the other, each starting from the model that the previous one left.
    #[serde(default)]
    pub stage: Vec<StageWire>,
    /// Evaluation before, between and after the stages. The default is to evaluate if there is `data.eval`.
    pub evaluate: Option<EvaluateWire>,
    /// When training on rewards is said to go wrong: a warning, `alarm/…` in the metrics and a line on the run's page, told
    /// once until it has been quiet for a window. A bound of 0 is off.
    pub alarms: Option<AlarmsWire>,
}

/// A practice set, as `medgrpo data synth` renders it. Nothing is rendered where `out` already holds it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PracticeWire {
    /// The directory it is written to.
    pub out: PathBuf,
    /// Number of clips.
    pub clips: usize,
    /// Seed of the rendering. The default is the experiment's own `seed`.
    pub seed: Option<u64>,
}

/// Where the first weights come from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelWire {
    /// A Hugging Face checkpoint directory.
    pub path: Option<PathBuf>,
    /// A Qwen2.5-VL of these sizes with random weights, and a tokenizer trained on the text of the training records.
    pub init: Option<ModelInitWire>,
}

/// Sizes of a model made from nothing, named as in Hugging Face's `config.json`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelInitWire {
    /// Number of tokens the tokenizer is trained to, special tokens included.
    pub vocab_size: Option<usize>,
    /// Width of the language model.
    pub hidden_size: Option<usize>,
    /// Width of its feed-forward layers. The default is 3 × `hidden_size`.
    pub intermediate_size: Option<usize>,
    /// Number of its layers.
    pub num_hidden_layers: Option<usize>,
    /// Number of its query heads. `hidden_size / num_attention_heads` must be a multiple of 16.
    pub num_attention_heads: Option<usize>,
    /// Number of its key and value heads.
    pub num_key_value_heads: Option<usize>,
    /// Whether input and output embeddings are one matrix.
    pub tie_word_embeddings: Option<bool>,
    /// Standard deviation of the random weights.
    pub initializer_range: Option<f64>,
    /// Sizes of the vision tower.
    pub vision: Option<VisionInitWire>,
}

/// Sizes of the vision tower of a model made from nothing.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VisionInitWire {
    /// Width of the tower.
    pub hidden_size: Option<usize>,
    /// Width of its feed-forward layers. The default is 3 × `hidden_size`.
    pub intermediate_size: Option<usize>,
    /// Number of its layers.
    pub depth: Option<usize>,
    /// Number of its heads. `hidden_size / num_heads` must be a multiple of 4.
    pub num_heads: Option<usize>,
    /// Side of the attention windows in pixels.
    pub window_size: Option<usize>,
    /// Layers that attend to the whole frame instead of a window, counted from 0. The default is the last layer.
    pub fullatt_block_indexes: Option<Vec<usize>>,
}

/// The records.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataWire {
    /// Files of MedVidBench records to train on.
    #[serde(default)]
    pub train: Vec<TrainFileWire>,
    /// Files of MedVidBench records to evaluate on. Each is one split.
    #[serde(default)]
    pub eval: Vec<EvalFileWire>,
    /// What to do with a record that cannot be used.
    pub on_bad_row: Option<OnBadRow>,
    /// Longest prompt in tokens, vision tokens included. A longer sample is refused by `check` and before training; nothing is ever truncated.
    pub max_prompt_tokens: Option<usize>,
    /// Most questions on one clip that stand next to each other in the order of an epoch. A step decodes their clip once, and a micro-batch encodes it once for all of its prompts. With 1 the order is a plain shuffle of the rows.
    pub questions_per_clip: Option<usize>,
}

/// A file to train on.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainFileWire {
    /// The records (`.json`, `.json.gz`).
    pub file: PathBuf,
    /// The directory that media paths in the records are relative to. The default is the directory of `file`.
    pub root: Option<PathBuf>,
    /// How often each row of the file is seen in an epoch, on average.
    pub weight: Option<f64>,
    /// Tasks to take from the file. The default is all.
    pub tasks: Option<Vec<TaskName>>,
}

/// A file to evaluate on.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvalFileWire {
    /// Name of the split in tables, metrics and prediction files. The default is the name of `file` without its extension.
    pub name: Option<String>,
    /// The records (`.json`, `.json.gz`), with their answers.
    pub file: PathBuf,
    /// The directory that media paths in the records are relative to. The default is the directory of `file`.
    pub root: Option<PathBuf>,
    /// Tasks to take from the file. The default is all.
    pub tasks: Option<Vec<TaskName>>,
}

/// What to do with a record that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRow {
    /// Stop with the row and the reason.
    Error,
    /// Leave it out, and count it in the metrics with its reason.
    Skip,
}

/// Sampling and size of clips.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VideoWire {
    /// Frames per second to sample from video files. Lists of frame images are used whole, at their own rate.
    pub fps: Option<f64>,
    /// Most frames to sample from one video file.
    pub max_frames: Option<usize>,
    /// Least pixels of a frame after resizing.
    pub min_pixels: Option<usize>,
    /// Most pixels of a frame after resizing: 28 × 28 pixels and two frames make one vision token.
    pub max_pixels: Option<usize>,
}

/// One training stage.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StageWire {
    /// Name of the stage in metrics, tables and checkpoints: letters, digits, `-` and `_`.
    pub name: String,
    /// The algorithm.
    pub recipe: RecipeWire,
    /// Steps, batches, optimizer and schedule.
    pub trainer: TrainerWire,
    /// A low-rank adapter that learns in place of the model. It starts anew in each stage and is merged into the model at its end.
    pub lora: Option<LoraWire>,
    /// A narrower choice of the training records for this stage.
    pub data: Option<StageDataWire>,
}

/// A low-rank adapter, under PEFT's names.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoraWire {
    /// Rank of the two matrices of a layer.
    pub r: Option<usize>,
    /// Their product is scaled by this over the rank. The default is the rank.
    pub lora_alpha: Option<f64>,
    /// Share of a layer's inputs that the adapter does not see while learning.
    pub lora_dropout: Option<f64>,
    /// Whether the scale is over the square root of the rank.
    pub use_rslora: Option<bool>,
    /// Ends of the names of the layers to adapt, as `q_proj` or `self_attn.o_proj`, or `all-linear` alone.
    pub target_modules: Option<Vec<String>>,
    /// Whether `target_modules` also names layers of the vision tower and its merger.
    pub vision: Option<bool>,
}

/// Steps, batches, optimizer (AdamW) and schedule.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainerWire {
    /// Optimizer steps of the stage.
    pub max_steps: usize,
    /// Prompts per optimizer step. A GRPO step trains on `num_generations` times as many sequences.
    pub num_prompts_per_step: Option<usize>,
    /// Most sequences (a prompt with one answer) per forward and backward pass of a worker: sets memory and speed, not the result (but see `loss_type` `"bnpo"`). Sequences of like length run together, fewer of them where padding would cost more than another pass. With `max_tokens_per_micro_batch` it is all sequences of a step unless given.
    pub micro_batch_size: Option<usize>,
    /// Most tokens of such a pass with their padding, a prompt counted once for all its answers in the pass (verl's `ppo_max_token_len_per_gpu`). A sequence that has more runs alone. Off unless given.
    pub max_tokens_per_micro_batch: Option<usize>,
    /// Whether the layers of the decoder run a second time in an update, one after the other, instead of keeping what they made of every token: less memory for about a third more time. The result is the same up to rounding.
    pub gradient_checkpointing: Option<bool>,
    /// Highest learning rate. The default is 1e-5 for `sft` and 1e-6 for `grpo`.
    pub learning_rate: Option<f64>,
    /// The course of the learning rate after the warm-up, over the steps that are left.
    pub lr_scheduler_type: Option<LrSchedulerType>,
    /// Steps over which the learning rate rises linearly from 0.
    pub warmup_steps: Option<usize>,
    /// The same as a share of `max_steps`, rounded up. Give one of the two.
    pub warmup_ratio: Option<f64>,
    /// Gradients are scaled down to this L2 norm, taken over all parameters. 0 is off.
    pub max_grad_norm: Option<f64>,
    /// Decoupled weight decay of AdamW, on matrices but not on biases and norms.
    pub weight_decay: Option<f64>,
    /// Decay of AdamW's mean of gradients.
    pub adam_beta1: Option<f64>,
    /// Decay of AdamW's mean of squared gradients.
    pub adam_beta2: Option<f64>,
    /// Added to AdamW's denominator.
    pub adam_epsilon: Option<f64>,
    /// Whether the vision tower keeps its weights.
    pub freeze_vision_tower: Option<bool>,
    /// Whether the merger between tower and language model keeps its weights. The default is `freeze_vision_tower`.
    pub freeze_merger: Option<bool>,
    /// Whether the language model keeps its weights.
    pub freeze_language_model: Option<bool>,
    /// Highest learning rate of the vision tower. The default is `learning_rate`.
    pub vision_lr: Option<f64>,
    /// Highest learning rate of the merger. The default is `learning_rate`.
    pub merger_lr: Option<f64>,
    /// Memory for the features of clips that a frozen vision tower and merger have seen, in mebibytes. 0 is off.
    pub vision_cache_mb: Option<u64>,
    /// Room for the same in the run directory, in mebibytes, until the stage ends. 0 is off.
    pub vision_cache_disk_mb: Option<u64>,
    /// Steps from one line of metrics to the next.
    pub logging_steps: Option<usize>,
    /// Steps from one checkpoint to the next. The end of a stage is always saved. 0 saves nothing else.
    pub save_steps: Option<usize>,
    /// Checkpoints kept of a stage, the newest first. 0 keeps all.
    pub save_total_limit: Option<usize>,
    /// A number of the metrics, as `eval/test/tag_miou_03` or `reward`: the checkpoint of the step at which it was best is kept besides the newest ones and named in `best.json`. Numbers of evaluations are looked at every `eval_steps` and at the end of the stage, others where `save_steps` saves. Off unless given.
    pub metric_for_best_model: Option<String>,
    /// Whether more of `metric_for_best_model` is better. The default is true unless its name ends in `loss`.
    pub greater_is_better: Option<bool>,
    /// Steps from one evaluation during training to the next. 0 is off.
    pub eval_steps: Option<usize>,
}

/// The course of the learning rate after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LrSchedulerType {
    /// Half a cosine wave down to 0.
    Cosine,
    /// A straight line down to 0.
    Linear,
    /// No change.
    Constant,
}

/// A narrower choice of the training records.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StageDataWire {
    /// Tasks to train on. The default is every task that `data.train` offers.
    pub tasks: Option<Vec<TaskName>>,
}

/// How the model is judged. Decoding is greedy.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluateWire {
    /// Names of the splits of `data.eval` to use. The default is all.
    pub splits: Option<Vec<String>>,
    /// Whether the model is also evaluated before the first stage.
    pub before: Option<bool>,
    /// Most records of each task and split, spread evenly over the file. 0 takes all.
    pub limit: Option<usize>,
    /// The same for evaluations during training (`eval_steps`).
    pub limit_during_training: Option<usize>,
    /// Answers that a worker generates at a time.
    pub batch_size: Option<usize>,
    /// Most tokens of an answer, by task.
    pub max_new_tokens: Option<MaxNewTokensWire>,
}

/// Most tokens of an answer, by task.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaxNewTokensWire {
    /// Temporal action grounding.
    pub tag: Option<usize>,
    /// Spatiotemporal grounding.
    pub stg: Option<usize>,
    /// Dense video captioning.
    pub dvc: Option<usize>,
    /// Next action prediction.
    pub nap: Option<usize>,
    /// Critical view of safety.
    pub cvs: Option<usize>,
    /// Video summary.
    pub vs: Option<usize>,
    /// Region caption.
    pub rc: Option<usize>,
    /// Skill assessment.
    pub sa: Option<usize>,
    /// Free questions.
    pub open: Option<usize>,
}

/// A task by its short name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TaskName {
    /// Temporal action grounding.
    Tag,
    /// Spatiotemporal grounding.
    Stg,
    /// Dense video captioning.
    Dvc,
    /// Next action prediction.
    Nap,
    /// Critical view of safety.
    Cvs,
    /// Video summary.
    Vs,
    /// Region caption.
    Rc,
    /// Skill assessment.
    Sa,
    /// Free questions.
    Open,
}

impl From<TaskName> for TaskKind {
    fn from(name: TaskName) -> Self {
        match name {
            TaskName::Tag => Self::Tag,
            TaskName::Stg => Self::Stg,
            TaskName::Dvc => Self::DenseCaptioning,
            TaskName::Nap => Self::NextAction,
            TaskName::Cvs => Self::Cvs,
            TaskName::Vs => Self::VideoSummary,
            TaskName::Rc => Self::RegionCaption,
            TaskName::Sa => Self::SkillAssessment,
            TaskName::Open => Self::OpenQuestion,
        }
    }
}
