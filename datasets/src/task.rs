//! The eight tasks of MedVidBench and the names of its sources.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// What a sample asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// TAG: when does an action happen (`qa_type` `tal`).
    Tag,
    /// STG: where is an object at given times (`stg`).
    Stg,
    /// DVC: list the events of a clip with their times (`dense_captioning*`, `dc`).
    DenseCaptioning,
    /// NAP: which action comes next (`next_action`).
    NextAction,
    /// CVS: critical view of safety, three scores of 0 to 2 (`cvs_assessment`).
    Cvs,
    /// VS: summarise the clip (`video_summary*`).
    VideoSummary,
    /// RC: describe the activity inside a drawn box (`region_caption*`).
    RegionCaption,
    /// SA: six skill scores of 1 to 5 (`skill_assessment`).
    SkillAssessment,
    /// Anything else: a free question and answer.
    OpenQuestion,
}

impl TaskKind {
    /// The eight benchmark tasks, in the order of the leaderboard's description.
    pub const BENCHMARK: [Self; 8] = [
        Self::Tag,
        Self::Stg,
        Self::DenseCaptioning,
        Self::NextAction,
        Self::Cvs,
        Self::VideoSummary,
        Self::RegionCaption,
        Self::SkillAssessment,
    ];

    /// The short name used in configs, metrics and file names.
    pub fn key(self) -> &'static str {
        match self {
            Self::Tag => "tag",
            Self::Stg => "stg",
            Self::DenseCaptioning => "dvc",
            Self::NextAction => "nap",
            Self::Cvs => "cvs",
            Self::VideoSummary => "vs",
            Self::RegionCaption => "rc",
            Self::SkillAssessment => "sa",
            Self::OpenQuestion => "open",
        }
    }

    /// The task of a MedVidBench `qa_type`, variants (`_gpt`, `_gemini`) included; `None` for an unknown one.
    pub fn from_qa_type(qa_type: &str) -> Option<Self> {
        let base =
            qa_type.strip_suffix("_gpt").or_else(|| qa_type.strip_suffix("_gemini")).unwrap_or(qa_type);
        Some(match base {
            "tal" => Self::Tag,
            "stg" => Self::Stg,
            "dense_captioning" | "dc" => Self::DenseCaptioning,
            "next_action" => Self::NextAction,
            "cvs_assessment" => Self::Cvs,
            "video_summary" => Self::VideoSummary,
            "region_caption" => Self::RegionCaption,
            "skill_assessment" => Self::SkillAssessment,
            _ => return None,
        })
    }

    /// The task with this [`key`](Self::key).
    pub fn from_key(key: &str) -> Option<Self> {
        Self::BENCHMARK.into_iter().chain([Self::OpenQuestion]).find(|task| task.key() == key)
    }
}

impl fmt::Display for TaskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

/// The name of the dataset a record comes from (`CholecT50`, `JIGSAWS`, …).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceId(Arc<str>);

impl SourceId {
    /// The name as written in the record.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for SourceId {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::TaskKind;

    #[test]
    fn qa_type_variants_name_their_task() {
        assert_eq!(TaskKind::from_qa_type("dense_captioning_gemini"), Some(TaskKind::DenseCaptioning));
        assert_eq!(TaskKind::from_qa_type("video_summary_gpt"), Some(TaskKind::VideoSummary));
        assert_eq!(TaskKind::from_qa_type("tal"), Some(TaskKind::Tag));
        assert_eq!(TaskKind::from_qa_type("tal2"), None);
    }

    #[test]
    fn keys_round_trip() {
        for task in TaskKind::BENCHMARK {
            assert_eq!(TaskKind::from_key(task.key()), Some(task));
        }
    }
}
