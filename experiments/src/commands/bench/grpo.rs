//! Whole GRPO steps through the training loop: sampling, rewards, update.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use anyhow::Result;
use burn::tensor::backend::AutodiffBackend;
use medgrpo_datasets::{Gold, SourceId, TaskKind, TaskSample};
use medgrpo_model::{
    checkpoint::Pretrained, generate::GenerationConfig, group_gradients::Kept, qwen2_5_vl::Qwen25Vl,
    sampling::Sampling, vlm::Vlm as _,
};
use medgrpo_rewards::{Response, Reward, RewardError, Score, compose::normalise::Identity};
use medgrpo_trainers::{
    TrainError,
    cut::Limits,
    failure::FailedStep,
    feeder::{Feeder, SampleStream},
    learner::Learner,
    prepare::SamplePreparer,
    recipes::{GrpoConfig, grpo},
    source::OnPolicy,
    trainer::{Flow, LoopConfig, Observer, Stage, StepReport},
    workers::Workers,
};
use serde_json::Value;

use super::{Conversation, learner_config};
use crate::{cli::BenchArgs, device::Job, pretrained::precision};

/// Steps on prompts that come again and again.
pub(super) struct GrpoBench<'a> {
    pub(super) args: &'a BenchArgs,
    pub(super) preparer: SamplePreparer,
    pub(super) conversations: Vec<Conversation>,
    pub(super) workers: Workers,
}

/// The metrics of each timed step.
pub(super) type Steps = Vec<BTreeMap<String, f64>>;

impl Job for GrpoBench<'_> {
    type Output = Steps;

    fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<Steps> {
        let precision = precision::<B::InnerBackend>(self.args.bf16, device)?;
        let model = Qwen25Vl::<B>::from_dir(&self.args.model, device)?.0.with_precision(precision);
        let workers = Arc::new(self.workers);
        let sequences = self.args.batch_size * self.args.num_generations;
        let source = OnPolicy {
            processor: Arc::clone(&self.preparer.processor),
            generation: GenerationConfig {
                num_generations: self.args.num_generations,
                max_new_tokens: self.args.max_new_tokens,
                sampling: Sampling { temperature: 1.0, ..Sampling::GREEDY },
                // No stop: every completion has the same number of tokens.
                stop_ids: Vec::new(),
                log_probs: false,
            },
            precision: None,
            reward: Arc::new(Letters),
            normaliser: Arc::new(Identity),
            batch: per_worker(sequences.div_ceil(workers.count())),
            workers: Arc::clone(&workers),
        };
        let max_steps = self.args.repetitions + 1;
        let mut stage = Stage {
            recipe: grpo(source, None, &GrpoConfig::default()),
            reference: None,
            learner: Learner::new(learner_config()),
            feeder: Feeder::new(
                Box::new(Prompts { conversations: self.conversations, next: 0 }),
                Arc::new(self.preparer),
                self.args.batch_size,
                false,
            ),
            config: LoopConfig {
                max_steps,
                micro_batch: per_worker(sequences.div_ceil(workers.count()).max(1)),
                seed: 0,
                kept: Kept::Activations,
            },
            workers,
            device,
        };
        let mut watch = Watch::default();
        stage.run(model, 0, &mut watch)?;
        // The first step warms up.
        Ok(watch.0.split_off(1))
    }
}

fn per_worker(max_sequences: usize) -> Limits {
    Limits { max_sequences, max_tokens: None }
}

/// Pays for the share of letters: completions differ in it, whatever the model.
struct Letters;

impl Reward for Letters {
    fn score_group(&self, _: &TaskSample, responses: &[Response<'_>]) -> Result<Vec<Score>, RewardError> {
        let share = |text: &str| {
            let letters = text.chars().filter(|letter| letter.is_alphabetic()).count();
            letters as f32 / text.chars().count().max(1) as f32
        };
        Ok(responses.iter().map(|response| Score::metric(share(response.text))).collect())
    }
}

/// The conversations over and over, without their answers.
struct Prompts {
    conversations: Vec<Conversation>,
    next: usize,
}

impl SampleStream for Prompts {
    fn next_sample(&mut self) -> Result<(String, TaskSample), TrainError> {
        let Conversation { origin, messages, .. } = &self.conversations[self.next % self.conversations.len()];
        let sample = TaskSample {
            row: self.next,
            id: String::new(),
            source: SourceId::from("bench"),
            task: TaskKind::OpenQuestion,
            qa_type: String::new(),
            video_id: String::new(),
            prompt: messages.clone(),
            answer: None,
            gold: Gold::Hidden,
            fps: 1.0,
        };
        self.next += 1;
        Ok((origin.clone(), sample))
    }

    fn state(&self) -> Value {
        self.next.into()
    }
}

#[derive(Default)]
struct Watch(Steps);

impl<B: AutodiffBackend> Observer<B, Qwen25Vl<B>> for Watch {
    fn on_step(
        &mut self,
        report: &StepReport<'_>,
        _: &Qwen25Vl<B>,
        _: &Learner<B, Qwen25Vl<B>>,
    ) -> Result<Flow, TrainError> {
        self.0.push(report.metrics.clone());
        Ok(Flow::Continue)
    }

    fn on_failure(
        &mut self,
        _: &FailedStep<'_>,
        _: &Qwen25Vl<B>,
        _: &Learner<B, Qwen25Vl<B>>,
    ) -> Result<Option<PathBuf>, TrainError> {
        Ok(None)
    }
}
