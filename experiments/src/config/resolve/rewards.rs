//! Defaults of the keys that say what an answer is worth.

use crate::config::{
    resolved::rewards::{
        Calibration, CaptionWeights, Judge, JudgeWording, LlmJudge, Normalization, OpenWeights, Overlong,
        Rewards, UnseenPair,
    },
    wire::rewards::{
        CalibrationWire, CaptionWeightsWire, JudgeWire, LlmJudgeWire, NormalizationWire, OpenWeightsWire,
        OverlongWire, RewardsWire,
    },
};

/// The choices that differ between recipes.
pub(super) struct RewardDefaults {
    captions: CaptionWeights,
    normalization: NormalizationWire,
}

impl RewardDefaults {
    /// Plain GRPO: raw metrics, captions by ROUGE-L, which needs nothing.
    pub(super) fn grpo() -> Self {
        Self {
            captions: CaptionWeights { similarity: 0.0, judge: 0.0, rouge_l: 1.0 },
            normalization: NormalizationWire::None(crate::config::wire::rewards::NoNormalizationWire {}),
        }
    }

    /// Raw metrics, divided by a running deviation per task.
    pub(super) fn ema_grpo() -> Self {
        Self { normalization: NormalizationWire::Ema(Default::default()), ..Self::grpo() }
    }

    /// The paper's.
    pub(super) fn medgrpo() -> Self {
        Self {
            captions: CaptionWeights { similarity: 0.5, judge: 0.5, rouge_l: 0.0 },
            normalization: NormalizationWire::MedianLogistic(Default::default()),
        }
    }
}

impl Rewards {
    pub(super) fn from_wire(wire: &RewardsWire, defaults: &RewardDefaults) -> Self {
        Self {
            format_factor: wire.format_factor.unwrap_or(0.0),
            tag_iou_threshold: wire.tag_iou_threshold.unwrap_or(0.0),
            dvc_caption_weight: wire.dvc_caption_weight.unwrap_or(1.0),
            sa_exact_weight: wire.sa_exact_weight.unwrap_or(0.5),
            captions: wire.captions.as_ref().map_or(defaults.captions, CaptionWeights::from_wire),
            open: OpenWeights::from_wire(wire.open.as_ref()),
            embedder: wire.embedder.clone(),
            judge: wire.judge.as_ref().map(Judge::from_wire),
            check_records: wire.check_records.unwrap_or(match wire.judge {
                Some(JudgeWire::Llm(_)) => 0,
                Some(JudgeWire::Offline(_)) | None => 32,
            }),
            normalization: Normalization::from_wire(
                wire.normalization.as_ref().unwrap_or(&defaults.normalization),
            ),
            overlong: wire.overlong.as_ref().map(Overlong::from_wire),
        }
    }
}

impl CaptionWeights {
    /// Weights that are typed at all are typed whole: the others are 0.
    fn from_wire(wire: &CaptionWeightsWire) -> Self {
        Self {
            similarity: wire.similarity.unwrap_or(0.0),
            judge: wire.judge.unwrap_or(0.0),
            rouge_l: wire.rouge_l.unwrap_or(0.0),
        }
    }
}

impl OpenWeights {
    fn from_wire(wire: Option<&OpenWeightsWire>) -> Self {
        let typed = wire.cloned().unwrap_or_default();
        // Unless something is typed: accuracy alone.
        let nothing_typed = [
            typed.accuracy,
            typed.format,
            typed.semantic,
            typed.extended_chain,
            typed.correctness_weighted_length,
            typed.similarity,
            typed.rouge_l,
        ]
        .iter()
        .all(Option::is_none);
        Self {
            accuracy: typed.accuracy.unwrap_or(if nothing_typed { 1.0 } else { 0.0 }),
            format: typed.format.unwrap_or(0.0),
            semantic: typed.semantic.unwrap_or(0.0),
            semantic_threshold: typed.semantic_threshold.unwrap_or(0.5),
            extended_chain: typed.extended_chain.unwrap_or(0.0),
            correctness_weighted_length: typed.correctness_weighted_length.unwrap_or(0.0),
            similarity: typed.similarity.unwrap_or(0.0),
            rouge_l: typed.rouge_l.unwrap_or(0.0),
            target_length: typed.target_length.unwrap_or(256),
        }
    }
}

impl Judge {
    fn from_wire(wire: &JudgeWire) -> Self {
        match wire {
            JudgeWire::Offline(_) => Self::Offline {},
            JudgeWire::Llm(llm) => Self::Llm(Box::new(LlmJudge::from_wire(llm))),
        }
    }
}

impl LlmJudge {
    fn from_wire(wire: &LlmJudgeWire) -> Self {
        Self {
            base_url: wire.base_url.clone(),
            model: wire.model.clone(),
            api_key_env: wire.api_key_env.clone(),
            wording: wire.wording.unwrap_or(JudgeWording::Comparative),
            max_concurrency: wire.max_concurrency.unwrap_or(16),
            requests_per_minute: wire.requests_per_minute.unwrap_or(0),
            tokens_per_minute: wire.tokens_per_minute.unwrap_or(0),
            timeout_sec: wire.timeout_sec.unwrap_or(30.0),
            deadline_sec: wire.deadline_sec.unwrap_or(300.0),
            max_retries: wire.max_retries.unwrap_or(5),
            cache: wire.cache.clone(),
            transcript: wire.transcript.clone(),
            max_failure_share: wire.max_failure_share.unwrap_or(0.5),
            price_per_million_prompt_tokens: wire.price_per_million_prompt_tokens.unwrap_or(0.0),
            price_per_million_completion_tokens: wire.price_per_million_completion_tokens.unwrap_or(0.0),
            max_spend: wire.max_spend.unwrap_or(0.0),
        }
    }
}

/// Least width, range or deviation: a hundredth of the range of most metrics, twice.
const MIN_SCALE: f64 = 0.02;

impl Normalization {
    fn from_wire(wire: &NormalizationWire) -> Self {
        let calibration =
            |typed: &Option<CalibrationWire>| Calibration::from_wire(&typed.clone().unwrap_or_default());
        match wire {
            NormalizationWire::None(_) => Self::None {},
            NormalizationWire::MedianLogistic(typed) => Self::MedianLogistic {
                k: typed.k.unwrap_or(3.0),
                min_iqr: typed.min_iqr.unwrap_or(MIN_SCALE),
                calibration: calibration(&typed.calibration),
            },
            NormalizationWire::MinMax(typed) => Self::MinMax {
                min_range: typed.min_range.unwrap_or(MIN_SCALE),
                calibration: calibration(&typed.calibration),
            },
            NormalizationWire::ZScore(typed) => Self::ZScore {
                min_std: typed.min_std.unwrap_or(MIN_SCALE),
                calibration: calibration(&typed.calibration),
            },
            NormalizationWire::Rank(typed) => Self::Rank { calibration: calibration(&typed.calibration) },
            NormalizationWire::Gdpo(_) => Self::Gdpo {},
            NormalizationWire::Ema(typed) => {
                Self::Ema { decay: typed.decay.unwrap_or(0.99), min_std: typed.min_std.unwrap_or(MIN_SCALE) }
            }
        }
    }
}

impl Calibration {
    fn from_wire(wire: &CalibrationWire) -> Self {
        Self {
            table: wire.table.clone(),
            num_records: wire.num_records.unwrap_or(64),
            num_generations: wire.num_generations.unwrap_or(4),
            min_count: wire.min_count.unwrap_or(16),
            unseen: wire.unseen.unwrap_or(UnseenPair::Error),
            refresh_steps: wire.refresh_steps.unwrap_or(0),
        }
    }
}

impl Overlong {
    fn from_wire(wire: &OverlongWire) -> Self {
        Self { cache_length: wire.cache_length, weight: wire.weight.unwrap_or(1.0) }
    }
}
