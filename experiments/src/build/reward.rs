//! The tree of rewards that an experiment's keys describe.

use std::sync::Arc;

use anyhow::{Context, Result};
use medgrpo_datasets::TaskKind;
use medgrpo_rewards::{
    Reward,
    compose::{
        Component, Overlong, PerTask, Product, Weighted,
        normalise::{
            self, Calibration, GroupZScore, Identity, MedianLogistic, MinMax, Normaliser, Rank, Reference,
            RunningStd, Tabled, ZScore,
        },
    },
    embed::TextEmbedder,
    judge::Judge,
    task::{
        cvs::CvsReward,
        dvc::DvcReward,
        format::FormatReward,
        judged::JudgedReward,
        nap::NapReward,
        rouge::RougeReward,
        similarity::SimilarityReward,
        skill::SkillReward,
        stg::StgReward,
        tag::TagReward,
        vqa::{
            accuracy::AccuracyReward,
            format::TagsReward,
            length::{CorrectLengthReward, ExtendedChainReward},
            semantic::SemanticAlignmentReward,
        },
    },
};

use crate::config::resolved::{
    ALL_TASKS,
    rewards::{Normalization, Rewards, UnseenPair},
};

/// What rewards ask: opened once a stage.
#[derive(Clone, Default)]
pub(crate) struct Experts {
    /// The encoder of sentences.
    pub(crate) embedder: Option<Arc<dyn TextEmbedder>>,
    /// The judge of captions.
    pub(crate) judge: Option<Arc<dyn Judge>>,
}

/// The names of the components that are normalised, for a task.
pub(crate) fn component_names(config: &Rewards, task: TaskKind) -> Vec<&'static str> {
    weights(config, task).into_iter().filter(|(_, weight)| *weight > 0.0).map(|(name, _)| name).collect()
}

/// The components of the rewards of `tasks`, the format of groundings included, each with its weight: for advantages that
/// are taken component by component.
///
/// # Errors
/// The component that has different weights in different tasks.
pub(crate) fn component_weights(
    config: &Rewards,
    tasks: &[TaskKind],
) -> Result<Vec<(&'static str, f64)>, &'static str> {
    let mut all: Vec<(&'static str, f64)> = Vec::new();
    for &task in tasks {
        let format = matches!(task, TaskKind::Tag | TaskKind::Stg).then_some(("format", 1.0));
        let used = weights(config, task).into_iter().chain(format).filter(|(_, weight)| *weight > 0.0);
        for (name, weight) in used {
            match all.iter().find(|(known, _)| *known == name) {
                Some((_, known)) if *known != weight => return Err(name),
                Some(_) => {}
                None => all.push((name, weight)),
            }
        }
    }
    Ok(all)
}

/// The components a task's reward may have, with their weights; what has no weight is left out.
fn weights(config: &Rewards, task: TaskKind) -> Vec<(&'static str, f64)> {
    match task {
        TaskKind::Tag | TaskKind::Stg => vec![("iou", 1.0)],
        TaskKind::DenseCaptioning => vec![("events", 1.0)],
        TaskKind::NextAction => vec![("class", 1.0)],
        TaskKind::Cvs | TaskKind::SkillAssessment => vec![("scores", 1.0)],
        TaskKind::VideoSummary | TaskKind::RegionCaption => {
            let captions = config.captions;
            vec![
                ("similarity", captions.similarity),
                ("judge", captions.judge),
                ("rouge_l", captions.rouge_l),
            ]
        }
        TaskKind::OpenQuestion => {
            let open = config.open;
            vec![
                ("accuracy", open.accuracy),
                ("format", open.format),
                ("semantic", open.semantic),
                ("extended_chain", open.extended_chain),
                ("correctness_weighted_length", open.correctness_weighted_length),
                ("similarity", open.similarity),
                ("rouge_l", open.rouge_l),
            ]
        }
    }
}

/// Whether a task's reward asks an encoder of sentences, and whether it asks a judge.
pub(crate) fn needs(config: &Rewards, task: TaskKind) -> (bool, bool) {
    let names = component_names(config, task);
    (names.contains(&"similarity"), names.contains(&"judge") || names.contains(&"semantic"))
}

/// The reward of every task whose components can be asked.
pub(crate) fn reward(
    config: &Rewards,
    max_completion_length: usize,
    experts: &Experts,
    normaliser: &Arc<dyn Normaliser>,
) -> Result<Arc<dyn Reward>> {
    let mut per_task = PerTask::new();
    for task in ALL_TASKS {
        let (needs_embedder, needs_judge) = needs(config, task);
        if (needs_embedder && experts.embedder.is_none()) || (needs_judge && experts.judge.is_none()) {
            continue;
        }
        let mut terms = Vec::new();
        for (name, weight) in weights(config, task).into_iter().filter(|(_, weight)| *weight > 0.0) {
            let measure = measure(config, task, name, experts)?;
            let component = Component::new(name, measure, Arc::clone(normaliser));
            terms.push((weight as f32, Box::new(component) as Box<dyn Reward>));
        }
        if terms.is_empty() {
            continue;
        }
        let metric: Box<dyn Reward> = Box::new(Weighted::new(terms));
        let reward: Box<dyn Reward> = match task {
            TaskKind::Tag | TaskKind::Stg => {
                let format = FormatReward { otherwise: config.format_factor as f32 };
                Box::new(Product::new(vec![metric, Box::new(Component::plain("format", format))]))
            }
            _ => metric,
        };
        per_task = match config.overlong {
            Some(overlong) => per_task.with(
                task,
                Overlong {
                    reward,
                    max_length: max_completion_length,
                    cache_length: overlong.cache_length,
                    weight: overlong.weight as f32,
                },
            ),
            None => per_task.with(task, reward),
        };
    }
    Ok(Arc::new(per_task))
}

/// What a component measures.
fn measure(config: &Rewards, task: TaskKind, name: &str, experts: &Experts) -> Result<Box<dyn Reward>> {
    let embedder = || {
        experts
            .embedder
            .clone()
            .with_context(|| format!("the component `{name}` of {task} needs an embedder"))
    };
    let judge =
        || experts.judge.clone().with_context(|| format!("the component `{name}` of {task} needs a judge"));
    Ok(match (task, name) {
        (TaskKind::Tag, _) => Box::new(TagReward { iou_threshold: config.tag_iou_threshold }),
        (TaskKind::Stg, _) => Box::new(StgReward),
        (TaskKind::DenseCaptioning, _) => Box::new(DvcReward {
            embedder: experts.embedder.clone(),
            caption_weight: config.dvc_caption_weight,
            ..DvcReward::default()
        }),
        (TaskKind::NextAction, _) => Box::new(NapReward),
        (TaskKind::Cvs, _) => Box::new(CvsReward),
        (TaskKind::SkillAssessment, _) => {
            Box::new(SkillReward { exact_weight: config.sa_exact_weight, ..SkillReward::default() })
        }
        (_, "similarity") => Box::new(SimilarityReward { embedder: embedder()? }),
        (_, "judge") => Box::new(JudgedReward { judge: judge()? }),
        (_, "rouge_l") => Box::new(RougeReward),
        (_, "accuracy") => Box::new(AccuracyReward),
        (_, "format") => Box::new(TagsReward),
        (_, "semantic") => {
            Box::new(SemanticAlignmentReward { expert: judge()?, threshold: config.open.semantic_threshold })
        }
        (_, "extended_chain") => Box::new(ExtendedChainReward { full_length: config.open.target_length }),
        (_, "correctness_weighted_length") => {
            Box::new(CorrectLengthReward { full_length: config.open.target_length })
        }
        _ => anyhow::bail!("no component `{name}` of {task}"),
    })
}

/// The normalisation of an experiment; `table` is the calibration of those that need one.
pub(crate) fn normaliser(config: &Normalization, table: Option<Calibration>) -> Result<Arc<dyn Normaliser>> {
    let reference = || -> Result<Arc<Reference>> {
        let settings = config.calibration().context("only normalizations with a calibration ask for one")?;
        let unseen = match settings.unseen {
            UnseenPair::Error => normalise::Unseen::Error,
            UnseenPair::Task => normalise::Unseen::Task,
        };
        let table = table.context("this normalization needs a calibration")?;
        Ok(Arc::new(Reference::new(table, unseen, settings.min_count, settings.refresh_steps)))
    };
    Ok(match *config {
        Normalization::None {} => Arc::new(Identity),
        Normalization::MedianLogistic { k, min_iqr, .. } => {
            Arc::new(Tabled { reference: reference()?, curve: MedianLogistic { k, min_iqr } })
        }
        Normalization::MinMax { min_range, .. } => {
            Arc::new(Tabled { reference: reference()?, curve: MinMax { min_range } })
        }
        Normalization::ZScore { min_std, .. } => {
            Arc::new(Tabled { reference: reference()?, curve: ZScore { min_std } })
        }
        Normalization::Rank { .. } => Arc::new(Tabled { reference: reference()?, curve: Rank }),
        Normalization::Gdpo {} => Arc::new(GroupZScore),
        Normalization::Ema { decay, min_std } => Arc::new(RunningStd::new(decay, min_std)),
    })
}
