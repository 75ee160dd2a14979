//! The judge's three numbers: which captions it compares, and what its judgements come to.
//!
//! Official rules judge every dense caption that overlaps a gold event, once a threshold, and every summary and region
//! caption that is not empty; failures are left out. Strict rules match events one to one, give silence, missed events
//! and surplus ones the floor of the scale, and take no score outside of it. All pairs of a task are judged in one call,
//! equal ones once.

use std::collections::{BTreeMap, HashMap};

use medgrpo_datasets::{Gold, Span, TaskKind};
use serde_json::{Value, json};

use super::{
    report::{Judging, Rules, eval_key},
    rows::{Entry, Row},
};
use crate::{
    embed::{TextEmbedder, cosine},
    judge::{Aspect, Judge, Judgement, Pair, Unjudged},
    metric::{dvc_pairs, rouge_l},
    parse,
};

/// The least a caption can get: what strict rules give to one that is not there.
const FLOOR: [f64; 5] = [1.0; 5];

/// The name of a task's number.
pub(crate) fn headline(task: TaskKind) -> Option<&'static str> {
    match task {
        TaskKind::DenseCaptioning => Some("dvc_llm"),
        TaskKind::VideoSummary => Some("vs_llm"),
        TaskKind::RegionCaption => Some("rc_llm"),
        _ => None,
    }
}

/// Judgements of one row, or of several added up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judged {
    /// Sum of scores by aspect and how many were added: at each threshold for dense captions by official rules, else all
    /// in the first place.
    sums: [([f64; 5], usize); 3],
    pub(crate) num_asked: usize,
    pub(crate) num_failed: usize,
}

impl Judged {
    pub(crate) fn add(&mut self, other: &Self) {
        for ((sum, count), (others, number)) in self.sums.iter_mut().zip(&other.sums) {
            sum.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
            *count += number;
        }
        self.num_asked += other.num_asked;
        self.num_failed += other.num_failed;
    }

    fn put(&mut self, place: usize, scores: &[f64; 5]) {
        let (sum, count) = &mut self.sums[place];
        sum.iter_mut().zip(scores).for_each(|(sum, score)| *sum += score);
        *count += 1;
    }

    /// How many scores there are in the first place: rows, unless dense captions are judged by official rules.
    pub(crate) fn num_scored(&self) -> usize {
        self.sums[0].1
    }

    /// The number these judgements come to; `None` without any.
    ///
    /// Dense captions: the mean over thresholds, and in each over aspects, of the means above 0; the others: the mean of
    /// the aspects' means.
    pub(crate) fn score(&self, task: TaskKind) -> Option<f64> {
        let means = self.sums.iter().filter(|(_, count)| *count > 0);
        let means: Vec<[f64; 5]> = means.map(|(sum, count)| sum.map(|sum| sum / *count as f64)).collect();
        let first = means.first()?;
        if task != TaskKind::DenseCaptioning {
            return Some(first.iter().sum::<f64>() / 5.0);
        }
        let mean_above_zero = |values: &mut dyn Iterator<Item = f64>| {
            let (sum, count) = values
                .filter(|value| *value > 0.0)
                .fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
            if count > 0.0 { sum / count } else { 0.0 }
        };
        let of_threshold = |means: &[f64; 5]| mean_above_zero(&mut means.iter().copied());
        Some(mean_above_zero(&mut means.iter().map(of_threshold)))
    }

    /// The mean of each aspect over all judgements.
    fn aspects(&self) -> Option<BTreeMap<&'static str, f64>> {
        let count: usize = self.sums.iter().map(|(_, count)| count).sum();
        let mean = |place: usize| self.sums.iter().map(|(sum, _)| sum[place]).sum::<f64>() / count as f64;
        (count > 0)
            .then(|| Aspect::ALL.iter().enumerate().map(|(place, a)| (a.code(), mean(place))).collect())
    }
}

/// A pair to judge and where its scores go.
struct Question {
    prediction: String,
    reference: String,
    /// Whether it counts in each place of [`Judged::sums`].
    places: [bool; 3],
}

/// What is to be judged of a row, and how many of its captions get the floor unasked.
struct Questions {
    asked: Vec<Question>,
    num_floor: usize,
}

/// `None` where a row has nothing to be judged and counts for nothing.
fn questions(row: &Row<'_>, rules: Rules) -> Option<Questions> {
    match (&row.sample.gold, rules) {
        (Gold::Segments(gold), Rules::Official) => {
            let predicted = parse::dvc::parse(row.text);
            let spans = |events: &[medgrpo_datasets::Segment]| -> Vec<Span> {
                events.iter().map(|event| event.span).collect()
            };
            let mut places: BTreeMap<(usize, usize), [bool; 3]> = BTreeMap::new();
            for (place, pairs) in dvc_pairs::pairs(&spans(&predicted), &spans(gold)).iter().enumerate() {
                for &pair in pairs {
                    places.entry(pair).or_default()[place] = true;
                }
            }
            let asked = places.into_iter().map(|((prediction, reference), places)| Question {
                prediction: predicted[prediction].caption.clone(),
                reference: gold[reference].caption.clone(),
                places,
            });
            Some(Questions { asked: asked.collect(), num_floor: 0 })
        }
        (Gold::Segments(gold), Rules::Strict) if !gold.is_empty() => {
            let predicted = parse::dvc::parse_strict(row.text);
            let spans = |events: &[medgrpo_datasets::Segment]| -> Vec<Span> {
                events.iter().map(|event| event.span).collect()
            };
            let pairs = dvc_pairs::one_to_one(&spans(&predicted), &spans(gold));
            // As for TAG, over the larger number of events: one in the wrong place is a miss, not a miss and a surplus.
            let num_floor = gold.len().max(predicted.len()) - pairs.len();
            let asked = pairs.into_iter().map(|(prediction, reference)| Question {
                prediction: predicted[prediction].caption.clone(),
                reference: gold[reference].caption.clone(),
                places: [true, false, false],
            });
            Some(Questions { asked: asked.collect(), num_floor })
        }
        (Gold::Text(reference), _) => {
            let question = Question {
                prediction: row.text.to_owned(),
                reference: reference.clone(),
                places: [true, false, false],
            };
            match rules {
                Rules::Official => (!row.text.is_empty() && !reference.is_empty())
                    .then(|| Questions { asked: vec![question], num_floor: 0 }),
                Rules::Strict if rouge_l::words(reference).is_empty() => None,
                Rules::Strict if row.text.trim().is_empty() => {
                    Some(Questions { asked: vec![], num_floor: 1 })
                }
                Rules::Strict => Some(Questions { asked: vec![question], num_floor: 0 }),
            }
        }
        _ => None,
    }
}

/// Whether strict rules take a judgement: nothing but scores on the scale.
fn on_scale(judgement: &Judgement) -> bool {
    judgement.scores.iter().all(|score| (1.0..=5.0).contains(score))
}

/// Asks the judge about all captions of all tasks that are not lost, and leaves the answers in the rows.
///
/// What has no number afterwards is named in `lost`.
pub(crate) fn judge_rows(
    entries: &mut [Entry<'_>],
    rules: Rules,
    judge: Option<&dyn Judge>,
    embedder: Option<&dyn TextEmbedder>,
    lost: &mut BTreeMap<&'static str, String>,
) -> Option<Judging> {
    let mut judging = judge.map(|judge| Judging { name: judge.name(), ..Judging::default() });
    for task in [TaskKind::DenseCaptioning, TaskKind::VideoSummary, TaskKind::RegionCaption] {
        let Some(name) = headline(task) else { continue };
        let mut of_task: Vec<&mut Entry<'_>> =
            entries.iter_mut().filter(|entry| entry.task() == task).collect();
        if of_task.is_empty() || lost.contains_key(eval_key(task)) {
            continue;
        }
        let (Some(judge), Some(judging)) = (judge, &mut judging) else {
            lost.insert(name, "no judge was asked".to_owned());
            continue;
        };
        let (total, failure) = match judge_task(&mut of_task, rules, judge) {
            Ok(judged) => judged,
            Err(reason) => {
                lost.insert(name, reason);
                continue;
            }
        };
        judging.failures.extend(failure.map(|reason| (name, reason)));
        match total.num_scored() {
            0 if rules == Rules::Official && total.num_asked > 0 => {
                let reason = format!("all {} judgements failed", total.num_asked);
                let fallen_back = task != TaskKind::DenseCaptioning
                    && embedder.is_some_and(|embedder| fall_back(&mut of_task, embedder));
                if fallen_back {
                    let told = format!("{reason}; cosine of sentence vectors instead, from -1 to 1");
                    judging.fallbacks.insert(name, told);
                } else {
                    of_task.iter_mut().for_each(|entry| entry.scored.judged = None);
                    lost.insert(name, reason);
                }
            }
            0 if rules == Rules::Strict => {
                of_task.iter_mut().for_each(|entry| entry.scored.judged = None);
                lost.insert(name, format!("none of {} judgements can be used", total.num_asked));
            }
            _ => {
                judging.aspects.extend(total.aspects().map(|aspects| (name, aspects)));
            }
        }
    }
    judging
}

/// Judges the rows of one task and tells the first failure; an error says why that cannot be done.
fn judge_task(
    entries: &mut [&mut Entry<'_>],
    rules: Rules,
    judge: &dyn Judge,
) -> Result<(Judged, Option<String>), String> {
    let questions: Vec<Option<Questions>> =
        entries.iter().map(|entry| questions(&entry.row, rules)).collect();
    let mut places: HashMap<Pair<'_>, usize> = HashMap::new();
    let mut pairs: Vec<Pair<'_>> = Vec::new();
    for question in questions.iter().flatten().flat_map(|questions| &questions.asked) {
        let pair = Pair { prediction: &question.prediction, reference: &question.reference };
        places.entry(pair).or_insert_with(|| {
            pairs.push(pair);
            pairs.len() - 1
        });
    }
    let mut answers =
        if pairs.is_empty() { vec![] } else { judge.judge(&pairs).map_err(|e| e.to_string())? };
    if answers.len() != pairs.len() {
        return Err(format!("{} answers to {} pairs from {}", answers.len(), pairs.len(), judge.name()));
    }
    if rules == Rules::Strict {
        for answer in &mut answers {
            if let Ok(judgement) = answer
                && !on_scale(judgement)
            {
                *answer = Err(Unjudged(format!("scores outside of 1 to 5: {:?}", judgement.scores)));
            }
        }
    }
    let mut total = Judged::default();
    let mut failure = None;
    for (entry, questions) in entries.iter_mut().zip(&questions) {
        let answer_to = |question: &Question| {
            let pair = Pair { prediction: &question.prediction, reference: &question.reference };
            &answers[places[&pair]]
        };
        let mut judged = Judged::default();
        for question in questions.iter().flat_map(|questions| &questions.asked) {
            judged.num_asked += 1;
            match answer_to(question) {
                Ok(judgement) => {
                    let counted = question.places.iter().enumerate().filter(|(_, counts)| **counts);
                    counted.for_each(|(place, _)| judged.put(place, &judgement.scores));
                }
                Err(reason) => {
                    failure.get_or_insert_with(|| format!("row {}: {reason}", entry.row.index));
                    judged.num_failed += 1;
                }
            }
        }
        if let Some(questions) = questions {
            (0..questions.num_floor).for_each(|_| judged.put(0, &FLOOR));
        }
        if rules == Rules::Strict {
            // A row counts once, however many events it has.
            let (sum, count) = &mut judged.sums[0];
            if *count > 0 {
                let number = *count as f64;
                sum.iter_mut().for_each(|sum| *sum /= number);
                *count = 1;
            }
        }
        total.add(&judged);
        show(entry, &judged);
        entry.scored.judged = Some(judged);
    }
    Ok((total, failure))
}

/// Writes a row's scores in the form of the official scorer.
fn show(entry: &mut Entry<'_>, judged: &Judged) {
    let task = entry.task();
    entry.scored.caption_score = judged.score(task);
    if task != TaskKind::DenseCaptioning && judged.num_scored() > 0 {
        let number = |score: f64| if score.fract() == 0.0 { json!(score as i64) } else { json!(score) };
        let scores = Aspect::ALL.iter().zip(judged.sums[0].0);
        entry.scored.score =
            Value::Object(scores.map(|(aspect, score)| (aspect.code().to_owned(), number(score))).collect());
    }
}

/// What the official scorer silently does where every judgement failed: cosines in the same place, on another scale.
/// `false` if a vector is missing.
fn fall_back(entries: &mut [&mut Entry<'_>], embedder: &dyn TextEmbedder) -> bool {
    let asked: Vec<(usize, Question)> = entries
        .iter()
        .enumerate()
        .filter_map(|(place, entry)| Some((place, questions(&entry.row, Rules::Official)?)))
        .flat_map(|(place, questions)| questions.asked.into_iter().map(move |question| (place, question)))
        .collect();
    let texts: Vec<&str> = asked
        .iter()
        .flat_map(|(_, question)| [question.prediction.as_str(), question.reference.as_str()])
        .collect();
    let Some(vectors) = embedder.embed_all(&texts).into_iter().collect::<Option<Vec<_>>>() else {
        return false;
    };
    let (pairs, _) = vectors.as_chunks::<2>();
    for ((place, _), [prediction, reference]) in asked.iter().zip(pairs) {
        if let Some(judged) = &mut entries[*place].scored.judged {
            judged.put(0, &[cosine(prediction, reference); 5]);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use medgrpo_datasets::Segment;

    use super::*;
    use crate::{
        embed::VectorMap,
        judge::JudgeError,
        leaderboard::{Options, Report, evaluate_with},
        task::contract::sample,
    };

    /// Gives equal captions 5, others 2; fails on `fail`, leaves the scale on `huge`, and gives up on `stop`.
    #[derive(Default)]
    struct Simple {
        num_calls: AtomicUsize,
        num_pairs: AtomicUsize,
    }

    impl Judge for Simple {
        fn judge(&self, pairs: &[Pair<'_>]) -> Result<Vec<Result<Judgement, Unjudged>>, JudgeError> {
            self.num_calls.fetch_add(1, Ordering::Relaxed);
            self.num_pairs.fetch_add(pairs.len(), Ordering::Relaxed);
            let one = |pair: &Pair<'_>| match pair.prediction {
                "stop" => Err(JudgeError("the key is refused".to_owned())),
                "fail" => Ok(Err(Unjudged("no reply".to_owned()))),
                "huge" => Ok(Ok(Judgement { scores: [45.0, 5.0, 5.0, 5.0, 5.0] })),
                text if text == pair.reference => Ok(Ok(Judgement { scores: [5.0; 5] })),
                _ => Ok(Ok(Judgement { scores: [2.0; 5] })),
            };
            pairs.iter().map(one).collect()
        }

        fn name(&self) -> String {
            "simple".to_owned()
        }
    }

    fn both(task: TaskKind, gold: &Gold, answers: &[&str]) -> [Report; 2] {
        let pairs: Vec<_> =
            answers.iter().map(|text| (sample(task, gold.clone()), (*text).to_owned())).collect();
        [Rules::Official, Rules::Strict].map(|rules| {
            let judge = Simple::default();
            let options = Options { rules, judge: Some(&judge), ..Options::default() };
            let report = evaluate_with(&pairs, &options);
            assert!(judge.num_calls.into_inner() <= 1, "one call a task");
            report
        })
    }

    fn events(list: &[(f64, f64, &str)]) -> Gold {
        let event = |&(start_sec, end_sec, caption): &(f64, f64, &str)| Segment {
            span: Span { start_sec, end_sec },
            caption: caption.to_owned(),
        };
        Gold::Segments(list.iter().map(event).collect())
    }

    #[test]
    fn an_empty_caption_is_passed_over_only_by_the_official_rules() {
        let gold = Gold::Text("the hook cuts".to_owned());
        let [official, strict] = both(TaskKind::VideoSummary, &gold, &["the hook cuts", "", ""]);
        // Strict: (5 + 1 + 1) / 3.
        assert_eq!((official.overall.vs_llm, strict.overall.vs_llm), (Some(5.0), Some(7.0 / 3.0)));
        assert_eq!((official.counts["vs"].n_judged, strict.counts["vs"].n_judged), (1, 1));
        assert_eq!(official.judge.map(|judging| judging.name), Some("simple".to_owned()));
    }

    #[test]
    fn scores_off_the_scale_are_failures_only_by_the_strict_rules() {
        let gold = Gold::Text("the hook cuts".to_owned());
        let [official, strict] = both(TaskKind::RegionCaption, &gold, &["huge", "the hook cuts"]);
        // (45 + 4 · 5) / 5 = 13, and its mean with 5 is 9.
        assert_eq!((official.overall.rc_llm, strict.overall.rc_llm), (Some(9.0), Some(5.0)));
        assert_eq!((official.counts["rc"].n_failed, strict.counts["rc"].n_failed), (0, 1));
        assert!(strict.judge.expect("there is one").failures["rc_llm"].contains("45"));
    }

    #[test]
    fn a_well_placed_pair_weighs_three_times_only_by_the_official_rules() {
        // The first is exact: at all thresholds. The second overlaps by 0.4: at the lowest alone.
        let gold = events(&[(0.0, 10.0, "cut"), (20.0, 30.0, "tie")]);
        let [official, strict] =
            both(TaskKind::DenseCaptioning, &gold, &["0.0-10.0 seconds: cut\n20.0-24.0 seconds: knot"]);
        assert_eq!(
            (official.overall.dvc_llm, strict.overall.dvc_llm),
            (Some((3.5 + 5.0 + 5.0) / 3.0), Some(3.5))
        );
    }

    #[test]
    fn missed_events_cost_only_by_the_strict_rules() {
        let gold = events(&[(0.0, 10.0, "cut"), (20.0, 30.0, "tie")]);
        let [official, strict] = both(TaskKind::DenseCaptioning, &gold, &["0.0-10.0 seconds: cut", ""]);
        // Strict: ((5 + 1) / 2 + 1) / 2.
        assert_eq!((official.overall.dvc_llm, strict.overall.dvc_llm), (Some(5.0), Some(2.0)));
    }

    #[test]
    fn surplus_events_cost_only_by_the_strict_rules() {
        let gold = events(&[(0.0, 10.0, "cut"), (20.0, 30.0, "tie")]);
        let numbers = |answer: &str| {
            let [official, strict] = both(TaskKind::DenseCaptioning, &gold, &[answer]);
            (official.overall.dvc_llm, strict.overall.dvc_llm)
        };
        let right = "0.0-10.0 seconds: cut\n20.0-30.0 seconds: tie";
        assert_eq!(numbers(right), (Some(5.0), Some(5.0)));
        // Strict: (5 + 5 + 1 + 1) / 4.
        let grid = format!("{right}\n40.0-50.0 seconds: cut\n60.0-70.0 seconds: tie");
        assert_eq!(numbers(&grid), (Some(5.0), Some(3.0)));
        // An event in the wrong place costs once: (5 + 1) / 2.
        assert_eq!(numbers("0.0-10.0 seconds: cut\n40.0-50.0 seconds: tie"), (Some(5.0), Some(3.0)));
        // Twice the same event: both are judged by the official rules, one by the strict ones. (5 + 5 + 1) / 3.
        let twice = format!("{right}\n0.0-9.0 seconds: cut");
        assert_eq!(numbers(&twice), (Some(5.0), Some(11.0 / 3.0)));
        let twice = format!("{right}\n0.0-9.0 seconds: knot");
        assert_eq!(numbers(&twice), (Some((4.0 + 4.0 + 4.0) / 3.0), Some(11.0 / 3.0)));
    }

    #[test]
    fn failures_are_left_out_and_told() {
        let gold = Gold::Text("the hook cuts".to_owned());
        for report in both(TaskKind::VideoSummary, &gold, &["fail", "the hook cuts", "fail"]) {
            assert_eq!(report.overall.vs_llm, Some(5.0));
            assert_eq!((report.counts["vs"].n_failed, report.counts["vs"].n_judged), (2, 3));
            assert_eq!(report.per_record[0].n_failed, 1);
        }
        for report in both(TaskKind::VideoSummary, &gold, &["fail"]) {
            assert_eq!(report.overall.vs_llm, None);
            assert!(report.task_errors["vs_llm"].contains('1'), "{:?}", report.task_errors);
        }
        for report in both(TaskKind::VideoSummary, &gold, &["stop", "the hook cuts"]) {
            assert_eq!(report.overall.vs_llm, None);
            assert!(report.task_errors["vs_llm"].contains("key is refused"));
            assert_eq!(report.captions.vs_rouge_l, Some(0.5), "what needs no judge stays");
        }
        let unasked =
            evaluate_with(&[(sample(TaskKind::VideoSummary, gold), String::new())], &Options::default());
        assert_eq!(unasked.task_errors["vs_llm"], "no judge was asked");
    }

    #[test]
    fn where_all_fail_only_the_official_rules_put_cosines_in_the_place() {
        let gold = Gold::Text("cut".to_owned());
        let vectors: VectorMap =
            [("fail".to_owned(), vec![3.0, 4.0]), ("cut".to_owned(), vec![4.0, 3.0])].into_iter().collect();
        let pairs = [(sample(TaskKind::VideoSummary, gold), "fail".to_owned())];
        let judge = Simple::default();
        let evaluate = |rules| {
            let options =
                Options { rules, judge: Some(&judge), embedder: Some(&vectors), ..Options::default() };
            evaluate_with(&pairs, &options)
        };
        let official = evaluate(Rules::Official);
        assert!((official.overall.vs_llm.expect("cosines") - 0.96).abs() < 1e-6);
        assert!(official.judge.expect("there is one").fallbacks["vs_llm"].contains("cosine"));
        assert_eq!(evaluate(Rules::Strict).overall.vs_llm, None);
    }

    #[test]
    fn equal_pairs_are_asked_once() {
        let gold = Gold::Text("the hook cuts".to_owned());
        let pairs: Vec<_> =
            (0..9).map(|_| (sample(TaskKind::VideoSummary, gold.clone()), "it cuts".to_owned())).collect();
        let judge = Simple::default();
        let report = evaluate_with(&pairs, &Options { judge: Some(&judge), ..Options::default() });
        assert_eq!((report.overall.vs_llm, judge.num_pairs.into_inner()), (Some(2.0), 1));
        assert_eq!(report.counts["vs"].n_judged, 9);
    }
}
