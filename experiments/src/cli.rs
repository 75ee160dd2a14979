//! The command line: what may be typed.

#![expect(clippy::doc_markdown, reason = "these texts are printed by --help, where backticks are noise")]

mod compare;
mod eval;

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use compare::CompareArgs;
pub use eval::{EvalArgs, JudgeArgs, RulesArg, SubmitArgs};

use crate::device::Device;

mod generate;
mod replay;

pub use replay::ReplayArgs;

pub use generate::{
    GenerateArgs, MergePredictionsArgs, ModelArg, OnBadRowArg, RecordsArgs, Shard, TokenLimits,
};

/// Fine-tune vision-language models on medical video: SFT, GRPO and their kin, as TOML files.
#[derive(Debug, Parser)]
#[command(name = "medgrpo", version, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Validate an experiment: config, data, model directory and token counts, without loading weights
    Check(CheckArgs),
    /// Run an experiment, or go on with one
    Train(TrainArgs),
    /// Measure a model's rewards: the table that normalizations look datasets and tasks up in
    Calibrate(CalibrateArgs),
    /// Log-probabilities of each conversation's last answer
    Score(ScoreArgs),
    /// Answer conversations, or the records of a benchmark file
    Generate(GenerateArgs),
    /// Put the shards of `generate --records` together in the order of the file
    MergePredictions(MergePredictionsArgs),
    /// Put a low-rank adapter into the weights of the model it belongs on
    Merge(MergeArgs),
    /// Write what the model sees of each conversation: ids, positions, pixels
    Inspect(InspectArgs),
    /// Time forward passes, training steps, generation or preprocessing
    Bench(BenchArgs),
    /// What another recipe would make of a run's recorded completions: advantages, losses and weights in the gradient,
    /// without a model
    Replay(ReplayArgs),
    /// Finished runs side by side: variants over their seeds, with intervals and curves
    Compare(CompareArgs),
    /// What answers are worth: the ten numbers of the leaderboard, by its rules or strict ones
    Eval(EvalArgs),
    /// Write or look through a file for the leaderboard
    Submit(SubmitArgs),
    /// Make and look at data
    #[command(subcommand)]
    Data(DataCommand),
    /// Try rewards on records, and compute them again over stored rollouts
    #[command(subcommand)]
    Rewards(RewardsCommand),
}

/// Where to compute and how much of the machine to use.
#[derive(Args, Clone, Copy, Debug)]
pub struct DeviceArgs {
    /// cpu, wgpu, cuda:N or tch (the CPU through an installed PyTorch)
    #[arg(long, default_value = "cpu")]
    pub device: Device,
    /// Threads; 0 takes all cores
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Batches computed side by side on the CPU, which share the threads; results stay the same (on tch: while threads
    /// divided by workers do), memory grows
    /// [default: as many as threads, at most 4]
    #[arg(long)]
    pub workers: Option<NonZeroUsize>,
}

/// A model and conversations for it.
#[derive(Args, Clone, Debug)]
pub struct InputArgs {
    /// Hugging Face checkpoint directory
    #[arg(long)]
    pub model: PathBuf,
    /// Conversations, one JSON object a line: {"messages": […]}
    #[arg(long)]
    pub data: PathBuf,
}

/// Arguments of `check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// The experiment
    pub config: PathBuf,
    /// Override a key: --set stage.0.trainer.max_steps=10
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Device and threads that the forecast of memory is for
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Arguments of `train`.
#[derive(Args, Debug)]
pub struct TrainArgs {
    /// The experiment
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    pub config: Option<PathBuf>,
    /// Override a key: --set stage.0.trainer.max_steps=10
    #[arg(long = "set", value_name = "KEY=VALUE", conflicts_with = "resume")]
    pub overrides: Vec<String>,
    /// Run directory
    #[arg(long, conflicts_with = "resume")]
    pub out: Option<PathBuf>,
    /// Go on with this run directory from its last checkpoint
    #[arg(long, value_name = "DIR")]
    pub resume: Option<PathBuf>,
    /// Show the run on the whole terminal: curves, signals, alarms and a sampled completion
    #[arg(long)]
    pub dashboard: bool,
    /// Device and threads
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Arguments of `calibrate`.
#[derive(Args, Debug)]
pub struct CalibrateArgs {
    /// The experiment that will train on these rewards
    pub config: PathBuf,
    /// Table to write, JSON; its picture goes beside it as SVG
    #[arg(long)]
    pub out: PathBuf,
    /// Checkpoint directory of the model to measure [default: the experiment's model]
    #[arg(long, conflicts_with = "rollouts")]
    pub model: Option<PathBuf>,
    /// Measure nothing: take the completions that a run has stored
    #[arg(long, value_name = "ROLLOUTS.jsonl")]
    pub rollouts: Option<PathBuf>,
    /// Stage whose rewards are measured [default: the first one with a calibrated normalization]
    #[arg(long)]
    pub stage: Option<String>,
    /// Split of data.eval to measure on [default: the training records]
    #[arg(long, conflicts_with = "rollouts")]
    pub split: Option<String>,
    /// Override a key: --set stage.1.recipe.num_generations=4
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Device and threads
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Arguments of `score`.
#[derive(Args, Debug)]
pub struct ScoreArgs {
    /// Model and conversations
    #[command(flatten)]
    pub input: InputArgs,
    /// Low-rank adapter in PEFT's format, for the model to carry
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// Result, one JSON object a line: {"index", "token_ids", "logprobs"}
    #[arg(long)]
    pub out: PathBuf,
    /// Conversations at a time
    #[arg(long, default_value_t = 8)]
    pub batch_size: usize,
    /// Compute matrix products in bfloat16, norms and softmax in f32
    #[arg(long)]
    pub bf16: bool,
    /// Device and threads
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Arguments of `merge`.
#[derive(Args, Debug)]
pub struct MergeArgs {
    /// Hugging Face checkpoint directory of the model below the adapter
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Adapter in PEFT's format
    #[arg(long, value_name = "DIR")]
    pub adapter: PathBuf,
    /// Checkpoint directory to make, in the number format of the model
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Arguments of `inspect`.
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// Model and conversations
    #[command(flatten)]
    pub input: InputArgs,
    /// Result: a safetensors file with {i}.input_ids, {i}.position_ids, {i}.pixel_values, …
    #[arg(long)]
    pub out: PathBuf,
}

/// What `bench` times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchWhat {
    /// Log-probabilities of the answers, without gradients
    Forward,
    /// Forward, backward and optimizer step
    Train,
    /// Answers of `max_new_tokens` tokens
    Generate,
    /// Whole GRPO steps: `num_generations` answers of `max_new_tokens` tokens to each prompt, rewards, update
    Grpo,
    /// Decoding, resizing and tokenising
    Process,
}

/// Arguments of `bench`.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// Hugging Face checkpoint directory
    #[arg(long)]
    pub model: PathBuf,
    /// What to time
    #[arg(long)]
    pub what: BenchWhat,
    /// Conversations with answers, one JSON object a line; without it, text of `seq_len` tokens
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Sequences at a time
    #[arg(long, default_value_t = 4)]
    pub batch_size: usize,
    /// Tokens per sequence where no data is given
    #[arg(long, default_value_t = 256)]
    pub seq_len: usize,
    /// Tokens to generate
    #[arg(long, default_value_t = 64)]
    pub max_new_tokens: usize,
    /// Answers to each prompt of a GRPO step
    #[arg(long, default_value_t = 8)]
    pub num_generations: usize,
    /// Timed repetitions, after one to warm up
    #[arg(long, default_value_t = 5)]
    pub repetitions: usize,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Compute matrix products in bfloat16, norms and softmax in f32
    #[arg(long)]
    pub bf16: bool,
    /// Device and threads
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Verbs on data.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Render a practice set: scenes with exact ground truth for all eight tasks
    Synth(SynthArgs),
    /// List every bad row of a MedVidBench file
    Check(DataCheckArgs),
}

/// Arguments of `data synth`.
#[derive(Args, Debug)]
pub struct SynthArgs {
    /// Folder to make
    #[arg(long)]
    pub out: PathBuf,
    /// Seed of everything in it
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Number of clips
    #[arg(long, default_value_t = 200)]
    pub clips: usize,
}

/// Arguments of `data check`.
#[derive(Args, Debug)]
pub struct DataCheckArgs {
    /// The records (.json, .json.gz or .jsonl)
    pub file: PathBuf,
    /// Directory of the media; the file's own by default
    #[arg(long)]
    pub root: Option<PathBuf>,
    /// Leave the media alone
    #[arg(long)]
    pub no_media: bool,
}

/// Verbs on rewards.
#[derive(Debug, Subcommand)]
pub enum RewardsCommand {
    /// What a stage's reward pays for gold, nothing, half answers and tricks, over its training records. Exit code 1 if it
    /// pays what it should not
    Check(RewardsCheckArgs),
    /// Compute the rewards of a run's stored rollouts again, without a model
    Rescore(RescoreArgs),
}

/// Arguments of `rewards check`.
#[derive(Args, Debug)]
pub struct RewardsCheckArgs {
    /// The experiment
    #[arg(long)]
    pub config: PathBuf,
    /// Override a key: --set stage.1.recipe.rewards.format_factor=0.5
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Which stage's reward, from 0 [default: the last one with a reward]
    #[arg(long)]
    pub stage: Option<usize>,
    /// Records of each task of each file, spread evenly; 0 takes all
    #[arg(long, default_value_t = 200)]
    pub limit: usize,
    /// Share of a task's records in which a trick may beat a half-right answer by chance
    #[arg(long, default_value_t = 0.05)]
    pub max_beaten_share: f64,
    /// Least raw metric of a gold answer; lower it for a judge whose praise wavers
    #[arg(long, default_value_t = 0.999)]
    pub min_gold_metric: f32,
    /// Table and findings as JSON
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// Arguments of `rewards rescore`.
#[derive(Args, Debug)]
pub struct RescoreArgs {
    /// The run directory
    pub run: PathBuf,
    /// Experiment with the reward to compute [default: the run's own]
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Override a key of that experiment: --set stage.1.recipe.rewards.format_factor=0.5
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Which stage's reward, from 0 [default: the stage of the rollout; of another experiment the last one with a reward]
    #[arg(long)]
    pub stage: Option<usize>,
    /// The rollouts with their new rewards, one group a line
    #[arg(long)]
    pub out: Option<PathBuf>,
}
