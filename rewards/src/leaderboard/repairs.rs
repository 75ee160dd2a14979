//! Each repair of the strict rules: the same answers by both rules, the official number and the strict one side by side.
//!
//! Read a test as a row of a table: what is repaired, task, truth, answers, which number, official value, strict value.

use std::collections::BTreeMap;

use medgrpo_datasets::{Content, Gold, Message, Role, Segment, Span, TaskKind, TaskSample, TimedBox};
use serde_json::{Value, json};

use super::{Options, Report, Rules, evaluate_records, evaluate_with, report::eval_key};
use crate::{embed::VectorMap, parse::skill::ASPECTS, task::contract};

/// A headline number, or else the average over rows of a metric of the task.
fn number(report: &Report, task: TaskKind, name: &str) -> Option<f64> {
    let headline = report.overall.entries().into_iter().find(|(other, _)| *other == name);
    headline
        .map_or_else(|| Some(report.averages.get(eval_key(task))?.get(name)?.over_rows), |(_, value)| value)
}

/// The row of the table; one frame a second.
fn row(
    task: TaskKind,
    gold: &Gold,
    answers: &[&str],
    name: &str,
    official: impl Into<Option<f64>>,
    strict: impl Into<Option<f64>>,
) {
    let sample = TaskSample { fps: 1.0, ..contract::sample(task, gold.clone()) };
    let pairs: Vec<(TaskSample, String)> =
        answers.iter().map(|text| (sample.clone(), (*text).to_owned())).collect();
    let by = |rules| number(&evaluate_with(&pairs, &Options { rules, ..Options::default() }), task, name);
    same([by(Rules::Official), by(Rules::Strict)], [official.into(), strict.into()]);
}

fn same(found: [Option<f64>; 2], expected: [Option<f64>; 2]) {
    let near = |(a, b): (&Option<f64>, &Option<f64>)| match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() < 1e-6,
        (a, b) => a == b,
    };
    assert!(found.iter().zip(&expected).all(near), "[official, strict] = {found:?} instead of {expected:?}");
}

fn spans(spans: &[(f64, f64)]) -> Gold {
    Gold::Spans(spans.iter().map(|&(start_sec, end_sec)| Span { start_sec, end_sec }).collect())
}

fn boxes(times: &[f64]) -> Gold {
    let at = |time_sec: &f64| TimedBox {
        key: time_sec.to_string(),
        time_sec: *time_sec,
        box_xyxy: [0.0, 0.0, 4.0, 4.0],
    };
    Gold::Boxes(times.iter().map(at).collect())
}

fn events(spans: &[(f64, f64)]) -> Gold {
    let event = |&(start_sec, end_sec): &(f64, f64)| Segment {
        span: Span { start_sec, end_sec },
        caption: "x".into(),
    };
    Gold::Segments(spans.iter().map(event).collect())
}

fn scores(scores: &[(&str, i64)]) -> BTreeMap<String, i64> {
    scores.iter().map(|&(name, score)| (name.to_owned(), score)).collect()
}

fn safety(two_structures: i64, cystic_plate: i64) -> Gold {
    Gold::CvsScores(scores(&[("two_structures", two_structures), ("cystic_plate", cystic_plate)]))
}

#[test]
fn tag_surplus_spans_cost() {
    let windows: Vec<String> = (0..10).map(|i| format!("{}.0-{}.0", i * 10, i * 10 + 10)).collect();
    let windows = windows.join(", ");
    row(TaskKind::Tag, &spans(&[(10.0, 20.0)]), &[&windows], "tag_miou_05", 1.0, 0.1);
}

#[test]
fn tag_missed_spans_cost() {
    row(TaskKind::Tag, &spans(&[(0.0, 10.0), (20.0, 30.0)]), &["0-10 seconds."], "tag_miou_03", 1.0, 0.5);
}

#[test]
fn tag_spans_are_matched_in_the_best_way_not_in_order() {
    // In order, 0-10 takes 0-6 (.6), and nothing that reaches .3 is left for 0-6.
    let gold = spans(&[(0.0, 10.0), (0.0, 6.0)]);
    row(TaskKind::Tag, &gold, &["0-6, 0-30 seconds."], "tag_miou_03", 0.6, (1.0 + 1.0 / 3.0) / 2.0);
}

#[test]
fn tag_precision_recall_and_f1_exist() {
    let (gold, answers) = (spans(&[(0.0, 10.0), (20.0, 30.0)]), ["0-10, 50-60, 70-80 seconds."]);
    row(TaskKind::Tag, &gold, &answers, "tag_recall_05", 0.5, 0.5);
    row(TaskKind::Tag, &gold, &answers, "tag_precision_05", None, 1.0 / 3.0);
    row(TaskKind::Tag, &gold, &answers, "tag_f1_05", None, 0.4);
}

#[test]
fn tag_points_can_be_right() {
    row(TaskKind::Tag, &spans(&[(66.0, 66.0)]), &["66.0-66.0 seconds."], "tag_miou_03", 0.0, 1.0);
}

#[test]
fn tag_dashes_other_than_the_hyphen_separate() {
    for dash in ["\u{2013}", "\u{2014}", "\u{2212}"] {
        let answer = format!("1.0{dash}9.0 seconds.");
        row(TaskKind::Tag, &spans(&[(1.0, 9.0)]), &[&answer], "tag_miou_05", 0.0, 1.0);
    }
}

#[test]
fn tag_words_count_beside_hyphens() {
    let answers = ["from 1 to 5 seconds, 20-30 seconds"];
    row(TaskKind::Tag, &spans(&[(1.0, 5.0), (20.0, 30.0)]), &answers, "tag_recall_05", 0.5, 1.0);
}

#[test]
fn tag_clock_text_is_one_time() {
    row(TaskKind::Tag, &spans(&[(65.0, 120.0)]), &["00:01:05-00:02:00"], "tag_miou_05", 0.0, 1.0);
}

#[test]
fn stg_no_box_is_inherited() {
    row(
        TaskKind::Stg,
        &boxes(&[0.0, 8.0, 16.0, 24.0]),
        &["0.0 seconds: [0, 0, 4, 4]"],
        "stg_miou",
        1.0,
        0.25,
    );
}

#[test]
fn stg_a_malformed_box_is_nothing() {
    let answer = "0.0 seconds: [0, 0, 4, 4] 8.0 seconds: [0, 0, 4]";
    row(TaskKind::Stg, &boxes(&[0.0, 8.0]), &[answer], "stg_miou", 1.0, 0.5);
}

#[test]
fn stg_a_box_of_nan_spoils_its_own_time_alone() {
    let answers = ["0.0 seconds: [nan, 0, 4, 4]", "0.0 seconds: [0, 0, 4, 4]"];
    row(TaskKind::Stg, &boxes(&[0.0]), &answers, "stg_miou", None, 0.5);
}

#[test]
fn stg_times_match_within_half_a_sampling_period() {
    // The official key of 8.25 is `8.2`.
    row(TaskKind::Stg, &boxes(&[8.25]), &["8.25 seconds: [0, 0, 4, 4]"], "stg_miou", 0.0, 1.0);
}

#[test]
fn stg_bare_lists_are_dealt_to_keys_of_any_style() {
    row(TaskKind::Stg, &boxes(&[66.0]), &["[[0, 0, 4, 4]]"], "stg_miou", 0.0, 1.0);
    row(TaskKind::Stg, &boxes(&[66.0]), &["[0.0, 0.0, 4.0, 4.0]"], "stg_miou", 0.0, 1.0);
}

#[test]
fn stg_units_may_be_singular_or_short() {
    row(TaskKind::Stg, &boxes(&[1.0]), &["1.0 second: [0, 0, 4, 4]"], "stg_miou", 0.0, 1.0);
    row(TaskKind::Stg, &boxes(&[1.0]), &["1.0s: [0, 0, 4, 4]"], "stg_miou", 0.0, 1.0);
}

#[test]
fn stg_reversed_corners_are_put_right() {
    row(TaskKind::Stg, &boxes(&[1.0]), &["1.0 seconds: [4, 4, 0, 0]"], "stg_miou", 0.0, 1.0);
}

#[test]
fn stg_of_several_boxes_for_a_time_the_worst_counts_not_the_last() {
    let answer = "1.0 seconds: [0, 0, 2, 4] 1.0 seconds: [0, 0, 4, 4]";
    row(TaskKind::Stg, &boxes(&[1.0]), &[answer], "stg_miou", 1.0, 0.5);
}

#[test]
fn stg_recall_of_times_exists() {
    let answer = "0.0 seconds: [9, 9, 9, 9] 8.0 seconds: [0, 0, 4, 4]";
    row(TaskKind::Stg, &boxes(&[0.0, 8.0, 16.0, 24.0]), &[answer], "stg_time_recall", None, 0.5);
}

#[test]
fn dvc_answers_without_events_count() {
    row(
        TaskKind::DenseCaptioning,
        &events(&[(0.0, 9.0)]),
        &["0-9 seconds: x", "nothing"],
        "dvc_f1",
        1.0,
        0.5,
    );
}

#[test]
fn dvc_one_event_covers_one() {
    let gold = events(&[(0.0, 18.0), (0.0, 20.0), (2.0, 20.0)]);
    row(TaskKind::DenseCaptioning, &gold, &["0-20 seconds: x"], "dvc_recall", 1.0, 1.0 / 3.0);
}

#[test]
fn dvc_times_are_seconds_not_whole_frames() {
    row(TaskKind::DenseCaptioning, &events(&[(0.2, 0.9)]), &["0.2-0.9 seconds: x"], "dvc_f1", 0.0, 1.0);
}

#[test]
fn dvc_an_overlap_of_the_threshold_reaches_it() {
    // Overlap .5: above .3 by both rules, at .5 by the strict one.
    row(
        TaskKind::DenseCaptioning,
        &events(&[(0.0, 10.0)]),
        &["0-5 seconds: x"],
        "dvc_f1",
        1.0 / 3.0,
        2.0 / 3.0,
    );
}

#[test]
fn dvc_events_may_stand_on_one_line() {
    let answer = "0-10 seconds: a 20-30 seconds: b";
    row(TaskKind::DenseCaptioning, &events(&[(0.0, 10.0), (20.0, 30.0)]), &[answer], "dvc_recall", 0.5, 1.0);
}

#[test]
fn dvc_headers_may_be_written_in_other_ways() {
    let answer = "0 \u{2013} 10 s: a\n20-30 seconds:b";
    row(
        TaskKind::DenseCaptioning,
        &events(&[(0.0, 10.0), (20.0, 30.0)]),
        &[answer, "0-10 seconds: a"],
        "dvc_recall",
        0.5,
        0.75,
    );
}

#[test]
fn dvc_overlapping_events_are_not_cut_into_pieces() {
    let answer = "0-20 seconds: a\n5-15 seconds: b";
    // Cut at 5 and 15: of the pieces 0-5, 5-15 and 15-20 one overlaps a gold event by more than .3.
    row(
        TaskKind::DenseCaptioning,
        &events(&[(0.0, 20.0), (5.0, 15.0)]),
        &[answer],
        "dvc_precision",
        1.0 / 3.0,
        1.0,
    );
}

#[test]
fn dvc_datasets_are_averaged_in_both_ways() {
    let of = |source: &str, text: &str| {
        let sample = contract::sample(TaskKind::DenseCaptioning, events(&[(0.0, 90.0)]));
        (TaskSample { source: source.into(), ..sample }, text.to_owned())
    };
    let answered = "0-90 seconds: x";
    let pairs = [of("A", answered), of("A", answered), of("A", ""), of("B", "")];
    let [official, strict] = [Rules::Official, Rules::Strict]
        .map(|rules| evaluate_with(&pairs, &Options { rules, ..Options::default() }));
    same([official.overall.dvc_f1, strict.overall.dvc_f1], [Some(0.75), Some(0.5)]);
    let macros = [&official, &strict]
        .map(|report| report.averages["dvc"].get("dvc_f1").map(|both| both.over_datasets));
    same(macros, [Some(1.0), Some(1.0 / 3.0)]);
}

#[test]
fn next_action_spelling_does_not_matter() {
    row(TaskKind::NextAction, &Gold::Class("adjust camera".into()), &["Adjust-Camera."], "nap_acc", 0.0, 1.0);
}

#[test]
fn next_action_the_nearest_class_is_reported_apart() {
    // A source with one label: by the official rules whatever is said is nearest to it.
    let sample = contract::sample(TaskKind::NextAction, Gold::Class("cut".into()));
    let pairs = [(TaskSample { source: "EgoSurgery".into(), ..sample }, "sing".to_owned())];
    let vectors =
        VectorMap::from_iter([("cut".to_owned(), vec![1.0, 0.0]), ("sing".to_owned(), vec![0.0, 1.0])]);
    let by = |rules, name| {
        let report =
            evaluate_with(&pairs, &Options { rules, embedder: Some(&vectors), ..Options::default() });
        number(&report, TaskKind::NextAction, name)
    };
    same([by(Rules::Official, "nap_acc"), by(Rules::Strict, "nap_acc")], [Some(1.0), Some(0.0)]);
    same([by(Rules::Official, "nap_acc_nearest"), by(Rules::Strict, "nap_acc_nearest")], [None, Some(1.0)]);
}

#[test]
fn next_action_the_majority_class_stands_beside_the_number() {
    let answered = |class: &str| {
        (contract::sample(TaskKind::NextAction, Gold::Class(class.into())), "adjust camera".to_owned())
    };
    let pairs = ["adjust camera", "adjust camera", "lift flap with forceps"].map(answered);
    let by = |rules| {
        number(
            &evaluate_with(&pairs, &Options { rules, ..Options::default() }),
            TaskKind::NextAction,
            "nap_acc_majority",
        )
    };
    same([by(Rules::Official), by(Rules::Strict)], [None, Some(2.0 / 3.0)]);
}

#[test]
fn next_action_the_longest_procedure_of_a_question_is_meant() {
    let question = "Next in Subcutaneous Injection Insulin?";
    let [first, longest] = [crate::parse::next_action::classes, crate::parse::next_action::classes_strict]
        .map(|classes| classes("NurViD", question).expect("a closed list"));
    let class = longest.iter().find(|class| !first.contains(class)).expect("a label of its own").clone();
    let sample = contract::sample(TaskKind::NextAction, Gold::Class(class.clone()));
    let prompt = vec![Message { role: Role::User, content: vec![Content::Text(question.into())] }];
    let pairs = [(TaskSample { source: "NurViD".into(), prompt, ..sample }, class)];
    let by = |rules| evaluate_with(&pairs, &Options { rules, ..Options::default() }).overall.nap_acc;
    // The row has no class of its list by the official rules, and it is the only one.
    same([by(Rules::Official), by(Rules::Strict)], [None, Some(1.0)]);
}

#[test]
fn cvs_silence_is_wrong() {
    row(TaskKind::Cvs, &safety(1, 0), &["Two structures: 1", "", "", ""], "cvs_acc", 1.0, 0.125);
}

#[test]
fn cvs_lines_semicolons_and_json_are_read() {
    for answer in [
        "Two structures: 1\nCystic plate: 0",
        "Two structures: 1; cystic plate: 0",
        r#"{"two_structures": 1, "cystic_plate": 0}"#,
        "Two structures = 1 and cystic plate = 0",
    ] {
        row(
            TaskKind::Cvs,
            &safety(1, 0),
            &[answer, "Two structures: 1, Cystic plate: 1"],
            "cvs_acc",
            0.5,
            0.75,
        );
    }
}

#[test]
fn cvs_a_score_is_a_whole_number_of_the_scale() {
    row(TaskKind::Cvs, &safety(1, 0), &["Two structures: 1.9, cystic plate: 0"], "cvs_acc", 1.0, 0.5);
}

#[test]
fn cvs_a_constant_has_its_own_numbers() {
    let zeros = "Two structures: 0, Cystic plate: 0";
    let pairs = [safety(0, 0), safety(0, 0), safety(0, 1), safety(2, 0)]
        .map(|gold| (contract::sample(TaskKind::Cvs, gold), zeros.to_owned()));
    let by = |rules, name| {
        number(&evaluate_with(&pairs, &Options { rules, ..Options::default() }), TaskKind::Cvs, name)
    };
    let both = |name| [by(Rules::Official, name), by(Rules::Strict, name)];
    same(both("cvs_acc"), [Some(0.75), Some(0.75)]);
    same(both("cvs_acc_all_zero"), [None, Some(0.75)]);
    same(both("mean_class_recall"), [None, Some(0.5)]);
    same(both("cvs_mae"), [None, Some(3.0 / 8.0)]);
}

fn skill() -> Gold {
    Gold::SkillScores(scores(&ASPECTS.map(|aspect| (aspect, 3))))
}

#[test]
fn skill_all_six_aspects_or_wrong() {
    row(TaskKind::SkillAssessment, &skill(), &["Time and motion: 3/5", ""], "sa_acc", 1.0, 0.0);
    row(TaskKind::SkillAssessment, &skill(), &["Time and motion: 3/5", ""], "sa_mae", None, 2.0);
}

#[test]
fn skill_lines_and_case_do_not_matter() {
    let answer = ASPECTS.map(|aspect| format!("{}: 3/5", aspect.to_lowercase())).join("\n");
    row(TaskKind::SkillAssessment, &skill(), &[&answer], "sa_acc", 0.0, 1.0);
}

/// Rows as files hold them.
fn by_both_rules(records: &[Value], predictions: &[Value]) -> [Result<Report, super::EvalError>; 2] {
    [Rules::Official, Rules::Strict]
        .map(|rules| evaluate_records(records, predictions, &Options { rules, ..Options::default() }))
}

fn tal(struc_info: &Value) -> Value {
    json!({
        "qa_type": "tal", "data_source": "AVOS", "metadata": {"fps": "1.0"}, "struc_info": struc_info,
        "conversations": [{"from": "human", "value": "When?"}, {"from": "gpt", "value": "1.0-9.0 seconds."}],
    })
}

#[test]
fn rows_a_bad_one_loses_no_other() {
    let good = tal(&json!([{"spans": [{"start": 1.0, "end": 9.0}]}]));
    let answer = json!({"prediction": "1.0-9.0 seconds."});
    let tag = |reports: [Result<Report, super::EvalError>; 2]| {
        reports.map(|report| report.ok().and_then(|report| report.overall.tag_miou_05))
    };
    let both = [good.clone(), good.clone()];
    // An answer that is not text is no answer.
    let not_text = json!({ "prediction": 7 });
    same(tag(by_both_rules(&both, &[answer.clone(), not_text])), [None, Some(0.5)]);
    // So is one that is not there; the official scorer ends.
    let reports = by_both_rules(&both, &[answer.clone(), json!({})]);
    assert!(matches!(reports[0], Err(super::EvalError::NoPrediction { index: 1 })));
    same(tag(reports), [None, Some(0.5)]);
    // A record without usable truth is left out.
    let bad = tal(&json!([{"spans": [{"start": "1.0", "end": 9.0}]}]));
    same(tag(by_both_rules(&[good, bad], &[answer.clone(), answer])), [None, Some(1.0)]);
}

#[test]
fn rows_without_spans_take_the_truth_from_the_answer() {
    let reports = by_both_rules(&[tal(&json!([]))], &[json!({"prediction": "1.0-9.0 seconds."})]);
    same(reports.map(|report| report.expect("equal lengths").overall.tag_miou_05), [Some(0.0), Some(1.0)]);
}

#[test]
fn rows_a_time_beyond_any_frame_loses_no_other() {
    let gold = events(&[(0.0, 9.0)]);
    let endless = format!("0-{} seconds: x", "9".repeat(310));
    row(TaskKind::DenseCaptioning, &gold, &["0-9 seconds: x", &endless], "dvc_f1", None, 0.5);
}

#[test]
fn numbers_are_rounded_once() {
    let overall = super::report::Overall { nap_acc: Some(0.71246), ..Default::default() };
    let shown = [Rules::Official, Rules::Strict].map(|rules| overall.as_shown(rules).nap_acc);
    assert_eq!(shown, [Some(0.713), Some(0.712)]);
}
