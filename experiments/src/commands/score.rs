//! `medgrpo score`: how likely the model finds given answers.

use anyhow::Result;
use burn::tensor::backend::AutodiffBackend;
use medgrpo_model::{
    checkpoint::Pretrained,
    group_forward::{Group, LogProbOptions, completion_log_probs},
    qwen2_5_vl::Qwen25Vl,
};
use serde::Serialize;

use super::inference::{Conversations, LastTurn, ResultLines};
use crate::{
    cli::ScoreArgs,
    device::{Job, run_on, use_threads},
};

#[derive(Serialize)]
struct ScoreLine<'a> {
    index: usize,
    token_ids: &'a [u32],
    logprobs: &'a [f32],
}

struct Score<'a> {
    args: &'a ScoreArgs,
    conversations: Conversations,
}

pub(super) fn run(args: &ScoreArgs) -> Result<()> {
    use_threads(args.device.threads)?;
    let conversations = Conversations::open(&args.input, LastTurn::Answer)?;
    run_on(args.device.device, Score { args, conversations })
}

impl Job for Score<'_> {
    type Output = ();

    fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<()> {
        let (model, _) = Qwen25Vl::<B::InnerBackend>::from_dir(&self.args.input.model, device)?;
        let mut lines = ResultLines::new("score", self.conversations.len());
        for batch in self.conversations.batches(self.args.batch_size) {
            let batch = batch?;
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
            for ((conversation, row), answers) in batch.iter().zip(log_probs.chunks(max_len)).zip(&answers) {
                let token_ids = &answers[0];
                lines.push(&ScoreLine {
                    index: conversation.index,
                    token_ids,
                    logprobs: &row[..token_ids.len()],
                })?;
            }
        }
        lines.write(&self.args.out)
    }
}
