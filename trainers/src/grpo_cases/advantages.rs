//! Advantages, deviations and whether these are none.

use std::{borrow::Cow, collections::BTreeMap};

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

    // A difference in rounding grows with every division by a small deviation.
    let part_growth = 1.0 / (smallest_part_std(&groups) + epsilon);
    let (advantages, sums, statistics, std_growth) = match entry["aggregation"].as_str() {
        Some("sum_then_normalize") => {
            let scale = match entry["scale_rewards"].as_str() {
                Some("group") => Scale::Group,
                Some("batch") => Scale::Batch,
                Some("none") => Scale::None,
                other => return Err(format!("unknown scale_rewards {other:?}")),
            };
            let rule = GroupMean { scale, epsilon, deviation: Deviation::Sample };
            let sums = groups.iter().flatten().map(|it| it.as_ref().map(|it| it.total)).collect();
            (rule.advantages(&groups), sums, rule.statistics(&groups), 1.0)
        }
        Some("normalize_then_sum") => {
            let names = (0..weights.len()).map(|place| Cow::Owned(place.to_string()));
            let rule = Gdpo { weights: names.zip(weights.iter().copied()).collect(), epsilon };
            let sums = rule.sums(&groups).concat();
            let batch = Statistics::of(&sums, Deviation::Sample);
            (rule.advantages(&groups), sums, vec![batch; groups.len()], part_growth)
        }
        other => return Err(format!("unknown aggregation {other:?}")),
    };

    let counts = groups.iter().map(|group| group.iter().flatten().count());
    let counts = counts.chain([groups.iter().flatten().flatten().count()]).chain(part_counts(&groups));
    let rounding = counts.map(correction_rounding).fold(0.0, f64::max);
    let (base, machine_epsilon) = match is_f32(entry) {
        false => (1e-10 + 4.0 * rounding, f64::EPSILON),
        true => (1e-5, f64::from(f32::EPSILON)),
    };
    let largest = rewards.iter().flatten().fold(0.0_f64, |largest, reward| largest.max(reward.abs()));
    let std_noise = 4.0 * machine_epsilon * largest * std_growth;
    let smallest = statistics.iter().fold(f64::INFINITY, |smallest, it| smallest.min(it.std));
    let tolerance = base + std_noise / (smallest + epsilon);

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
    // Where the original has no deviation or one of its own rounding's size, ours is rightly none.
    let undecided = |std: f64| std.is_nan() || (1e-8..std_noise).contains(&std);
    let known: Vec<f64> =
        zero.iter().zip(&theirs).map(|(zero, std)| if undecided(*std) { f64::NAN } else { *zero }).collect();
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

/// In how many completions of each group each part is.
fn part_counts(groups: &[Vec<Option<Payment>>]) -> Vec<usize> {
    let of_group = |group: &Vec<Option<Payment>>| {
        let mut counts = BTreeMap::new();
        for (name, _) in group.iter().flatten().flat_map(|payment| &payment.parts) {
            *counts.entry(name.clone()).or_insert(0) += 1;
        }
        counts.into_values().collect::<Vec<usize>>()
    };
    groups.iter().flat_map(of_group).collect()
}

/// By how much (relative) the original's standard deviation of `count` numbers is off: it computes Bessel's correction
/// `count / (count - 1)` in f32 even where all else is f64. Nothing for counts like 2, 3 and 5, whose correction f32 holds.
fn correction_rounding(count: usize) -> f64 {
    if count < 2 {
        return 0.0;
    }
    let exact = count as f64 / (count as f64 - 1.0);
    (f64::from(exact as f32) / exact - 1.0).abs() / 2.0
}

/// The smallest deviation of any part within any group.
fn smallest_part_std(groups: &[Vec<Option<Payment>>]) -> f64 {
    let of_group = |group: &Vec<Option<Payment>>| {
        let mut parts: BTreeMap<_, Vec<Option<f64>>> = BTreeMap::new();
        for (name, value) in group.iter().flatten().flat_map(|payment| &payment.parts) {
            parts.entry(name.clone()).or_default().push(Some(*value));
        }
        parts.into_values().map(|values| Statistics::of(&values, Deviation::Sample).std).fold(1.0, f64::min)
    };
    groups.iter().map(of_group).fold(1.0, f64::min)
}
