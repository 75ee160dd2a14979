//! Who rewards ask: the encoder of sentences and the judge, as the experiment's keys name them.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Result;
use medgrpo_datasets::TaskKind;
use medgrpo_rewards::{
    chat::ChatConfig,
    embed::TextEmbedder,
    judge::{
        self, Budget, FailureLimit, Forecast, Judge, LlmJudge, LlmJudgeConfig, OfflineJudge, Prices, Wording,
    },
};

use super::{Experts, needs, open_embedder};
use crate::config::resolved::{
    Stage,
    rewards::{self, JudgeWording, Rewards},
};

/// Where judgements are kept below a run directory.
const JUDGE_CACHE: &str = "judge-cache";

/// Opens what the rewards of `tasks` need; `run_dir` is where judgements are kept unless the experiment says otherwise.
pub(crate) fn open_experts(config: &Rewards, tasks: &[TaskKind], run_dir: &Path) -> Result<Experts> {
    let needed = |which: fn((bool, bool)) -> bool| tasks.iter().any(|&task| which(needs(config, task)));
    // Dense captions are compared by it as well, where there is one.
    let compares = needed(|(embedder, _)| embedder) || tasks.contains(&TaskKind::DenseCaptioning);
    let judges = needed(|(_, judge)| judge);
    let embedder = match &config.embedder {
        Some(spec) if compares || judges => Some(open_embedder(spec)?),
        _ => None,
    };
    let judge = match &config.judge {
        Some(judge) if judges => Some(stage_judge(judge, embedder.clone(), run_dir)?),
        _ => None,
    };
    Ok(Experts { embedder, judge })
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
    let defaults = LlmJudgeConfig::new(chat, wording(config));
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
fn prices(config: &rewards::LlmJudge) -> Option<Prices> {
    let prices = Prices {
        prompt_per_million: config.price_per_million_prompt_tokens,
        completion_per_million: config.price_per_million_completion_tokens,
    };
    (prices.prompt_per_million + prices.completion_per_million > 0.0).then_some(prices)
}

/// Tokens of a generated and a reference caption together, where nothing is known of them.
const TOKENS_PER_PAIR: u64 = 120;

/// What the judge of a stage is expected to be asked, if `share` of the stage's records are of tasks that it judges.
/// `None` for a stage without an LLM judge.
pub(crate) fn forecast(stage: &Stage, share: f64) -> Option<Forecast> {
    let grpo = stage.recipe.on_policy()?;
    let Some(rewards::Judge::Llm(judge)) = &grpo.rewards.judge else { return None };
    let steps = (stage.trainer.max_steps * stage.trainer.num_prompts_per_step * grpo.num_generations) as f64;
    Some(judge::forecast((steps * share).ceil() as u64, TOKENS_PER_PAIR, wording(judge), prices(judge)))
}

fn wording(judge: &rewards::LlmJudge) -> Wording {
    match judge.wording {
        JudgeWording::Comparative => Wording::Comparative,
        JudgeWording::Absolute => Wording::Absolute,
    }
}
