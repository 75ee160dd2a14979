//! What holds of every method, whatever its parts.

use burn::tensor::DType;

use crate::{
    advantage::{Advantage, Constant, Gdpo},
    aggregate::{Aggregate, StepTotals},
    objective::{
        Cispo, Clip, KlEstimator, KlToReference, Level, Nll, Sapo,
        weight::{Beyond, TruncatedImportance},
    },
    recipe::Term,
    recipes::{GrpoConfig, Surrogate},
    testing::{Cpu, Noise, Outcome, Rows, alone, outcome, payments},
};

/// Methods by name, each as its constructor gives it.
fn methods() -> Vec<(&'static str, GrpoConfig)> {
    vec![
        ("grpo", GrpoConfig::default()),
        ("dapo", GrpoConfig::dapo()),
        ("dr_grpo", GrpoConfig::dr_grpo(16)),
        ("bnpo", GrpoConfig::bnpo()),
        ("gspo", GrpoConfig::gspo()),
        ("luspo", GrpoConfig::luspo()),
        ("cispo", GrpoConfig::cispo()),
        ("sapo", GrpoConfig::sapo()),
        ("vespo", GrpoConfig::vespo()),
        ("rloo", GrpoConfig::rloo()),
        ("gdpo", GrpoConfig::gdpo(Gdpo::of(["a"]))),
    ]
}

/// The same and more, with everything switched on that looks at no other sequence.
fn variants() -> Vec<(String, GrpoConfig)> {
    let level = Level::Sequence;
    let mut surrogates = vec![
        ("cispo/sequence", Surrogate::Cispo(Cispo { max_ratio: 1.1, level })),
        ("sapo/sequence", Surrogate::Sapo(Sapo { level, ..Sapo::default() })),
    ];
    let clips = [
        ("clip/sequence", Clip { level, ..Clip::default() }),
        ("clip/delta", Clip { delta: Some(1.2), ..Clip::default() }),
        ("clip/dual", Clip { clip_ratio_c: Some(1.3), ..Clip::default() }),
    ];
    surrogates.extend(clips.map(|(name, clip)| (name, Surrogate::Clip(clip))));
    let mut all: Vec<(String, GrpoConfig)> =
        methods().into_iter().map(|(name, config)| (name.to_owned(), config)).collect();
    all.extend(
        surrogates
            .into_iter()
            .map(|(name, surrogate)| (name.to_owned(), GrpoConfig { surrogate, ..GrpoConfig::default() })),
    );
    let plain = all.clone();
    for (estimator, level, beyond) in [
        (KlEstimator::K1, Level::Token, Beyond::Truncate),
        (KlEstimator::K2, Level::Sequence, Beyond::Truncate),
        (KlEstimator::K3, Level::Token, Beyond::Mask),
    ] {
        all.extend(plain.iter().map(|(name, config)| {
            let correction = TruncatedImportance { level, beyond, clip_min: Some(0.9), clip_max: 1.1 };
            let config = GrpoConfig {
                beta: 0.3,
                kl: KlToReference { estimator, bias_correction: Some(level) },
                entropy_coef: 0.2,
                off_policy_mask_threshold: Some(0.05),
                importance_sampling_correction: Some(correction),
                ..config.clone()
            };
            (format!("{name} with all, {estimator:?}"), config)
        }));
    }
    all
}

fn assert_close(what: &str, a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (place, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() < 1e-10, "{what}: {a} and {b} at {place}");
    }
}

fn assert_same(what: &str, a: &Outcome, b: &Outcome) {
    assert_close(what, &[a.loss], &[b.loss]);
    assert_close(what, &a.gradient, &b.gradient);
    assert_close(what, &a.entropy_gradient, &b.entropy_gradient);
    assert_eq!(a.metrics.keys().collect::<Vec<_>>(), b.metrics.keys().collect::<Vec<_>>(), "{what}");
    let values = |outcome: &Outcome| outcome.metrics.values().copied().collect::<Vec<f64>>();
    assert_close(what, &values(a), &values(b));
}

fn whole(config: &GrpoConfig, rows: &Rows) -> Outcome {
    outcome(&config.terms(), rows, rows.totals(), DType::F64)
}

#[test]
fn dapo_with_equal_bounds_is_grpo_under_its_aggregation() {
    let rows = Rows::random(&mut Noise::new("dapo"), &[3, 5, 2, 4]);
    let dapo = GrpoConfig { surrogate: Surrogate::Clip(Clip::default()), ..GrpoConfig::dapo() };
    let grpo = GrpoConfig { aggregate: Aggregate::TokenMean, beta: 0.0, ..GrpoConfig::default() };
    let (dapo_outcome, grpo_outcome) = (whole(&dapo, &rows), whole(&grpo, &rows));
    assert_eq!(dapo_outcome.loss, grpo_outcome.loss);
    assert_eq!(dapo_outcome.gradient, grpo_outcome.gradient);
    let groups = payments(&[&[0.1, 0.9, 0.4], &[1.0, 0.0, 0.2]]);
    assert_eq!(dapo.advantage.advantages(&groups), grpo.advantage.advantages(&groups));
    // The bounds are what is different: with its own, DAPO is another method.
    assert_ne!(whole(&GrpoConfig::dapo(), &rows).loss, grpo_outcome.loss);
}

#[test]
fn at_the_first_update_every_surrogate_is_the_plain_policy_gradient() {
    let rows = Rows { old: None, ..Rows::random(&mut Noise::new("first update"), &[3, 5, 2, 4]) };
    for (name, config) in methods() {
        let weights = config.aggregate.token_weights(&rows.mask, rows.totals());
        let width = rows.mask.dims()[1];
        let plain: Vec<f64> = weights
            .iter()
            .enumerate()
            .map(|(place, weight)| -weight * rows.advantages[place / width])
            .collect();
        let outcome = whole(&config, &rows);
        assert_close(name, &outcome.gradient, &plain);
        assert!(plain.iter().any(|it| it.abs() > 1e-3), "{name}: {plain:?}");
        let ratio = outcome.metrics.get("importance_ratio_deviation").copied();
        assert_eq!(ratio.unwrap_or_default(), 0.0, "{name}");
    }
}

#[test]
fn the_policy_gradient_of_a_constant_advantage_is_that_of_maximum_likelihood() {
    let mut rows = Rows { old: None, ..Rows::random(&mut Noise::new("constant"), &[3, 5]) };
    rows.advantages = Constant.advantages(&payments(&[&[0.3, 0.8]])).concat();
    let likelihood = outcome(&alone(Nll), &rows, rows.totals(), DType::F64);
    let surrogate = outcome(&alone(Clip::default()), &rows, rows.totals(), DType::F64);
    assert_close("gradient", &likelihood.gradient, &surrogate.gradient);
}

#[test]
fn what_is_masked_has_no_gradient_at_all() {
    let mut rows = Rows::random(&mut Noise::new("masked"), &[3, 5, 2, 4, 6, 1, 5, 4]).padded(2, 60.0);
    // A hole in one sequence, and one that is left out as a whole.
    rows.mask = rows.mask.filter(|place| place != 1).silence(|sequence| sequence == 2);
    for (name, config) in variants() {
        let config = GrpoConfig { top_entropy_quantile: 0.7, ..config };
        for dtype in [DType::F32, DType::F64] {
            let outcome = outcome(&config.terms(), &rows, rows.totals(), dtype);
            assert!(outcome.loss.is_finite(), "{name}: {}", outcome.loss);
            for gradient in [&outcome.gradient, &outcome.entropy_gradient] {
                assert!(gradient.iter().all(|it| it.is_finite()), "{name}: {gradient:?}");
                let masked = gradient.iter().zip(rows.mask.as_slice()).filter(|(_, learns)| !**learns);
                assert!(masked.map(|(it, _)| it).all(|it| *it == 0.0), "{name}: {gradient:?}");
            }
            assert!(outcome.gradient.iter().any(|it| *it != 0.0), "{name}");
        }
    }
}

#[test]
fn a_step_of_which_everything_is_masked_is_none() {
    let mut rows = Rows::random(&mut Noise::new("nothing"), &[3, 2]);
    rows.mask = rows.mask.silence(|_| true);
    for (name, config) in variants() {
        let outcome = whole(&GrpoConfig { top_entropy_quantile: 0.5, ..config }, &rows);
        assert_eq!(outcome.loss, 0.0, "{name}");
        assert!(outcome.gradient.iter().chain(&outcome.entropy_gradient).all(|it| *it == 0.0), "{name}");
        assert!(outcome.metrics.values().all(|it| it.is_finite()), "{name}: {:?}", outcome.metrics);
    }
}

#[test]
fn padding_changes_nothing() {
    let rows = Rows::random(&mut Noise::new("padding"), &[3, 5, 2, 4]);
    let width = rows.mask.dims()[1];
    for (name, config) in variants() {
        let config = GrpoConfig { top_entropy_quantile: 0.6, ..config };
        let mut padded = whole(&config, &rows.padded(3, 60.0));
        for gradient in [&mut padded.gradient, &mut padded.entropy_gradient] {
            *gradient = gradient.chunks(width + 3).flat_map(|row| row[..width].to_vec()).collect();
        }
        assert_same(&name, &whole(&config, &rows), &padded);
    }
}

#[test]
fn the_order_of_sequences_changes_nothing() {
    let rows = Rows::random(&mut Noise::new("order"), &[3, 5, 2, 4]);
    let width = rows.mask.dims()[1];
    let order = [2, 0, 3, 1];
    let turned = rows.select(&order);
    for (name, config) in variants() {
        let config = GrpoConfig { top_entropy_quantile: 0.6, ..config };
        let mut expected = whole(&config, &rows);
        for gradient in [&mut expected.gradient, &mut expected.entropy_gradient] {
            *gradient =
                order.iter().flat_map(|row| gradient[row * width..(row + 1) * width].to_vec()).collect();
        }
        assert_same(&name, &expected, &whole(&config, &turned));
    }
}

#[test]
fn how_a_step_is_cut_changes_nothing() {
    let rows = Rows::random(&mut Noise::new("cut"), &[3, 5, 2, 4, 1]);
    for (name, config) in variants() {
        // The rule of the micro-batch is the exception, as it says.
        if config.aggregate == Aggregate::MicroBatchTokenMean {
            continue;
        }
        let expected = whole(&config, &rows);
        for cut in [vec![vec![0], vec![1], vec![2], vec![3], vec![4]], vec![vec![0, 1], vec![2, 3, 4]]] {
            let totals = StepTotals { num_micro_batches: cut.len(), ..rows.totals() };
            let terms: Vec<Term<Cpu>> = config.terms();
            let pieces: Vec<Outcome> =
                cut.iter().map(|piece| outcome(&terms, &rows.select(piece), totals, DType::F64)).collect();
            let mut sum = pieces[0].clone();
            for piece in &pieces[1..] {
                sum.loss += piece.loss;
                sum.gradient.extend(&piece.gradient);
                sum.entropy_gradient.extend(&piece.entropy_gradient);
                for (name, value) in &piece.metrics {
                    *sum.metrics.get_mut(name).unwrap() += value;
                }
            }
            assert_same(&name, &expected, &sum);
        }
    }
}
