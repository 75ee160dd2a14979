//! What answers are worth, every default filled in.

use std::path::PathBuf;

use serde::Serialize;

pub use crate::config::wire::{JudgeWording, UnseenPair};

/// What answers are worth.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the wire structs document every key")]
pub struct Rewards {
    pub format_factor: f64,
    pub tag_iou_threshold: f64,
    pub dvc_caption_weight: f64,
    pub sa_exact_weight: f64,
    /// `None` where no component needs one.
    pub embedder: Option<String>,
    pub captions: CaptionWeights,
    pub open: OpenWeights,
    /// `None` where no component needs one.
    pub judge: Option<Judge>,
    /// 0 is off.
    pub check_records: usize,
    pub normalization: Normalization,
    /// `None` is off.
    pub overlong: Option<Overlong>,
}

/// Weights of the caption components; 0 leaves one out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the wire structs document every key")]
pub struct CaptionWeights {
    pub similarity: f64,
    pub judge: f64,
    pub rouge_l: f64,
}

/// Weights of the components of open questions; 0 leaves one out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the wire structs document every key")]
pub struct OpenWeights {
    pub accuracy: f64,
    pub format: f64,
    pub semantic: f64,
    pub semantic_threshold: f64,
    pub extended_chain: f64,
    pub correctness_weighted_length: f64,
    pub similarity: f64,
    pub rouge_l: f64,
    pub target_length: usize,
}

/// Who judges captions.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Judge {
    /// No LLM.
    Offline {},
    /// A chat model.
    Llm(Box<LlmJudge>),
}

/// A chat model that judges.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the wire structs document every key")]
pub struct LlmJudge {
    pub base_url: String,
    pub model: String,
    /// `None` sends no key.
    pub api_key_env: Option<String>,
    pub wording: JudgeWording,
    pub max_concurrency: usize,
    pub requests_per_minute: u32,
    pub tokens_per_minute: u32,
    pub timeout_sec: f64,
    pub deadline_sec: f64,
    pub max_retries: usize,
    /// `None` is the run directory's own.
    pub cache: Option<PathBuf>,
    /// `None` is off.
    pub transcript: Option<PathBuf>,
    pub max_failure_share: f64,
    pub price_per_million_prompt_tokens: f64,
    pub price_per_million_completion_tokens: f64,
    pub max_spend: f64,
}

/// How rewards are put on one scale.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the wire structs document every key")]
pub enum Normalization {
    None {},
    MedianLogistic { k: f64, min_iqr: f64, calibration: Calibration },
    MinMax { min_range: f64, calibration: Calibration },
    ZScore { min_std: f64, calibration: Calibration },
    Rank { calibration: Calibration },
    Gdpo {},
    Ema { decay: f64, min_std: f64 },
}

impl Normalization {
    /// The calibration, where it needs one.
    pub fn calibration(&self) -> Option<&Calibration> {
        match self {
            Self::MedianLogistic { calibration, .. }
            | Self::MinMax { calibration, .. }
            | Self::ZScore { calibration, .. }
            | Self::Rank { calibration } => Some(calibration),
            Self::None {} | Self::Gdpo {} | Self::Ema { .. } => None,
        }
    }
}

/// The distributions of a model's rewards.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the wire structs document every key")]
pub struct Calibration {
    /// `None` calibrates when the stage starts.
    pub table: Option<PathBuf>,
    pub num_records: usize,
    pub num_generations: usize,
    pub min_count: usize,
    pub unseen: UnseenPair,
    pub refresh_steps: usize,
}

/// The soft overlong punishment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the wire structs document every key")]
pub struct Overlong {
    pub cache_length: usize,
    pub weight: f64,
}
