//! The one place where gradients meet the optimizer: accumulation, clipping by the global norm, AdamW, schedule.

use std::{
    collections::HashSet,
    fs::File,
    path::{Path, PathBuf},
};

use burn::{
    module::{ModuleVisitor, Param, ParamId},
    optim::{
        AdamW, AdamWConfig, GradientsAccumulator, GradientsParams, Optimizer, adaptor::OptimizerAdaptor,
    },
    record::{BinBytesRecorder, FullPrecisionSettings, Record, Recorder},
    tensor::{
        Tensor,
        backend::{AutodiffBackend, Backend},
    },
};

use medgrpo_model::trainable::ModelPart;

use crate::{TrainError, recipe::Policy, schedule::Schedule};

/// AdamW and what is around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearnerConfig {
    /// Learning rate over the steps.
    pub schedule: Schedule,
    /// Highest rate of the vision tower, where it has its own; it rises and falls with the schedule.
    pub vision_lr: Option<f64>,
    /// The same of the merger.
    pub merger_lr: Option<f64>,
    /// Gradients are scaled down to this L2 norm over all parameters; 0 is off.
    pub max_grad_norm: f64,
    /// Decoupled decay of matrices; biases and norms are left alone, as Hugging Face's trainer does.
    pub weight_decay: f64,
    /// Decay of the mean of gradients.
    pub adam_beta1: f64,
    /// Decay of the mean of squared gradients.
    pub adam_beta2: f64,
    /// Added to the denominator.
    pub adam_epsilon: f64,
}

impl LearnerConfig {
    /// Learning rate of a part after `done` steps.
    fn rate(&self, part: ModelPart, done: usize) -> f64 {
        let own = match part {
            ModelPart::VisionTower => self.vision_lr,
            ModelPart::Merger => self.merger_lr,
            ModelPart::LanguageModel => None,
        };
        let rate = self.schedule.rate(done);
        own.map_or(rate, |own| rate * (own / self.schedule.learning_rate))
    }
}

/// Optimizer state and the gradients gathered so far.
pub struct Learner<B: AutodiffBackend, M: Policy<B>> {
    config: LearnerConfig,
    matrices: OptimizerAdaptor<AdamW, M, B>,
    vectors: OptimizerAdaptor<AdamW, M, B>,
    gathered: GradientsAccumulator<M>,
}

/// What one optimizer step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// L2 norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate used, but for parts that have their own.
    pub learning_rate: f64,
}

impl<B: AutodiffBackend, M: Policy<B>> Learner<B, M> {
    /// A learner without history.
    pub fn new(config: LearnerConfig) -> Self {
        let adamw = |weight_decay: f64| {
            AdamWConfig::new()
                .with_beta_1(config.adam_beta1 as f32)
                .with_beta_2(config.adam_beta2 as f32)
                .with_epsilon(config.adam_epsilon as f32)
                .with_weight_decay(weight_decay as f32)
                .init()
        };
        Self {
            config,
            matrices: adamw(config.weight_decay),
            vectors: adamw(0.0),
            gathered: GradientsAccumulator::new(),
        }
    }

    /// Adds the gradients of a micro-batch.
    pub fn accumulate(&mut self, model: &M, gradients: GradientsParams) {
        self.gathered.accumulate(model, gradients);
    }

    /// Changes the model by the gathered gradients, after `done` steps; the gathered gradients are used up.
    ///
    /// # Errors
    /// If the norm is not finite; then the model comes back as it was.
    pub fn step(&mut self, model: M, done: usize) -> (M, Result<StepOutcome, TrainError>) {
        let mut gradients = self.gathered.grads();
        let grad_norm = gradient_norm(&model, &gradients);
        if !grad_norm.is_finite() {
            return (model, Err(TrainError::not_finite(done + 1, "grad_norm", grad_norm)));
        }
        let clip = self.config.max_grad_norm;
        // torch.nn.utils.clip_grad_norm_ adds the same 1e-6.
        let factor = (clip > 0.0 && grad_norm > clip).then(|| clip / (grad_norm + 1e-6));
        let mut model = model;
        for part in ModelPart::ALL {
            let mut split = Split {
                of: model.parameters_of(part).into_iter().collect(),
                gradients: &mut gradients,
                factor,
                matrices: GradientsParams::new(),
                vectors: GradientsParams::new(),
            };
            model.visit(&mut split);
            let Split { matrices, vectors, .. } = split;
            let rate = self.config.rate(part, done);
            model = self.matrices.step(rate, model, matrices);
            model = self.vectors.step(rate, model, vectors);
        }
        (model, Ok(StepOutcome { grad_norm, learning_rate: self.config.schedule.rate(done) }))
    }

    /// Writes the optimizer's state into the folder `dir`.
    pub fn save(&self, dir: &Path) -> Result<(), TrainError> {
        save_record::<B, _>(self.matrices.to_record(), &dir.join(FILES[0]))?;
        save_record::<B, _>(self.vectors.to_record(), &dir.join(FILES[1]))
    }

    /// Takes the state that [`save`](Self::save) wrote.
    pub fn load(mut self, dir: &Path, device: &B::Device) -> Result<Self, TrainError> {
        self.matrices = self.matrices.load_record(load_record::<B, _, _>(&dir.join(FILES[0]), device)?);
        self.vectors = self.vectors.load_record(load_record::<B, _, _>(&dir.join(FILES[1]), device)?);
        Ok(self)
    }
}

/// L2 norm over all parameters of `model`.
pub(crate) fn gradient_norm<B: AutodiffBackend, M: Policy<B>>(model: &M, gradients: &GradientsParams) -> f64 {
    let mut squares = Squares::<B> { gradients, sums: Vec::new() };
    model.visit(&mut squares);
    squares.norm()
}

/// State of the decayed and of the undecayed parameters.
const FILES: [&str; 2] = ["optimizer_matrices.bin", "optimizer_vectors.bin"];

fn checkpoint_error(path: &Path, what: impl std::fmt::Display) -> TrainError {
    TrainError::Checkpoint { path: PathBuf::from(path), message: what.to_string() }
}

/// Writes the states of parameters in the order of their ids: burn's own record has another order in every process, and
/// then equal checkpoints would have unequal sums.
fn save_record<B: Backend, R: Record<B>>(
    states: impl IntoIterator<Item = (ParamId, R)>,
    path: &Path,
) -> Result<(), TrainError> {
    let mut states: Vec<(u64, R)> = states.into_iter().map(|(id, state)| (id.val(), state)).collect();
    states.sort_unstable_by_key(|(id, _)| *id);
    let recorder = BinBytesRecorder::<FullPrecisionSettings>::new();
    let bytes = Recorder::<B>::record(&recorder, states, ())
        .map_err(|error| checkpoint_error(path, format!("optimizer state cannot be serialised: {error}")))?;
    std::fs::write(path, bytes)
        .and_then(|()| File::open(path)?.sync_all())
        .map_err(|error| checkpoint_error(path, error))
}

fn load_record<B: Backend, R: Record<B>, States: FromIterator<(ParamId, R)>>(
    path: &Path,
    device: &B::Device,
) -> Result<States, TrainError> {
    let bytes = std::fs::read(path).map_err(|error| checkpoint_error(path, error))?;
    let states: Vec<(u64, R)> =
        BinBytesRecorder::<FullPrecisionSettings>::new().load(bytes, device).map_err(|error| {
            checkpoint_error(path, format!("holds no optimizer state of this model: {error}"))
        })?;
    Ok(states.into_iter().map(|(id, state)| (ParamId::from(id), state)).collect())
}

/// Sums the squares of all gradients.
struct Squares<'a, B: AutodiffBackend> {
    gradients: &'a GradientsParams,
    sums: Vec<Tensor<B::InnerBackend, 1>>,
}

impl<B: AutodiffBackend> Squares<'_, B> {
    /// One transfer from the device for the whole model.
    fn norm(self) -> f64 {
        if self.sums.is_empty() {
            return 0.0;
        }
        let sums = Tensor::cat(self.sums, 0).into_data().convert::<f32>();
        sums.iter::<f32>().map(f64::from).sum::<f64>().sqrt()
    }
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Squares<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(gradient) = self.gradients.get::<B::InnerBackend, D>(param.id) {
            self.sums.push((gradient.clone() * gradient).sum());
        }
    }
}

/// Moves gradients of some parameters out, scaled, into those of matrices and those of vectors.
struct Split<'a> {
    of: HashSet<ParamId>,
    gradients: &'a mut GradientsParams,
    factor: Option<f64>,
    matrices: GradientsParams,
    vectors: GradientsParams,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Split<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if !self.of.contains(&param.id) {
            return;
        }
        if let Some(gradient) = self.gradients.remove::<B::InnerBackend, D>(param.id) {
            let gradient = self.factor.map_or(gradient.clone(), |factor| gradient.mul_scalar(factor));
            let out = if D > 1 { &mut self.matrices } else { &mut self.vectors };
            out.register::<B::InnerBackend, D>(param.id, gradient);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, path::Path};

    use burn::{backend::Autodiff, module::Module};
    use burn_flex::Flex;
    use medgrpo_model::{
        ModelError,
        checkpoint::Pretrained,
        gradients::gradients,
        group_forward::{Group, LogProbOptions, completion_log_probs},
        lora::{Adaptable, LoraConfig, load_adapter, save_adapter},
        processor::Encoded,
        qwen2_5_vl::Qwen25Vl,
        vlm::Vlm,
    };

    use super::*;
    use crate::schedule::Decay;

    type B = Autodiff<Flex>;
    type Model = Qwen25Vl<B>;

    fn learner() -> Learner<B, Model> {
        Learner::new(LearnerConfig {
            schedule: Schedule {
                learning_rate: 0.01,
                warmup_steps: 0,
                max_steps: 10,
                decay: Decay::Constant,
            },
            vision_lr: None,
            merger_lr: None,
            max_grad_norm: 1.0,
            weight_decay: 0.1,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
        })
    }

    fn train(mut model: Model, learner: &mut Learner<B, Model>, steps: std::ops::Range<usize>) -> Model {
        let prompt = Encoded { input_ids: vec![371, 5, 9, 200, 33], ..Encoded::default() };
        let completions = [vec![7, 8, 372], vec![40, 372]];
        for done in steps {
            // As a trainer does: a view for the pass, whose gradients are the model's own.
            let view = model.clone().with_dropout_seed(Some(done as u64));
            let group = Group { prompt: &prompt, completions: &completions };
            let (gradients, ()) = gradients(&view, |view| {
                let scored =
                    completion_log_probs(view, &[group], LogProbOptions::default(), &Default::default())?;
                Ok::<_, ModelError>((scored.log_probs.sum().neg(), ()))
            })
            .unwrap();
            assert_eq!(gradients.len(), 4, "two layers of q_proj alone");
            learner.accumulate(&model, gradients);
            let outcome;
            (model, outcome) = learner.step(model, done);
            assert!(outcome.unwrap().grad_norm > 0.0);
        }
        model
    }

    fn stored(model: &Model) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        save_adapter(model, "base", dir.path()).unwrap();
        std::fs::read(dir.path().join("adapter_model.safetensors")).unwrap()
    }

    #[test]
    fn an_adapter_goes_on_learning_as_if_it_had_not_been_stored() {
        let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/parity/flat_tied");
        let base = || Model::from_dir(&checkpoint, &Default::default()).unwrap().0;
        let config = LoraConfig {
            r: 2,
            lora_alpha: 4.0,
            lora_dropout: 0.1,
            use_rslora: false,
            target_modules: vec!["q_proj".to_owned()],
            vision: false,
        };
        let mut first = learner();
        let fresh = base().with_lora(&config, 1).unwrap();
        let start = stored(&fresh);
        let model = train(fresh, &mut first, 0..2);
        let dir = tempfile::tempdir().unwrap();
        save_adapter(&model, "base", dir.path()).unwrap();
        first.save(dir.path()).unwrap();
        let straight = stored(&train(model, &mut first, 2..4));

        let mut second = learner().load(dir.path(), &Default::default()).unwrap();
        let resumed = load_adapter(base(), dir.path()).unwrap();
        assert_ne!(stored(&resumed), start);
        assert!(stored(&train(resumed, &mut second, 2..4)) == straight);
        // The optimizer's history matters: without it the same steps end elsewhere.
        let forgetful = load_adapter(base(), dir.path()).unwrap();
        assert!(stored(&train(forgetful, &mut learner(), 2..4)) != straight);
    }

    /// Every parameter's gradient is 1, as AdamW's first step moves everything by the rate then.
    struct Ones<'a>(&'a mut GradientsParams);

    impl ModuleVisitor<B> for Ones<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            self.0.register::<Flex, D>(param.id, param.val().inner().ones_like());
        }
    }

    /// The first number of every parameter.
    #[derive(Default)]
    struct Firsts(HashMap<ParamId, f32>);

    impl ModuleVisitor<B> for Firsts {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            self.0.insert(param.id, param.val().into_data().iter::<f32>().next().unwrap());
        }
    }

    #[test]
    fn parts_have_rates_of_their_own() {
        let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/parity/flat_tied");
        let model = Model::from_dir(&checkpoint, &Default::default()).unwrap().0;
        let config = LearnerConfig {
            vision_lr: Some(0.02),
            merger_lr: Some(0.03),
            max_grad_norm: 0.0,
            weight_decay: 0.0,
            ..learner().config
        };
        let mut learner = Learner::<B, Model>::new(config);
        let mut gradients = GradientsParams::new();
        model.visit(&mut Ones(&mut gradients));
        learner.accumulate(&model, gradients);
        let (mut before, mut after) = (Firsts::default(), Firsts::default());
        model.visit(&mut before);
        let (model, outcome) = learner.step(model, 0);
        assert_eq!(outcome.unwrap().learning_rate, 0.01);
        model.visit(&mut after);
        let mut num_seen = 0;
        for (part, rate) in
            [(ModelPart::VisionTower, 0.02), (ModelPart::Merger, 0.03), (ModelPart::LanguageModel, 0.01)]
        {
            for id in model.parameters_of(part) {
                let moved = before.0[&id] - after.0[&id];
                assert!((moved - rate).abs() < 1e-4, "{part:?}: {moved}");
                num_seen += 1;
            }
        }
        assert_eq!(num_seen, before.0.len(), "every parameter belongs to one part");
    }
}
