//! Advantages, deviations and whether these are none.

use std::borrow::Cow;

use serde_json::Value;

use super::{all_close, is_f32, list, number, table};
use crate::advantage::{Advantage, Deviation, Gdpo, GroupMean, Payment, Scale, Statistics};

/// Checks one entry.
pub(super) fn check(entry: &Value) -> Result<(), String> {
    check_entry(entry).map_err(|error| {
        format!("{}, {}, {}: {error}", entry["name"], entry["aggregation"], entry["scale_rewards"])
    })
}

fn check_entry(entry: &Value) -> Result<(), String> {
    let weights = list(&entry["weights"])?;
    let rewards = table(&entry["rewards_per_func"])?;
    let group_size = entry["num_generations"].as_u64().ok_or("num_generations is no count")? as usize;
    let epsilon = number(&entry["eps"])?;
    let groups: Vec<Vec<Option<Payment>>> = rewards
        .chunks(group_size)
        .map(|group| group.iter().map(|rewards| payment(rewards, &weights)).collect())
        .collect();

    let (advantages, sums, statistics) = match entry["aggregation"].as_str() {
        Some("sum_then_normalize") => {
            let scale = match entry["scale_rewards"].as_str() {
                Some("group") => Scale::Group,
                Some("batch") => Scale::Batch,
                Some("none") => Scale::None,
                other => return Err(format!("unknown scale_rewards {other:?}")),
            };
            let rule = GroupMean { scale, epsilon, deviation: Deviation::Sample };
            let sums = groups.iter().flatten().map(|it| it.as_ref().map(|it| it.total)).collect();
            (rule.advantages(&groups), sums, rule.statistics(&groups))
        }
        Some("normalize_then_sum") => {
            let names = (0..weights.len()).map(|place| Cow::Owned(place.to_string()));
            let rule = Gdpo { weights: names.zip(weights.iter().copied()).collect(), epsilon };
            let sums = rule.sums(&groups).concat();
            let batch = Statistics::of(&sums, Deviation::Sample);
            (rule.advantages(&groups), sums, vec![batch; groups.len()])
        }
        other => return Err(format!("unknown aggregation {other:?}")),
    };

    let tolerance = tolerance(entry, &rewards, &statistics, epsilon);
    all_close("advantages", &advantages.concat(), &list(&entry["advantages"])?, tolerance)?;
    if let Some(expected) = entry.get("rewards") {
        let sums: Vec<f64> = sums.iter().map(|sum: &Option<f64>| sum.unwrap_or(f64::NAN)).collect();
        all_close("rewards", &sums, &list(expected)?, tolerance)?;
    }
    let per_completion = |of: &dyn Fn(&Statistics) -> f64| -> Vec<f64> {
        statistics.iter().flat_map(|statistics| vec![of(statistics); group_size]).collect()
    };
    let theirs = list(&entry["std_rewards"])?;
    all_close("std_rewards", &per_completion(&|it| it.std), &theirs, tolerance)?;
    let ours = per_completion(&|it| f64::from(u8::from(it.is_std_zero())));
    let zero = list(&entry["is_std_zero"])?;
    // A deviation that the original does not have is no zero there, and one here.
    let known: Vec<f64> =
        zero.iter().zip(&theirs).map(|(zero, std)| if std.is_nan() { f64::NAN } else { *zero }).collect();
    all_close("is_std_zero", &ours, &known, 0.0)
}

/// What a completion was paid: nulls are parts that it lacks.
fn payment(rewards: &[f64], weights: &[f64]) -> Option<Payment> {
    let parts: Vec<_> = rewards
        .iter()
        .enumerate()
        .filter(|(_, reward)| !reward.is_nan())
        .map(|(place, reward)| (Cow::Owned(place.to_string()), *reward))
        .collect();
    let paid = rewards.iter().zip(weights).filter(|(reward, _)| !reward.is_nan());
    let total = paid.map(|(reward, weight)| reward * weight).sum();
    (!parts.is_empty()).then_some(Payment { total, parts })
}

/// 1e-10; where the original computed in f32, 1e-5 and what becomes of its rounding when a small deviation divides it.
fn tolerance(entry: &Value, rewards: &[Vec<f64>], statistics: &[Statistics], epsilon: f64) -> f64 {
    if !is_f32(entry) {
        return 1e-10;
    }
    let largest = rewards.iter().flatten().fold(0.0_f64, |largest, reward| largest.max(reward.abs()));
    let smallest = statistics.iter().fold(f64::INFINITY, |smallest, it| smallest.min(it.std));
    1e-5 + f64::from(f32::EPSILON) * largest / (smallest + epsilon)
}
