//! Arguments of `eval` and `submit`.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
};

use clap::{Args, ValueEnum};
use medgrpo_rewards::leaderboard::Rules;

/// By whose rules answers are read and scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RulesArg {
    /// The leaderboard's, with all their oddities: comparable with published numbers
    #[default]
    Official,
    /// Every row counts, unreadable answers are wrong, surplus answers cost
    Strict,
}

impl From<RulesArg> for Rules {
    fn from(rules: RulesArg) -> Self {
        match rules {
            RulesArg::Official => Self::Official,
            RulesArg::Strict => Self::Strict,
        }
    }
}

/// Who judges captions, and how hard it may be asked.
#[derive(Args, Debug)]
pub struct JudgeArgs {
    /// Who judges captions: none, offline (no LLM: it says so), replay:FILE (recorded replies), or the address of an
    /// OpenAI-compatible API
    #[arg(long, default_value = "none", value_name = "none|offline|replay:FILE|URL")]
    pub judge: String,
    /// The model behind a judge's address
    #[arg(long, value_name = "NAME")]
    pub judge_model: Option<String>,
    /// The environment variable that holds the key for a judge's address; without it no key is sent
    #[arg(long, value_name = "VARIABLE")]
    pub judge_key_env: Option<String>,
    /// Folder that keeps a model's judgements, so that none is paid for twice
    #[arg(long, value_name = "DIR")]
    pub judge_cache: Option<PathBuf>,
    /// File that every question and reply is added to
    #[arg(long, value_name = "FILE")]
    pub judge_transcript: Option<PathBuf>,
    /// Requests in flight at once
    #[arg(long, value_name = "N", help = "Requests in flight at once [default: 16]")]
    pub judge_concurrency: Option<NonZeroUsize>,
    /// Most requests a minute [default: no limit]
    #[arg(long, value_name = "N")]
    pub judge_requests_per_minute: Option<NonZeroU32>,
    /// Most tokens a minute [default: no limit]
    #[arg(long, value_name = "N")]
    pub judge_tokens_per_minute: Option<NonZeroU32>,
}

/// Arguments of `eval`.
#[derive(Args, Debug)]
pub struct EvalArgs {
    /// Records with their truth (.json, .jsonl, either with .gz)
    #[arg(long, value_name = "GT.json")]
    pub ground_truth: PathBuf,
    /// Answers: a submission, a run's predictions, or the released inference code's results
    #[arg(long, value_name = "PRED.json")]
    pub predictions: PathBuf,
    /// Result: the ten numbers, groups, records and what went wrong, as JSON
    #[arg(long, value_name = "METRICS.json")]
    pub out: PathBuf,
    /// By whose rules
    #[arg(long, default_value = "official")]
    pub rules: RulesArg,
    /// Who judges captions
    #[command(flatten)]
    pub judge: JudgeArgs,
    /// Vectors of sentences for next-action answers that are no class: a sentence encoder, or a map from text to vector
    #[arg(long, value_name = "DIR|vectors:FILE")]
    pub embedder: Option<String>,
    /// Records that the constant answers shown beside the numbers are made of; without it the ground truth itself,
    /// which is more than a constant could know
    #[arg(long, value_name = "TRAIN.json")]
    pub train: Option<PathBuf>,
    /// Intervals that hold 95 of 100 resamples of the videos, by this many resamples
    #[arg(long, value_name = "N")]
    pub bootstrap: Option<usize>,
    /// Evaluate the answered records alone where predictions name their rows and not all are there
    #[arg(long)]
    pub partial: bool,
    /// A page with the table and samples: time lines, boxes, captions with their scores
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Folder that the records' media paths start from; the page shows frames then
    #[arg(long, value_name = "DIR", requires = "html")]
    pub media_root: Option<PathBuf>,
}

/// Arguments of `submit`.
#[derive(Args, Debug)]
pub struct SubmitArgs {
    /// The test file: records without their truth (.json, .jsonl, either with .gz)
    #[arg(long, value_name = "TEST.json")]
    pub test: PathBuf,
    /// Answers to all of its records, in any form that eval reads
    #[arg(long, value_name = "PRED.json", required_unless_present = "check", requires = "out")]
    pub predictions: Option<PathBuf>,
    /// The file to upload
    #[arg(long, value_name = "SUBMISSION.json", requires = "predictions")]
    pub out: Option<PathBuf>,
    /// Look through a file that was made before, and write nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["predictions", "out"])]
    pub check: Option<PathBuf>,
}
