//! Made-up micro-batches and groups, and what a loss makes of them.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use burn::{
    backend::Autodiff,
    tensor::{DType, Tensor, TensorData},
};
use burn_flex::Flex;
use medgrpo_datasets::{Gold, Message, SourceId, TaskKind, TaskSample};
use medgrpo_model::processor::Encoded;
use medgrpo_rewards::{Parts, Score};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    advantage::Payment,
    aggregate::{Aggregate, StepTotals},
    loss::{Loss, loss, share},
    loss_mask::LossMask,
    objective::{Level, Metric, Objective, TokenBatch},
    recipe::Term,
    rollout::{PreparedSample, RolloutCompletion, RolloutGroup},
    seed::derive_seed,
};

/// The CPU backend, which computes in whatever precision its tensors have.
pub(crate) type Cpu = Autodiff<Flex>;

/// Random numbers of a test.
pub(crate) struct Noise(ChaCha8Rng);

impl Noise {
    /// Those of the test `name`.
    pub(crate) fn new(name: &str) -> Self {
        let seed = derive_seed(0, name, 0);
        println!("seed {seed}");
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// From -1 to 1.
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0.random_range(-1.0..1.0)
    }

    fn rows(&mut self, dims: [usize; 2], make: impl Fn(f64) -> f64) -> Vec<Vec<f64>> {
        (0..dims[0]).map(|_| (0..dims[1]).map(|_| make(self.uniform())).collect()).collect()
    }
}

/// A micro-batch as plain numbers.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(crate) log_probs: Vec<Vec<f64>>,
    pub(crate) old: Option<Vec<Vec<f64>>>,
    pub(crate) reference: Option<Vec<Vec<f64>>>,
    pub(crate) sampling: Option<Vec<Vec<f64>>>,
    pub(crate) entropy: Vec<Vec<f64>>,
    pub(crate) advantages: Vec<f64>,
    pub(crate) mask: LossMask,
}

impl Rows {
    /// Made up; everything has been moved a little by updates and engines.
    pub(crate) fn random(noise: &mut Noise, lens: &[usize]) -> Self {
        let mask = LossMask::from_lens(lens);
        let dims = mask.dims();
        let log_probs = noise.rows(dims, |it| -1.5 + it);
        let mut near = |size: f64| {
            let moved = noise.rows(dims, |it| it * size);
            Some(zip(&log_probs, &moved, |a, b| a + b))
        };
        let (old, reference, sampling) = (near(0.4), near(0.5), near(0.1));
        let entropy = noise.rows(dims, |it| 1.5 + it);
        let advantages = lens.iter().map(|_| noise.uniform()).collect();
        Self { old, reference, sampling, entropy, advantages, mask, log_probs }
    }

    /// Some of its sequences.
    pub(crate) fn select(&self, sequences: &[usize]) -> Self {
        fn of<T: Clone>(rows: &[T], sequences: &[usize]) -> Vec<T> {
            sequences.iter().map(|sequence| rows[*sequence].clone()).collect()
        }
        let some = |rows: &Option<Vec<Vec<f64>>>| rows.as_ref().map(|rows| of(rows, sequences));
        let mask: Vec<Vec<bool>> = self.mask.rows().map(<[bool]>::to_vec).collect();
        Self {
            log_probs: of(&self.log_probs, sequences),
            old: some(&self.old),
            reference: some(&self.reference),
            sampling: some(&self.sampling),
            entropy: of(&self.entropy, sequences),
            advantages: of(&self.advantages, sequences),
            mask: LossMask::from_rows(&of(&mask, sequences)),
        }
    }

    /// With `count` more tokens on the right that are not learned from, and on which policies differ by `2 · value`.
    pub(crate) fn padded(&self, count: usize, value: f64) -> Self {
        fn pad_with(rows: &[Vec<f64>], count: usize, value: f64) -> Vec<Vec<f64>> {
            rows.iter().map(|row| row.iter().copied().chain(vec![value; count]).collect()).collect()
        }
        let pad = |rows: &[Vec<f64>]| pad_with(rows, count, -value);
        let mask: Vec<Vec<bool>> =
            self.mask.rows().map(|row| row.iter().copied().chain(vec![false; count]).collect()).collect();
        Self {
            log_probs: pad_with(&self.log_probs, count, value),
            old: self.old.as_deref().map(pad),
            reference: self.reference.as_deref().map(pad),
            sampling: self.sampling.as_deref().map(pad),
            entropy: pad(&self.entropy),
            advantages: self.advantages.clone(),
            mask: LossMask::from_rows(&mask),
        }
    }

    /// One sequence of one token, of these log-probabilities under the policy and before, and of this advantage.
    pub(crate) fn token(log_prob: f64, old: f64, advantage: f64) -> Self {
        Self {
            log_probs: vec![vec![log_prob]],
            old: Some(vec![vec![old]]),
            reference: None,
            sampling: None,
            entropy: vec![vec![1.0]],
            advantages: vec![advantage],
            mask: LossMask::from_lens(&[1]),
        }
    }

    /// The totals of a step that is this micro-batch alone.
    pub(crate) fn totals(&self) -> StepTotals {
        StepTotals {
            num_sequences: self.advantages.len(),
            num_tokens: self.mask.num_tokens(),
            num_micro_batches: 1,
        }
    }

    /// As tensors; log-probabilities and entropies ask for their gradients.
    pub(crate) fn batch(&self, dtype: DType) -> TokenBatch<Cpu> {
        let tensor = |rows: &[Vec<f64>]| tensor(&rows.concat(), self.mask.dims(), dtype);
        let log_probs = tensor(&self.log_probs).require_grad();
        TokenBatch {
            old_log_probs: self.old.as_deref().map_or_else(|| log_probs.clone().detach(), tensor),
            ref_log_probs: self.reference.as_deref().map(tensor),
            sampling_log_probs: self.sampling.as_deref().map(tensor),
            entropy: Some(tensor(&self.entropy).require_grad()),
            advantages: crate::testing::tensor(&self.advantages, [self.advantages.len(), 1], dtype),
            mask: self.mask.tensor(dtype, &burn_flex::FlexDevice),
            loss_mask: self.mask.clone(),
            log_probs,
        }
    }
}

/// Numbers as a tensor of this precision.
pub(crate) fn tensor(values: &[f64], dims: [usize; 2], dtype: DType) -> Tensor<Cpu, 2> {
    Tensor::from_data(TensorData::new(values.to_vec(), dims), (&burn_flex::FlexDevice, dtype))
}

/// Numbers of a tensor.
pub(crate) fn numbers<const D: usize>(tensor: Tensor<Flex, D>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().into_vec().unwrap()
}

/// What a loss makes of a micro-batch.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) loss: f64,
    /// With respect to each log-probability.
    pub(crate) gradient: Vec<f64>,
    /// With respect to each entropy.
    pub(crate) entropy_gradient: Vec<f64>,
    pub(crate) metrics: BTreeMap<&'static str, f64>,
}

/// Computes loss, gradients and metrics.
pub(crate) fn outcome(terms: &[Term<Cpu>], rows: &Rows, totals: StepTotals, dtype: DType) -> Outcome {
    let batch = rows.batch(dtype);
    let Loss { loss, mut metrics } = loss(terms, &batch, totals);
    let entropy = batch.entropy.clone().unwrap();
    let metric = Metric { name: "entropy", per: Level::Token, values: entropy.clone().detach() };
    metrics.push((metric.name, share(metric, &batch, totals)));
    let gradients = loss.backward();
    let [sequences, width] = rows.mask.dims();
    let gradient =
        |of: &Tensor<Cpu, 2>| of.grad(&gradients).map_or_else(|| vec![0.0; sequences * width], numbers);
    Outcome {
        gradient: gradient(&batch.log_probs),
        entropy_gradient: gradient(&entropy),
        loss: numbers(loss.inner())[0],
        metrics: metrics.into_iter().map(|(name, value)| (name, numbers(value.inner())[0])).collect(),
    }
}

/// One objective as the whole loss, a sum over tokens.
pub(crate) fn alone(objective: impl Objective<Cpu> + 'static) -> [Term<Cpu>; 1] {
    [Term { weight: 1.0, objective: Box::new(objective), aggregate: Aggregate::SequenceSum }]
}

/// Two tables combined entry by entry.
pub(crate) fn zip(a: &[Vec<f64>], b: &[Vec<f64>], with: impl Fn(f64, f64) -> f64) -> Vec<Vec<f64>> {
    a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| with(*a, *b)).collect()).collect()
}

/// Payments of these totals with two parts, `a` and `b`, of which the second falls as the first rises.
pub(crate) fn payments(groups: &[&[f64]]) -> Vec<Vec<Option<Payment>>> {
    let payment = |total: &f64| {
        let parts = vec![(Cow::Borrowed("a"), *total), (Cow::Borrowed("b"), 1.0 - total * total)];
        Some(Payment { total: *total, parts })
    };
    groups.iter().map(|group| group.iter().map(payment).collect()).collect()
}

/// A group with these `(raw metric, shaped reward)`.
pub(crate) fn scored_group(scores: &[Option<(f32, f32)>]) -> RolloutGroup {
    let completion = |score: &Option<(f32, f32)>| RolloutCompletion {
        token_ids: vec![0],
        text: String::new(),
        truncated: false,
        score: Some(match score {
            Some((raw, value)) => Score::Scored { value: *value, raw: *raw, parts: Parts::new() },
            None => Score::Unscored("the judge is away".to_owned()),
        }),
        sampling_log_probs: None,
        kl: None,
    };
    let sample = asking(0, Vec::new());
    RolloutGroup {
        prepared: PreparedSample {
            sample: Arc::new(sample),
            origin: "row 0".to_owned(),
            prompt: Encoded::default(),
            answer_ids: None,
        },
        completions: scores.iter().map(completion).collect(),
    }
}

/// Question `row`, which no file holds.
pub(crate) fn asking(row: usize, prompt: Vec<Message>) -> TaskSample {
    TaskSample {
        row,
        id: String::new(),
        source: SourceId::from("made up"),
        task: TaskKind::OpenQuestion,
        qa_type: String::new(),
        video_id: String::new(),
        prompt,
        answer: None,
        gold: Gold::Hidden,
        fps: 1.0,
    }
}
