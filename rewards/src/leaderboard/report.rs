//! What an evaluation says: headline numbers, groups, records, and what went wrong.

use std::collections::BTreeMap;

use medgrpo_datasets::TaskKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{averages::Averages, caption_metrics::CaptionMetrics};

/// By whose rules answers are read and scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rules {
    /// The leaderboard's, with all its oddities: comparable with published numbers.
    #[default]
    Official,
    /// What they should have been: every row counts, unparsable answers are wrong, surplus answers cost. The same names
    /// hold other numbers then; never compare the two.
    Strict,
}

/// The key of a task in the official scorer's output.
pub fn eval_key(task: TaskKind) -> &'static str {
    match task {
        TaskKind::Tag => "tal",
        TaskKind::NextAction => "next_action",
        TaskKind::Cvs => "cvs_assessment",
        TaskKind::SkillAssessment => "skill_assessment",
        TaskKind::Stg
        | TaskKind::DenseCaptioning
        | TaskKind::VideoSummary
        | TaskKind::RegionCaption
        | TaskKind::OpenQuestion => task.key(),
    }
}

/// The ten numbers of the leaderboard; `None` where nothing could be computed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Overall {
    /// CVS: exact accuracy averaged over components, then over datasets.
    pub cvs_acc: Option<f64>,
    /// NAP: accuracy over all scored rows.
    pub nap_acc: Option<f64>,
    /// SA: exact accuracy averaged over aspects, then over datasets.
    pub sa_acc: Option<f64>,
    /// STG: mean over records of the mean box overlap.
    pub stg_miou: Option<f64>,
    /// TAG: mean over records of the mean overlap of spans matched at 0.3.
    pub tag_miou_03: Option<f64>,
    /// The same at 0.5.
    pub tag_miou_05: Option<f64>,
    /// DVC: temporal F1, datasets weighted by their rows.
    pub dvc_f1: Option<f64>,
    /// DVC by the LLM judge, 1 to 5.
    pub dvc_llm: Option<f64>,
    /// VS by the LLM judge, 1 to 5.
    pub vs_llm: Option<f64>,
    /// RC by the LLM judge, 1 to 5.
    pub rc_llm: Option<f64>,
}

impl Overall {
    /// Names and values in the order of the leaderboard.
    pub fn entries(&self) -> [(&'static str, Option<f64>); 10] {
        [
            ("cvs_acc", self.cvs_acc),
            ("nap_acc", self.nap_acc),
            ("sa_acc", self.sa_acc),
            ("stg_miou", self.stg_miou),
            ("tag_miou_03", self.tag_miou_03),
            ("tag_miou_05", self.tag_miou_05),
            ("dvc_f1", self.dvc_f1),
            ("dvc_llm", self.dvc_llm),
            ("vs_llm", self.vs_llm),
            ("rc_llm", self.rc_llm),
        ]
    }

    /// What the board shows: printed with four decimals, read back, rounded to three; the strict rules round once. What could not be computed shows as
    /// 0 there, but stays empty here for the judge's numbers, which nobody asked to compute.
    pub fn as_shown(&self, rules: Rules) -> Self {
        let shown = |value: Option<f64>| {
            let round = |value: f64, digits: usize| format!("{value:.digits$}").parse().unwrap_or(value);
            value.map(|value| match rules {
                Rules::Official => round(round(value, 4), 3),
                Rules::Strict => round(value, 3),
            })
        };
        let computed = |value| Some(shown(value).unwrap_or(0.0));
        Self {
            cvs_acc: computed(self.cvs_acc),
            nap_acc: computed(self.nap_acc),
            sa_acc: computed(self.sa_acc),
            stg_miou: computed(self.stg_miou),
            tag_miou_03: computed(self.tag_miou_03),
            tag_miou_05: computed(self.tag_miou_05),
            dvc_f1: computed(self.dvc_f1),
            dvc_llm: shown(self.dvc_llm),
            vs_llm: shown(self.vs_llm),
            rc_llm: shown(self.rc_llm),
        }
    }
}

/// Caption scores without a judge: ROUGE-L in `[0, 1]`, ours, not on the leaderboard; every row with a reference counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Captions {
    /// Video summaries.
    pub vs_rouge_l: Option<f64>,
    /// Region captions.
    pub rc_rouge_l: Option<f64>,
    /// Open questions.
    pub open_rouge_l: Option<f64>,
}

/// How many rows went where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All rows.
    pub n_total: usize,
    /// Rows whose answer holds something the parser reads.
    pub n_parsed: usize,
    /// Rows that the metric does not count.
    pub n_skipped: usize,
    /// Judgements that failed, of `n_judged`: left out of the judge's number.
    pub n_failed: usize,
    /// Captions the judge was asked about; a pair of one row counts once.
    pub n_judged: usize,
    /// NAP rows whose answer is no class and could not be mapped to one for lack of an embedder: counted as wrong.
    pub n_unresolved: usize,
    /// Rows without usable ground truth.
    pub n_without_gold: usize,
}

impl Counts {
    /// Rows that the metric counts.
    pub fn n_scored(&self) -> usize {
        self.n_total - self.n_skipped
    }

    /// Adds another group's.
    pub fn add(&mut self, other: Self) {
        self.n_total += other.n_total;
        self.n_parsed += other.n_parsed;
        self.n_skipped += other.n_skipped;
        self.n_failed += other.n_failed;
        self.n_judged += other.n_judged;
        self.n_unresolved += other.n_unresolved;
        self.n_without_gold += other.n_without_gold;
    }
}

/// One dataset under one task.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Group {
    /// Metrics by name: the leaderboard's names where it has one.
    pub metrics: BTreeMap<&'static str, f64>,
    /// Its rows.
    pub counts: Counts,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// Position in the list that was evaluated.
    pub index: usize,
    /// Row in the file the sample was read from.
    pub row: usize,
    /// Task key.
    pub task: &'static str,
    /// The record's `qa_type`.
    pub qa_type: String,
    /// The dataset it was counted under.
    pub data_source: String,
    /// The score in the form of the official scorer, null where the row is passed over.
    pub score: Value,
    /// The score as one number: TAG at 0.3, DVC's F1, the share of right scores for CVS and SA, ROUGE-L for captions.
    pub value: Option<f64>,
    /// What the judge's scores of the row's captions come to, as its group's number is made; absent where none was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caption_score: Option<f64>,
    /// Judgements of this row that failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub n_failed: usize,
    /// Whether the answer holds nothing the parser reads.
    pub unparsable: bool,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Who judged captions, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Judging {
    /// The judge's own name for itself.
    pub name: String,
    /// Mean score by headline number and aspect (`R2`, `R3`, `R8`, `R5`, `R4`), over all judgements.
    pub aspects: BTreeMap<&'static str, BTreeMap<&'static str, f64>>,
    /// The first failed judgement by headline number: row and reason.
    pub failures: BTreeMap<&'static str, String>,
    /// Headline numbers that are not the judge's, each with what they are instead.
    pub fallbacks: BTreeMap<&'static str, String>,
}

/// Where a number lies under resampling.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The result of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// By which rules.
    pub rules: Rules,
    /// The ten numbers.
    pub overall: Overall,
    /// The same as the board would show them.
    pub leaderboard_3dp: Overall,
    /// Every metric of datasets averaged in two ways: by the official scorer's task key, then name.
    pub averages: BTreeMap<&'static str, BTreeMap<&'static str, Averages>>,
    /// Caption scores without a judge.
    pub captions: Captions,
    /// The field's caption metrics, by the official scorer's task key.
    pub caption_metrics: BTreeMap<&'static str, CaptionMetrics>,
    /// Bootstrap intervals of the headline numbers by name; empty unless asked for.
    pub intervals: BTreeMap<&'static str, Interval>,
    /// By the official scorer's task key, then dataset.
    pub per_dataset: BTreeMap<&'static str, BTreeMap<String, Group>>,
    /// By the official scorer's task key, then dataset, then frames per second.
    pub per_fps: BTreeMap<&'static str, BTreeMap<String, BTreeMap<String, Group>>>,
    /// Who judged captions; `None` if nobody was asked.
    pub judge: Option<Judging>,
    /// By the official scorer's task key.
    pub counts: BTreeMap<&'static str, Counts>,
    /// In the order given.
    pub per_record: Vec<Record>,
    /// What has no number, each with the reason: by the official scorer's task key where the whole task is lost, by the
    /// name of the number (`vs_llm`) where only the judge's is.
    pub task_errors: BTreeMap<&'static str, String>,
    /// Rows that could not be read, by their position, each with the reason.
    pub row_errors: BTreeMap<usize, String>,
}

impl Report {
    /// Every headline number that could be computed, the leaderboard's first, then our caption scores.
    pub fn headlines(&self) -> Vec<(&'static str, f64)> {
        headlines(&self.overall, &self.captions)
    }
}

/// The numbers that could be computed, in order.
pub(crate) fn headlines(overall: &Overall, captions: &Captions) -> Vec<(&'static str, f64)> {
    all_headlines(overall, captions).filter_map(|(name, value)| Some((name, value?))).collect()
}

/// The names of all headline numbers, in order. Each starts with the key of its task.
pub fn headline_names() -> Vec<&'static str> {
    all_headlines(&Overall::default(), &Captions::default()).map(|(name, _)| name).collect()
}

fn all_headlines(
    overall: &Overall,
    captions: &Captions,
) -> impl Iterator<Item = (&'static str, Option<f64>)> + use<> {
    let captions = [
        ("vs_rouge_l", captions.vs_rouge_l),
        ("rc_rouge_l", captions.rc_rouge_l),
        ("open_rouge_l", captions.open_rouge_l),
    ];
    overall.entries().into_iter().chain(captions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_board_rounds_twice() {
        let overall = Overall { nap_acc: Some(0.71246), sa_acc: Some(0.4999), ..Overall::default() };
        let shown = overall.as_shown(Rules::Official);
        // .71246 is printed .7125 and then rounded up, where rounding once would give .712.
        assert_eq!(shown.nap_acc, Some(0.713));
        assert_eq!(overall.as_shown(Rules::Strict).nap_acc, Some(0.712));
        assert_eq!((shown.sa_acc, shown.cvs_acc, shown.vs_llm), (Some(0.5), Some(0.0), None));
    }
}
