//! Laws of the training loop, on a real model: what may not depend on how a step is computed.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Result;
use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Tensor, backend::AutodiffBackend},
};
use medgrpo::device::Job;
use medgrpo_datasets::{Content, Gold, ImageRef, SourceId, TaskKind, TaskSample, read_messages};
use medgrpo_model::{checkpoint::Pretrained, group_gradients::Kept, qwen2_5_vl::Qwen25Vl};
use medgrpo_trainers::{
    TrainError,
    aggregate::Aggregate,
    cut::Limits,
    failure::{Culprit, FailedStep},
    feeder::{Feeder, SampleStream},
    learner::{Learner, LearnerConfig},
    metrics::Metrics,
    objective::Clip,
    prepare::{SamplePreparer, VideoSampling},
    recipe::{Policy, Recipe, Term},
    recipes::sft,
    schedule::{Decay, Schedule},
    trainer::{Flow, LoopConfig, Observer, Stage, StepReport},
    workers::Workers,
};
use serde_json::Value;

use crate::{
    device::{chosen, on_device},
    fixture::{self, Fixture},
};

/// Sequences of a step.
const BATCH: usize = 6;

/// A way to compute one and the same step.
#[derive(Clone, Copy)]
struct Way {
    micro_batch_size: usize,
    max_tokens: Option<usize>,
    workers: usize,
    /// As policy gradient with a constant advantage instead of cross-entropy.
    as_policy_gradient: bool,
    kept: Kept,
}

const PLAIN: Way = Way {
    micro_batch_size: BATCH,
    max_tokens: None,
    workers: 1,
    as_policy_gradient: false,
    kept: Kept::Activations,
};

/// Loss, norm of the gradient, and the parameters afterwards.
#[derive(Debug, PartialEq)]
struct Outcome {
    loss: f64,
    grad_norm: f64,
    parameters: Vec<Vec<f32>>,
}

impl Outcome {
    /// The sums of a step round differently when they are cut differently, and no more than that.
    fn assert_close(&self, other: &Self, what: &str) {
        let loss = (other.loss / self.loss - 1.0).abs();
        println!("{what}: loss {loss:.1e} away (relative)");
        assert!(loss < 1e-5, "{what}");
        self.assert_same_update(other, what);
    }

    fn assert_same_update(&self, other: &Self, what: &str) {
        let norm = (other.grad_norm / self.grad_norm - 1.0).abs();
        let mut worst = 0.0_f64;
        for (ours, theirs) in self.parameters.iter().zip(&other.parameters) {
            for (a, b) in ours.iter().zip(theirs) {
                worst = worst.max(f64::from((a - b).abs()));
            }
        }
        println!("{what}: gradient norm {norm:.1e} away (relative), parameters {worst:.1e}");
        assert!(norm < 1e-5, "{what}");
        assert!(worst < LEARNING_RATE * 1e-3, "{what}: a parameter is {worst:e} away");
    }
}

const LEARNING_RATE: f64 = 1e-2;

#[test]
fn how_a_step_is_cut_and_who_computes_it_changes_nothing() {
    on_device(Laws);
}

struct Laws;

impl Job for Laws {
    type Output = ();

    fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<()> {
        let fixture = Fixture::open("flat_tied");
        let step = |way: Way| one_step::<B>(&fixture, way, device);
        let plain = step(PLAIN)?;
        assert!(plain.grad_norm > 0.0);
        let small = step(Way { micro_batch_size: 1, ..PLAIN })?;
        plain.assert_close(&small, "micro-batches of 1");
        plain.assert_close(&step(Way { micro_batch_size: 4, ..PLAIN })?, "micro-batches of 4");
        for max_tokens in [1, 100, 200] {
            let budget = step(Way { max_tokens: Some(max_tokens), ..PLAIN })?;
            plain.assert_close(&budget, &format!("micro-batches of {max_tokens} tokens"));
        }
        let lean = Way { kept: Kept::LayerInputs, ..PLAIN };
        plain.assert_close(&step(lean)?, "layers run a second time");
        // Cross-entropy and surrogate have the same gradient, not the same value.
        plain.assert_same_update(
            &step(Way { as_policy_gradient: true, ..PLAIN })?,
            "cross-entropy as policy gradient with advantage 1",
        );
        // Where there are workers, not a bit may differ.
        if chosen().takes_workers() {
            for workers in [2, 4] {
                let side_by_side = step(Way { micro_batch_size: 1, workers, ..PLAIN })?;
                assert_eq!(side_by_side, small, "{workers} workers");
            }
            let lean = Way { micro_batch_size: 1, ..lean };
            assert_eq!(step(Way { workers: 2, ..lean })?, step(lean)?, "2 workers, layers run a second time");
        }
        Ok(())
    }
}

fn one_step<B: AutodiffBackend>(fixture: &Fixture, way: Way, device: &B::Device) -> Result<Outcome> {
    let mut watch = Watch::default();
    let model = step_from::<B>(fixture, &fixture.dir, way, &mut watch, device)?;
    let mut parameters = Parameters::default();
    model.visit(&mut parameters);
    let metric = |name: &str| watch.metrics[name];
    Ok(Outcome { loss: metric("loss"), grad_norm: metric("grad_norm"), parameters: parameters.0 })
}

/// A step of the model in `dir` on the fixture's conversations.
fn step_from<B: AutodiffBackend>(
    fixture: &Fixture,
    dir: &Path,
    way: Way,
    watch: &mut Watch,
    device: &B::Device,
) -> Result<Qwen25Vl<B>> {
    let (model, _) = Qwen25Vl::<B>::from_dir(dir, device)?;
    let recipe = if way.as_policy_gradient {
        let objective = Box::new(Clip::default());
        Recipe { terms: vec![Term { weight: 1.0, objective, aggregate: Aggregate::TokenMean }], ..sft() }
    } else {
        sft()
    };
    let schedule =
        Schedule { learning_rate: LEARNING_RATE, warmup_steps: 0, max_steps: 1, decay: Decay::Constant };
    let stream = Conversations::new(fixture);
    let mut stage = Stage {
        recipe,
        reference: None,
        // A large epsilon: the update is then nearly proportional to the gradient, not to its sign.
        learner: Learner::new(LearnerConfig {
            schedule,
            vision_lr: None,
            merger_lr: None,
            max_grad_norm: 0.0,
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1.0,
        }),
        feeder: Feeder::new(Box::new(stream), Arc::new(preparer(fixture)), BATCH, false),
        config: LoopConfig {
            max_steps: 1,
            micro_batch: Limits { max_sequences: way.micro_batch_size, max_tokens: way.max_tokens },
            seed: 0,
            kept: way.kept,
        },
        workers: Arc::new(Workers::new(way.workers, way.workers)?),
        device,
    };
    Ok(stage.run(model, 0, watch)?)
}

#[test]
fn the_first_completion_that_is_not_finite_is_named() {
    on_device(Broken);
}

struct Broken;

impl Job for Broken {
    type Output = ();

    fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<()> {
        let fixture = Fixture::open("flat_untied_bf16_sharded");
        // What the model reads of each record: its prompt, and all of the answer but its end.
        let read: Vec<(&[u32], &[u32])> = fixture
            .records
            .iter()
            .map(|record| (record.prompt.input_ids.as_slice(), &record.answer[..record.answer.len() - 1]))
            .collect();
        let is_elsewhere = |place: usize, id: &u32| {
            let others = read.iter().enumerate().filter(|(other, _)| *other != place);
            let mut others = others.flat_map(|(_, (prompt, answer))| prompt.iter().chain(*answer));
            read[place].0.contains(id) || others.any(|other| other == id)
        };
        let own = |place: usize| read[place].1.iter().copied().find(|id| !is_elsewhere(place, id));
        let (record, id) = (1..read.len()).find_map(|place| Some((place, own(place)?))).unwrap();
        let dir = tempfile::tempdir()?;
        poison(&fixture.dir, dir.path(), id);
        for micro_batch_size in [1, 4, BATCH] {
            let mut watch = Watch::default();
            let way = Way { micro_batch_size, ..PLAIN };
            let error = step_from::<B>(&fixture, dir.path(), way, &mut watch, device).unwrap_err();
            assert!(error.to_string().contains("step 1: loss is NaN"), "{error}");
            let culprit = watch.culprit.unwrap();
            println!("micro-batches of {micro_batch_size}: {culprit:?}");
            assert_eq!((culprit.completion, culprit.what), (Some((record, 0)), "loss"));
            assert!(culprit.sequences.contains(&(record, 0)) && culprit.sequences.len() <= micro_batch_size);
        }
        Ok(())
    }
}

#[test]
fn samples_that_share_a_clip_are_prepared_as_each_alone() {
    let fixture = Fixture::open("flat_tied");
    let preparer = preparer(&fixture);
    let mut samples = Conversations::new(&fixture).samples;
    let own = samples.len();
    let ask_again = |sample: &TaskSample| {
        let mut sample = sample.clone();
        sample.prompt.last_mut().unwrap().content.push(Content::Text(" And why?".to_owned()));
        sample
    };
    samples.extend(samples.iter().map(ask_again).collect::<Vec<_>>());
    let mut gone = samples[0].clone();
    gone.prompt[0].content.push(Content::Image(ImageRef { path: "gone.png".into() }));
    samples.extend([ask_again(&gone), gone]);
    let samples: Vec<(String, TaskSample)> =
        samples.into_iter().enumerate().map(|(at, sample)| (format!("sample {at}"), sample)).collect();
    let (mut num_shared, mut num_bad) = (0, 0);
    for (together, (origin, sample)) in preparer.prepare_all(samples.clone()).into_iter().zip(samples) {
        num_shared += usize::from(sample.clip().is_some());
        match (together, preparer.prepare(origin.clone(), sample)) {
            (Ok(ours), Ok(theirs)) => {
                assert_eq!(ours.origin, origin);
                assert_eq!((ours.prompt, ours.answer_ids), (theirs.prompt, theirs.answer_ids), "{origin}");
            }
            (Err(ours), Err(theirs)) => {
                num_bad += 1;
                assert_eq!(ours.to_string(), theirs.to_string());
                assert!(ours.to_string().contains(&origin), "{ours}");
            }
            (ours, theirs) => panic!("{origin}: {:?} and {:?}", ours.err(), theirs.err()),
        }
    }
    assert!(num_shared > own / 2 && num_bad == 2, "{num_shared} of {own} twice, {num_bad} bad");
}

fn preparer(fixture: &Fixture) -> SamplePreparer {
    SamplePreparer {
        processor: Arc::clone(&fixture.processor),
        sampling: VideoSampling::default(),
        max_prompt_tokens: None,
    }
}

/// Copies a checkpoint in bf16 with an embedding of `id` that is no number.
fn poison(from: &Path, to: &Path, id: u32) {
    let mut num_poisoned = 0;
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let header: Value = serde_json::from_slice(&bytes[8..8 + header_len]).unwrap();
            if let Some(tensor) = header.get("model.embed_tokens.weight") {
                assert_eq!(tensor["dtype"], "BF16");
                let width = tensor["shape"][1].as_u64().unwrap() as usize;
                let start = tensor["data_offsets"][0].as_u64().unwrap() as usize;
                let row = 8 + header_len + start + id as usize * width * 2;
                bytes[row..row + width * 2].as_chunks_mut::<2>().0.fill([0xc0, 0x7f]);
                num_poisoned += 1;
            }
        }
        std::fs::write(to.join(path.file_name().unwrap()), bytes).unwrap();
    }
    assert_eq!(num_poisoned, 1);
}

/// The fixture's conversations as samples to learn from.
struct Conversations {
    samples: Vec<TaskSample>,
    next: usize,
}

impl Conversations {
    fn new(fixture: &Fixture) -> Self {
        let records =
            read_messages(&fixture::root().join(format!("{}.messages.jsonl", fixture.name))).unwrap();
        let samples = records.map(|record| {
            let mut prompt = record.as_ref().unwrap().messages.clone();
            let answer = match prompt.pop().unwrap().content.as_slice() {
                [Content::Text(text)] => text.clone(),
                _ => panic!("an answer is one piece of text"),
            };
            TaskSample {
                row: record.unwrap().index,
                id: String::new(),
                source: SourceId::from("fixture"),
                task: TaskKind::OpenQuestion,
                qa_type: String::new(),
                video_id: String::new(),
                prompt,
                answer: Some(answer),
                gold: Gold::Hidden,
                fps: 1.0,
            }
        });
        Self { samples: samples.collect(), next: 0 }
    }
}

impl SampleStream for Conversations {
    fn next_sample(&mut self) -> Result<(String, TaskSample), TrainError> {
        let sample = self.samples[self.next % self.samples.len()].clone();
        self.next += 1;
        Ok((format!("row {}", sample.row), sample))
    }

    fn state(&self) -> Value {
        self.next.into()
    }
}

/// Keeps the metrics of the last step, or what made it fail.
#[derive(Default)]
struct Watch {
    metrics: Metrics,
    culprit: Option<Culprit>,
}

impl<B: AutodiffBackend, M: Policy<B>> Observer<B, M> for Watch {
    fn on_step(
        &mut self,
        report: &StepReport<'_>,
        _model: &M,
        _learner: &Learner<B, M>,
    ) -> Result<Flow, TrainError> {
        self.metrics = report.metrics.clone();
        Ok(Flow::Continue)
    }

    fn on_failure(
        &mut self,
        failed: &FailedStep<'_>,
        _model: &M,
        _learner: &Learner<B, M>,
    ) -> Result<Option<PathBuf>, TrainError> {
        self.culprit.clone_from(&failed.culprit);
        Ok(None)
    }
}

/// All parameters in the order of the module.
#[derive(Default)]
struct Parameters(Vec<Vec<f32>>);

impl<B: AutodiffBackend> ModuleVisitor<B> for Parameters {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.0.push(param.val().into_data().convert::<f32>().into_vec().unwrap());
    }
}
