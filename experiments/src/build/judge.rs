//! Who judges captions in an evaluation, by what the user names.

use std::{
    fs,
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use medgrpo_rewards::{
    chat::ChatConfig,
    embed::TextEmbedder,
    judge::{Judge, LlmJudge, LlmJudgeConfig, OfflineJudge, ReplayJudge, ReplyRules, Wording},
    leaderboard::Rules,
};

use crate::cli::JudgeArgs;

/// Opens a judge for an evaluation: recorded replies are read as the rules of the evaluation read them, a model is asked
/// for scores by fixed anchors, as the leaderboard asks.
pub(crate) fn open_judge(
    args: &JudgeArgs,
    rules: Rules,
    embedder: Option<&Arc<dyn TextEmbedder>>,
) -> Result<Option<Box<dyn Judge>>> {
    let judge = args.judge.as_str();
    let is_address = judge.starts_with("http://") || judge.starts_with("https://");
    let for_an_address = [
        ("--judge-model", args.judge_model.is_some()),
        ("--judge-key-env", args.judge_key_env.is_some()),
        ("--judge-cache", args.judge_cache.is_some()),
        ("--judge-transcript", args.judge_transcript.is_some()),
        ("--judge-concurrency", args.judge_concurrency.is_some()),
        ("--judge-requests-per-minute", args.judge_requests_per_minute.is_some()),
        ("--judge-tokens-per-minute", args.judge_tokens_per_minute.is_some()),
    ];
    if let (false, Some((option, _))) = (is_address, for_an_address.iter().find(|(_, given)| *given)) {
        bail!("{option} is for a judge at an address, and --judge is {judge}");
    }
    if judge == "none" {
        return Ok(None);
    }
    if judge == "offline" {
        return Ok(Some(Box::new(OfflineJudge::new(embedder.cloned()))));
    }
    if let Some(file) = judge.strip_prefix("replay:") {
        let text = fs::read_to_string(file).with_context(|| file.to_owned())?;
        let reply_rules = match rules {
            Rules::Official => ReplyRules::Official,
            Rules::Strict => ReplyRules::Strict,
        };
        let replay = ReplayJudge::from_text(&text, reply_rules).with_context(|| file.to_owned())?;
        return Ok(Some(Box::new(replay)));
    }
    if !is_address {
        bail!("--judge {judge}: expected none, offline, replay:FILE, or an address that starts with http");
    }
    let Some(model) = &args.judge_model else {
        bail!("--judge {judge}: which model there? Name it with --judge-model");
    };
    let chat = ChatConfig {
        api_key_env: args.judge_key_env.clone(),
        max_concurrency: args.judge_concurrency.map_or(16, NonZeroUsize::get),
        requests_per_minute: args.judge_requests_per_minute.map(NonZeroU32::get),
        tokens_per_minute: args.judge_tokens_per_minute.map(NonZeroU32::get),
        ..ChatConfig::new(judge, model)
    };
    let config = LlmJudgeConfig {
        cache: args.judge_cache.clone(),
        transcript: args.judge_transcript.clone(),
        ..LlmJudgeConfig::new(chat, Wording::Absolute)
    };
    Ok(Some(Box::new(LlmJudge::new(config)?)))
}
