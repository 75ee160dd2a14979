//! From what was typed to what it means: the one place where defaults stand.

mod alarms;
mod recipe;
mod rewards;

use std::path::{Path, PathBuf};

use medgrpo_datasets::TaskKind;
use medgrpo_model::lora::LoraConfig;

use super::{
    resolved::{
        ALL_TASKS, Alarms, Data, EvalFile, Evaluate, Experiment, LrSchedulerType, MaxNewTokens, ModelInit,
        ModelSource, OnBadRow, Practice, Recipe, Stage, StageData, TrainFile, Trainer, Video, VisionInit,
    },
    wire::{
        DataWire, EvalFileWire, EvaluateWire, ExperimentWire, LoraWire, MaxNewTokensWire, ModelInitWire,
        ModelWire, PracticeWire, StageWire, TaskName, TrainFileWire, TrainerWire, VideoWire, VisionInitWire,
    },
};

impl Experiment {
    /// Fills in every default.
    ///
    /// `name` is the experiment file's name without its extension. `None` if `model` does not hold exactly one of its
    /// two keys, which [`validate`](super::validate) reports.
    pub(super) fn from_wire(wire: ExperimentWire, name: &str) -> Option<Self> {
        let seed = wire.seed.unwrap_or(0);
        let data = Data::from_wire(wire.data);
        let offered: Vec<_> = ALL_TASKS
            .into_iter()
            .filter(|task| data.train.iter().any(|file| file.tasks.contains(task)))
            .collect();
        let evaluate = (wire.evaluate.is_some() || !data.eval.is_empty())
            .then(|| Evaluate::from_wire(wire.evaluate.unwrap_or_default(), &data.eval));
        Some(Self {
            seed,
            out: wire.out.unwrap_or_else(|| Path::new("runs").join(name)),
            bf16: wire.bf16.unwrap_or(false),
            practice: wire.practice.map(|practice| Practice::from_wire(practice, seed)),
            model: ModelSource::from_wire(wire.model)?,
            video: Video::from_wire(&wire.video.unwrap_or_default()),
            stages: wire.stage.into_iter().map(|stage| Stage::from_wire(stage, &offered)).collect(),
            evaluate,
            alarms: Alarms::from_wire(&wire.alarms.unwrap_or_default()),
            data,
        })
    }
}

impl Practice {
    fn from_wire(wire: PracticeWire, seed: u64) -> Self {
        Self { out: wire.out, clips: wire.clips, seed: wire.seed.unwrap_or(seed) }
    }
}

impl ModelSource {
    fn from_wire(wire: ModelWire) -> Option<Self> {
        match (wire.path, wire.init) {
            (Some(path), None) => Some(Self::Path(path)),
            (None, Some(init)) => Some(Self::Init(ModelInit::from_wire(init))),
            _ => None,
        }
    }
}

impl ModelInit {
    fn from_wire(wire: ModelInitWire) -> Self {
        let hidden_size = wire.hidden_size.unwrap_or(128);
        Self {
            vocab_size: wire.vocab_size.unwrap_or(1024),
            hidden_size,
            intermediate_size: wire.intermediate_size.unwrap_or(hidden_size.saturating_mul(3)),
            num_hidden_layers: wire.num_hidden_layers.unwrap_or(4),
            num_attention_heads: wire.num_attention_heads.unwrap_or(4),
            num_key_value_heads: wire.num_key_value_heads.unwrap_or(2),
            tie_word_embeddings: wire.tie_word_embeddings.unwrap_or(true),
            initializer_range: wire.initializer_range.unwrap_or(0.02),
            vision: VisionInit::from_wire(wire.vision.unwrap_or_default()),
        }
    }
}

impl VisionInit {
    fn from_wire(wire: VisionInitWire) -> Self {
        let hidden_size = wire.hidden_size.unwrap_or(96);
        let depth = wire.depth.unwrap_or(4);
        Self {
            hidden_size,
            intermediate_size: wire.intermediate_size.unwrap_or(hidden_size.saturating_mul(3)),
            depth,
            num_heads: wire.num_heads.unwrap_or(4),
            window_size: wire.window_size.unwrap_or(112),
            fullatt_block_indexes: wire
                .fullatt_block_indexes
                .unwrap_or_else(|| vec![depth.saturating_sub(1)]),
        }
    }
}

impl Data {
    fn from_wire(wire: DataWire) -> Self {
        Self {
            on_bad_row: wire.on_bad_row.unwrap_or(OnBadRow::Error),
            max_prompt_tokens: wire.max_prompt_tokens.unwrap_or(8192),
            questions_per_clip: wire.questions_per_clip.unwrap_or(1),
            train: wire.train.into_iter().map(TrainFile::from_wire).collect(),
            eval: wire.eval.into_iter().map(EvalFile::from_wire).collect(),
        }
    }
}

impl TrainFile {
    fn from_wire(wire: TrainFileWire) -> Self {
        Self {
            root: wire.root.unwrap_or_else(|| directory_of(&wire.file)),
            weight: wire.weight.unwrap_or(1.0),
            tasks: task_kinds(wire.tasks.as_deref(), &ALL_TASKS),
            file: wire.file,
        }
    }
}

impl EvalFile {
    fn from_wire(wire: EvalFileWire) -> Self {
        Self {
            name: wire.name.unwrap_or_else(|| split_name(&wire.file)),
            root: wire.root.unwrap_or_else(|| directory_of(&wire.file)),
            tasks: task_kinds(wire.tasks.as_deref(), &ALL_TASKS),
            file: wire.file,
        }
    }
}

impl Video {
    fn from_wire(wire: &VideoWire) -> Self {
        Self {
            fps: wire.fps,
            max_frames: wire.max_frames,
            min_pixels: wire.min_pixels,
            max_pixels: wire.max_pixels,
        }
    }
}

impl Stage {
    fn from_wire(wire: StageWire, offered: &[TaskKind]) -> Self {
        let (recipe, learning_rate) = Recipe::from_wire(&wire.recipe, &wire.trainer);
        let sequences = num_prompts_per_step(&wire.trainer)
            .saturating_mul(recipe.on_policy().map_or(1, |policy| policy.num_generations));
        let mut stage = Self {
            name: wire.name,
            recipe,
            trainer: Trainer::from_wire(&wire.trainer, learning_rate, sequences, wire.lora.is_some()),
            lora: wire.lora.map(LoraConfig::from),
            data: StageData { tasks: task_kinds(wire.data.and_then(|data| data.tasks).as_deref(), offered) },
        };
        if stage.keeps_vision() {
            stage.trainer.vision_cache_mb.get_or_insert(1024);
            stage.trainer.vision_cache_disk_mb.get_or_insert(0);
        }
        stage
    }
}

fn num_prompts_per_step(wire: &TrainerWire) -> usize {
    wire.num_prompts_per_step.unwrap_or(8)
}

impl Trainer {
    /// `sequences` are those of a step.
    fn from_wire(wire: &TrainerWire, learning_rate: f64, sequences: usize, is_adapted: bool) -> Self {
        // An adapter freezes the model: `false` would be a lie, and what was typed is left to be refused.
        let freezes = |typed: Option<bool>, default| typed.or((!is_adapted).then_some(default));
        let warmup_steps = wire.warmup_steps.unwrap_or_else(|| {
            let ratio = wire.warmup_ratio.unwrap_or(0.0);
            (ratio * wire.max_steps as f64).ceil() as usize
        });
        Self {
            max_steps: wire.max_steps,
            num_prompts_per_step: num_prompts_per_step(wire),
            micro_batch_size: wire.micro_batch_size.unwrap_or(if wire.max_tokens_per_micro_batch.is_some() {
                sequences
            } else {
                1
            }),
            max_tokens_per_micro_batch: wire.max_tokens_per_micro_batch,
            gradient_checkpointing: wire.gradient_checkpointing.unwrap_or(false),
            learning_rate: wire.learning_rate.unwrap_or(learning_rate),
            lr_scheduler_type: wire.lr_scheduler_type.unwrap_or(LrSchedulerType::Cosine),
            warmup_steps,
            max_grad_norm: wire.max_grad_norm.unwrap_or(1.0),
            weight_decay: wire.weight_decay.unwrap_or(0.0),
            adam_beta1: wire.adam_beta1.unwrap_or(0.9),
            adam_beta2: wire.adam_beta2.unwrap_or(0.999),
            adam_epsilon: wire.adam_epsilon.unwrap_or(1e-8),
            freeze_vision_tower: freezes(wire.freeze_vision_tower, false),
            freeze_merger: freezes(wire.freeze_merger, wire.freeze_vision_tower.unwrap_or(false)),
            freeze_language_model: freezes(wire.freeze_language_model, false),
            vision_lr: wire.vision_lr,
            merger_lr: wire.merger_lr,
            vision_cache_mb: wire.vision_cache_mb,
            vision_cache_disk_mb: wire.vision_cache_disk_mb,
            logging_steps: wire.logging_steps.unwrap_or(1),
            save_steps: wire.save_steps.unwrap_or(100),
            save_total_limit: wire.save_total_limit.unwrap_or(2),
            metric_for_best_model: wire.metric_for_best_model.clone(),
            // Hugging Face's rule. What was typed beside no metric is left to be refused.
            greater_is_better: wire
                .greater_is_better
                .or(wire.metric_for_best_model.as_ref().map(|metric| !metric.ends_with("loss"))),
            eval_steps: wire.eval_steps.unwrap_or(0),
        }
    }
}

impl From<LoraWire> for LoraConfig {
    fn from(wire: LoraWire) -> Self {
        let r = wire.r.unwrap_or(8);
        Self {
            r,
            lora_alpha: wire.lora_alpha.unwrap_or(r as f64),
            lora_dropout: wire.lora_dropout.unwrap_or(0.0),
            use_rslora: wire.use_rslora.unwrap_or(false),
            target_modules: wire.target_modules.unwrap_or_else(|| vec!["all-linear".to_owned()]),
            vision: wire.vision.unwrap_or(false),
        }
    }
}

impl Evaluate {
    fn from_wire(wire: EvaluateWire, eval: &[EvalFile]) -> Self {
        Self {
            splits: wire.splits.unwrap_or_else(|| eval.iter().map(|file| file.name.clone()).collect()),
            before: wire.before.unwrap_or(true),
            limit: wire.limit.unwrap_or(0),
            limit_during_training: wire.limit_during_training.unwrap_or(32),
            batch_size: wire.batch_size.unwrap_or(8),
            max_new_tokens: MaxNewTokens::from_wire(&wire.max_new_tokens.unwrap_or_default()),
        }
    }
}

impl MaxNewTokens {
    fn from_wire(wire: &MaxNewTokensWire) -> Self {
        Self(ALL_TASKS.map(|task| {
            let (typed, default) = match task {
                TaskKind::Tag => (wire.tag, 96),
                TaskKind::Stg => (wire.stg, 384),
                TaskKind::DenseCaptioning => (wire.dvc, 768),
                TaskKind::NextAction => (wire.nap, 32),
                TaskKind::Cvs => (wire.cvs, 48),
                TaskKind::VideoSummary => (wire.vs, 320),
                TaskKind::RegionCaption => (wire.rc, 128),
                TaskKind::SkillAssessment => (wire.sa, 96),
                TaskKind::OpenQuestion => (wire.open, 256),
            };
            typed.unwrap_or(default)
        }))
    }
}

fn task_kinds(typed: Option<&[TaskName]>, default: &[TaskKind]) -> Vec<TaskKind> {
    typed.map_or_else(|| default.to_vec(), |names| names.iter().map(|&name| name.into()).collect())
}

fn directory_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// `data/test.json.gz` is the split `test`.
fn split_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().to_owned()
}
