//! The samples of each step, decoded and tokenised ahead of the device on a thread of their own.

use std::{sync::Arc, thread::JoinHandle};

use medgrpo_datasets::TaskSample;
use rayon::prelude::*;
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

/// Prepares one batch ahead.
pub struct Feeder {
    stream: Box<dyn SampleStream>,
    preparer: Arc<SamplePreparer>,
    num_prompts_per_step: usize,
    skip_bad: bool,
    pending: Option<JoinHandle<Result<FedBatch, TrainError>>>,
}

impl Feeder {
    /// Feeds `num_prompts_per_step` samples a step; with `skip_bad`, samples that cannot be prepared are counted, not fatal.
    pub fn new(
        stream: Box<dyn SampleStream>,
        preparer: Arc<SamplePreparer>,
        num_prompts_per_step: usize,
        skip_bad: bool,
    ) -> Self {
        Self { stream, preparer, num_prompts_per_step, skip_bad, pending: None }
    }

    /// The next batch; the one after it starts being prepared if `more` are wanted.
    pub fn next_batch(&mut self, more: bool) -> Result<FedBatch, TrainError> {
        let current = match self.pending.take() {
            Some(pending) => pending,
            None => self.start()?,
        };
        if more {
            self.pending = Some(self.start()?);
        }
        current.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn start(&mut self) -> Result<JoinHandle<Result<FedBatch, TrainError>>, TrainError> {
        let drawn: Vec<(String, TaskSample)> =
            (0..self.num_prompts_per_step).map(|_| self.stream.next_sample()).collect::<Result<_, _>>()?;
        let stream_state = self.stream.state();
        let preparer = Arc::clone(&self.preparer);
        let skip_bad = self.skip_bad;
        Ok(std::thread::spawn(move || {
            let prepared: Vec<Result<PreparedSample, TrainError>> =
                drawn.into_par_iter().map(|(origin, sample)| preparer.prepare(origin, sample)).collect();
            let mut batch = FedBatch { samples: Vec::new(), skipped: Vec::new(), stream_state };
            for result in prepared {
                match result {
                    Ok(sample) => batch.samples.push(sample),
                    Err(error) if skip_bad => batch.skipped.push(error.to_string()),
                    Err(error) => return Err(error),
                }
            }
            Ok(batch)
        }))
    }
}
