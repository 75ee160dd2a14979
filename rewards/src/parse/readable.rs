//! Whether anything can be read from an answer at all: the failures of parsers, for metrics.

use medgrpo_datasets::TaskKind;

use super::{cvs, dvc, skill, stg, tag};

/// Whether the benchmark's own parser finds anything in an answer; `None` for tasks whose answers are free text or a bare name,
/// of which any is an answer.
pub fn is_readable(task: TaskKind, text: &str) -> Option<bool> {
    match task {
        TaskKind::Tag => Some(!tag::parse(text).is_empty()),
        TaskKind::Stg => Some(!stg::parse(text).is_empty()),
        TaskKind::DenseCaptioning => Some(!dvc::parse(text).is_empty()),
        TaskKind::Cvs => Some(!cvs::parse(text).is_empty()),
        TaskKind::SkillAssessment => Some(!skill::parse(text).aspects.is_empty()),
        TaskKind::NextAction | TaskKind::VideoSummary | TaskKind::RegionCaption | TaskKind::OpenQuestion => {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_in_the_benchmarks_form_are_read_and_others_are_not() {
        for (task, answer) in [
            (TaskKind::Tag, "20.7-55.7 seconds."),
            (TaskKind::Stg, "66.0 seconds: [117.54, 339.56, 626.88, 1005.62]"),
            (TaskKind::DenseCaptioning, "0.0-10.0 seconds: suturing: the surgeon closes the wound"),
            (TaskKind::Cvs, "Two structures: 0, Cystic plate: 0, Hepatocystic triangle: 0"),
            (TaskKind::SkillAssessment, "Respect for tissue: 4/5, Time and motion: 3/5"),
        ] {
            assert_eq!(is_readable(task, answer), Some(true), "{task}");
            assert_eq!(is_readable(task, "I cannot tell."), Some(false), "{task}");
            assert_eq!(is_readable(task, ""), Some(false), "{task}");
        }
        assert_eq!(is_readable(TaskKind::VideoSummary, ""), None);
    }
}
