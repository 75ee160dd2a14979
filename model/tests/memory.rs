//! What a pass is predicted to take is what it takes: every allocation of the process is counted. With the feature `flex`
//! that is of operations of our own, without it of composed ones.

use std::path::Path;

use burn::{
    backend::Autodiff,
    module::{AutodiffModule, Module, ModuleVisitor, Param},
    tensor::Tensor,
};
use burn_flex::Flex;
use medgrpo_model::{
    ModelError,
    generate::{GenerationConfig, generate},
    group_forward::{CompletionLogProbs, Group, LogProbOptions},
    group_gradients::{Kept, completion_gradients},
    lora::{Adaptable, LoraConfig},
    memory::{Habits, MediaShape, ModelShape, PassShape},
    processor::{Encoded, GridThw, Patches},
    qwen2_5_vl::{Qwen25Vl, Qwen25VlConfig},
    sampling::Sampling,
    trainable::Trainable,
    vlm::Vlm,
};
use peak_alloc::PeakAlloc;
use serde_json::json;

type B = Autodiff<Flex>;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// A model and a pass of it.
#[derive(Clone, Debug)]
struct Case {
    vocab_size: usize,
    tied: bool,
    lora: Option<LoraConfig>,
    trainable: Trainable,
    prompt_tokens: usize,
    completions: usize,
    completion_tokens: usize,
    /// Of a video of as many pairs of frames, 8 × 8 patches each.
    frame_pairs: usize,
    logits_at_once: Option<usize>,
}

const CASE: Case = Case {
    vocab_size: 4096,
    tied: true,
    lora: None,
    trainable: Trainable { vision_tower: false, merger: false, language_model: true },
    prompt_tokens: 256,
    completions: 4,
    completion_tokens: 24,
    frame_pairs: 0,
    logits_at_once: None,
};

impl Case {
    fn config(&self) -> Qwen25VlConfig {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/parity/flat_tied");
        let mut raw = Qwen25VlConfig::from_dir(&dir).expect("a checkpoint of the repository").raw;
        for (key, value) in [
            ("hidden_size", json!(128)),
            ("intermediate_size", json!(352)),
            ("num_hidden_layers", json!(3)),
            ("num_attention_heads", json!(4)),
            ("num_key_value_heads", json!(2)),
            ("vocab_size", json!(self.vocab_size)),
            ("tie_word_embeddings", json!(self.tied)),
            ("rope_scaling", json!({ "type": "mrope", "mrope_section": [4, 6, 6] })),
        ] {
            raw.insert(key.to_owned(), value);
        }
        for (key, value) in [
            ("out_hidden_size", json!(128)),
            ("hidden_size", json!(64)),
            ("intermediate_size", json!(172)),
            ("num_heads", json!(4)),
            ("depth", json!(2)),
            ("fullatt_block_indexes", json!([1])),
        ] {
            raw["vision_config"][key] = value;
        }
        Qwen25VlConfig::from_json(&raw, &dir).expect("sizes that fit")
    }

    /// Its weights are zeros, which take as much as any.
    fn model(&self, config: &Qwen25VlConfig) -> Qwen25Vl<B> {
        let model = Qwen25Vl::new(config, &Default::default());
        model.visit(&mut Allocate);
        match &self.lora {
            Some(lora) => model.with_lora(lora, 2).expect("a fresh adapter").with_dropout_seed(Some(3)),
            None => model.with_trainable(self.trainable),
        }
    }

    fn shape(&self, config: &Qwen25VlConfig) -> ModelShape {
        let plain = Qwen25Vl::<Flex>::new(config, &Default::default());
        let layers = self.lora.as_ref().map(|lora| plain.lora_layers(lora).expect("names of layers"));
        ModelShape::new(config, self.trainable, self.lora.as_ref().zip(layers.as_ref()))
    }

    fn pass(&self, config: &Qwen25VlConfig) -> PassShape {
        let slice_patches = 64;
        PassShape {
            // Without the feature for operations of our own the backend still aligns by copying.
            habits: Habits { aligns_by_copying: true, ..Habits::of::<B>() },
            threads: rayon::current_num_threads(),
            prompts: 1,
            prompt_tokens: self.prompt_tokens,
            completions: self.completions,
            completion_tokens: self.completion_tokens,
            media: MediaShape {
                num_tokens: self.frame_pairs * slice_patches / config.vision.merge_unit(),
                slice_patches,
            },
            options: self.options(),
            has_reference: false,
        }
    }

    fn options(&self) -> LogProbOptions {
        LogProbOptions {
            entropy: true,
            entropy_gradient: true,
            logits_at_once: self.logits_at_once,
            ..LogProbOptions::default()
        }
    }

    fn prompt(&self, config: &Qwen25VlConfig) -> Encoded {
        let mut input_ids = ids(self.prompt_tokens, 0);
        if self.frame_pairs == 0 {
            return Encoded { input_ids, ..Encoded::default() };
        }
        let grid = GridThw { t: self.frame_pairs, h: 8, w: 8 };
        let media = grid.num_patches() / config.vision.merge_unit();
        input_ids[0] = config.vision_start_token_id;
        input_ids[1..=media].fill(config.video_token_id);
        let values = vec![0.1; grid.num_patches() * config.vision.patch_dim()];
        let videos = Patches { values, grids: vec![grid] };
        Encoded { input_ids, videos, second_per_grid_ts: vec![1.0], ..Encoded::default() }
    }

    /// Predicted over measured bytes of an update, and the measured ones.
    fn ratio(&self, kept: Kept) -> (f64, usize) {
        let config = self.config();
        let (model, device) = (self.model(&config), Default::default());
        let prompt = self.prompt(&config);
        let completions: Vec<Vec<u32>> =
            (1..=self.completions).map(|salt| ids(self.completion_tokens, salt)).collect();
        let groups = [Group { prompt: &prompt, completions: &completions }];
        let measured = peak(|| {
            completion_gradients(&model, &groups, self.options(), kept, &device, loss).expect("a group");
        });
        let predicted = self.shape(&config).update_bytes(&self.pass(&config), kept);
        (predicted as f64 / measured as f64, measured)
    }

    /// The same of sampling.
    fn ratio_of_rollout(&self) -> (f64, usize) {
        let config = self.config();
        let model = self.model(&config).with_dropout_seed(None).valid();
        let prompt = self.prompt(&config);
        let generation = GenerationConfig {
            num_generations: self.completions,
            max_new_tokens: self.completion_tokens,
            sampling: Sampling::GREEDY,
            stop_ids: Vec::new(),
            log_probs: false,
        };
        let measured = peak(|| {
            generate(&model, &[&prompt], &[1], &generation, &Default::default()).expect("a prompt");
        });
        let predicted = self.shape(&config).rollout_bytes(&self.pass(&config));
        (predicted as f64 / measured as f64, measured)
    }
}

/// Makes parameters be there: a copy of a model whose are not would make its own in every pass.
struct Allocate;

impl ModuleVisitor<B> for Allocate {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        param.val();
    }
}

/// Ordinary text ids, all below those of media.
fn ids(count: usize, salt: usize) -> Vec<u32> {
    (0..count).map(|place| ((place * 31 + salt * 7) % 360) as u32).collect()
}

fn loss(scored: CompletionLogProbs<B>) -> Result<(Tensor<B, 1>, ()), ModelError> {
    let entropy = scored.entropy.expect("asked for").sum().mul_scalar(0.01);
    Ok((scored.log_probs.sum().neg() - entropy, ()))
}

/// The most bytes beside those before; the lesser of two runs, as the first makes what stays.
fn peak(mut work: impl FnMut()) -> usize {
    let once = |_| {
        let rest = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        work();
        ALLOCATOR.peak_usage() - rest
    };
    (0..2).map(once).min().expect("two runs")
}

fn lora(dropout: f64, vision: bool) -> Option<LoraConfig> {
    Some(LoraConfig {
        r: 8,
        lora_alpha: 16.0,
        lora_dropout: dropout,
        use_rslora: false,
        target_modules: vec!["all-linear".to_owned()],
        vision,
    })
}

fn cases() -> Vec<(&'static str, Case)> {
    let wide = Case { vocab_size: 12_288, ..CASE };
    let all = Case { trainable: Trainable::ALL, frame_pairs: 12, ..CASE };
    vec![
        ("plain", CASE),
        ("a long prompt", Case { prompt_tokens: 768, ..CASE }),
        ("a large group", Case { completions: 16, prompt_tokens: 128, ..CASE }),
        ("logits in chunks", Case { logits_at_once: Some(16), ..wide.clone() }),
        ("a head of its own", Case { tied: false, logits_at_once: Some(64), ..wide.clone() }),
        ("an adapter", Case { lora: lora(0.0, false), ..wide }),
        ("an adapter that drops", Case { lora: lora(0.1, false), ..CASE }),
        ("a frozen tower", Case { frame_pairs: 12, ..CASE }),
        ("a tower that learns", all.clone()),
        ("an adapter on the tower", Case { lora: lora(0.0, true), ..all }),
    ]
}

/// One test, as the allocator counts for the whole process.
#[test]
fn predictions_are_within_15_percent() {
    let mut failures = Vec::new();
    let mut look = |what: String, (ratio, measured): (f64, usize)| {
        let told = format!("{what}: predicted is {ratio:.2} of {} KiB", measured >> 10);
        eprintln!("{told}");
        if !(0.85..=1.15).contains(&ratio) {
            failures.push(told);
        }
    };
    for (name, case) in cases() {
        for kept in [Kept::Activations, Kept::LayerInputs] {
            look(format!("{name}, {kept:?}"), case.ratio(kept));
        }
        look(format!("{name}, sampling"), case.ratio_of_rollout());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
