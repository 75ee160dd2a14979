//! What a step reports, under TRL's names.

use std::collections::BTreeMap;

use medgrpo_rewards::Score;

use crate::rollout::RolloutGroup;

/// Named numbers of one step.
pub type Metrics = BTreeMap<String, f64>;

/// Rewards, lengths and counts of all groups that a step has drawn.
pub(crate) fn rollout_metrics<'g>(groups: impl Iterator<Item = &'g RolloutGroup> + Clone) -> Metrics {
    let mut metrics = Metrics::new();
    let completions = || groups.clone().flat_map(|group| &group.completions);
    let lens: Vec<f64> = completions().map(|completion| completion.token_ids.len() as f64).collect();
    metrics.insert("completions/mean_length".to_owned(), mean(&lens));
    metrics.insert("completions/min_length".to_owned(), lens.iter().copied().fold(f64::INFINITY, f64::min));
    metrics.insert("completions/max_length".to_owned(), lens.iter().copied().fold(0.0, f64::max));
    let prompts: Vec<f64> =
        groups.clone().map(|group| group.prepared.prompt.input_ids.len() as f64).collect();
    metrics.insert("prompts/mean_length".to_owned(), mean(&prompts));
    if completions().all(|completion| completion.score.is_none()) {
        return metrics;
    }

    let share = |count: usize, of: usize| if of == 0 { 0.0 } else { count as f64 / of as f64 };
    let truncated = completions().filter(|completion| completion.truncated).count();
    metrics.insert("completions/clipped_ratio".to_owned(), share(truncated, lens.len()));
    let unscored = completions().filter(|completion| completion.reward().is_none()).count();
    metrics.insert("frac_unscored".to_owned(), share(unscored, lens.len()));

    let mut all = Vec::new();
    let mut deviations = Vec::new();
    let mut flat = 0;
    let mut by_task: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut parts: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for group in groups.clone() {
        let rewards: Vec<f64> =
            group.completions.iter().filter_map(|it| it.reward()).map(f64::from).collect();
        let deviation = deviation(&rewards);
        deviations.push(deviation);
        flat += usize::from(deviation < 1e-6);
        let sample = &group.prepared.sample;
        let key = format!("rewards/{}/{}", sample.task, sample.source);
        for completion in &group.completions {
            if let Some(Score::Scored { raw, parts: own, .. }) = &completion.score {
                by_task
                    .entry(format!("raw/{}/{}", sample.task, sample.source))
                    .or_default()
                    .push(f64::from(*raw));
                for (name, value) in own {
                    parts.entry(format!("parts/{}/{name}", sample.task)).or_default().push(f64::from(*value));
                }
            }
        }
        by_task.entry(key).or_default().extend(&rewards);
        all.extend(rewards);
    }
    metrics.insert("reward".to_owned(), mean(&all));
    metrics.insert("reward_std".to_owned(), mean(&deviations));
    metrics.insert("frac_reward_zero_std".to_owned(), share(flat, groups.count()));
    for (name, values) in by_task.into_iter().chain(parts) {
        metrics.insert(format!("{name}/mean"), mean(&values));
    }
    metrics
}

fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

fn deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let center = mean(values);
    (values.iter().map(|value| (value - center).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt()
}
