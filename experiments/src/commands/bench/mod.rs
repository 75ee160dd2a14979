//! `medgrpo bench`: how long a step takes on this machine, for sizing it and for paired timings.

mod grpo;

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use anyhow::{Result, bail};
use burn::{module::AutodiffModule, tensor::backend::AutodiffBackend};
use medgrpo_datasets::{Content, Message, Role, read_messages};
use medgrpo_model::{
    ModelError,
    checkpoint::Pretrained,
    generate::{GenerationConfig, generate},
    group_forward::{Group, LogProbOptions, completion_log_probs},
    group_gradients::{Kept, completion_gradients},
    processor::{Encoded, Processor},
    qwen2_5_vl::Qwen25Vl,
    sampling::Sampling,
    vlm::Vlm as _,
};
use medgrpo_trainers::{
    learner::{Learner, LearnerConfig},
    prepare::{SamplePreparer, VideoSampling},
    schedule::{Decay, Schedule},
    workers::Workers,
};
use rayon::prelude::*;
use serde::Serialize;

use grpo::GrpoBench;

use crate::{
    cli::{BenchArgs, BenchWhat},
    device::{Job, run_on, use_threads, workers},
    memory::peak_resident_bytes,
    pretrained::precision,
};

/// Times of one kind of work. Tokens are those that go through the model: prompt and answer, or new ones only.
#[derive(Serialize)]
struct BenchResult {
    what: String,
    device: String,
    batch_size: usize,
    median_sec: f64,
    min_sec: f64,
    max_sec: f64,
    tokens_per_step: usize,
    tokens_per_sec: f64,
    /// Median seconds of each phase of a whole step.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    phases_sec: BTreeMap<String, f64>,
    peak_memory_bytes: Option<u64>,
}

/// What is asked, and the answer that is learnt or scored.
#[derive(Clone)]
struct Conversation {
    origin: String,
    messages: Vec<Message>,
    answer: String,
}

struct Bench<'a> {
    args: &'a BenchArgs,
    batch: Vec<(Encoded, Vec<u32>)>,
    workers: Workers,
}

pub(super) fn run(args: &BenchArgs) -> Result<()> {
    if args.batch_size == 0 || args.repetitions == 0 || args.num_generations == 0 || args.seq_len < 4 {
        bail!("--batch-size, --num-generations and --repetitions must be at least 1, --seq-len at least 4");
    }
    if args.max_new_tokens == 0 && matches!(args.what, BenchWhat::Generate | BenchWhat::Grpo) {
        bail!("--max-new-tokens must be at least 1");
    }
    use_threads(args.device.threads)?;
    let preparer = SamplePreparer {
        processor: Arc::new(Processor::from_dir(&args.model)?),
        sampling: VideoSampling::default(),
        max_prompt_tokens: None,
    };
    let conversations = conversations(args, &preparer)?;
    let prepare = || -> Result<Vec<(Encoded, Vec<u32>)>> {
        // In parallel, as the samples of a training step are.
        let prepared = conversations.par_iter().map(|Conversation { origin, messages, answer }| {
            let (prompt, answer) = preparer.encode_prompt(origin, messages, Some(answer))?;
            Ok((prompt, answer.unwrap_or_default()))
        });
        prepared.collect()
    };
    let mut phases_sec = BTreeMap::new();
    let (seconds, tokens) = match args.what {
        BenchWhat::Process => {
            let batch = prepare()?;
            let tokens = batch.iter().map(|(prompt, answer)| prompt.input_ids.len() + answer.len()).sum();
            (time(args.repetitions, || prepare().map(|_| ()))?, tokens)
        }
        BenchWhat::Grpo => {
            let prompts: usize = prepare()?.iter().map(|(prompt, _)| prompt.input_ids.len()).sum();
            let tokens = prompts + args.batch_size * args.num_generations * args.max_new_tokens;
            let workers = workers(&args.device)?;
            let job =
                GrpoBench { args, preparer: preparer.clone(), conversations: conversations.clone(), workers };
            let steps = run_on(args.device.device, job)?;
            for phase in ["time/data", "time/collect", "time/update"] {
                let mut seconds: Vec<f64> = steps.iter().map(|step| step[phase]).collect();
                seconds.sort_by(f64::total_cmp);
                phases_sec.insert(phase.to_owned(), seconds[seconds.len() / 2]);
            }
            (steps.iter().map(|step| step["step_time"]).collect(), tokens)
        }
        _ => run_on(args.device.device, Bench { args, batch: prepare()?, workers: workers(&args.device)? })?,
    };
    report(args, seconds, tokens, phases_sec)
}

/// Conversations to work on: those of the data, repeated as needed, or one of plain text.
fn conversations(args: &BenchArgs, preparer: &SamplePreparer) -> Result<Vec<Conversation>> {
    let Some(data) = &args.data else {
        let filler = " tissue".repeat(args.seq_len);
        let tokenizer = preparer.processor.tokenizer();
        let ids = tokenizer.encode(&filler)?;
        let half = args.seq_len / 2;
        let text =
            |from: usize, to: usize| tokenizer.decode(&ids[from.min(ids.len())..to.min(ids.len())], true);
        let message = Message { role: Role::User, content: vec![Content::Text(text(0, half)?)] };
        let answer = text(half, args.seq_len)?;
        let conversation = Conversation { origin: "bench".to_owned(), messages: vec![message], answer };
        return Ok(vec![conversation; args.batch_size]);
    };
    let mut conversations = Vec::new();
    for record in read_messages(data)? {
        let mut record = record?;
        let origin = format!("{}, row {}", data.display(), record.index);
        match record.messages.pop().map(|last| (last.role, last.content)) {
            Some((Role::Assistant, content)) => match content.as_slice() {
                [Content::Text(answer)] => {
                    let answer = answer.clone();
                    conversations.push(Conversation { origin, messages: record.messages, answer });
                }
                _ => bail!("{origin}: the answer must be one piece of text"),
            },
            _ => bail!("{origin}: the last message is not the assistant's"),
        }
    }
    if conversations.is_empty() {
        bail!("{}: holds no record", data.display());
    }
    Ok(conversations.into_iter().cycle().take(args.batch_size).collect())
}

impl Job for Bench<'_> {
    type Output = (Vec<f64>, usize);

    fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<Self::Output> {
        let precision = precision::<B::InnerBackend>(self.args.bf16, device)?;
        let model = Qwen25Vl::<B>::from_dir(&self.args.model, device)?.0.with_precision(precision);
        let answers: Vec<Vec<Vec<u32>>> = self.batch.iter().map(|(_, answer)| vec![answer.clone()]).collect();
        let groups: Vec<Group<'_>> = self
            .batch
            .iter()
            .zip(&answers)
            .map(|((prompt, _), completions)| Group { prompt, completions })
            .collect();
        let tokens: usize =
            self.batch.iter().map(|(prompt, answer)| prompt.input_ids.len() + answer.len()).sum();
        let repetitions = self.args.repetitions;
        // As training, scoring and sampling do: a part of the batch for each worker.
        let part = groups.len().div_ceil(self.workers.count());
        match self.args.what {
            BenchWhat::Train => {
                let mut model = model;
                let mut learner = Learner::<B, _>::new(learner_config());
                let mut done = 0;
                let seconds = time(repetitions, || {
                    let parts = groups.chunks(part).map(|groups| (model.clone(), groups)).collect();
                    let passes = self.workers.map(parts, |(model, groups): (Qwen25Vl<B>, _)| {
                        let options = LogProbOptions::default();
                        completion_gradients(&model, groups, options, Kept::Activations, device, |scored| {
                            Ok::<_, ModelError>((scored.log_probs.sum().neg(), ()))
                        })
                    });
                    for pass in passes {
                        learner.accumulate(&model, pass?.0);
                    }
                    let (updated, outcome) = learner.step(model.clone(), done);
                    model = updated;
                    outcome?;
                    done += 1;
                    Ok(B::sync(device)?)
                })?;
                Ok((seconds, tokens))
            }
            BenchWhat::Generate => {
                let model = model.valid();
                let prompts: Vec<&Encoded> = groups.iter().map(|group| group.prompt).collect();
                let config = GenerationConfig {
                    num_generations: 1,
                    max_new_tokens: self.args.max_new_tokens,
                    sampling: Sampling::GREEDY,
                    // No stop: every repetition makes the same number of tokens.
                    stop_ids: Vec::new(),
                    log_probs: false,
                };
                let seconds = time(repetitions, || {
                    let parts = prompts.chunks(part).collect();
                    let answers = self.workers.map(parts, |prompts: &[&Encoded]| {
                        generate(&model, prompts, &vec![0; prompts.len()], &config, device)
                    });
                    Ok(answers.into_iter().try_for_each(|answers| answers.map(|_| ()))?)
                })?;
                Ok((seconds, prompts.len() * self.args.max_new_tokens))
            }
            BenchWhat::Forward | BenchWhat::Process | BenchWhat::Grpo => {
                let model = model.valid();
                let seconds = time(repetitions, || {
                    let parts = groups.chunks(part).collect();
                    let scored = self.workers.map(parts, |groups| {
                        completion_log_probs(&model, groups, LogProbOptions::default(), device)
                    });
                    scored.into_iter().try_for_each(|scored| scored.map(|_| ()))?;
                    Ok(B::sync(device)?)
                })?;
                Ok((seconds, tokens))
            }
        }
    }
}

fn learner_config() -> LearnerConfig {
    LearnerConfig {
        schedule: Schedule {
            learning_rate: 1e-6,
            warmup_steps: 0,
            max_steps: usize::MAX,
            decay: Decay::Constant,
        },
        vision_lr: None,
        merger_lr: None,
        max_grad_norm: 1.0,
        weight_decay: 0.01,
        adam_beta1: 0.9,
        adam_beta2: 0.999,
        adam_epsilon: 1e-8,
    }
}

/// Seconds of each repetition, after one that is not counted.
fn time(repetitions: usize, mut work: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    work()?;
    (0..repetitions)
        .map(|_| {
            let started = Instant::now();
            work()?;
            Ok(started.elapsed().as_secs_f64())
        })
        .collect()
}

fn report(
    args: &BenchArgs,
    mut seconds: Vec<f64>,
    tokens: usize,
    phases_sec: BTreeMap<String, f64>,
) -> Result<()> {
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let result = BenchResult {
        what: format!("{:?}", args.what).to_lowercase(),
        device: args.device.device.to_string(),
        batch_size: args.batch_size,
        median_sec: median,
        min_sec: seconds[0],
        max_sec: seconds[seconds.len() - 1],
        tokens_per_step: tokens,
        tokens_per_sec: tokens as f64 / median,
        phases_sec,
        peak_memory_bytes: peak_resident_bytes(),
    };
    if args.json {
        crate::print(&serde_json::to_string(&result)?);
        return Ok(());
    }
    let memory =
        result.peak_memory_bytes.map_or("unknown".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
    crate::print(&format!(
        "{} on {}, batch {}: median {:.4} s (min {:.4}, max {:.4}), {:.0} tokens/s, peak memory {memory}",
        result.what,
        result.device,
        result.batch_size,
        result.median_sec,
        result.min_sec,
        result.max_sec,
        result.tokens_per_sec
    ));
    for (phase, seconds) in &result.phases_sec {
        crate::print(&format!("  {phase}: {seconds:.4} s"));
    }
    Ok(())
}
