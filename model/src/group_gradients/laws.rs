//! However little is kept, log-probabilities and gradients are those of one pass with everything in one graph.

use std::{collections::BTreeMap, sync::Arc};

use burn::{
    module::AutodiffModule,
    tensor::{Tensor, TensorData},
};

use super::{Kept, completion_gradients};
use crate::{
    ModelError,
    group_forward::{CompletionLogProbs, Group, LogProbOptions, completion_log_probs},
    lora::{Adaptable, LoraConfig, fixture::*, load_adapter},
    precision::Precision,
    qwen2_5_vl::Qwen25Vl,
    trainable::Trainable,
    vlm::Vlm,
};

type Model = Qwen25Vl<Learning>;

/// Two prompts of unequal length, with media, and three ragged completions of each, one of a single token.
struct Batch {
    records: Vec<Record>,
    completions: Vec<Vec<Vec<u32>>>,
}

impl Batch {
    fn new() -> Self {
        let records = records();
        let answers = || records.iter().map(|record| record.answer.clone());
        let first = vec![records[0].answer[..1].to_vec(), records[1].answer.clone(), vec![5, 9, 200]];
        Self { completions: vec![first, answers().collect()], records }
    }

    fn groups(&self) -> Vec<Group<'_>> {
        let groups = self.records[1..].iter().zip(&self.completions);
        groups.map(|(record, completions)| Group { prompt: &record.prompt, completions }).collect()
    }
}

/// All that learns, what does not, and the ways that adapters change it.
fn models() -> Vec<(&'static str, Model)> {
    let adapted = |name| load_adapter(base::<Learning>().0, &adapter_dir(name)).unwrap();
    let mut dropping = adapted("everywhere");
    for (_, projection) in dropping.projections() {
        if let Some(lora) = projection.lora.as_mut() {
            lora.config = Arc::new(LoraConfig { lora_dropout: 0.2, ..(*lora.config).clone() });
        }
    }
    vec![
        ("tied", base::<Learning>().0),
        ("untied", parity::<Learning>("nested_untied_sharded").0),
        (
            "frozen tower",
            base::<Learning>().0.with_trainable(Trainable {
                vision_tower: false,
                merger: false,
                ..Trainable::ALL
            }),
        ),
        ("merger alone", base::<Learning>().0.with_trainable(Trainable { merger: true, ..Trainable::NONE })),
        ("adapter of the language model", adapted("language")),
        ("adapter with dropout", dropping.with_dropout_seed(Some(3))),
    ]
}

/// Bent, so that what is asked differs from token to token, and of entropies too where they are there.
fn loss(scored: &CompletionLogProbs<Learning>) -> Tensor<Learning, 1> {
    let [rows, len] = scored.log_probs.dims();
    let weights: Vec<f32> = (0..rows * len).map(|place| 0.1 + (place % 7) as f32 / 8.0).collect();
    let weights = Tensor::from_data(TensorData::new(weights, [rows, len]), &Default::default());
    let log_probs = scored.log_probs.clone();
    let loss = (log_probs.clone().exp() * weights.clone() - log_probs * weights.clone()).sum();
    match &scored.entropy {
        Some(entropy) => loss + (entropy.clone() * entropy.clone() * weights).sum(),
        None => loss,
    }
}

#[derive(Debug, PartialEq)]
struct Found {
    loss: f32,
    log_probs: Vec<f32>,
    entropy: Option<Vec<f32>>,
    gradients: BTreeMap<String, Vec<f32>>,
}

impl Found {
    fn new(loss: Tensor<Learning, 1>, scored: CompletionLogProbs<Learning>) -> Self {
        Self {
            loss: numbers(loss)[0],
            log_probs: numbers(scored.log_probs),
            entropy: scored.entropy.map(numbers),
            gradients: BTreeMap::new(),
        }
    }

    /// Everything in one graph.
    fn whole(model: &Model, batch: &Batch, options: LogProbOptions) -> Self {
        let mut whole = None;
        let gradients = gradients(model, |view| {
            let scored = completion_log_probs(view, &batch.groups(), options, &Default::default()).unwrap();
            let loss = loss(&scored);
            whole = Some(Self::new(loss.clone(), scored));
            loss
        });
        Self { gradients, ..whole.unwrap() }
    }

    fn staged(model: &Model, batch: &Batch, options: LogProbOptions, kept: Kept) -> Self {
        let (gradients, found) =
            completion_gradients(model, &batch.groups(), options, kept, &Default::default(), |scored| {
                let loss = loss(&scored);
                Ok::<_, ModelError>((loss.clone(), Self::new(loss, scored)))
            })
            .unwrap();
        let named = by_name(model, &gradients);
        assert_eq!(named.len(), gradients.len(), "gradients of nothing but the model's parameters");
        Self { gradients: named, ..found }
    }

    /// Relative L2 distances: of all gradients together, and the largest of any tensor.
    fn distances(&self, other: &Self) -> [f64; 2] {
        assert!(self.gradients.keys().eq(other.gradients.keys()));
        assert_eq!(self.entropy.is_some(), other.entropy.is_some());
        let all = |found: &Self| found.gradients.values().flatten().copied().collect::<Vec<f32>>();
        let gradients = self.gradients.values().zip(other.gradients.values());
        let values =
            [(&self.log_probs, &other.log_probs)].into_iter().chain(self.entropy.iter().zip(&other.entropy));
        let loss = f64::from((self.loss - other.loss).abs() / other.loss.abs());
        let worst = gradients
            .chain(values)
            // Keys' biases shift all scores of a query alike: their gradient is zero but for rounding.
            .filter(|(_, theirs)| theirs.iter().any(|value| value.abs() > 1e-6))
            .map(|(ours, theirs)| relative_l2(ours, wide(theirs)))
            .fold(loss, f64::max);
        [relative_l2(&all(self), wide(&all(other))), worst]
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

fn options() -> [LogProbOptions; 3] {
    let plain = LogProbOptions::default();
    let entropy = LogProbOptions { entropy: true, ..plain };
    [plain, entropy, LogProbOptions { entropy_gradient: true, temperature: 0.7, ..entropy }]
}

#[test]
fn whatever_is_kept_gradients_are_those_of_one_graph() {
    let batch = Batch::new();
    for (name, model) in models() {
        let mut worst = [[0.0_f64; 2]; 3];
        for options in options() {
            let at_once = Found::whole(&model, &batch, options);
            for logits_at_once in [None, Some(1), Some(5)] {
                let options = LogProbOptions { logits_at_once, ..options };
                let whole = Found::whole(&model, &batch, options);
                let found = [
                    // How much sums round that are cut otherwise.
                    (&at_once, 3e-6),
                    (&Found::staged(&model, &batch, options, Kept::Activations), 1e-6),
                    // Layers without a graph use another softmax than those with one.
                    (&Found::staged(&model, &batch, options, Kept::LayerInputs), 1e-5),
                ];
                for ((found, limit), worst) in found.into_iter().zip(&mut worst) {
                    let [all, any] = found.distances(&whole);
                    assert!(all < limit && any < 2.0 * limit, "{name}, {options:?}: {all:.1e}, {any:.1e}");
                    *worst = [worst[0].max(all), worst[1].max(any)];
                }
            }
        }
        let worst = worst.map(|[all, any]| format!("{all:.1e} (worst tensor {any:.1e})"));
        println!("{name}: gradients apart by chunks, stages, second runs of layers: {}", worst.join(", "));
    }
}

#[test]
fn entropies_without_gradient_teach_nothing_and_with_it_something() {
    let (batch, (model, _)) = (Batch::new(), base::<Learning>());
    let [plain, entropy, with_gradient] = options();
    let with_gradient = LogProbOptions { temperature: 1.0, ..with_gradient };
    for logits_at_once in [None, Some(5)] {
        let [plain, entropy, with_gradient] = [plain, entropy, with_gradient].map(|options| {
            let options = LogProbOptions { logits_at_once, ..options };
            Found::staged(&model, &batch, options, Kept::Activations).gradients
        });
        let name = "model.layers.1.mlp.down_proj.weight";
        let distance = |ours: &BTreeMap<String, Vec<f32>>| relative_l2(&ours[name], wide(&plain[name]));
        assert!(distance(&entropy) < 1e-6 && distance(&with_gradient) > 0.1);
    }
}

#[test]
fn scores_without_gradient_do_not_depend_on_the_chunk() {
    let (batch, model) = (Batch::new(), base::<Learning>().0.valid());
    for options in options() {
        let score = |logits_at_once| {
            let options = LogProbOptions { logits_at_once, ..options };
            let scored = completion_log_probs(&model, &batch.groups(), options, &Default::default()).unwrap();
            (numbers(scored.log_probs), scored.entropy.map(numbers).unwrap_or_default())
        };
        let (log_probs, entropies) = score(None);
        for size in [1, 2, 5] {
            let ours = score(Some(size));
            assert!(furthest(&ours.0, wide(&log_probs)) < 1e-5, "{size}");
            assert!(furthest(&ours.1, wide(&entropies)) < 1e-5, "{size}");
        }
    }
}

#[test]
fn side_by_side_passes_give_the_same_bits() {
    let (batch, model) = (Batch::new(), models().pop().unwrap().1);
    let options = LogProbOptions { logits_at_once: Some(3), ..options()[2] };
    for kept in [Kept::Activations, Kept::LayerInputs] {
        let alone = Found::staged(&model, &batch, options, kept);
        std::thread::scope(|scope| {
            let run = || assert!(Found::staged(&model, &batch, options, kept) == alone, "{kept:?}");
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
            assert!(threads.into_iter().all(|thread| thread.join().is_ok()));
        });
    }
}

#[test]
fn an_error_of_the_loss_comes_back() {
    let (batch, (model, _)) = (Batch::new(), base::<Learning>());
    for (kept, logits_at_once) in [(Kept::Activations, None), (Kept::LayerInputs, Some(2))] {
        let options = LogProbOptions { logits_at_once, ..LogProbOptions::default() };
        let refused =
            completion_gradients(&model, &batch.groups(), options, kept, &Default::default(), |_| {
                Err::<(Tensor<Learning, 1>, ()), _>(ModelError::Input("no loss today".to_owned()))
            });
        assert!(refused.unwrap_err().to_string().contains("no loss today"));
    }
}

/// Gradients for all that learns, in the parameters' own format, and off by what bfloat16 rounds: up to a tenth where a tower
/// learns, as torch's are (`lora/golden.rs`), twice that with dropout, which scales what is left.
#[test]
fn bfloat16_is_off_by_its_own_rounding_however_little_is_kept() {
    let batch = Batch::new();
    for (name, model) in models() {
        let options = LogProbOptions { entropy: true, ..LogProbOptions::default() };
        let exact = Found::whole(&model, &batch, options);
        let rounding = model.with_precision(Precision::Bf16);
        for kept in [Kept::Activations, Kept::LayerInputs] {
            let found = Found::staged(&rounding, &batch, options, kept);
            let [gradients, _] = found.distances(&exact);
            let log_probs = relative_l2(&found.log_probs, wide(&exact.log_probs));
            println!("{name}, {kept:?}: log-probabilities {log_probs:.1e} away, gradients {gradients:.1e}");
            assert!((1e-3..2e-2).contains(&log_probs), "{name}: {log_probs}");
            assert!((1e-3..0.2).contains(&gradients), "{name}: {gradients}");
        }
    }
}
