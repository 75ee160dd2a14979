//! Group relative policy optimisation (Shao et al. 2024).

use burn::tensor::backend::AutodiffBackend;

use crate::{
    advantage::{GroupMean, Scale},
    aggregate::Aggregate,
    objective::{Clip, KlToReference},
    recipe::{Policy, Recipe, Term},
    source::OnPolicy,
};

/// The knobs of GRPO, under TRL's names.
#[derive(Clone, Copy, Debug)]
pub struct GrpoConfig {
    /// Weight of the divergence from the reference; 0 needs no reference.
    pub beta: f64,
    /// How far the ratio may fall below 1.
    pub epsilon: f64,
    /// How far the ratio may rise above 1.
    pub epsilon_high: f64,
    /// What rewards are divided by.
    pub scale_rewards: Scale,
    /// How tokens share the loss.
    pub loss_type: Aggregate,
    /// Optimizer steps on the same completions.
    pub num_iterations: usize,
}

/// Completions of the policy, compared within their group, under a clipped ratio.
pub fn grpo<B: AutodiffBackend, M: Policy<B>>(source: OnPolicy, config: GrpoConfig) -> Recipe<B, M> {
    let clip = Clip { epsilon: config.epsilon, epsilon_high: config.epsilon_high };
    let mut terms: Vec<Term<B>> = vec![Term { weight: 1.0, objective: Box::new(clip) }];
    if config.beta > 0.0 {
        terms.push(Term { weight: config.beta, objective: Box::new(KlToReference) });
    }
    Recipe {
        temperature: f64::from(source.generation.sampling.temperature),
        source: Box::new(source),
        advantage: Box::new(GroupMean::trl(config.scale_rewards)),
        terms,
        aggregate: config.loss_type,
        num_iterations: config.num_iterations,
    }
}
