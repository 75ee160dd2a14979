//! What an experiment's keys ask of completions: the parts of a policy-gradient recipe.

use std::{borrow::Cow, sync::Arc};

use medgrpo_datasets::TaskKind;
use medgrpo_trainers::{
    advantage::{Advantage, Gdpo, GroupMean, Rloo, Scale},
    aggregate::Aggregate,
    dynamic_sampling::DynamicSampling,
    filter::ZeroVariance,
    objective::{
        self, Cispo, Clip, Gamma, KlToReference, Level, Sapo, Vespo,
        weight::{Beyond, TruncatedImportance},
    },
    recipes::{self, GrpoConfig, Surrogate},
};

use super::component_weights;
use crate::config::resolved::{
    Policy,
    recipe::{
        AdvantageType, ImportanceSamplingLevel, KlEstimator, KlIn, LossType, RolloutImportanceSamplingMode,
        ScaleRewards,
    },
};

/// The recipe's loss and advantage.
pub(crate) fn grpo_config(config: &Policy, tasks: &[TaskKind]) -> GrpoConfig {
    let level = match config.importance_sampling_level {
        Some(ImportanceSamplingLevel::Sequence) => Level::Sequence,
        Some(ImportanceSamplingLevel::Token) | None => Level::Token,
    };
    GrpoConfig {
        advantage: advantage(config, tasks),
        surrogate: surrogate(config, level),
        aggregate: match config.loss_type {
            LossType::Grpo | LossType::Sapo => Aggregate::SequenceMean,
            LossType::Bnpo => Aggregate::MicroBatchTokenMean,
            LossType::DrGrpo => {
                Aggregate::ConstantLength { max_completion_length: config.max_completion_length }
            }
            LossType::Dapo | LossType::Cispo | LossType::Vespo => Aggregate::TokenMean,
            LossType::Luspo => Aggregate::SequenceSum,
        },
        beta: config.beta,
        kl_in: match config.kl_in {
            Some(KlIn::Reward) => recipes::KlIn::Reward,
            Some(KlIn::Loss) | None => recipes::KlIn::Loss,
        },
        kl: KlToReference {
            estimator: match config.kl_estimator {
                Some(KlEstimator::K1) => objective::KlEstimator::K1,
                Some(KlEstimator::K2) => objective::KlEstimator::K2,
                Some(KlEstimator::K3) | None => objective::KlEstimator::K3,
            },
            bias_correction: (config.use_bias_correction_kl == Some(true)).then_some(level),
        },
        entropy_coef: config.entropy_coef,
        top_entropy_quantile: config.top_entropy_quantile,
        off_policy_mask_threshold: config.off_policy_mask_threshold,
        importance_sampling_correction: correction(config),
        mask_truncated_completions: config.mask_truncated_completions,
        num_iterations: config.num_iterations,
    }
}

/// Drawing again for groups without a signal, where the experiment asks for it.
pub(crate) fn dynamic_sampling(config: &Policy) -> Option<DynamicSampling> {
    let (tolerance, max_rounds) = (config.dynamic_sampling.tolerance?, config.dynamic_sampling.max_rounds?);
    Some(DynamicSampling { filter: Box::new(ZeroVariance { tolerance: tolerance as f32 }), max_rounds })
}

fn advantage(config: &Policy, tasks: &[TaskKind]) -> Arc<dyn Advantage> {
    match config.advantage {
        AdvantageType::Group => {
            let trl = GroupMean::trl(match config.scale_rewards {
                Some(ScaleRewards::Group) => Scale::Group,
                Some(ScaleRewards::Batch) => Scale::Batch,
                Some(ScaleRewards::None) | None => Scale::None,
            });
            Arc::new(GroupMean { epsilon: config.advantage_epsilon.unwrap_or(trl.epsilon), ..trl })
        }
        AdvantageType::Rloo => Arc::new(Rloo),
        AdvantageType::Gdpo => {
            let weights = component_weights(&config.rewards, tasks).expect("validation has seen the weights");
            let weights = weights.into_iter().map(|(name, weight)| (Cow::Borrowed(name), weight)).collect();
            let epsilon = config.advantage_epsilon.expect("it divides by a deviation");
            Arc::new(Gdpo { weights, epsilon })
        }
    }
}

/// The correction of completions drawn in another format, where the experiment asks for it.
fn correction(config: &Policy) -> Option<TruncatedImportance> {
    let (level, beyond) = match config.rollout_importance_sampling_mode? {
        RolloutImportanceSamplingMode::None => return None,
        RolloutImportanceSamplingMode::TokenTruncate => (Level::Token, Beyond::Truncate),
        RolloutImportanceSamplingMode::TokenMask => (Level::Token, Beyond::Mask),
        RolloutImportanceSamplingMode::SequenceTruncate => (Level::Sequence, Beyond::Truncate),
        RolloutImportanceSamplingMode::SequenceMask => (Level::Sequence, Beyond::Mask),
    };
    Some(TruncatedImportance {
        level,
        beyond,
        clip_min: config.rollout_importance_sampling_clip_min,
        clip_max: config.rollout_importance_sampling_clip_max?,
    })
}

fn surrogate(config: &Policy, level: Level) -> Surrogate {
    /// What `resolve` fills in for the loss that reads it.
    fn there(key: Option<f64>) -> f64 {
        key.expect("the loss's own keys are resolved")
    }
    match config.loss_type {
        LossType::Cispo => Surrogate::Cispo(Cispo { max_ratio: there(config.epsilon_high), level }),
        LossType::Sapo => Surrogate::Sapo(Sapo {
            temperature_pos: there(config.sapo_temperature_pos),
            temperature_neg: there(config.sapo_temperature_neg),
            level,
        }),
        LossType::Vespo => Surrogate::Vespo(Vespo {
            positive: Gamma { k: there(config.vespo_k_pos), lambda: there(config.vespo_lambda_pos) },
            negative: Gamma { k: there(config.vespo_k_neg), lambda: there(config.vespo_lambda_neg) },
            sampling: None,
        }),
        LossType::Grpo | LossType::Bnpo | LossType::DrGrpo | LossType::Dapo | LossType::Luspo => {
            Surrogate::Clip(Clip {
                epsilon: there(config.epsilon),
                epsilon_high: there(config.epsilon_high),
                level,
                delta: config.delta,
                clip_ratio_c: config.clip_ratio_c,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{load, resolved::Recipe};

    fn config_of(name: &str) -> GrpoConfig {
        config_with(name, "")
    }

    fn config_with(name: &str, keys: &str) -> GrpoConfig {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.toml");
        let text = format!(
            "model.path = 'base'\ndata.train = [{{ file = 'train.json' }}]\n[[stage]]\nname = 's'\n\
             recipe = {{ type = '{name}'{keys} }}\ntrainer.max_steps = 1\n\
             data.tasks = ['tag', 'stg']\n"
        );
        std::fs::write(&file, text).unwrap();
        let experiment = load(&file, &[]).unwrap();
        let Recipe::Policy(policy) = &experiment.stages[0].recipe else { panic!("{name} samples") };
        grpo_config(policy, &[TaskKind::Tag, TaskKind::Stg])
    }

    #[test]
    fn types_of_recipes_are_the_methods_of_the_library() {
        let debug = |config: &GrpoConfig| format!("{config:?}");
        for (name, method) in [
            ("grpo", GrpoConfig::default()),
            ("dapo", GrpoConfig::dapo()),
            ("dr_grpo", GrpoConfig::dr_grpo(512)),
            ("bnpo", GrpoConfig::bnpo()),
            ("gspo", GrpoConfig::gspo()),
            ("cispo", GrpoConfig::cispo()),
            ("sapo", GrpoConfig::sapo()),
            ("rloo", GrpoConfig::rloo()),
            ("medgrpo", GrpoConfig::medgrpo()),
            ("medgrpo_paper", GrpoConfig::medgrpo_paper()),
            ("trl_grpo", GrpoConfig::trl_grpo()),
            ("trl_dapo", GrpoConfig::trl_dapo()),
            ("verl_grpo", GrpoConfig::verl_grpo()),
            ("easyr1_dapo", GrpoConfig::easyr1_dapo()),
        ] {
            assert_eq!(debug(&config_of(name)), debug(&method), "{name}");
        }
        // Its advantage holds the weights of the experiment's rewards.
        let gdpo = config_of("gdpo");
        assert!(format!("{:?}", gdpo.advantage).starts_with("Gdpo"));
        let advantage = Arc::clone(&gdpo.advantage);
        assert_eq!(debug(&gdpo), debug(&GrpoConfig { advantage, ..GrpoConfig::default() }));
    }

    #[test]
    fn rollouts_in_another_format_are_corrected_as_asked() {
        let correction = |keys: &str| config_with("grpo", keys).importance_sampling_correction;
        assert_eq!(correction(", rollout_bf16 = true"), Some(TruncatedImportance::default()));
        let mode = ", rollout_bf16 = true, rollout_importance_sampling_mode";
        assert_eq!(correction(&format!("{mode} = 'none'")), None);
        let bounds = "rollout_importance_sampling_clip_max = 2.0, rollout_importance_sampling_clip_min = 0.5";
        for (name, level, beyond) in [
            ("token_truncate", Level::Token, Beyond::Truncate),
            ("token_mask", Level::Token, Beyond::Mask),
            ("sequence_truncate", Level::Sequence, Beyond::Truncate),
            ("sequence_mask", Level::Sequence, Beyond::Mask),
        ] {
            let found = correction(&format!("{mode} = '{name}', {bounds}"));
            let expected = TruncatedImportance { level, beyond, clip_min: Some(0.5), clip_max: 2.0 };
            assert_eq!(found, Some(expected), "{name}");
        }
    }
}
