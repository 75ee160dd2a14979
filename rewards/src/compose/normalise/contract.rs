//! The laws that every normaliser keeps, checked over all of them: add a new one to [`subjects`].

use std::sync::Arc;

use medgrpo_datasets::TaskKind;
use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::*;

const SEED: u64 = 3;

fn pair(dataset: &str, task: TaskKind) -> Pair {
    Pair { dataset: dataset.to_owned(), task, component: "iou".to_owned() }
}

/// Where a curve over the distribution of `values` takes each of `measured`.
pub(super) fn on_values<const N: usize>(curve: &impl Curve, values: &[f32], measured: [f64; N]) -> [f64; N] {
    let known = Distribution::of(pair("Any", TaskKind::Stg), values, 0).expect("there are values");
    measured.map(|measured| curve.at(measured, &known))
}

/// Two datasets of one task, the second five times as narrow.
fn calibration() -> Calibration {
    let values = |scale: f32| (0..=40).map(|i| scale * i as f32 / 40.0).collect::<Vec<f32>>();
    let measured = [
        (pair("Easy", TaskKind::Stg), (values(1.0), 0)),
        (pair("Hard", TaskKind::Stg), (values(0.2), 0)),
        (pair("Few", TaskKind::Stg), (vec![0.5], 0)),
        (pair("Flat", TaskKind::Stg), (vec![0.25; 40], 0)),
    ];
    Calibration::of("test".to_owned(), &measured.into())
}

fn subjects(unseen: Unseen, refresh_steps: usize) -> Vec<(&'static str, Box<dyn Normaliser>)> {
    fn over<C: Curve + 'static>(reference: Reference, curve: C) -> Box<dyn Normaliser> {
        Box::new(Tabled { reference: Arc::new(reference), curve })
    }
    let reference = || Reference::new(calibration(), unseen, 8, refresh_steps);
    vec![
        ("identity", Box::new(Identity)),
        ("median_logistic", over(reference(), MedianLogistic { k: 3.0, min_iqr: 0.02 })),
        ("min_max", over(reference(), MinMax { min_range: 0.02 })),
        ("z_score", over(reference(), ZScore { min_std: 0.02 })),
        ("rank", over(reference(), Rank)),
        ("gdpo", Box::new(GroupZScore)),
        ("ema", Box::new(RunningStd::new(0.99, 0.02))),
    ]
}

fn draw(rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..8).map(|_| rng.random_range(0.0..1.0)).collect()
}

#[test]
fn better_never_pays_less_and_any_value_stays_finite() {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    for (name, normaliser) in subjects(Unseen::Error, 0) {
        for dataset in ["Easy", "Hard", "Flat"] {
            let mut measured = draw(&mut rng);
            measured.sort_by(f32::total_cmp);
            let rewards = normaliser.normalise(&pair(dataset, TaskKind::Stg), &measured).unwrap();
            assert!(rewards.is_sorted(), "{name} on {dataset}, seed {SEED}: {measured:?} gave {rewards:?}");
            let far = normaliser.normalise(&pair(dataset, TaskKind::Stg), &[-1e9, 1e9]).unwrap();
            assert!(far.iter().all(|reward| reward.is_finite()), "{name} on {dataset}: {far:?}");
        }
    }
}

#[test]
fn the_order_in_which_a_step_is_scored_changes_nothing() {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    for refresh_steps in [0, 2] {
        let (forwards, shuffled) =
            (subjects(Unseen::Error, refresh_steps), subjects(Unseen::Error, refresh_steps));
        for ((name, forwards), (_, shuffled)) in forwards.iter().zip(&shuffled) {
            for step in 0..5 {
                let mut groups: Vec<(Pair, Vec<f32>)> = ["Easy", "Hard", "Flat"]
                    .iter()
                    .map(|dataset| (pair(dataset, TaskKind::Stg), draw(&mut rng)))
                    .collect();
                let score = |normaliser: &dyn Normaliser, groups: &[(Pair, Vec<f32>)]| {
                    let mut rewards: Vec<(Pair, Vec<f32>)> = groups
                        .iter()
                        .map(|(pair, values)| (pair.clone(), normaliser.normalise(pair, values).unwrap()))
                        .collect();
                    normaliser.end_step();
                    rewards.sort_by(|(a, _), (b, _)| a.cmp(b));
                    rewards
                };
                let first = score(&**forwards, &groups);
                groups.shuffle(&mut rng);
                assert_eq!(first, score(&**shuffled, &groups), "{name}, step {step}, seed {SEED}");
            }
            assert_eq!(forwards.state(), shuffled.state(), "{name}, seed {SEED}");
        }
    }
}

#[test]
fn a_checkpoint_goes_on_as_if_never_stopped() {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let whole = subjects(Unseen::Error, 2);
    let resumed = subjects(Unseen::Error, 2);
    for ((name, whole), (_, resumed)) in whole.iter().zip(&resumed) {
        let stg = pair("Hard", TaskKind::Stg);
        for _ in 0..3 {
            whole.normalise(&stg, &draw(&mut rng)).unwrap();
            whole.end_step();
        }
        resumed.restore(&whole.state()).unwrap();
        for _ in 0..3 {
            let values = draw(&mut rng);
            let (a, b) = (whole.normalise(&stg, &values).unwrap(), resumed.normalise(&stg, &values).unwrap());
            assert_eq!(a, b, "{name}, seed {SEED}");
            whole.end_step();
            resumed.end_step();
        }
    }
}

#[test]
fn medians_are_worth_the_same_whatever_the_dataset() {
    let reference = Arc::new(Reference::new(calibration(), Unseen::Error, 8, 0));
    let logistic = Tabled { reference, curve: MedianLogistic { k: 3.0, min_iqr: 0.02 } };
    let at = |dataset: &str, x: f32| logistic.normalise(&pair(dataset, TaskKind::Stg), &[x]).unwrap()[0];
    for (dataset, median, quartile) in [("Easy", 0.5, 0.75), ("Hard", 0.1, 0.15), ("Flat", 0.25, 0.26)] {
        assert!((at(dataset, median) - 0.5).abs() < 1e-6, "{dataset}");
        // Half an interquartile range above; the flat one counts as 0.02 wide.
        assert!((at(dataset, quartile) - 0.817_574).abs() < 1e-5, "{dataset}: {}", at(dataset, quartile));
    }
}

#[test]
fn unseen_pairs_stop_the_run_or_fall_back_by_name() {
    for (name, strict) in subjects(Unseen::Error, 0) {
        let needs_a_table = !matches!(name, "identity" | "gdpo" | "ema");
        for (dataset, count) in [("Nobody", "0 values"), ("Few", "1 value")] {
            let result = strict.normalise(&pair(dataset, TaskKind::Stg), &[0.5]);
            assert_eq!(result.is_err(), needs_a_table, "{name}");
            if let Err(error) = result {
                let error = error.to_string();
                assert!(
                    error.contains(&format!("{dataset} x stg x iou")) && error.contains(count),
                    "{error}"
                );
            }
        }
    }
    for (name, lenient) in subjects(Unseen::Task, 0) {
        let seen = lenient.normalise(&pair("Nobody", TaskKind::Stg), &[0.5]).unwrap();
        assert_eq!(seen, lenient.normalise(&pair("Few", TaskKind::Stg), &[0.5]).unwrap(), "{name}");
        let of_no_dataset = lenient.normalise(&pair("Easy", TaskKind::Tag), &[0.5]);
        assert_eq!(of_no_dataset.is_err(), !matches!(name, "identity" | "gdpo" | "ema"), "{name}");
    }
}

#[test]
fn ranks_need_quantiles_and_say_of_which_pair() {
    let mut by_hand = calibration();
    by_hand.distributions.iter_mut().for_each(|known| known.quantiles.clear());
    let reference = Arc::new(Reference::new(by_hand, Unseen::Error, 8, 0));
    let ranks = Tabled { reference, curve: Rank };
    let error = ranks.normalise(&pair("Easy", TaskKind::Stg), &[0.5]).unwrap_err().to_string();
    assert!(error.contains("Easy x stg x iou") && error.contains("quantiles"), "{error}");
}

#[test]
fn a_refreshed_table_follows_the_policy() {
    let reference = Arc::new(Reference::new(calibration(), Unseen::Error, 8, 2));
    let logistic = Tabled { reference, curve: MedianLogistic { k: 3.0, min_iqr: 0.02 } };
    let hard = pair("Hard", TaskKind::Stg);
    let improved: Vec<f32> = (0..8).map(|i| 0.5 + 0.05 * i as f32).collect();
    for step in 0..2 {
        let top = logistic.normalise(&hard, &improved).unwrap();
        assert!(top[0] > 0.99, "step {step}: far above the old median");
        logistic.end_step();
    }
    let centred = logistic.normalise(&hard, &[0.675]).unwrap()[0];
    assert!((centred - 0.5).abs() < 1e-5, "the new median is worth a half: {centred}");
    assert!(logistic.normalise(&pair("Few", TaskKind::Stg), &[0.5]).is_err(), "nothing was seen of it");
}
