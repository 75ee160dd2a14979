//! Equality with the official scorer on recorded cases: `tests/data/eval`, and every folder in `MEDGRPO_EVAL_CASES`.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;
use medgrpo_datasets::{Segment, Span, TaskSample};
use serde_json::{Value, json};

use super::{
    Bootstrap, Options, Report, Rules, constant_baseline, evaluate_records, evaluate_with,
    ground_truth::{official_task, read_record},
    report::Group,
};
use crate::{
    embed::VectorMap,
    judge::{Judge, ReplayJudge, ReplyRules},
    metric::{box_iou, dvc_f1, dvc_pairs, span_iou},
    parse,
};

/// Numbers that need a judge.
const JUDGED: [&str; 3] = ["dvc_llm", "vs_llm", "rc_llm"];

/// The folder of the repository, then those the variable names (separated as in `PATH`).
pub(super) fn folders() -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/eval");
    let further = std::env::var_os("MEDGRPO_EVAL_CASES").unwrap_or_default();
    let further: Vec<PathBuf> =
        std::env::split_paths(&further).filter(|path| !path.as_os_str().is_empty()).collect();
    for folder in &further {
        assert!(folder.is_dir(), "MEDGRPO_EVAL_CASES: {} is no folder", folder.display());
    }
    std::iter::once(own).chain(further).collect()
}

pub(super) fn read(path: &Path) -> Value {
    let mut text = String::new();
    let mut file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let result = if path.extension().is_some_and(|extension| extension == "gz") {
        GzDecoder::new(file).read_to_string(&mut text)
    } else {
        file.read_to_string(&mut text)
    };
    result.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    // Python writes NaN and Infinity bare; no expected value that is compared here needs them.
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Structural equality with a relative tolerance for numbers; the first difference as text.
fn difference(found: &Value, expected: &Value, tolerance: f64) -> Option<String> {
    match (found, expected) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64()?, b.as_f64()?);
            ((a - b).abs() > tolerance * b.abs().max(1.0)).then(|| format!("{a} instead of {b}"))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .find_map(|(i, (a, b))| Some(format!("[{i}] {}", difference(a, b, tolerance)?))),
        (Value::Object(a), Value::Object(b)) if a.len() == b.len() => {
            b.iter().find_map(|(key, b)| match a.get(key) {
                Some(a) => Some(format!("{key}: {}", difference(a, b, tolerance)?)),
                None => Some(format!("{key}: missing")),
            })
        }
        (a, b) => (a != b).then(|| format!("{a:.200} instead of {b:.200}")),
    }
}

fn spans(pairs: &Value) -> Vec<Span> {
    let number = |value: &Value| value.as_f64().expect("a number");
    list(pairs).iter().map(|p| Span { start_sec: number(&p[0]), end_sec: number(&p[1]) }).collect()
}

fn events(events: &[Segment]) -> Value {
    events.iter().map(|e| json!([e.span.start_sec, e.span.end_sec, e.caption])).collect()
}

fn boxes(answer: &parse::stg::Boxes) -> Value {
    match answer {
        parse::stg::Boxes::Timed(boxes) => {
            boxes.iter().map(|(key, corners)| (key.clone(), json!(corners))).collect()
        }
        parse::stg::Boxes::Listed(boxes) => json!(boxes),
    }
}

/// What this crate makes of a parser case, in the form of its expected part.
fn outcome(parser: &str, case: &Value) -> Option<Value> {
    let text = case["text"].as_str().unwrap_or_default();
    Some(match parser {
        "tal" => {
            let spans = parse::tag::parse(text);
            json!({ "segments": spans.iter().map(|s| [s.start_sec, s.end_sec]).collect::<Vec<_>>() })
        }
        "stg" => json!({ "parsed": boxes(&parse::stg::parse(text)) }),
        "dvc" => {
            let segments = parse::dvc::parse(text);
            let overlap = parse::dvc::has_overlap(&segments);
            let flattened = if overlap { parse::dvc::flatten_longest(&segments) } else { segments.clone() };
            json!({ "segments": events(&segments), "overlap": overlap, "flattened": events(&flattened) })
        }
        "nap" => {
            let field = |key: &str| case[key].as_str().unwrap_or_default();
            let (source, question) = (field("data_source"), field("question"));
            let classes = parse::next_action::classes(source, question).unwrap_or_default();
            let (answer, gold) =
                ["prediction", "gnd"].map(|key| parse::next_action::normalise(source, field(key))).into();
            let place = |label: &str| classes.iter().position(|class| class == label);
            json!({
                "procedure": parse::next_action::procedure(source, question), "n_actions": classes.len(),
                "pred_norm": answer, "gnd_norm": gold, "pred_exact": place(&answer), "gnd_index": place(&gold),
            })
        }
        "cvs" => json!({ "components": parse::cvs::parse(text) }),
        "sa" => {
            let answer = parse::skill::parse(text);
            json!({
                "aspects": answer.aspects, "mean": answer.mean_score, "level": answer.level().map(parse::skill::Level::as_str),
            })
        }
        "fn_tal_pair" => {
            let at = |threshold: f64| {
                let score = span_iou::official(&spans(&case["pred"]), &spans(&case["gt"]), threshold);
                json!({
                    "recall": score.recall, "precision": score.precision, "f1": score.f1(), "mean_iou": score.mean_iou,
                })
            };
            json!({ "@0.3": at(0.3), "@0.5": at(0.5), "@0.7": at(0.7) })
        }
        "fn_dvc_f1" => {
            let frames = |key: &str| -> Vec<dvc_f1::FrameSpan> {
                serde_json::from_value(case[key].clone()).expect("pairs of whole numbers")
            };
            let score = dvc_f1::official(&frames("pred"), &frames("gt"));
            let [precision, recall, f1] = score.map_or([0.0; 3], |s| [s.precision, s.recall, s.f1]);
            json!({ "Precision_Mean": precision, "Recall_Mean": recall, "F1_Score": f1 })
        }
        "fn_dvc_match" => {
            let found = dvc_pairs::pairs(&spans(&case["pred"]), &spans(&case["gt"]));
            let named = |pairs: &Vec<(usize, usize)>| -> Value {
                pairs.iter().map(|(p, g)| json!([format!("p{p}"), format!("g{g}")])).collect()
            };
            json!({ "@0.3": named(&found[0]), "@0.5": named(&found[1]), "@0.7": named(&found[2]) })
        }
        "fn_stg_iou" => {
            let read =
                |key: &str| -> Vec<[f64; 4]> { serde_json::from_value(case[key].clone()).expect("boxes") };
            let pairs: Vec<f64> =
                read("a").into_iter().zip(read("b")).map(|(a, b)| box_iou::box_iou(a, b)).collect();
            json!({ "iou": pairs })
        }
        _ => return None,
    })
}

/// Folders below and including `folder` that hold `name`.
pub(super) fn holding(folder: &Path, name: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .chain([folder.to_owned()])
        .filter(|path| path.join(name).is_file())
        .collect();
    found.sort();
    found
}

#[test]
fn parsers_equal_the_official_ones_on_eval_cases() {
    let mut num_cases = 0;
    for folder in folders().iter().flat_map(|folder| holding(folder, "parser_cases.json")) {
        let cases = read(&folder.join("parser_cases.json"));
        let mut failures = Vec::new();
        for (parser, cases) in cases.as_object().expect("cases by parser") {
            for case in list(cases) {
                let Some(found) = outcome(parser, case) else {
                    continue;
                };
                num_cases += 1;
                let wrong = found.as_object().expect("an object").iter().find_map(|(key, found)| {
                    Some(format!("{key}: {}", difference(found, &case[key], 1e-12)?))
                });
                if let Some(wrong) = wrong {
                    failures.push(format!("{parser}: {wrong}\n    {case:.400}"));
                }
            }
        }
        assert!(
            failures.is_empty(),
            "{}: {} failures\n{}",
            folder.display(),
            failures.len(),
            failures.join("\n")
        );
    }
    assert!(num_cases >= 200, "only {num_cases} cases");
}

/// The numbers of groups that the official scorer tells, by our names.
fn compare_groups(report: &Report, expected: &Value) -> Vec<String> {
    const NAMES: [(&str, &str); 14] = [
        ("recall@0.3", "tag_recall_03"),
        ("meanIoU@0.3", "tag_miou_03"),
        ("recall@0.5", "tag_recall_05"),
        ("meanIoU@0.5", "tag_miou_05"),
        ("iou@0.3", "stg_iou_03"),
        ("iou@0.5", "stg_iou_05"),
        ("iou@0.7", "stg_iou_07"),
        ("mIoU", "stg_miou"),
        ("mean_iou", "stg_miou"),
        ("caption_score", "dvc_llm"),
        ("temporal_f1", "dvc_f1"),
        ("temporal_precision", "dvc_precision"),
        ("temporal_recall", "dvc_recall"),
        ("accuracy", "nap_acc"),
    ];
    let mut differences = Vec::new();
    for (&task, datasets) in &report.per_dataset {
        let theirs = &expected["per_dataset"][task];
        if let (Some(headline), Some(judging)) = (theirs["aspect_scores"].as_object(), &report.judge) {
            let ours = json!(judging.aspects[format!("{task}_llm").as_str()]);
            differences.extend(difference(&ours, &json!(headline), 1e-9).map(|d| format!("{task}: {d}")));
            if json!(report.counts[task].n_judged) != theirs["num_samples"] {
                differences.push(format!("{task}: {} judged", report.counts[task].n_judged));
            }
        }
        for (dataset, group) in datasets {
            let mut groups: Vec<(String, &Group)> = vec![("overall".to_owned(), group)];
            // The official scorer loses the rate in next-action prediction.
            if task != "next_action" {
                let by_fps = &report.per_fps[task][dataset];
                groups.extend(by_fps.iter().map(|(fps, group)| (format!("fps_{fps}"), group)));
            }
            let exact = &theirs[dataset];
            for name in ["component_balanced_accuracy", "aspect_balanced_accuracy"] {
                if let (Some(value), Some(ours)) = (exact[name].as_f64(), group.metrics.values().next())
                    && (ours - value).abs() > 1e-9
                {
                    differences.push(format!("{task} {dataset} {name}: {ours} instead of {value}"));
                }
            }
            for (key, group) in groups {
                for (name, value) in exact[&key].as_object().into_iter().flatten() {
                    let Some((_, ours)) = NAMES.iter().find(|(known, _)| known == name) else { continue };
                    let found = group.metrics.get(ours).copied().unwrap_or(0.0);
                    if value.as_f64().is_some_and(|value| (found - value).abs() > 1e-9) {
                        differences.push(format!("{task} {dataset} {key} {name}: {found}, not {value}"));
                    }
                }
            }
        }
    }
    differences
}

/// Compares one evaluation with its expected values; differences as text.
fn compare(records: &Value, predictions: &Value, expected: &Value) -> Vec<String> {
    let embedder: VectorMap = serde_json::from_value(expected["embeddings"].clone()).unwrap_or_default();
    let judge = expected["judge_replay"].as_array().map(|replies| {
        let replies = json!(replies).to_string();
        ReplayJudge::from_text(&replies, ReplyRules::Official).expect("recorded replies")
    });
    let options = Options {
        embedder: Some(&embedder),
        judge: judge.as_ref().map(|judge| judge as &dyn Judge),
        ..Options::default()
    };
    let report = match evaluate_records(list(records), list(predictions), &options) {
        Ok(report) => report,
        Err(_) if expected["overall"].is_null() => return vec![],
        Err(error) => return vec![error.to_string()],
    };
    let mut differences = Vec::new();
    let shown = serde_json::to_value(&report.leaderboard_3dp).expect("serialisable");
    for (name, found) in report.overall.entries() {
        if judge.is_none() && JUDGED.contains(&name) {
            assert!(found.is_none(), "{name} comes from nowhere");
            continue;
        }
        // A lost task is null here and null or 0 in the cases.
        let value = &expected["overall"][name];
        match (found, value.as_f64()) {
            (Some(found), Some(value)) if (found - value).abs() <= 1e-9 => {}
            (None, None | Some(0.0)) => {}
            (found, _) => differences.push(format!("{name}: {found:?} instead of {value}")),
        }
        if let (Some(board), Some(_)) = (expected["leaderboard_3dp"][name].as_f64(), found)
            && shown[name].as_f64() != Some(board)
        {
            differences.push(format!("{name} on the board: {} instead of {board}", shown[name]));
        }
    }
    for record in list(&expected["per_record"]) {
        let index = record["index"].as_u64().expect("an index") as usize;
        let Some(found) = report.per_record.iter().find(|found| found.index == index) else {
            differences.push(format!("record {index}: not scored"));
            continue;
        };
        let lost = report.task_errors.keys().any(|task| found.qa_type.contains(task));
        if lost || (judge.is_none() && matches!(found.task, "vs" | "rc")) {
            continue;
        }
        if let (Some(score), Some(_)) = (record["caption_score"].as_f64(), &judge)
            && (found.caption_score.unwrap_or(0.0) - score).abs() > 1e-9
        {
            differences.push(format!("record {index}: {:?} of the judge, not {score}", found.caption_score));
        }
        if let Some(wrong) = difference(&found.score, &record["score"], 1e-9) {
            differences.push(format!("record {index} ({}): {wrong}", found.qa_type));
        }
    }
    differences.extend(compare_groups(&report, expected));
    differences
}

#[test]
fn metrics_equal_the_official_ones_on_eval_cases() {
    let mut num_cases = 0;
    for folder in folders().iter().flat_map(|folder| holding(folder, "expected.json.gz")) {
        let file = |name: &str| read(&folder.join(name));
        let differences =
            compare(&file("ground_truth.json.gz"), &file("predictions.json.gz"), &file("expected.json.gz"));
        assert!(differences.is_empty(), "{}:\n{}", folder.display(), differences.join("\n"));
        num_cases += 1;
    }
    assert!(num_cases >= 2, "only {num_cases} folders");
}

#[test]
fn edge_cases_equal_the_official_ones_on_eval_cases() {
    let mut failures = Vec::new();
    for folder in folders().iter().flat_map(|folder| holding(folder, "edge_cases.json.gz")) {
        for case in list(&read(&folder.join("edge_cases.json.gz"))) {
            let differences = match case.get("merged") {
                Some(merged) => {
                    let records = merged
                        .as_object()
                        .map_or_else(|| merged.clone(), |by_row| by_row.values().cloned().collect());
                    let answer =
                        |record: &Value| match record.get("prediction").or_else(|| record.get("answer")) {
                            Some(answer) => json!({ "prediction": answer }),
                            None => json!({}),
                        };
                    let predictions = list(&records).iter().map(answer).collect();
                    compare(&records, &predictions, &case["expected"])
                }
                None => compare(&case["ground_truth"], &case["predictions"], &case["expected"]),
            };
            failures.extend(differences.iter().map(|wrong| format!("{}: {wrong}", case["name"])));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn without_an_embedder_unresolved_answers_count_as_wrong_on_eval_cases() {
    for folder in folders().iter().flat_map(|folder| holding(folder, "expected.json.gz")) {
        let file = |name: &str| read(&folder.join(name));
        let expected = file("expected.json.gz");
        let Some(exact_only) = expected["extra_not_official"]["nap_exact_only"].as_f64() else {
            continue;
        };
        let (records, predictions) = (file("ground_truth.json.gz"), file("predictions.json.gz"));
        let report =
            evaluate_records(list(&records), list(&predictions), &Options::default()).expect("equal lengths");
        let found = report.overall.nap_acc.expect("there are rows");
        assert!((found - exact_only).abs() < 1e-9, "{}: {found} instead of {exact_only}", folder.display());
        assert!(report.counts["next_action"].n_unresolved > 0);
    }
}

#[test]
fn strict_skill_scores_equal_the_first_releases_on_eval_cases() {
    for folder in folders().iter().flat_map(|folder| holding(folder, "expected.json.gz")) {
        let file = |name: &str| read(&folder.join(name));
        let expected = file("expected.json.gz");
        let Some(accuracy) = expected["c0_sa_strict"]["aspect_balanced_accuracy"].as_f64() else {
            continue;
        };
        let (records, predictions) = (file("ground_truth.json.gz"), file("predictions.json.gz"));
        let options = Options { rules: Rules::Strict, ..Options::default() };
        let report = evaluate_records(list(&records), list(&predictions), &options).expect("equal lengths");
        let found = report.overall.sa_acc.expect("there are rows");
        assert!((found - accuracy).abs() < 1e-9, "{}: {found} instead of {accuracy}", folder.display());
        let parsed = report.counts["skill_assessment"].n_parsed;
        assert_eq!(json!(parsed), expected["c0_sa_strict"]["parsed"], "{}", folder.display());
    }
}

#[test]
fn intervals_hold_the_number_and_repeat_with_the_seed_on_eval_cases() {
    let folder = folders()[0].join("seed1");
    let (records, predictions) =
        (read(&folder.join("ground_truth.json.gz")), read(&folder.join("predictions.json.gz")));
    let evaluate = |seed: u64| {
        let bootstrap = Some(Bootstrap { num_resamples: 60, confidence: 0.9, seed });
        let options = Options { bootstrap, ..Options::default() };
        evaluate_records(list(&records), list(&predictions), &options).expect("equal lengths")
    };
    let report = evaluate(1);
    assert_eq!(report.intervals, evaluate(1).intervals);
    assert_ne!(report.intervals, evaluate(2).intervals);
    for (name, value) in report.headlines() {
        let interval = report.intervals[name];
        assert!(interval.low < value && value < interval.high, "{name}: {value} outside {interval:?}");
        assert!(interval.high - interval.low < 0.5, "{name}: {interval:?}");
    }
}

/// The samples of a ground-truth file of the repository.
fn samples(seed: &str, rules: Rules) -> Vec<TaskSample> {
    let records = read(&folders()[0].join(seed).join("ground_truth.json.gz"));
    let sample = |(row, record): (usize, &Value)| {
        let task = official_task(record["qa_type"].as_str()?)?;
        Some(read_record(row, task, record, rules).expect("the record is good"))
    };
    list(&records).iter().enumerate().filter_map(sample).collect()
}

#[test]
fn gold_reaches_the_top_and_a_constant_lies_between_it_and_silence_on_eval_cases() {
    for rules in [Rules::Official, Rules::Strict] {
        let (train, test) = (samples("seed1", rules), samples("seed2", rules));
        let evaluate = |answers: Vec<String>| -> Report {
            let pairs: Vec<_> = test.iter().cloned().zip(answers).collect();
            evaluate_with(&pairs, &Options { rules, ..Options::default() })
        };
        let gold = test.iter().map(|s| crate::canonical_answer(&s.gold).unwrap_or_default()).collect();
        let [gold, constant, silence] =
            [gold, constant_baseline(&train, &test), vec![String::new(); test.len()]].map(evaluate);
        let value = |report: &Report, name: &str| {
            report.headlines().into_iter().find(|(other, _)| *other == name).map(|(_, value)| value)
        };
        for (name, top) in gold.headlines() {
            let constant = value(&constant, name).expect("the same rows");
            let silence = value(&silence, name).expect("the same rows");
            assert_eq!(silence, 0.0, "{rules:?} {name}");
            assert!(
                silence < constant && constant < top && top <= 1.0,
                "{rules:?} {name}: {constant} and {top}"
            );
            // Answers carry one decimal, and the official rules give points, rounded or not, nothing.
            let least = match (rules, name) {
                (Rules::Official, "tag_miou_03" | "tag_miou_05" | "dvc_f1") => 0.7,
                (_, "tag_miou_03" | "tag_miou_05" | "dvc_f1") => 0.9,
                _ => 1.0 - 1e-12,
            };
            assert!(top >= least, "{rules:?} {name}: gold earns {top}");
        }
    }
}
