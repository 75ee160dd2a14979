//! What is sent to the leaderboard: one entry a test record, in the order of the test file.
//!
//! The board matches by position and takes almost anything, so a wrong order or a lost row shows only as a bad number.
//! Everything that can be told without the truth is told here: lengths, order, empty and unreadable answers.

use std::collections::BTreeMap;

use medgrpo_datasets::TaskKind;
use serde::Serialize;
use serde_json::Value;

use super::{ground_truth::official_task, report::eval_key};
use crate::parse;

/// Records of the public test set.
pub const PUBLIC_TEST_ROWS: usize = 6245;

/// One entry of a submission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Submission {
    /// The clip, `video&&start&&end&&fps`; for people only, the board does not look at it.
    pub id: String,
    /// The record's `qa_type`.
    pub qa_type: String,
    /// The answer.
    pub prediction: String,
}

impl Submission {
    /// An entry that answers a record.
    pub fn new(record: &Value, prediction: String) -> Self {
        Self { id: id(record), qa_type: text(&record["qa_type"]), prediction }
    }
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| if value.is_null() { String::new() } else { value.to_string() }, str::to_owned)
}

/// The id of a record in the benchmark's form `video&&start&&end&&fps`: its own if it has that form, else made of its
/// metadata, with what is not there left empty.
pub fn id(record: &Value) -> String {
    let own = text(&record["id"]);
    if own.matches("&&").count() == 3 {
        return own;
    }
    let metadata = &record["metadata"];
    let first = |keys: [&str; 3]| {
        let found = keys.iter().map(|key| text(&metadata[*key])).find(|value| !value.is_empty());
        found.unwrap_or_default()
    };
    let start = first(["input_video_start_frame", "input_video_start_time", "start_frame"]);
    let end = first(["input_video_end_frame", "input_video_end_time", "end_frame"]);
    format!("{}&&{start}&&{end}&&{}", text(&metadata["video_id"]), text(&metadata["fps"]))
}

/// Whether the board's parser of a task finds anything in an answer.
pub fn is_readable(task: TaskKind, answer: &str) -> bool {
    match task {
        TaskKind::Tag => !parse::tag::parse(answer).is_empty(),
        TaskKind::Stg => !parse::stg::parse(answer).is_empty(),
        TaskKind::DenseCaptioning => !parse::dvc::parse(answer).is_empty(),
        TaskKind::Cvs => !parse::cvs::parse(answer).is_empty(),
        TaskKind::SkillAssessment => parse::skill::parse(answer).mean_score.is_some(),
        TaskKind::NextAction | TaskKind::VideoSummary | TaskKind::RegionCaption | TaskKind::OpenQuestion => {
            !answer.trim().is_empty()
        }
    }
}

/// How the answers to one task stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Readable {
    /// All entries.
    pub n_total: usize,
    /// Those in which the board's parser finds something.
    pub n_parsed: usize,
    /// Those without a word.
    pub n_empty: usize,
}

/// What is wrong with a submission.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What makes the board refuse the file or match answers with the wrong records.
    pub errors: Vec<String>,
    /// What it takes, but is likely a mistake.
    pub warnings: Vec<String>,
    /// By the official scorer's task key; entries of no known task under their `qa_type`.
    pub tasks: BTreeMap<String, Readable>,
}

/// Of each kind of finding so many are named.
const MAX_TOLD: usize = 3;

/// Looks through the entries of a submission to the records of a test file.
pub fn check(records: &[Value], entries: &[Value]) -> Findings {
    let mut found = Findings::default();
    if records.len() != entries.len() {
        found.errors.push(format!(
            "{} entries for {} test records: the board matches by position, so there must be one each",
            entries.len(),
            records.len()
        ));
    }
    if records.len() != PUBLIC_TEST_ROWS {
        found.warnings.push(format!(
            "the test file has {} records, the public test set {PUBLIC_TEST_ROWS}",
            records.len()
        ));
    }
    let mut bad = Told::default();
    let mut moved = Told::default();
    let mut empty = Told::default();
    for (index, (record, entry)) in records.iter().zip(entries).enumerate() {
        let (qa_type, wanted) = (text(&entry["qa_type"]), text(&record["qa_type"]));
        for key in ["id", "qa_type", "prediction"] {
            if !entry[key].is_string() {
                bad.add(|| format!("entry {index}: `{key}` is {:.40}, not text", entry[key]));
            }
        }
        let (own, its) = (text(&entry["id"]), id(record));
        if qa_type != wanted {
            moved.add(|| format!("entry {index} says {qa_type}, the record {wanted}"));
        } else if own != its && own != text(&record["id"]) {
            moved.add(|| format!("entry {index} says {own}, the record {its}"));
        }
        let task = official_task(&wanted);
        let key = task.map_or_else(|| wanted.clone(), |task| eval_key(task).to_owned());
        let answer = entry["prediction"].as_str().unwrap_or_default();
        let counts = found.tasks.entry(key).or_default();
        counts.n_total += 1;
        counts.n_parsed += usize::from(task.is_some_and(|task| is_readable(task, answer)));
        if answer.trim().is_empty() {
            counts.n_empty += 1;
            empty.add(|| format!("entry {index}"));
        }
    }
    found.errors.extend(bad.message("values are not text"));
    found.errors.extend(moved.message("entries do not belong to the record in their place"));
    found.warnings.extend(empty.message("answers are empty"));
    for (task, counts) in &found.tasks {
        let unparsable = counts.n_total - counts.n_parsed - counts.n_empty;
        if unparsable > 0 {
            found.warnings.push(format!(
                "{task}: {unparsable} of {} answers hold nothing that the board's parser reads",
                counts.n_total
            ));
        }
    }
    found
}

/// Findings of one kind: all counted, the first ones named.
#[derive(Default)]
struct Told {
    count: usize,
    first: Vec<String>,
}

impl Told {
    fn add(&mut self, message: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < MAX_TOLD {
            self.first.push(message());
        }
    }

    fn message(self, what: &str) -> Option<String> {
        let more = if self.count > self.first.len() { ", …" } else { "" };
        (self.count > 0).then(|| format!("{} {what} ({}{more})", self.count, self.first.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_take_the_form_of_the_benchmark() {
        let id = |own: &str, metadata: Value| id(&json!({ "id": own, "metadata": metadata }));
        assert_eq!(id("video66&&235&&273&&0.1", json!({})), "video66&&235&&273&&0.1");
        let frames = json!({
            "video_id": "014014", "fps": "0.5", "input_video_start_frame": "260", "input_video_end_frame": "546",
        });
        assert_eq!(id("0.5$014014_part0$260$547", frames), "014014&&260&&546&&0.5");
        let times = json!({
            "video_id": "x", "fps": 2, "input_video_start_time": "1.5", "input_video_end_time": "9",
        });
        assert_eq!(id("", times), "x&&1.5&&9&&2");
        assert_eq!(id("", json!({ "video_id": "x" })), "x&&&&&&");
    }

    fn record(video: &str, qa_type: &str) -> Value {
        json!({ "id": format!("{video}&&0&&9&&1.0"), "qa_type": qa_type })
    }

    #[test]
    fn what_the_board_would_not_tell_is_told() {
        let records = [record("a", "tal"), record("b", "tal"), record("c", "video_summary_gpt")];
        let answers = ["1.0-2.0 seconds.", "at once", ""];
        let entries = |order: [usize; 3]| -> Vec<Value> {
            let entry = |&place: &usize| Submission::new(&records[place], answers[place].to_owned());
            order.iter().map(|place| json!(entry(place))).collect()
        };
        let good = check(&records, &entries([0, 1, 2]));
        assert_eq!(good.errors, [""; 0]);
        assert_eq!(good.tasks["tal"], Readable { n_total: 2, n_parsed: 1, n_empty: 0 });
        assert_eq!(good.tasks["vs"], Readable { n_total: 1, n_parsed: 0, n_empty: 1 });
        // The wrong number of records for the public test set, an empty answer, an unreadable one.
        assert_eq!(good.warnings.len(), 3, "{:?}", good.warnings);
        let swapped = check(&records, &entries([1, 0, 2]));
        assert!(swapped.errors[0].starts_with("2 entries do not belong"), "{:?}", swapped.errors);
        let short = check(&records, &entries([0, 1, 2])[..2]);
        assert!(short.errors[0].starts_with("2 entries for 3"), "{:?}", short.errors);
        let number = [json!({ "id": "a&&0&&9&&1.0", "qa_type": "tal", "prediction": 5 })];
        assert!(check(&records[..1], &number).errors[0].contains("`prediction` is 5"));
    }
}
