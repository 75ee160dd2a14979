//! `medgrpo generate`: the model's own answers, to conversations here, to benchmark records in [`predict`].

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use burn::tensor::backend::AutodiffBackend;
use medgrpo_model::{
    generate::{GenerationConfig, generate},
    generation_config::read_stop_ids,
    processor::Encoded,
    sampling::Sampling,
    vlm::Vlm as _,
};
use medgrpo_trainers::{
    predict::{decode, stop_ids},
    seed::derive_seed,
    workers::Workers,
};
use serde::Serialize;

use super::inference::{Conversation, Conversations, LastTurn, ResultLines};
use crate::{
    cli::{GenerateArgs, InputArgs, ModelArg},
    device::{Job, run_on, use_threads, workers},
    predict,
    pretrained::{load_model, precision},
};

#[derive(Serialize)]
struct GenerateLine {
    index: usize,
    completions: Vec<CompletionLine>,
}

#[derive(Serialize)]
struct CompletionLine {
    text: String,
    token_ids: Vec<u32>,
    finish_reason: &'static str,
}

struct Generate<'a> {
    args: &'a GenerateArgs,
    model_dir: PathBuf,
    conversations: Conversations,
    config: GenerationConfig,
    workers: Workers,
}

pub(super) fn run(args: &GenerateArgs) -> Result<()> {
    match (&args.data, &args.records.records) {
        (Some(data), _) => answer_conversations(args, data),
        (None, Some(records)) => predict::run(args, records),
        (None, None) => bail!("give --data or --records"),
    }
}

fn answer_conversations(args: &GenerateArgs, data: &Path) -> Result<()> {
    let ModelArg::Dir(model_dir) = args.model.clone() else {
        bail!("--model URL answers --records only; --data needs a checkpoint directory");
    };
    let Some(max_new_tokens) = args.max_new_tokens.of_conversations() else {
        bail!("--max-new-tokens names a task, but conversations have none: give one number");
    };
    use_threads(args.device.threads)?;
    let sampling = Sampling {
        temperature: args.temperature,
        top_p: args.top_p,
        top_k: args.top_k,
        repetition_penalty: args.repetition_penalty,
    };
    if args.num_generations == 0 {
        bail!("--num-generations must be at least 1");
    }
    if !(args.temperature >= 0.0 && args.top_p > 0.0 && args.repetition_penalty > 0.0) {
        bail!("--temperature must not be negative; --top-p and --repetition-penalty must be positive");
    }
    let input = InputArgs { model: model_dir.clone(), data: data.to_owned() };
    let conversations = Conversations::open(&input, LastTurn::Open)?;
    let stop_ids = match read_stop_ids(&model_dir)? {
        Some(ids) => ids,
        None => stop_ids(conversations.preparer.processor.tokenizer()),
    };
    let num_generations = args.num_generations;
    let config = GenerationConfig { num_generations, max_new_tokens, sampling, stop_ids, log_probs: false };
    let workers = workers(&args.device)?;
    run_on(args.device.device, Generate { args, model_dir, conversations, config, workers })
}

impl Job for Generate<'_> {
    type Output = ();

    fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<()> {
        let precision = precision::<B::InnerBackend>(self.args.bf16, device)?;
        let (model, _) =
            load_model::<B::InnerBackend>(&self.model_dir, self.args.adapter.as_deref(), device)?;
        let model = model.with_precision(precision);
        let tokenizer = self.conversations.preparer.processor.tokenizer();
        let answer = |batch: &[Conversation]| -> Result<Vec<GenerateLine>> {
            let prompts: Vec<&Encoded> = batch.iter().map(|conversation| &conversation.prompt).collect();
            let seeds: Vec<u64> = batch
                .iter()
                .map(|conversation| derive_seed(self.args.seed, "completion", conversation.index as u64))
                .collect();
            let answers = generate(&model, &prompts, &seeds, &self.config, device)?;
            let lines = batch.iter().zip(answers).map(|(conversation, completions)| {
                let completions = completions.into_iter().map(|completion| {
                    Ok(CompletionLine {
                        text: decode(tokenizer, &completion)?,
                        finish_reason: completion.finish_reason.as_str(),
                        token_ids: completion.token_ids,
                    })
                });
                Ok(GenerateLine {
                    index: conversation.index,
                    completions: completions.collect::<Result<_>>()?,
                })
            });
            lines.collect()
        };
        let mut lines = ResultLines::new("generate", self.conversations.len());
        self.conversations.for_each_batch(self.args.batch_size, &self.workers, answer, |batch| {
            batch.iter().try_for_each(|line| lines.push(line))
        })?;
        lines.write(&self.args.out)
    }
}
