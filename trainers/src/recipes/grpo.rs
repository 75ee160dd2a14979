//! Group relative policy optimisation (Shao et al. 2024), and what its relatives may change.

use std::sync::Arc;

use burn::tensor::backend::{AutodiffBackend, Backend};

use crate::{
    advantage::{Advantage, GroupMean, Scale},
    aggregate::Aggregate,
    dynamic_sampling::DynamicSampling,
    objective::{
        Cispo, Clip, EntropyBonus, KlToReference, Objective, Sapo, Vespo, Weighted,
        weight::{OffPolicyMask, TokenWeight, TopEntropy, TruncatedImportance},
    },
    recipe::{Policy, Recipe, Term},
    source::OnPolicy,
};

/// What stands for the policy gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Surrogate {
    /// The ratio within bounds.
    Clip(Clip),
    /// The ratio bounded as a weight.
    Cispo(Cispo),
    /// The ratio through a soft gate.
    Sapo(Sapo),
    /// The ratio of a sequence through a smooth weight.
    Vespo(Vespo),
}

/// Where a divergence from the reference counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KlIn {
    /// As a term of the loss, token by token (`DeepSeekMath`'s GRPO).
    Loss,
    /// In the reward of a completion, as the sum over its tokens, before advantages are taken (RLOO; REINFORCE++).
    Reward,
}

/// The knobs of GRPO and its relatives, under TRL's names where it has one.
#[derive(Clone, Debug)]
pub struct GrpoConfig {
    /// What each completion is worth (`scale_rewards`, `multi_objective_aggregation`).
    pub advantage: Arc<dyn Advantage>,
    /// The loss of a token (`loss_type`, `epsilon`, `epsilon_high`, `delta`, `importance_sampling_level`).
    pub surrogate: Surrogate,
    /// How tokens share the loss (`loss_type`).
    pub aggregate: Aggregate,
    /// Weight of the divergence from the reference; 0 needs no reference.
    pub beta: f64,
    /// Where it counts (verl's `use_kl_in_reward`).
    pub kl_in: KlIn,
    /// How it is measured in the loss (`use_bias_correction_kl`).
    pub kl: KlToReference,
    /// Weight of the entropy bonus, a mean over all tokens of the step; 0 needs no gradient of the entropy.
    pub entropy_coef: f64,
    /// Share of tokens, those of highest entropy, that surrogate and bonus are taken over; 1 is all.
    pub top_entropy_quantile: f64,
    /// Leaves out bad completions that the policy has left behind, by so many nats per token.
    pub off_policy_mask_threshold: Option<f64>,
    /// Corrects for an engine that draws from another distribution than the policy (`vllm_importance_sampling_mode`).
    pub importance_sampling_correction: Option<TruncatedImportance>,
    /// Whether completions that ended for lack of budget are left out of the loss.
    pub mask_truncated_completions: bool,
    /// Optimizer steps on the same completions.
    pub num_iterations: usize,
}

impl Default for GrpoConfig {
    /// The paper's loss with TRL's defaults: no leash, no bonus, nothing left out.
    fn default() -> Self {
        Self {
            advantage: Arc::new(GroupMean::trl(Scale::Group)),
            surrogate: Surrogate::Clip(Clip::default()),
            aggregate: Aggregate::SequenceMean,
            beta: 0.0,
            kl_in: KlIn::Loss,
            kl: KlToReference::default(),
            entropy_coef: 0.0,
            top_entropy_quantile: 1.0,
            off_policy_mask_threshold: None,
            importance_sampling_correction: None,
            mask_truncated_completions: false,
            num_iterations: 1,
        }
    }
}

impl GrpoConfig {
    /// The terms of the loss.
    pub fn terms<B: Backend>(&self) -> Vec<Term<B>> {
        let aggregate = self.aggregate;
        let mut terms: Vec<Term<B>> = vec![Term { weight: 1.0, objective: self.policy_term(), aggregate }];
        if self.beta != 0.0 && self.kl_in == KlIn::Loss {
            terms.push(Term { weight: self.beta, objective: Box::new(self.kl), aggregate });
        }
        if self.entropy_coef != 0.0 {
            let objective = Box::new(EntropyBonus { top: self.top_entropy() });
            terms.push(Term { weight: self.entropy_coef, objective, aggregate: Aggregate::TokenMean });
        }
        terms
    }

    /// Weight of the divergence in the reward; 0 where it counts in the loss.
    pub fn reward_beta(&self) -> f64 {
        match self.kl_in {
            KlIn::Loss => 0.0,
            KlIn::Reward => self.beta,
        }
    }

    fn top_entropy(&self) -> Option<TopEntropy> {
        let top_entropy_quantile = self.top_entropy_quantile;
        (top_entropy_quantile < 1.0).then_some(TopEntropy { top_entropy_quantile })
    }

    /// The surrogate, weighed if anything is to be.
    fn policy_term<B: Backend>(&self) -> Box<dyn Objective<B>> {
        let mut sampling = self.importance_sampling_correction;
        let objective: Box<dyn Objective<B>> = match self.surrogate {
            Surrogate::Clip(clip) => Box::new(clip),
            Surrogate::Cispo(cispo) => Box::new(cispo),
            Surrogate::Sapo(sapo) => Box::new(sapo),
            // The correction is part of this one's own weight.
            Surrogate::Vespo(vespo) => Box::new(Vespo { sampling: sampling.take(), ..vespo }),
        };
        let mut weights: Vec<Box<dyn TokenWeight<B>>> = Vec::new();
        if let Some(threshold) = self.off_policy_mask_threshold {
            weights.push(Box::new(OffPolicyMask { threshold }));
        }
        if let Some(top) = self.top_entropy() {
            weights.push(Box::new(top));
        }
        if let Some(sampling) = sampling {
            weights.push(Box::new(sampling));
        }
        if weights.is_empty() { objective } else { Box::new(Weighted { objective, weights }) }
    }
}

/// Completions of the policy, compared with each other, under the config's loss.
pub fn grpo<B: AutodiffBackend, M: Policy<B>>(
    source: OnPolicy,
    dynamic_sampling: Option<DynamicSampling>,
    config: &GrpoConfig,
) -> Recipe<B, M> {
    Recipe {
        dynamic_sampling,
        temperature: f64::from(source.generation.sampling.temperature),
        source: Box::new(source),
        advantage: Arc::clone(&config.advantage),
        reward_beta: config.reward_beta(),
        terms: config.terms(),
        mask_truncated_completions: config.mask_truncated_completions,
        num_iterations: config.num_iterations,
    }
}
