//! Who rewards ask: the encoder of sentences and the judge, as the experiment's keys name them.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Result;
use medgrpo_datasets::TaskKind;
use medgrpo_rewards::{
    chat::ChatConfig,
    embed::{HashedWords, TextEmbedder},
    judge::{Budget, FailureLimit, Judge, LlmJudge, LlmJudgeConfig, OfflineJudge, Prices, Wording},
};

use super::{Experts, needs, open_embedder};
use crate::config::resolved::rewards::{self, JudgeWording, Rewards};

/// The name of the embedder that needs no files.
const LEXICAL: &str = "lexical";
/// Where judgements are kept below a run directory.
const JUDGE_CACHE: &str = "judge-cache";

/// Opens what the rewards of `tasks` need; `run_dir` is where judgements are kept unless the experiment says otherwise.
pub(crate) fn open_experts(config: &Rewards, tasks: &[TaskKind], run_dir: &Path) -> Result<Experts> {
    let needed = |which: fn((bool, bool)) -> bool| tasks.iter().any(|&task| which(needs(config, task)));
    // Dense captions are compared by it as well, where there is one.
    let compares = needed(|(embedder, _)| embedder) || tasks.contains(&TaskKind::DenseCaptioning);
    let judges = needed(|(_, judge)| judge);
    let embedder = match &config.embedder {
        Some(spec) if compares || judges => Some(embedder(spec)?),
        _ => None,
    };
    let judge = match &config.judge {
        Some(judge) if judges => Some(stage_judge(judge, embedder.clone(), run_dir)?),
        _ => None,
    };
    Ok(Experts { embedder, judge })
}

/// The embedder of a config or a command line.
pub(crate) fn embedder(spec: &str) -> Result<Arc<dyn TextEmbedder>> {
    if spec == LEXICAL { Ok(Arc::new(HashedWords::default())) } else { open_embedder(spec) }
}

/// The judge of a config. What it tells of itself stands in every report.
fn stage_judge(
    config: &rewards::Judge,
    embedder: Option<Arc<dyn TextEmbedder>>,
    run_dir: &Path,
) -> Result<Arc<dyn Judge>> {
    Ok(match config {
        rewards::Judge::Offline {} => Arc::new(OfflineJudge::new(embedder)),
        rewards::Judge::Llm(config) => Arc::new(LlmJudge::new(llm_judge(config, run_dir))?),
    })
}

fn llm_judge(config: &rewards::LlmJudge, run_dir: &Path) -> LlmJudgeConfig {
    let unless_zero = |limit: u32| (limit > 0).then_some(limit);
    let chat = ChatConfig {
        api_key_env: config.api_key_env.clone(),
        max_concurrency: config.max_concurrency,
        requests_per_minute: unless_zero(config.requests_per_minute),
        tokens_per_minute: unless_zero(config.tokens_per_minute),
        timeout: Duration::from_secs_f64(config.timeout_sec),
        deadline: Duration::from_secs_f64(config.deadline_sec),
        max_retries: config.max_retries,
        ..ChatConfig::new(&config.base_url, &config.model)
    };
    let wording = match config.wording {
        JudgeWording::Comparative => Wording::Comparative,
        JudgeWording::Absolute => Wording::Absolute,
    };
    let defaults = LlmJudgeConfig::new(chat, wording);
    LlmJudgeConfig {
        cache: Some(config.cache.clone().unwrap_or_else(|| run_dir.join(JUDGE_CACHE))),
        transcript: config.transcript.clone(),
        failures: FailureLimit { max_share: config.max_failure_share, ..defaults.failures },
        budget: Budget {
            prices: prices(config),
            max_spend: (config.max_spend > 0.0).then_some(config.max_spend),
        },
        ..defaults
    }
}

/// What its tokens cost, where the config tells.
pub(crate) fn prices(config: &rewards::LlmJudge) -> Option<Prices> {
    let prices = Prices {
        prompt_per_million: config.price_per_million_prompt_tokens,
        completion_per_million: config.price_per_million_completion_tokens,
    };
    (prices.prompt_per_million + prices.completion_per_million > 0.0).then_some(prices)
}
