//! What `score`, `generate`, `inspect` and `bench` share: a model directory, conversations, and where results go.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result, bail};
use medgrpo_datasets::{Content, Message, Role, read_messages};
use medgrpo_model::processor::{Encoded, Processor};
use medgrpo_trainers::{
    prepare::{SamplePreparer, VideoSampling},
    workers::Workers,
};
use rayon::prelude::*;
use serde::Serialize;

use crate::{cli::InputArgs, progress::Progress, run_dir::write_atomic};

/// A conversation ready for the model.
pub(super) struct Conversation {
    pub(super) index: usize,
    pub(super) prompt: Encoded,
    /// Tokens of the last message, where it is the assistant's and was asked for.
    pub(super) answer: Option<Vec<u32>>,
}

/// What to do with an assistant message at the end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LastTurn {
    /// It is the answer to look at; without one the record is refused.
    Answer,
    /// There must be none: the model answers.
    Open,
}

pub(super) struct Conversations {
    pub(super) preparer: SamplePreparer,
    records: Vec<(usize, String, Vec<Message>, Option<String>)>,
}

impl Conversations {
    /// Reads the processor and all records; media are read later.
    pub(super) fn open(input: &InputArgs, last_turn: LastTurn) -> Result<Self> {
        let preparer = SamplePreparer {
            processor: Arc::new(Processor::from_dir(&input.model)?),
            sampling: VideoSampling::default(),
            max_prompt_tokens: None,
        };
        let mut records = Vec::new();
        for record in read_messages(&input.data)? {
            let record = record?;
            let origin = format!("{}, row {}", input.data.display(), record.index);
            let mut messages = record.messages;
            let answer = match (last_turn, messages.last()) {
                (LastTurn::Answer, Some(last)) if last.role == Role::Assistant => {
                    let text = text_of(last).with_context(|| origin.clone())?;
                    messages.pop();
                    Some(text)
                }
                (LastTurn::Answer, _) => {
                    bail!("{origin}: the last message is not the assistant's; there is nothing to score")
                }
                (LastTurn::Open, Some(last)) if last.role == Role::Assistant => {
                    bail!(
                        "{origin}: the last message is the assistant's; take it out to have it answered anew"
                    )
                }
                (LastTurn::Open, _) => None,
            };
            records.push((record.index, origin, messages, answer));
        }
        if records.is_empty() {
            bail!("{}: holds no record", input.data.display());
        }
        Ok(Self { preparer, records })
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Decodes and tokenises the records batch by batch, puts each batch through `work`, as many side by side as there
    /// are workers, and hands what comes out to `then`, in order.
    pub(super) fn for_each_batch<R: Send>(
        &self,
        size: usize,
        workers: &Workers,
        work: impl Fn(&[Conversation]) -> Result<R> + Sync,
        mut then: impl FnMut(R) -> Result<()>,
    ) -> Result<()> {
        let batches: Vec<_> = self.records.chunks(size.max(1)).collect();
        for batches in batches.chunks(workers.count()) {
            let prepared = batches
                .iter()
                .map(|records| records.par_iter().map(|record| self.prepare(record)).collect())
                .collect::<Result<Vec<Vec<Conversation>>>>()?;
            for done in workers.map(prepared, |batch| work(&batch)) {
                then(done?)?;
            }
        }
        Ok(())
    }

    fn prepare(
        &self,
        (index, origin, messages, answer): &(usize, String, Vec<Message>, Option<String>),
    ) -> Result<Conversation> {
        let (prompt, answer) = self.preparer.encode_prompt(origin, messages, answer.as_deref())?;
        Ok(Conversation { index: *index, prompt, answer })
    }
}

fn text_of(message: &Message) -> Result<String> {
    let parts = message.content.iter().map(|content| match content {
        Content::Text(text) => Ok(text.as_str()),
        Content::Image(_) | Content::Video(_) => bail!("an answer can hold text only"),
    });
    parts.collect()
}

/// Result lines, gathered and written all or not at all.
pub(super) struct ResultLines {
    bytes: Vec<u8>,
    progress: Progress,
    done: usize,
}

impl ResultLines {
    pub(super) fn new(label: &str, total: usize) -> Self {
        Self { bytes: Vec::new(), progress: Progress::start(label, total, "records"), done: 0 }
    }

    pub(super) fn push(&mut self, line: &impl Serialize) -> Result<()> {
        serde_json::to_writer(&mut self.bytes, line)?;
        self.bytes.push(b'\n');
        self.done += 1;
        self.progress.set(self.done);
        Ok(())
    }

    pub(super) fn write(self, path: &Path) -> Result<()> {
        self.progress.finish();
        Ok(write_atomic(path, &self.bytes)?)
    }
}
