//! The samples of each step, decoded and tokenised ahead of the device on a thread of their own.

use std::{collections::VecDeque, sync::Arc, thread::JoinHandle};

use medgrpo_datasets::TaskSample;
use serde_json::Value;

use crate::{TrainError, prepare::SamplePreparer, rollout::PreparedSample};

/// An endless, seeded sequence of samples whose place can be saved.
pub trait SampleStream: Send {
    /// The next sample and where it comes from, for messages.
    fn next_sample(&mut self) -> Result<(String, TaskSample), TrainError>;

    /// The place in the sequence: a stream built with it goes on with the sample that would have come next.
    fn state(&self) -> Value;
}

/// What a step trains on.
#[derive(Debug)]
pub struct FedBatch {
    /// The samples that could be prepared.
    pub samples: Vec<PreparedSample>,
    /// Why others were left out; empty unless the run skips bad rows.
    pub skipped: Vec<String>,
    /// The stream's place after this batch.
    pub stream_state: Value,
}

/// A sample, ready or refused, and the stream's place after it.
struct Drawn {
    prepared: Result<PreparedSample, TrainError>,
    place: Value,
}

/// Prepares one step's samples ahead.
pub struct Feeder {
    stream: Box<dyn SampleStream>,
    preparer: Arc<SamplePreparer>,
    num_prompts_per_step: usize,
    skip_bad: bool,
    ready: VecDeque<Drawn>,
    pending: Option<JoinHandle<Vec<Drawn>>>,
}

impl Feeder {
    /// Feeds `num_prompts_per_step` samples a step; with `skip_bad`, samples that cannot be prepared are counted, not fatal.
    pub fn new(
        stream: Box<dyn SampleStream>,
        preparer: Arc<SamplePreparer>,
        num_prompts_per_step: usize,
        skip_bad: bool,
    ) -> Self {
        Self { stream, preparer, num_prompts_per_step, skip_bad, ready: VecDeque::new(), pending: None }
    }

    /// How many samples a step takes.
    pub fn num_prompts_per_step(&self) -> usize {
        self.num_prompts_per_step
    }

    /// The next `count` samples of the stream, less those that are skipped; a step's worth after them starts being prepared
    /// if `more` are wanted.
    pub fn take(&mut self, count: usize, more: bool) -> Result<FedBatch, TrainError> {
        while self.ready.len() < count {
            let missing = count - self.ready.len();
            let drawn = match self.pending.take() {
                Some(pending) => pending,
                None => self.start(missing)?,
            };
            self.ready.extend(drawn.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        if more && self.pending.is_none() && self.ready.len() - count < self.num_prompts_per_step {
            self.pending = Some(self.start(self.num_prompts_per_step)?);
        }
        let mut batch = FedBatch { samples: Vec::new(), skipped: Vec::new(), stream_state: Value::Null };
        for Drawn { prepared, place } in self.ready.drain(..count) {
            batch.stream_state = place;
            match prepared {
                Ok(sample) => batch.samples.push(sample),
                Err(error) if self.skip_bad => batch.skipped.push(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        Ok(batch)
    }

    fn start(&mut self, count: usize) -> Result<JoinHandle<Vec<Drawn>>, TrainError> {
        let draw = |_| self.stream.next_sample().map(|sample| (sample, self.stream.state()));
        let drawn: Vec<((String, TaskSample), Value)> = (0..count).map(draw).collect::<Result<_, _>>()?;
        let preparer = Arc::clone(&self.preparer);
        Ok(std::thread::spawn(move || {
            let (samples, places): (Vec<_>, Vec<_>) = drawn.into_iter().unzip();
            let prepared = preparer.prepare_all(samples).into_iter();
            prepared.zip(places).map(|(prepared, place)| Drawn { prepared, place }).collect()
        }))
    }
}
