//! What may be typed after `generate` and `merge-predictions`.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    num::{NonZeroU64, NonZeroUsize},
    path::PathBuf,
    str::FromStr,
};

use clap::{ArgGroup, Args, ValueEnum};
use medgrpo_datasets::TaskKind;

use super::DeviceArgs;

/// Arguments of `generate`.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("input").required(true).args(["data", "records"]))]
pub struct GenerateArgs {
    /// Hugging Face checkpoint directory; with --records also the URL of an OpenAI-compatible API (https://host/v1)
    #[arg(long, value_name = "DIR|URL")]
    pub model: ModelArg,
    /// Low-rank adapter in PEFT's format, for a model in a directory to carry
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// Conversations, one JSON object a line: {"messages": […]}
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Benchmark records and how they are asked
    #[command(flatten)]
    pub records: RecordsArgs,
    /// Result, one JSON object a line: of --data {"index", "completions": [{"text", "token_ids", "finish_reason"}]}, of
    /// --records {"index", "id", "qa_type", "prediction", "finish_reason", "num_tokens"}
    #[arg(long)]
    pub out: PathBuf,
    /// Longest answer in tokens; of --records also by task: 256,stg=512 [default: 256, of --records stg=512]
    #[arg(long, value_name = "N|TASK=N,…", default_value = "", hide_default_value = true)]
    pub max_new_tokens: TokenLimits,
    /// 0 always takes the likeliest token
    #[arg(long, default_value_t = 0.0, conflicts_with = "records", help_heading = SAMPLING)]
    pub temperature: f32,
    /// Sample from the smallest set of tokens with this much probability
    #[arg(long, default_value_t = 1.0, conflicts_with = "records", help_heading = SAMPLING)]
    pub top_p: f32,
    /// Sample from this many tokens; 0 is off
    #[arg(long, default_value_t = 0, conflicts_with = "records", help_heading = SAMPLING)]
    pub top_k: usize,
    /// Penalty on tokens already seen, in prompt or answer
    #[arg(long, default_value_t = 1.0, conflicts_with = "records", help_heading = SAMPLING)]
    pub repetition_penalty: f32,
    /// Answers per conversation
    #[arg(long, default_value_t = 1, conflicts_with = "records", help_heading = SAMPLING)]
    pub num_generations: usize,
    /// Seed of the sampling
    #[arg(long, default_value_t = 0, conflicts_with = "records", help_heading = SAMPLING)]
    pub seed: u64,
    /// Conversations or records at a time
    #[arg(long, default_value_t = 8)]
    pub batch_size: usize,
    /// Compute matrix products in bfloat16, norms and softmax in f32
    #[arg(long)]
    pub bf16: bool,
    /// Device and threads
    #[command(flatten)]
    pub device: DeviceArgs,
}

const SAMPLING: &str = "Sampling (--data; records are answered greedily)";
const RECORDS: &str = "Benchmark records (--records)";
const API: &str = "Model behind an API (--model URL)";

/// Benchmark records and how they are asked.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = RECORDS)]
pub struct RecordsArgs {
    /// MedVidBench records (.json, .json.gz or .jsonl), answered in the official way: greedily, one answer a row
    #[arg(long, value_name = "FILE")]
    pub records: Option<PathBuf>,
    /// Directory of the media; the file's own by default
    #[arg(long, value_name = "DIR", conflicts_with = "data")]
    pub root: Option<PathBuf>,
    /// Solved examples shown before each question: 0 or 1, in a system message, without a clip
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=1), conflicts_with = "data")]
    pub shots: u8,
    /// Records to take the examples from, the first usable one of each qa_type [default: invented ones]
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub shots_from: Option<PathBuf>,
    /// Answer the rows i, i+n, i+2n, … only (0/4 to 3/4 are four shards); `merge-predictions` puts shards together
    #[arg(long, value_name = "i/n", default_value = "0/1", conflicts_with = "data")]
    pub shard: Shard,
    /// Take the first rows of the file only
    #[arg(long, value_name = "N", conflicts_with = "data")]
    pub limit: Option<NonZeroUsize>,
    /// What to do about a row that cannot be asked: for its record, for its media, or because the API refuses it
    #[arg(long, default_value = "error", conflicts_with = "data")]
    pub on_bad_row: OnBadRowArg,
    /// Smaller frames are enlarged to so many pixels
    #[arg(long, value_name = "PIXELS", default_value = "6272", conflicts_with = "data")]
    pub min_pixels: NonZeroU64,
    /// Larger frames are shrunk to so many pixels
    #[arg(long, value_name = "PIXELS", default_value = "37632", conflicts_with = "data")]
    pub max_pixels: NonZeroU64,
    /// Name of the model at the API
    #[arg(long, value_name = "NAME", conflicts_with = "data", help_heading = API)]
    pub model_name: Option<String>,
    /// Environment variable that holds the API's key [default: no key]
    #[arg(long, value_name = "VARIABLE", conflicts_with = "data", help_heading = API)]
    pub api_key_env: Option<String>,
    /// JSON object whose keys are added to every request, replacing ours; null takes one out:
    /// {"max_tokens": null, "max_completion_tokens": 512}
    #[arg(long, value_name = "JSON", conflicts_with = "data", help_heading = API)]
    pub api_body: Option<String>,
    /// Requests in flight at a time [default: 8]
    #[arg(long, value_name = "N", conflicts_with = "data", help_heading = API)]
    pub concurrency: Option<NonZeroUsize>,
}

/// Arguments of `merge-predictions`.
#[derive(Args, Debug)]
pub struct MergePredictionsArgs {
    /// The results of all shards, in any order
    #[arg(required = true, value_name = "SHARD")]
    pub shards: Vec<PathBuf>,
    /// Result, as `generate --records` writes it without shards
    #[arg(long)]
    pub out: PathBuf,
}

/// Where a model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelArg {
    /// In a checkpoint directory.
    Dir(PathBuf),
    /// Behind an OpenAI-compatible API, at this base URL.
    Url(String),
}

impl FromStr for ModelArg {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let is_url = ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme));
        Ok(if is_url { Self::Url(text.trim_end_matches('/').to_owned()) } else { Self::Dir(text.into()) })
    }
}

/// What to do about a row that cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnBadRowArg {
    /// Stop with a message that names it
    Error,
    /// Answer it with an empty text, and count it
    Empty,
}

/// Every `count`-th row from row `index` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// The first row, less than `count`.
    pub index: usize,
    /// Number of shards, at least 1.
    pub count: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, count)) if index < count => Ok(Self { index, count }),
            _ => Err(format!("`{text}` is no shard; of four, say 0/4, 1/4, 2/4 or 3/4")),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// Limits on the length of answers, in tokens, as typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenLimits {
    all: Option<NonZeroUsize>,
    by_task: BTreeMap<TaskKind, NonZeroUsize>,
}

impl TokenLimits {
    /// The official limit.
    const DEFAULT: usize = 256;
    /// Boxes take so many digits that shorter answers lose some of them.
    const DEFAULT_STG: usize = 512;

    /// The limit of one task.
    pub fn of_task(&self, task: TaskKind) -> usize {
        let default = if task == TaskKind::Stg { Self::DEFAULT_STG } else { Self::DEFAULT };
        self.by_task.get(&task).copied().or(self.all).map_or(default, NonZeroUsize::get)
    }

    /// The limit where there are no tasks; `None` if one was typed for a task.
    pub fn of_conversations(&self) -> Option<usize> {
        self.by_task.is_empty().then(|| self.all.map_or(Self::DEFAULT, NonZeroUsize::get))
    }
}

impl FromStr for TokenLimits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut limits = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (task, number) = match part.split_once('=') {
                Some((task, number)) => (Some(task.trim()), number.trim()),
                None => (None, part),
            };
            let number = number
                .parse()
                .map_err(|_| format!("`{number}` is no number of tokens; it must be at least 1"))?;
            let twice = match task {
                None => limits.all.replace(number).is_some(),
                Some(name) => {
                    let task = TaskKind::from_key(name).or_else(|| TaskKind::from_qa_type(name));
                    let task = task.ok_or_else(|| {
                        let keys = TaskKind::BENCHMARK.map(TaskKind::key).join(", ");
                        format!("`{name}` is no task; there are {keys}")
                    })?;
                    limits.by_task.insert(task, number).is_some()
                }
            };
            if twice {
                return Err(format!("`{part}` says again what was said before"));
            }
        }
        Ok(limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_the_official_ones_unless_typed() {
        let limits: TokenLimits = "".parse().unwrap();
        assert_eq!((limits.of_task(TaskKind::Tag), limits.of_task(TaskKind::Stg)), (256, 512));
        assert_eq!(limits.of_conversations(), Some(256));
        let limits: TokenLimits = "100, stg=300,dvc=7".parse().unwrap();
        let tasks = [TaskKind::Tag, TaskKind::Stg, TaskKind::DenseCaptioning];
        assert_eq!(tasks.map(|task| limits.of_task(task)), [100, 300, 7]);
        assert_eq!(limits.of_conversations(), None);
        assert_eq!("64".parse::<TokenLimits>().unwrap().of_task(TaskKind::Stg), 64);
        for bad in ["0", "x", "tag=", "tag=0", "sta=3", "-1", "1,2", "tag=1,tag=2"] {
            assert!(bad.parse::<TokenLimits>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_shard_is_one_of_its_number() {
        assert_eq!("2/3".parse(), Ok(Shard { index: 2, count: 3 }));
        assert_eq!(Shard { index: 2, count: 3 }.to_string(), "2/3");
        for bad in ["3/3", "0/0", "1", "a/b", "-1/2", "1/2/3", ""] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_model_is_a_folder_unless_it_is_a_url() {
        assert_eq!("https://host/v1/".parse(), Ok(ModelArg::Url("https://host/v1".to_owned())));
        assert_eq!("checkpoints/http".parse(), Ok(ModelArg::Dir("checkpoints/http".into())));
    }
}
