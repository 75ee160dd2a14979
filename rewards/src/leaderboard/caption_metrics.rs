//! The field's caption metrics beside the leaderboard's numbers: no model, no judge, no Java.

use std::collections::BTreeMap;

use medgrpo_datasets::{Gold, TaskKind};
use serde::Serialize;

use super::{
    report::eval_key,
    rows::{Entry, Row},
};
use crate::metric::{captions::caption_scores, rouge_l};

/// Scores of the captions of one task, over every row whose reference has a word, the unparsable included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CaptionMetrics {
    /// Captions compared.
    pub num_captions: usize,
    /// CIDEr-D, 0 to 10; its weights come from these very references, so it compares models on one file only.
    pub cider_d: f64,
    /// BLEU-4 of the corpus, 0 to 1.
    pub bleu_4: f64,
    /// Mean ROUGE-L of treebank words, 0 to 1.
    pub rouge_l_ptb: f64,
    /// Mean METEOR without synonyms and paraphrases, 0 to 1.
    pub meteor_exact_stem: f64,
}

impl CaptionMetrics {
    /// Names and values.
    pub fn entries(&self) -> [(&'static str, f64); 4] {
        [
            ("cider_d", self.cider_d),
            ("bleu_4", self.bleu_4),
            ("rouge_l_ptb", self.rouge_l_ptb),
            ("meteor_exact_stem", self.meteor_exact_stem),
        ]
    }
}

/// By the official scorer's task key: summaries, region captions and open answers.
pub(super) fn caption_metrics(entries: &[Entry<'_>]) -> BTreeMap<&'static str, CaptionMetrics> {
    let mut pairs: BTreeMap<TaskKind, Vec<(&str, &str)>> = BTreeMap::new();
    for Entry { row: Row { sample, text, .. }, .. } in entries {
        let is_caption =
            matches!(sample.task, TaskKind::VideoSummary | TaskKind::RegionCaption | TaskKind::OpenQuestion);
        if let (true, Gold::Text(reference)) = (is_caption, &sample.gold)
            && !rouge_l::words(reference).is_empty()
        {
            pairs.entry(sample.task).or_default().push((*text, reference.as_str()));
        }
    }
    let of = |(task, pairs): (TaskKind, Vec<(&str, &str)>)| {
        let scores = caption_scores(&pairs);
        let metrics = CaptionMetrics {
            num_captions: pairs.len(),
            cider_d: scores.cider_d.mean,
            bleu_4: scores.bleu.corpus[3],
            rouge_l_ptb: scores.rouge_l.mean,
            meteor_exact_stem: scores.meteor_exact_stem.mean,
        };
        (eval_key(task), metrics)
    };
    pairs.into_iter().map(of).collect()
}
