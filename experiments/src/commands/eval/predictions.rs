//! Answers in the forms they come in, and which record each one answers.
//!
//! A submission and the released inference code's results are matched by position, as the official scorer does; a run's
//! own predictions name their rows. Nothing is dropped or moved silently.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Result, bail};
use medgrpo_rewards::leaderboard::{Rules, submission};
use serde_json::{Map, Value};

use super::files::read_json;

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Where it stands in its file, for messages.
    place: String,
    /// The row it names.
    row: Option<usize>,
    id: Option<String>,
    qa_type: Option<String>,
    prediction: Value,
}

/// Answers beside the records they belong to.
pub(crate) struct Matched {
    /// Rows of the records that are answered, in order.
    pub(crate) rows: Vec<usize>,
    /// Their answers.
    pub(crate) predictions: Vec<Value>,
    /// What the user should know.
    pub(crate) warnings: Vec<String>,
}

/// Reads answers: a list (of submissions, or with the row of each), an object by index, or one object a line.
pub(crate) fn read_predictions(path: &Path) -> Result<Vec<Answer>> {
    let shown = path.display();
    let entries: Vec<(String, Option<usize>, Value)> = match read_json(path)? {
        Value::Array(list) => list
            .into_iter()
            .enumerate()
            .map(|(index, entry)| (format!("entry {index}"), None, entry))
            .collect(),
        Value::Object(by_index) => by_index_entries(&shown.to_string(), by_index)?,
        _ => bail!("{shown}: expected a list of predictions, or an object of them by index"),
    };
    if entries.is_empty() {
        bail!("{shown}: holds no prediction");
    }
    entries
        .into_iter()
        .map(|(place, index, entry)| {
            let Value::Object(mut entry) = entry else {
                bail!("{shown}, {place}: {entry:.40} is no object with a `prediction`");
            };
            // In the files by index the answer is called so; in a run's own, `answer` is the truth.
            let keys: &[&str] = if index.is_some() { &["prediction", "answer"] } else { &["prediction"] };
            let Some(prediction) = keys.iter().find_map(|key| entry.remove(*key)) else {
                let known: Vec<&String> = entry.keys().take(8).collect();
                bail!("{shown}, {place}: no key `prediction` (it has {known:?})");
            };
            let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
            let named = |key: &str| entry.get(key).and_then(Value::as_u64).map(|row| row as usize);
            Ok(Answer {
                row: index.or_else(|| named("row")).or_else(|| named("index")),
                id: text("id"),
                qa_type: text("qa_type"),
                place,
                prediction,
            })
        })
        .collect()
}

fn by_index_entries(file: &str, entries: Map<String, Value>) -> Result<Vec<(String, Option<usize>, Value)>> {
    let read = |(key, entry): (String, Value)| match key.parse::<usize>() {
        Ok(index) => Ok((format!("key \"{key}\""), Some(index), entry)),
        Err(_) => bail!("{file}: the key \"{key:.40}\" is no index; expected \"0\", \"1\", …"),
    };
    let mut entries = entries.into_iter().map(read).collect::<Result<Vec<_>>>()?;
    entries.sort_by_key(|(_, index, _)| *index);
    Ok(entries)
}

/// Finds the record of each answer. `partial` allows records without one where answers name their rows.
pub(crate) fn match_rows(
    records: &[Value],
    answers: Vec<Answer>,
    rules: Rules,
    partial: bool,
) -> Result<Matched> {
    let num_named = answers.iter().filter(|answer| answer.row.is_some()).count();
    if num_named != 0 && num_named != answers.len() {
        let place = answers.iter().find(|answer| answer.row.is_none()).map_or("", |answer| &answer.place);
        bail!("predictions: {num_named} of {} name their row, {place} does not", answers.len());
    }
    let mut warnings = Vec::new();
    let mut by_row: BTreeMap<usize, Answer> = BTreeMap::new();
    if num_named == 0 {
        if answers.len() != records.len() {
            bail!(
                "{} predictions for {} ground-truth records: they are matched by position, so there must be one \
                 each, in the same order",
                answers.len(),
                records.len()
            );
        }
        by_row.extend(answers.into_iter().enumerate());
    } else {
        for answer in answers {
            let row = answer.row.unwrap_or_default();
            if row >= records.len() {
                bail!(
                    "predictions, {}: answers row {row}, but there are {} ground-truth records: was it made from \
                     another file?",
                    answer.place,
                    records.len()
                );
            }
            if let Some(earlier) = by_row.get(&row) {
                bail!("predictions, {}: row {row} is answered by {} already", answer.place, earlier.place);
            }
            by_row.insert(row, answer);
        }
        if let Some(missing) = (0..records.len()).find(|row| !by_row.contains_key(row)) {
            let told = format!("{} of {} records are answered", by_row.len(), records.len());
            if !partial {
                bail!(
                    "predictions: only {told}, row {missing} is the first without; --partial evaluates those alone"
                );
            }
            warnings.push(format!("only {told}: the numbers are of these alone"));
        }
    }
    if let Some(disagreement) = disagreement(records, &by_row) {
        if rules == Rules::Strict {
            bail!("predictions: {disagreement}");
        }
        warnings.push(format!(
            "{disagreement}. They are compared in the order given, as the official scorer does"
        ));
    }
    let (rows, predictions) = by_row.into_iter().map(|(row, answer)| (row, answer.prediction)).unzip();
    Ok(Matched { rows, predictions, warnings })
}

/// How many answers carry another id or `qa_type` than the record in their place.
fn disagreement(records: &[Value], answers: &BTreeMap<usize, Answer>) -> Option<String> {
    let ids_of = |row: usize| {
        [records[row]["id"].as_str().unwrap_or_default().to_owned(), submission::id(&records[row])]
    };
    let agrees = |row: usize, answer: &Answer| {
        let same_type = answer.qa_type.as_deref().is_none_or(|qa_type| records[row]["qa_type"] == qa_type);
        same_type && answer.id.as_ref().is_none_or(|id| ids_of(row).contains(id))
    };
    let moved: Vec<(usize, &Answer)> = answers
        .iter()
        .map(|(&row, answer)| (row, answer))
        .filter(|(row, answer)| !agrees(*row, answer))
        .collect();
    let (row, answer) = *moved.first()?;
    let said = |id: Option<&str>, qa_type: Option<&str>| {
        [id, qa_type].into_iter().flatten().collect::<Vec<_>>().join(", ")
    };
    let record = &records[row];
    // The same pairs of id and task, each as often, only elsewhere?
    let mut balance: BTreeMap<(Option<&str>, Option<&str>), i64> = BTreeMap::new();
    for (row, answer) in &moved {
        *balance.entry((answer.id.as_deref(), answer.qa_type.as_deref())).or_default() += 1;
        *balance.entry((records[*row]["id"].as_str(), records[*row]["qa_type"].as_str())).or_default() -= 1;
    }
    let hint = if balance.values().all(|count| *count == 0) {
        "; the same ids are there in another order: were the parts of several processes merged one after the other?"
    } else {
        ""
    };
    Some(format!(
        "{} of {} carry another id or qa_type than the record in their place ({}: {}; row {row}: {}){hint}",
        moved.len(),
        answers.len(),
        answer.place,
        said(answer.id.as_deref(), answer.qa_type.as_deref()),
        said(record["id"].as_str(), record["qa_type"].as_str()),
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answers(file: &Value) -> Result<Vec<Answer>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.json");
        std::fs::write(&path, file.to_string()).unwrap();
        read_predictions(&path)
    }

    fn records() -> Vec<Value> {
        ["a", "b", "c"].map(|id| json!({ "id": format!("{id}&&0&&9&&1.0"), "qa_type": "tal" })).to_vec()
    }

    fn matched(file: &Value, rules: Rules, partial: bool) -> Result<Matched> {
        match_rows(&records(), answers(file)?, rules, partial)
    }

    fn entry(id: &str, prediction: &str) -> Value {
        json!({ "id": format!("{id}&&0&&9&&1.0"), "qa_type": "tal", "prediction": prediction })
    }

    #[test]
    fn every_form_gives_the_same_answers() {
        let by_position = json!([entry("a", "1"), entry("b", "2"), entry("c", "3")]);
        let own = json!([
            { "row": 2, "prediction": "3", "answer": "gold" },
            { "row": 0, "prediction": "1", "answer": null },
            { "row": 1, "prediction": "2", "answer": "gold" },
        ]);
        let by_index = json!({ "2": { "answer": "3" }, "0": { "answer": "1" }, "1": { "answer": "2" } });
        for file in [by_position, own, by_index] {
            let matched = matched(&file, Rules::Strict, false).unwrap();
            assert_eq!(matched.rows, [0, 1, 2]);
            assert_eq!(matched.predictions, ["1", "2", "3"]);
            assert!(matched.warnings.is_empty());
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let refused = |file: Value, wanted: &str| {
            let error = matched(&file, Rules::Official, false).err().expect("refused").to_string();
            assert!(error.contains(wanted), "{error}");
        };
        refused(json!([entry("a", "1")]), "1 predictions for 3 ground-truth records");
        refused(json!([{ "row": 0, "prediction": "1" }]), "row 1 is the first without");
        refused(json!([{ "row": 7, "prediction": "1" }]), "row 7");
        refused(json!([{ "row": 0, "prediction": "" }, { "row": 0, "prediction": "" }]), "entry 0 already");
        refused(json!([{ "row": 0, "prediction": "" }, entry("b", "")]), "entry 1 does not");
        refused(json!([{ "text": "1" }]), "entry 0: no key `prediction` (it has [\"text\"])");
        refused(json!({ "first": { "answer": "1" } }), "the key \"first\" is no index");
        refused(json!([]), "holds no prediction");
        refused(json!(5), "expected a list");
    }

    #[test]
    fn another_order_is_a_warning_by_official_rules_and_refused_by_strict_ones() {
        let moved = json!([entry("b", "2"), entry("a", "1"), entry("c", "3")]);
        let official = matched(&moved, Rules::Official, false).unwrap();
        assert_eq!(official.predictions, ["2", "1", "3"]);
        assert!(official.warnings[0].starts_with("2 of 3 carry another id"), "{:?}", official.warnings);
        assert!(official.warnings[0].contains("in another order"), "{:?}", official.warnings);
        let error = matched(&moved, Rules::Strict, false).err().unwrap().to_string();
        assert!(error.contains("entry 0: b&&0&&9&&1.0"), "{error}");
    }

    #[test]
    fn a_part_is_evaluated_on_request() {
        let part = json!([{ "row": 2, "prediction": "3" }]);
        let matched = matched(&part, Rules::Official, true).unwrap();
        assert_eq!((matched.rows, matched.warnings.len()), (vec![2], 1));
    }
}
