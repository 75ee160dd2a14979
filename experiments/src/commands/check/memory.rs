//! What a stage will take of the memory, part by part, before anything is loaded.

use medgrpo_model::{
    group_forward::LogProbOptions,
    group_gradients::Kept,
    memory::{Habits, MediaShape, ModelShape, ParameterBytes, PassShape},
    qwen2_5_vl::Qwen25VlConfig,
    trainable::Trainable,
};
use medgrpo_trainers::cut::Limits;

use crate::{
    config::resolved::{Evaluate, Experiment, Policy, Stage, recipe::KlIn},
    memory::machine_bytes,
    print,
    train::AdaptedLayers,
};

/// Passes with more tokens are not forecast: no machine holds them.
const MAX_TOKENS: usize = 1 << 22;

/// Where a run would compute.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) habits: Habits,
    pub(super) threads: usize,
    pub(super) workers: usize,
    /// Whether it is the machine's own memory that is taken.
    pub(super) is_processor: bool,
}

/// Tokens of the longest prompt, and of the longest answer in the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lengths {
    pub(super) prompt: usize,
    /// `None` where none is there to count.
    pub(super) answer: Option<usize>,
}

/// Bytes of the parts of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parts {
    /// Of the model, and of its reference where that is another one.
    weights: usize,
    /// Moments of the optimizer.
    optimizer: usize,
    /// Features of clips that are kept.
    features: usize,
    /// Gradients gathered before the last micro-batches.
    gathered: usize,
    /// Micro-batches at a time, and bytes of one.
    update: (usize, usize),
    /// The same of batches of completions.
    sampling: (usize, usize),
    /// The same of answers of an evaluation.
    evaluation: (usize, usize),
    /// Gradients, and what the optimizer takes for the largest tensor.
    step: usize,
}

impl Parts {
    fn moments(&self) -> [(&'static str, usize); 4] {
        let all = |(count, bytes): (usize, usize)| count * bytes;
        [
            ("the update", self.gathered + all(self.update)),
            ("sampling", all(self.sampling)),
            ("an evaluation", all(self.evaluation)),
            ("the optimizer's step", self.step),
        ]
    }

    /// The most at a time, and when.
    fn peak(&self) -> (usize, &'static str) {
        let (when, most) =
            self.moments().into_iter().max_by_key(|(_, bytes)| *bytes).expect("there are moments");
        (self.weights + self.optimizer + self.features + most, when)
    }
}

/// Tells what every stage takes.
pub(super) fn tell(
    experiment: &Experiment,
    config: &Qwen25VlConfig,
    adapters: &[Option<AdaptedLayers>],
    lengths: Lengths,
    place: Place,
) {
    let machine = machine_bytes().filter(|_| place.is_processor);
    for (index, stage) in experiment.stages.iter().enumerate() {
        let layers = adapters.get(index).and_then(Option::as_ref);
        let model = ModelShape::new(config, learning(stage), stage.lora.as_ref().zip(layers));
        let Some(passes) = Passes::new(experiment, stage, config, lengths, place) else {
            print(&format!(
                "stage \"{}\": no forecast of memory: its answers are not there to count, or a pass has more than {MAX_TOKENS} tokens",
                stage.name
            ));
            continue;
        };
        let parts = passes.parts(&model);
        let (peak, when) = parts.peak();
        let times = |(count, bytes): (usize, usize)| match count {
            1 => size(bytes),
            count => format!("{count} × {}", size(bytes)),
        };
        print(&format!(
            "stage \"{}\": {} of memory at most, during {when}, for prompts of {} and completions of {} tokens, and what \
             the program takes besides tensors",
            stage.name,
            size(peak),
            lengths.prompt,
            passes.update.completion_tokens
        ));
        print(&format!(
            "  weights {}, optimizer {}, features of clips {}; gradients gathered {} and update of a micro-batch {}, sampling {}, \
             evaluation {}, optimizer's step {}",
            size(parts.weights),
            size(parts.optimizer),
            size(parts.features),
            size(parts.gathered),
            times(parts.update),
            times(parts.sampling),
            times(parts.evaluation),
            size(parts.step)
        ));
        let samples_in_bf16 = stage.recipe.on_policy().is_some_and(|policy| policy.rollout_bf16);
        let keys = [("bf16", experiment.bf16), ("rollout_bf16", samples_in_bf16)];
        for (key, _) in keys.into_iter().filter(|(_, is_on)| *is_on) {
            print(&format!("  these are figures of f32; what {key} changes is not forecast"));
        }
        if let Some(machine) = machine.filter(|machine| peak as u64 > *machine) {
            let remedies = passes.remedies(stage, when, place).join(", ");
            print(&format!(
                "  warning: this machine has {}; what takes less: {remedies}",
                size(usize::try_from(machine).unwrap_or(usize::MAX))
            ));
        }
    }
}

fn learning(stage: &Stage) -> Trainable {
    let learns = |is_frozen: Option<bool>| is_frozen != Some(true);
    Trainable {
        vision_tower: learns(stage.trainer.freeze_vision_tower),
        merger: learns(stage.trainer.freeze_merger),
        language_model: learns(stage.trainer.freeze_language_model),
    }
}

/// The largest passes of a stage.
struct Passes<'a> {
    stage: &'a Stage,
    policy: Option<&'a Policy>,
    place: Place,
    update: PassShape,
    /// How many of these a step has at most.
    num_updates: usize,
    sampling: Option<(usize, PassShape)>,
    evaluation: Option<PassShape>,
}

impl<'a> Passes<'a> {
    fn new(
        experiment: &Experiment,
        stage: &'a Stage,
        config: &Qwen25VlConfig,
        lengths: Lengths,
        place: Place,
    ) -> Option<Self> {
        let policy = stage.recipe.on_policy();
        let (trainer, prompts) = (&stage.trainer, stage.trainer.num_prompts_per_step);
        let group = policy.map_or(1, |policy| policy.num_generations);
        let completion_tokens = match policy {
            Some(policy) => policy.max_completion_length,
            None => lengths.answer?,
        };
        let pass = |prompts: usize, completions: usize, completion_tokens: usize| {
            let own = completions.checked_mul(completion_tokens)?;
            let tokens = lengths.prompt.checked_add(own)?.checked_mul(prompts)?;
            (tokens <= MAX_TOKENS).then(|| PassShape {
                habits: place.habits,
                threads: place.threads,
                prompts,
                prompt_tokens: lengths.prompt,
                completions,
                completion_tokens: completion_tokens.max(1),
                media: media(experiment, config, lengths.prompt, prompts),
                options: LogProbOptions {
                    entropy: true,
                    entropy_gradient: policy.is_some_and(|policy| policy.entropy_coef != 0.0),
                    ..LogProbOptions::default()
                },
                has_reference: policy
                    .is_some_and(|policy| policy.beta != 0.0 && policy.kl_in != Some(KlIn::Reward)),
            })
        };
        let fits = |at_once: usize, completions: usize, limits: Limits| {
            let tokens = lengths.prompt.saturating_add(completions.saturating_mul(completion_tokens));
            at_once.saturating_mul(completions) <= limits.max_sequences
                && limits.max_tokens.is_none_or(|most| at_once.saturating_mul(tokens) <= most)
        };
        // Groups that run together, of so many.
        let together = |limits| (1..=prompts).rev().find(|count| fits(*count, group, limits));
        let limits = Limits {
            max_sequences: trainer.micro_batch_size,
            max_tokens: trainer.max_tokens_per_micro_batch,
        };
        let (update, num_updates) = match together(limits) {
            Some(at_once) => (pass(at_once, group, completion_tokens)?, prompts.div_ceil(at_once)),
            None => {
                let most = (1..=group).rev().find(|count| fits(1, *count, limits)).unwrap_or(1);
                let parts = group.div_ceil(most);
                (pass(1, group.div_ceil(parts), completion_tokens)?, prompts.saturating_mul(parts))
            }
        };
        let sampling = match policy {
            Some(policy) => {
                let at_once = together(Limits {
                    max_sequences: policy.rollout_batch_size,
                    max_tokens: policy.max_tokens_per_rollout_batch,
                });
                // A group is drawn together whatever it takes.
                let at_once = at_once.unwrap_or(1);
                Some((prompts.div_ceil(at_once), pass(at_once, group, completion_tokens)?))
            }
            None => None,
        };
        let of_evaluation = |evaluate: &Evaluate| {
            let longest = evaluate.max_new_tokens.iter().map(|(_, tokens)| tokens).max().unwrap_or(1);
            pass(evaluate.batch_size, 1, longest)
        };
        let evaluation = match &experiment.evaluate {
            Some(evaluate) => Some(of_evaluation(evaluate)?),
            None => None,
        };
        Some(Self { stage, policy, place, update, num_updates, sampling, evaluation })
    }

    fn parts(&self, model: &ModelShape) -> Parts {
        let trainer = &self.stage.trainer;
        let ParameterBytes { all, learning, largest_learning } = model.parameters();
        let has_reference = self.policy.is_some_and(|policy| policy.beta != 0.0);
        // Below an adapter the reference is the model itself.
        let models = 1 + usize::from(has_reference && self.stage.lora.is_none());
        let kept = if trainer.gradient_checkpointing { Kept::LayerInputs } else { Kept::Activations };
        let at_once = |count: usize| self.place.workers.min(count);
        let answers = |shape: &PassShape| model.rollout_bytes(shape);
        Parts {
            weights: all * models,
            optimizer: 2 * learning,
            features: usize::try_from(trainer.vision_cache_mb.unwrap_or(0) << 20).unwrap_or(usize::MAX),
            gathered: if self.num_updates > self.place.workers { learning } else { 0 },
            update: (at_once(self.num_updates), model.update_bytes(&self.update, kept)),
            sampling: self
                .sampling
                .as_ref()
                .map_or((1, 0), |(count, shape)| (at_once(*count), answers(shape))),
            evaluation: self.evaluation.as_ref().map_or((1, 0), |shape| (self.place.workers, answers(shape))),
            // AdamW makes both corrected moments of a tensor, and from them its new values.
            step: learning + 2 * largest_learning,
        }
    }

    /// Keys and options that lower what is taken `when` it is most.
    fn remedies(&self, stage: &Stage, when: &str, place: Place) -> Vec<String> {
        let mut found = Vec::new();
        let updating = when == "the update";
        if updating && !stage.trainer.gradient_checkpointing {
            found.push("`gradient_checkpointing = true`".to_owned());
        }
        let fewer = |tokens: Option<usize>, name: &str, sequences: usize| match tokens {
            Some(tokens) => format!("`max_tokens_per_{name}` below {tokens}"),
            None => format!("a `{name}_size` below {sequences}"),
        };
        if updating && self.update.prompts * self.update.completions > 1 {
            let trainer = &stage.trainer;
            found.push(fewer(trainer.max_tokens_per_micro_batch, "micro_batch", trainer.micro_batch_size));
        }
        if let Some(policy) = self.policy.filter(|_| when == "sampling") {
            found.push(fewer(
                policy.max_tokens_per_rollout_batch,
                "rollout_batch",
                policy.rollout_batch_size,
            ));
        }
        if when == "an evaluation" {
            found.push("a smaller `evaluate.batch_size`".to_owned());
        }
        if place.workers > 1 {
            found.push(format!("fewer `--workers` than {}", place.workers));
        }
        if stage.lora.is_none() {
            found.push("an adapter (`[stage.lora]`)".to_owned());
        }
        found.push(
            "shorter prompts (`data.max_prompt_tokens`, `video.max_frames`, `video.max_pixels`)".to_owned(),
        );
        found
    }
}

/// As if prompts were nothing but video: no prompt of that length shows more.
fn media(
    experiment: &Experiment,
    config: &Qwen25VlConfig,
    prompt_tokens: usize,
    prompts: usize,
) -> MediaShape {
    let vision = &config.vision;
    let patches = prompt_tokens * vision.merge_unit();
    let of_a_frame = experiment.video.max_pixels.map(|pixels| pixels / vision.patch_size.pow(2));
    MediaShape {
        num_tokens: prompt_tokens * prompts,
        slice_patches: of_a_frame.map_or(patches, |of_a_frame| of_a_frame.clamp(1, patches.max(1))),
    }
}

/// Bytes for a reader.
fn size(bytes: usize) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib >= 1024.0 { format!("{:.1} GiB", mib / 1024.0) } else { format!("{mib:.0} MiB") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_of_the_moment_that_takes_most() {
        let parts = Parts {
            weights: 100,
            optimizer: 20,
            features: 3,
            gathered: 10,
            update: (4, 50),
            sampling: (2, 90),
            evaluation: (1, 0),
            step: 209,
        };
        assert_eq!(parts.peak(), (100 + 20 + 3 + 210, "the update"));
        assert_eq!(Parts { update: (4, 49), ..parts }.peak(), (332, "the optimizer's step"));
        assert_eq!(Parts { sampling: (3, 90), ..parts }.peak(), (393, "sampling"));
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!([size(3 << 20), size(1536 << 20)], ["3 MiB", "1.5 GiB"]);
    }
}
