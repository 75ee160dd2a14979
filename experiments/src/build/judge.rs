//! Who judges captions in an evaluation, by what the user names.

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail};
use medgrpo_rewards::{
    chat::ChatConfig,
    embed::TextEmbedder,
    judge::{Judge, LlmJudge, LlmJudgeConfig, OfflineJudge, ReplayJudge, ReplyRules, Wording},
    leaderboard::Rules,
};

/// What the user says about a judge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JudgeSpec<'a> {
    /// `none`, `offline`, `replay:FILE`, or the address of an API up to and with the version.
    pub(crate) judge: &'a str,
    /// The model at that address.
    pub(crate) model: Option<&'a str>,
    /// The environment variable that holds the key.
    pub(crate) key_env: Option<&'a str>,
    /// The folder where judgements are kept.
    pub(crate) cache: Option<&'a PathBuf>,
}

/// Opens a judge for an evaluation: recorded replies are read as the rules of the evaluation read them, a model is asked
/// for scores by fixed anchors, as the leaderboard asks.
pub(crate) fn open_judge(
    spec: JudgeSpec<'_>,
    rules: Rules,
    embedder: Option<&Arc<dyn TextEmbedder>>,
) -> Result<Option<Box<dyn Judge>>> {
    let judge = spec.judge;
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
    if !(judge.starts_with("http://") || judge.starts_with("https://")) {
        bail!("--judge {judge}: expected none, offline, replay:FILE, or an address that starts with http");
    }
    let Some(model) = spec.model else {
        bail!("--judge {judge}: which model there? Name it with --judge-model");
    };
    let mut chat = ChatConfig::new(judge, model);
    chat.api_key_env = spec.key_env.map(str::to_owned);
    let mut config = LlmJudgeConfig::new(chat, Wording::Absolute);
    config.cache = spec.cache.cloned();
    Ok(Some(Box::new(LlmJudge::new(config)?)))
}
