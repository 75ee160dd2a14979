//! The keys that say what an answer is worth.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What answers are worth.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RewardsWire {
    /// What the reward of an answer outside the benchmark's exact format is multiplied by, 0 to 1. The paper multiplies by a
    /// format factor and does not say which; without one, a policy drifts into text that only forgiving parsers read.
    pub format_factor: Option<f64>,
    /// TAG spans that overlap by less than this count nothing, as in the benchmark's `TAG_mIoU@0.3`. The paper names no
    /// threshold; without one, long guesses that overlap everything a little are worth more than they score.
    pub tag_iou_threshold: Option<f64>,
    /// How much of a DVC event's worth hangs on its caption, 0 to 1: overlap × (1 - weight + weight × similarity), the
    /// similarity being the embedder's cosine, or ROUGE-L without one. At 1 right times without words earn nothing.
    pub dvc_caption_weight: Option<f64>,
    /// Share of an SA aspect's worth that only the exact score earns, 0 to 1; the rest falls with the distance. 1 is the
    /// benchmark's accuracy, which gives a group little to learn from.
    pub sa_exact_weight: Option<f64>,
    /// What captions (VS, RC) are compared with their reference by: weights of the components.
    pub captions: Option<CaptionWeightsWire>,
    /// What answers to open medical questions are worth: weights of the components.
    pub open: Option<OpenWeightsWire>,
    /// What the similarity of two texts is taken from: a sentence-transformers directory, `vectors:FILE` (a JSON map from
    /// text to vector), or `lexical`, which needs no files and sees shared words and word parts only. There is no default
    /// where a component needs it: which encoder pays is part of the method.
    pub embedder: Option<String>,
    /// Who judges captions. There is no default where a component needs one.
    pub judge: Option<JudgeWire>,
    /// How the rewards of different datasets and tasks are put on one scale.
    pub normalization: Option<NormalizationWire>,
    /// Records of each file that the reward is tried on when a stage begins: what gold, nothing, half answers and tricks are
    /// paid goes to `rewards-check-STAGE.json` and `.md` in the run directory, and a line tells of tricks that pay. 0 leaves
    /// it out. The default is 32, and 0 with a judge that is asked over the network.
    pub check_records: Option<usize>,
    /// DAPO's soft punishment of overlong completions (arXiv 2503.14476, equation 13). Off unless given.
    pub overlong: Option<OverlongWire>,
}

/// Components of the caption reward. The paper's is half similarity, half judge.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaptionWeightsWire {
    /// Cosine similarity of the sentences' embeddings.
    pub similarity: Option<f64>,
    /// The mean of the judge's five scores.
    pub judge: Option<f64>,
    /// ROUGE-L, which needs no encoder.
    pub rouge_l: Option<f64>,
}

/// Components of the reward of open questions (arXiv 2505.13973, which gives no formulas: these are ours).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenWeightsWire {
    /// 1 for the right answer.
    pub accuracy: Option<f64>,
    /// 1 for `<think>…</think><answer>…</answer>`.
    pub format: Option<f64>,
    /// 1 if the judge finds that the reasoning agrees with the reference.
    pub semantic: Option<f64>,
    /// The least judgement, from 0 (all ones) to 1 (all fives), that counts as agreement.
    pub semantic_threshold: Option<f64>,
    /// Length over `target_length`, at most 1, whether right or wrong.
    pub extended_chain: Option<f64>,
    /// The same for right answers, 0 for wrong ones.
    pub correctness_weighted_length: Option<f64>,
    /// Cosine similarity of the sentences' embeddings.
    pub similarity: Option<f64>,
    /// ROUGE-L.
    pub rouge_l: Option<f64>,
    /// Length in tokens at which the length rewards are full.
    pub target_length: Option<usize>,
}

/// Who judges captions.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum JudgeWire {
    /// No LLM: shared meaning by the embedder and shared clinical terms, for practice and tests.
    Offline(OfflineJudgeWire),
    /// A chat model behind an OpenAI-compatible API: a closed model, vLLM, `SGLang`.
    Llm(Box<LlmJudgeWire>),
}

/// The offline judge has no keys of its own.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OfflineJudgeWire {}

/// A chat model that judges.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LlmJudgeWire {
    /// Where the API is, up to and including `/v1`.
    pub base_url: String,
    /// The model to ask for.
    pub model: String,
    /// The environment variable that holds the key. The key itself never stands in a file.
    pub api_key_env: Option<String>,
    /// How it is asked.
    pub wording: Option<JudgeWording>,
    /// Requests in flight at once.
    pub max_concurrency: Option<usize>,
    /// Most requests a minute. 0 is no limit.
    pub requests_per_minute: Option<u32>,
    /// Most tokens a minute. 0 is no limit.
    pub tokens_per_minute: Option<u32>,
    /// Seconds after which one try is given up.
    pub timeout_sec: Option<f64>,
    /// Seconds after which a judgement is given up, with all its tries.
    pub deadline_sec: Option<f64>,
    /// Tries after the first.
    pub max_retries: Option<usize>,
    /// Folder of judgements that are kept: the same pair is paid for once. Several processes may share it. The default is
    /// `judge-cache` in the run directory.
    pub cache: Option<PathBuf>,
    /// File that every prompt and reply is appended to. Off unless given.
    pub transcript: Option<PathBuf>,
    /// The run stops when more than this share of the last judgements failed.
    pub max_failure_share: Option<f64>,
    /// Price of a million prompt tokens, in whatever currency.
    pub price_per_million_prompt_tokens: Option<f64>,
    /// Price of a million completion tokens.
    pub price_per_million_completion_tokens: Option<f64>,
    /// The run stops when this much was spent. 0 is no limit.
    pub max_spend: Option<f64>,
}

/// How the judge is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JudgeWording {
    /// How closely the caption matches its reference: what the paper trains with.
    Comparative,
    /// The evaluation's rubric with an anchor for every score.
    Absolute,
}

/// How rewards of different datasets and tasks are put on one scale, component by component, before they are added up.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum NormalizationWire {
    /// Not at all.
    None(NoNormalizationWire),
    /// MedGRPO's: a logistic curve through the calibrated median, `1 / (1 + exp(-k (x - p50) / IQR))`.
    MedianLogistic(MedianLogisticWire),
    /// The calibrated range becomes 0 to 1.
    MinMax(MinMaxWire),
    /// Distance from the calibrated mean in standard deviations.
    ZScore(ZScoreWire),
    /// The share of calibrated values below.
    Rank(RankWire),
    /// GDPO: each component is normalised within its group. Goes with `scale_rewards = "batch"`.
    Gdpo(GdpoWire),
    /// EMA-GRPO: each task's component is divided by its running standard deviation. Goes with `scale_rewards = "none"`.
    Ema(EmaWire),
}

/// No normalization has no keys.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoNormalizationWire {}

/// The median logistic.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MedianLogisticWire {
    /// Steepness; the paper's is 3.
    pub k: Option<f64>,
    /// Least width that a distribution is taken to have: an IQR of 0 would make a step of the curve.
    pub min_iqr: Option<f64>,
    /// Where the distributions come from.
    pub calibration: Option<CalibrationWire>,
}

/// Min-max.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MinMaxWire {
    /// Least range that a distribution is taken to have.
    pub min_range: Option<f64>,
    /// Where the distributions come from.
    pub calibration: Option<CalibrationWire>,
}

/// Z-scores.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ZScoreWire {
    /// Least deviation that a distribution is taken to have.
    pub min_std: Option<f64>,
    /// Where the distributions come from.
    pub calibration: Option<CalibrationWire>,
}

/// Ranks.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RankWire {
    /// Where the distributions come from.
    pub calibration: Option<CalibrationWire>,
}

/// Group-wise normalization has no keys.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GdpoWire {}

/// Running deviations.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmaWire {
    /// How much of the running moments a step keeps.
    pub decay: Option<f64>,
    /// Least deviation that is divided by.
    pub min_std: Option<f64>,
}

/// The distributions of a model's rewards.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CalibrationWire {
    /// A table that `medgrpo calibrate` wrote. Without one, the model that the stage starts from is calibrated first, on the
    /// stage's own records, and the table is kept in the run directory.
    pub table: Option<PathBuf>,
    /// Records of each dataset and task that the stage's own calibration answers, spread evenly over the file.
    pub num_records: Option<usize>,
    /// Completions of each of them.
    pub num_generations: Option<usize>,
    /// Values that a dataset, task and component must have; with fewer it counts as unseen.
    pub min_count: Option<usize>,
    /// What to do with a dataset and task that was not seen.
    pub unseen: Option<UnseenPair>,
    /// Take the distributions of the live policy every so many steps. 0 keeps the first ones, as the paper does.
    pub refresh_steps: Option<usize>,
}

/// What to do with a dataset and task that the calibration has not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnseenPair {
    /// Stop.
    Error,
    /// Take the task's distribution over all datasets.
    Task,
}

/// The soft overlong punishment; `max_completion_length` is where it is full.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OverlongWire {
    /// Width of the window before `max_completion_length` in which it grows, in tokens.
    pub cache_length: usize,
    /// What it is multiplied by before it is added to the reward.
    pub weight: Option<f64>,
}
