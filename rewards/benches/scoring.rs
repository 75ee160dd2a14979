//! What scoring costs: records of the benchmark's mixture by all metrics without a judge, on one core.
//!
//!     cargo bench -p medgrpo-rewards --bench scoring
//!
//! Prints the cost per task at the benchmark's size and how the whole grows with the number of records. Ends with an error
//! if the benchmark's 6,245 records take a second or more: the records of `tests/data/eval` are repeated to that number.
#![expect(clippy::print_stdout, reason = "a bench prints")]

use std::{
    fs::File,
    io::Read,
    path::Path,
    time::{Duration, Instant},
};

use flate2::read::GzDecoder;
use medgrpo_datasets::TaskKind;
use medgrpo_rewards::{
    embed::VectorMap,
    leaderboard::{Options, Rules, evaluate_records},
    metric::captions::caption_scores,
};
use serde_json::Value;

/// Records of the test set by task.
const MIXTURE: [(TaskKind, usize); 8] = [
    (TaskKind::Tag, 1637),
    (TaskKind::Stg, 780),
    (TaskKind::DenseCaptioning, 1479),
    (TaskKind::NextAction, 670),
    (TaskKind::Cvs, 648),
    (TaskKind::VideoSummary, 565),
    (TaskKind::RegionCaption, 306),
    (TaskKind::SkillAssessment, 160),
];
const TOTAL: usize = 6245;
const ROUNDS: usize = 5;

/// Records with their answers.
#[derive(Default)]
struct Answered {
    records: Vec<Value>,
    predictions: Vec<Value>,
}

impl Answered {
    fn extend(&mut self, other: &Self, len: usize) {
        self.records.extend(other.records.iter().cycle().take(len).cloned());
        self.predictions.extend(other.predictions.iter().cycle().take(len).cloned());
    }

    /// The captions and their references.
    fn captions(&self) -> Vec<(&str, &str)> {
        self.records
            .iter()
            .zip(&self.predictions)
            .filter_map(|(record, prediction)| caption(record, prediction))
            .collect()
    }
}

/// A caption and its reference; `None` for other tasks.
fn caption<'v>(record: &'v Value, prediction: &'v Value) -> Option<(&'v str, &'v str)> {
    let kind = record["qa_type"].as_str()?;
    if !kind.starts_with("video_summary") && !kind.starts_with("region_caption") {
        return None;
    }
    let turn = record["conversations"].as_array()?.iter().rev().find(|turn| turn["from"] == "gpt")?;
    Some((prediction["prediction"].as_str()?, turn["value"].as_str()?))
}

fn read(path: &Path) -> Value {
    let mut text = String::new();
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    GzDecoder::new(file).read_to_string(&mut text).expect("a gzip file of UTF-8");
    serde_json::from_str(&text).expect("JSON")
}

/// The shortest of some rounds, which other work on the machine disturbs least.
fn time(mut work: impl FnMut() -> f64) -> Duration {
    let mut shortest = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let number = std::hint::black_box(work());
        shortest = shortest.min(start.elapsed());
        assert!(number.is_finite());
    }
    shortest
}

/// Scores by the rules, and captions by the caption metrics.
fn score(answered: &Answered, rules: Rules, embedder: &VectorMap) -> f64 {
    let options = Options { rules, embedder: Some(embedder), ..Options::default() };
    let report = evaluate_records(&answered.records, &answered.predictions, &options)
        .expect("as many answers as records");
    assert_eq!(report.per_record.len(), answered.records.len());
    let headlines: f64 = report.headlines().iter().map(|(_, value)| value).sum();
    headlines + captions(answered)
}

fn captions(answered: &Answered) -> f64 {
    let scores = caption_scores(&answered.captions());
    scores.cider_d.mean + scores.bleu.corpus[3] + scores.rouge_l.mean + scores.meteor_exact_stem.mean
}

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/eval");
    let mut by_task: Vec<Answered> = MIXTURE.iter().map(|_| Answered::default()).collect();
    let mut embeddings = Vec::new();
    for seed in ["seed1", "seed2"] {
        let file = |name: &str| read(&folder.join(seed).join(format!("{name}.json.gz")));
        let (Value::Array(records), Value::Array(predictions)) = (file("ground_truth"), file("predictions"))
        else {
            panic!("{seed}: not lists");
        };
        let vectors = file("expected")["embeddings"].take();
        embeddings.extend(
            serde_json::from_value::<std::collections::HashMap<String, Vec<f32>>>(vectors).expect("vectors"),
        );
        for (record, prediction) in records.into_iter().zip(predictions) {
            let task = record["qa_type"].as_str().and_then(TaskKind::from_qa_type);
            let place =
                MIXTURE.iter().position(|(of, _)| Some(*of) == task).expect("a task of the benchmark");
            by_task[place].records.push(record);
            by_task[place].predictions.push(prediction);
        }
    }
    let embedder: VectorMap = embeddings.into_iter().collect();
    let mixture = |total: usize| {
        let mut whole = Answered::default();
        for (answered, (_, len)) in by_task.iter().zip(MIXTURE) {
            whole.extend(answered, (len * total).div_ceil(TOTAL));
        }
        whole
    };

    println!("| task | records | ms | µs a record |\n|---|---|---|---|");
    let line = |name: &str, len: usize, took: Duration| {
        println!(
            "| {name} | {len} | {:.1} | {:.1} |",
            took.as_secs_f64() * 1e3,
            took.as_secs_f64() * 1e6 / len as f64
        );
    };
    for (answered, (task, len)) in by_task.iter().zip(MIXTURE) {
        let mut whole = Answered::default();
        whole.extend(answered, len);
        for rules in [Rules::Official, Rules::Strict] {
            line(&format!("{task}, {rules:?}"), len, time(|| score(&whole, rules, &embedder)));
        }
    }
    let whole = mixture(TOTAL);
    line("of vs and rc: caption metrics", whole.captions().len(), time(|| captions(&whole)));

    println!("\n| records | s | µs a record | growth over linear |\n|---|---|---|---|");
    let mut first: Option<f64> = None;
    let mut at_benchmark = Duration::ZERO;
    for total in [TOTAL / 8, TOTAL / 4, TOTAL / 2, TOTAL, TOTAL * 2] {
        let whole = mixture(total);
        let took = time(|| score(&whole, Rules::Official, &embedder));
        let each = took.as_secs_f64() / whole.records.len() as f64;
        let growth = each / *first.get_or_insert(each);
        println!("| {} | {:.3} | {:.1} | {growth:.2} |", whole.records.len(), took.as_secs_f64(), each * 1e6);
        if total == TOTAL {
            at_benchmark = took;
        }
    }
    assert!(
        at_benchmark < Duration::from_secs(1),
        "{TOTAL} records took {at_benchmark:?}; a second is the bound"
    );
}
