//! Equality of the caption metrics with the caption-evaluation package on recorded captions, and how far our METEOR is from
//! METEOR 1.5: `tests/data/eval`, and every folder in `MEDGRPO_EVAL_CASES`.

use serde_json::Value;

use super::cases::{folders, holding, list, read};
use crate::metric::{
    bleu,
    caption_words::{CaptionPair, CorpusScore, treebank_words},
    cider, meteor, rouge_l,
};

/// Every file of captions with its name.
fn files() -> Vec<(String, Value)> {
    let found: Vec<(String, Value)> = folders()
        .iter()
        .flat_map(|folder| holding(folder, "caption_refs.json"))
        .map(|folder| (folder.display().to_string(), read(&folder.join("caption_refs.json"))))
        .collect();
    assert!(found.len() >= 2, "only {} files of captions", found.len());
    found
}

fn text<'v>(pair: &'v Value, key: &str) -> &'v str {
    pair[key].as_str().expect("text")
}

fn pairs(cases: &Value) -> Vec<CaptionPair> {
    let pair = |pair: &Value| CaptionPair::new(text(pair, "prediction"), text(pair, "reference"));
    list(&cases["pairs"]).iter().map(pair).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    list(value).iter().map(|number| number.as_f64().expect("a number")).collect()
}

fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= tolerance, "{what}, {index}: {found} instead of {expected}");
    }
}

#[test]
fn words_equal_the_treebank_tokens_on_eval_cases() {
    for (name, cases) in files() {
        for (pair, tokens) in list(&cases["pairs"]).iter().zip(list(&cases["ptb_tokens"])) {
            for key in ["prediction", "reference"] {
                assert_eq!(treebank_words(text(pair, key)).join(" "), text(tokens, key), "{name}");
            }
        }
    }
}

#[test]
fn cider_and_bleu_equal_the_caption_evaluation_package_on_eval_cases() {
    for (name, cases) in files() {
        let pairs = pairs(&cases);
        let CorpusScore { per_record, mean } = cider::cider_d(&pairs);
        for tokens in
            ["cider_ptb", "cider_simple_tok"].map(|key| &cases[key]).into_iter().filter(|c| c.is_object())
        {
            assert_close(&format!("{name}: CIDEr"), &per_record, &numbers(&tokens["per"]), 1e-9);
            assert_close(
                &format!("{name}: CIDEr"),
                &[mean],
                &[tokens["score"].as_f64().expect("a number")],
                1e-9,
            );
        }
        let score = bleu::bleu(&pairs);
        assert_close(&format!("{name}: BLEU"), &score.corpus, &numbers(&cases["bleu_ptb"]["score"]), 1e-9);
        for (n, expected) in list(&cases["bleu_ptb"]["per"]).iter().enumerate() {
            let found: Vec<f64> = score.per_record.iter().map(|record| record[n]).collect();
            assert_close(&format!("{name}: BLEU-{}", n + 1), &found, &numbers(expected), 1e-9);
        }
    }
}

#[test]
fn rouge_l_of_treebank_words_equals_the_caption_evaluation_package_on_eval_cases() {
    for (name, cases) in files() {
        let score = |pair: &CaptionPair| rouge_l::rouge_l_of_words(&pair.prediction, &pair.reference);
        let found: Vec<f64> = pairs(&cases).iter().map(score).collect();
        assert_close(&format!("{name}: ROUGE-L"), &found, &numbers(&cases["rouge_l_ptb"]["per"]), 1e-12);
    }
}

/// Pearson's correlation and the mean absolute difference.
fn agreement(a: &[f64], b: &[f64]) -> (f64, f64) {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let moment =
        |f: fn(f64, f64) -> f64| a.iter().zip(b).map(|(a, b)| f(a - mean_a, b - mean_b)).sum::<f64>();
    let correlation = moment(|a, b| a * b) / (moment(|a, _| a * a) * moment(|_, b| b * b)).sqrt();
    let difference = a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>() / a.len() as f64;
    (correlation, difference)
}

/// The distance that the documentation of [`meteor`] speaks of; `--nocapture` prints it.
#[test]
fn meteor_of_exact_and_stem_matches_stays_near_meteor_on_eval_cases() {
    for (name, cases) in files() {
        let found = meteor::meteor_exact_stem(&pairs(&cases)).per_record;
        for (key, least, most) in [("meteor_ptb", 0.8, 0.05), ("meteor_exact_stem", 0.95, 0.02)] {
            let expected = numbers(&cases[key]["per"]);
            if expected.is_empty() {
                continue;
            }
            let (correlation, difference) = agreement(&found, &expected);
            println!("{name}: {key}: correlation {correlation:.4}, mean absolute difference {difference:.4}");
            assert!(
                correlation >= least && difference <= most,
                "{name}: {key}: {correlation} and {difference}"
            );
        }
    }
}
