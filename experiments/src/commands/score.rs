//! `medgrpo score`: how likely the model finds given answers.

use anyhow::Result;
use burn::tensor::backend::AutodiffBackend;
use medgrpo_model::{
    group_forward::{Group, LogProbOptions, completion_log_probs},
    vlm::Vlm as _,
};
use medgrpo_trainers::workers::Workers;
use serde::Serialize;

use super::inference::{Conversation, Conversations, LastTurn, ResultLines};
use crate::{
    cli::ScoreArgs,
    device::{Job, run_on, use_threads, workers},
    pretrained::{load_model, precision},
};

#[derive(Serialize)]
struct ScoreLine {
    index: usize,
    token_ids: Vec<u32>,
    logprobs: Vec<f32>,
}

struct Score<'a> {
    args: &'a ScoreArgs,
    conversations: Conversations,
    workers: Workers,
}

pub(super) fn run(args: &ScoreArgs) -> Result<()> {
    use_threads(args.device.threads)?;
    let conversations = Conversations::open(&args.input, LastTurn::Answer)?;
    let workers = workers(&args.device)?;
    run_on(args.device.device, Score { args, conversations, workers })
}

impl Job for Score<'_> {
    type Output = ();

    fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<()> {
        let precision = precision::<B::InnerBackend>(self.args.bf16, device)?;
        let (model, _) =
            load_model::<B::InnerBackend>(&self.args.input.model, self.args.adapter.as_deref(), device)?;
        let model = model.with_precision(precision);
        let score = |batch: &[Conversation]| -> Result<Vec<ScoreLine>> {
            let answers: Vec<Vec<Vec<u32>>> = batch
                .iter()
                .map(|conversation| vec![conversation.answer.clone().unwrap_or_default()])
                .collect();
            let groups: Vec<Group<'_>> = batch
                .iter()
                .zip(&answers)
                .map(|(conversation, completions)| Group { prompt: &conversation.prompt, completions })
                .collect();
            let scored = completion_log_probs(&model, &groups, LogProbOptions::default(), device)?;
            let [_, max_len] = scored.log_probs.dims();
            let log_probs: Vec<f32> = scored
                .log_probs
                .into_data()
                .convert::<f32>()
                .into_vec()
                .expect("converted to f32 just before");
            let rows = batch.iter().zip(log_probs.chunks(max_len)).zip(answers);
            Ok(rows
                .map(|((conversation, row), mut answers)| {
                    let token_ids = answers.swap_remove(0);
                    let logprobs = row[..token_ids.len()].to_vec();
                    ScoreLine { index: conversation.index, token_ids, logprobs }
                })
                .collect())
        };
        let mut lines = ResultLines::new("score", self.conversations.len());
        self.conversations.for_each_batch(self.args.batch_size, &self.workers, score, |batch| {
            batch.iter().try_for_each(|line| lines.push(line))
        })?;
        lines.write(&self.args.out)
    }
}
