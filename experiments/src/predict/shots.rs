//! The solved example of one-shot inference: question and answer in a system message, without a clip.
//!
//! As in the official inference there is one example a `qa_type`, and that of CVS gets scores drawn anew for every row,
//! so that it teaches no constant. Examples come from a file of records, or are invented here to show the form.

use std::path::Path;

use anyhow::Result;
use medgrpo_datasets::{Content, Dataset as _, MedVidBenchFile, Message, Role, TaskKind, TaskSample};

use super::python_random::PythonRandom;

/// A solved question.
struct Example {
    qa_type: String,
    task: TaskKind,
    /// Where it comes from; `None` for an invented one.
    video_id: Option<String>,
    question: String,
    answer: String,
}

/// Examples for all kinds of questions.
pub(super) struct Shots {
    /// In the order in which they are taken.
    examples: Vec<Example>,
    /// Where they come from, for messages.
    origin: String,
}

/// Examples kept of one `qa_type`: rows of the first one's video are shown the second.
const NUM_VIDEOS: usize = 2;

impl Shots {
    /// Invented examples: the form of every task's answer, with values that belong to no clip.
    pub(super) fn invented() -> Self {
        let examples = INVENTED.iter().map(|&(task, question, answer)| Example {
            qa_type: String::new(),
            task,
            video_id: None,
            question: question.to_owned(),
            answer: answer.to_owned(),
        });
        Self { examples: examples.collect(), origin: "the invented examples".to_owned() }
    }

    /// The first usable records with an answer of each of `qa_types` in the file, of two videos each.
    pub(super) fn from_file(path: &Path, qa_types: &[String]) -> Result<Self> {
        // No media are opened, so it does not matter where they are.
        let file = MedVidBenchFile::open(path, "/")?;
        let mut examples: Vec<Example> = Vec::new();
        for (_, sample) in file.iter() {
            let count = |qa_type: &str| examples.iter().filter(|known| known.qa_type == qa_type).count();
            if qa_types.iter().all(|qa_type| count(qa_type) == NUM_VIDEOS) {
                break;
            }
            let Ok(TaskSample { task, qa_type, video_id, prompt, answer: Some(answer), .. }) = sample else {
                continue;
            };
            let is_known = examples
                .iter()
                .any(|known| known.qa_type == qa_type && known.video_id.as_ref() == Some(&video_id));
            if is_known || count(&qa_type) == NUM_VIDEOS {
                continue;
            }
            let question = question(&prompt);
            examples.push(Example { qa_type, task, video_id: Some(video_id), question, answer });
        }
        Ok(Self { examples, origin: format!("{} ({} rows)", path.display(), file.len()) })
    }

    /// Puts the example for `sample` before its question. Never one of the sample's own video: it might tell the answer.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn show(&self, sample: &mut TaskSample) -> Result<(), String> {
        let other_video =
            |example: &&Example| example.video_id.as_deref().is_none_or(|video| video != sample.video_id);
        let candidates = || self.examples.iter().filter(other_video);
        let example = candidates()
            .find(|example| example.qa_type == sample.qa_type)
            .or_else(|| candidates().find(|example| example.task == sample.task))
            .ok_or_else(|| {
                format!("{} hold no example of qa_type \"{}\" of another video", self.origin, sample.qa_type)
            })?;
        let answer = match sample.task {
            TaskKind::Cvs => drawn_cvs_answer(sample.row),
            _ => example.answer.clone(),
        };
        let text = format!(
            "You answer questions about medical video clips. Here is such a question about another clip, with an answer \
             in the form that is wanted.\n\nQuestion: {}\nAnswer: {answer}\n\nKeep to this form; take what you say from \
             the clip you are shown.",
            example.question
        );
        match sample.prompt.first_mut() {
            Some(first) if first.role == Role::System => {
                first.content.push(Content::Text(format!("\n\n{text}")));
            }
            _ => sample.prompt.insert(0, Message { role: Role::System, content: vec![Content::Text(text)] }),
        }
        Ok(())
    }
}

/// Scores for the CVS example of a row, drawn as the official inference draws them.
fn drawn_cvs_answer(row: usize) -> String {
    let mut random = PythonRandom::new(row as u64);
    let [structures, plate, triangle] = [(); 3].map(|()| random.randint(0, 2));
    format!("Two structures: {structures}, Cystic plate: {plate}, Hepatocystic triangle: {triangle}")
}

/// The words of the last turn of the person.
fn question(prompt: &[Message]) -> String {
    let turn = prompt.iter().rev().find(|message| message.role == Role::User);
    let texts = turn.into_iter().flat_map(|message| &message.content).filter_map(|content| match content {
        Content::Text(text) => Some(text.trim()),
        Content::Image(_) | Content::Video(_) => None,
    });
    texts.collect::<Vec<_>>().join(" ")
}

const INVENTED: [(TaskKind, &str, &str); 8] = [
    (
        TaskKind::Tag,
        "Possible actions include: grasping, irrigating, stapling. When does irrigating happen?",
        "4.0-9.5, 31.0-38.0 seconds.",
    ),
    (
        TaskKind::Stg,
        "What are the bounding boxes of the stapler sampled every 5 seconds from 20 to 30 seconds?",
        "20.0 seconds: [412.5, 203.0, 655.0, 480.25] 25.0 seconds: [398.0, 210.5, 640.75, 492.0] \
         30.0 seconds: [371.25, 226.0, 612.5, 505.5]",
    ),
    (
        TaskKind::DenseCaptioning,
        "Create an event list restricted to the actions [grasping, irrigating, stapling]. Give start time, end time and a \
         description of each event.",
        "0.0-12.0 seconds: grasping: The grasper lifts the edge of the tissue.\n\
         12.0-26.5 seconds: irrigating: The field is rinsed and the fluid is drawn off.\n\
         26.5-41.0 seconds: stapling: The stapler is closed and fired across the tissue.",
    ),
    (
        TaskKind::NextAction,
        "The procedure includes the following step list: [access, inspection, irrigation, closure]. What comes next after \
         the current video?",
        "irrigation",
    ),
    (
        TaskKind::Cvs,
        "Assess the critical view of safety: assign a score (0, 1, 2) to two structures, cystic plate and hepatocystic \
         triangle.",
        "",
    ),
    (
        TaskKind::VideoSummary,
        "Summarize the video in a short paragraph.",
        "A grasper lifts the edge of the tissue while the field is rinsed. A stapler is then placed across the exposed base, \
         closed and fired. At the end the staple line is inspected and found dry.",
    ),
    (
        TaskKind::RegionCaption,
        "Describe the activity of the object inside the bounding box at 8.0 seconds, over the interval from 8.0 to 20.0 \
         seconds.",
        "The irrigator moves along the staple line, rinses it and draws off the fluid.",
    ),
    (
        TaskKind::SkillAssessment,
        "Score the following aspects on a scale of 1 to 5: respect for tissue, suture/needle handling, time and motion, \
         flow of operation, overall performance, quality of final product.",
        "Respect for tissue: 3/5, Suture/needle handling: 2/5, Time and motion: 4/5, Flow of operation: 3/5, Overall \
         performance: 3/5, Quality of final product: 2/5",
    ),
];

#[cfg(test)]
mod tests {
    use medgrpo_datasets::{Gold, SourceId};
    use medgrpo_rewards::parse;
    use serde_json::json;

    use super::*;

    fn sample(row: usize, qa_type: &str, video_id: &str) -> TaskSample {
        TaskSample {
            row,
            id: String::new(),
            source: SourceId::from("AVOS"),
            task: TaskKind::from_qa_type(qa_type).unwrap(),
            qa_type: qa_type.to_owned(),
            video_id: video_id.to_owned(),
            prompt: vec![Message { role: Role::User, content: vec![Content::Text("What?".to_owned())] }],
            answer: None,
            gold: Gold::Hidden,
            fps: 1.0,
        }
    }

    fn shown(shots: &Shots, mut sample: TaskSample) -> String {
        shots.show(&mut sample).unwrap();
        assert_eq!(sample.prompt.len(), 2);
        assert_eq!(sample.prompt[0].role, Role::System);
        let [Content::Text(text)] = sample.prompt[0].content.as_slice() else { panic!("text alone") };
        text.clone()
    }

    #[test]
    fn every_task_has_an_invented_example_in_its_own_form() {
        let answer =
            |task| INVENTED.iter().find(|(known, _, _)| *known == task).map(|example| example.2).unwrap();
        for task in TaskKind::BENCHMARK {
            answer(task);
        }
        assert_eq!(parse::tag::parse(answer(TaskKind::Tag)).len(), 2);
        let boxes = parse::stg::entries(answer(TaskKind::Stg));
        assert_eq!(boxes.iter().filter(|entry| entry.box_xyxy.is_some()).count(), 3);
        assert_eq!(parse::dvc::parse(answer(TaskKind::DenseCaptioning)).len(), 3);
        let scores = parse::skill::parse_strict(answer(TaskKind::SkillAssessment)).unwrap();
        assert_eq!(scores.len(), 6);
    }

    #[test]
    fn cvs_examples_are_drawn_by_row() {
        let shots = Shots::invented();
        let text = shown(&shots, sample(5, "cvs_assessment", "v"));
        assert!(
            text.contains("Answer: Two structures: 2, Cystic plate: 1, Hepatocystic triangle: 2\n"),
            "{text}"
        );
        let text = shown(&shots, sample(6, "cvs_assessment", "v"));
        assert!(
            text.contains("Answer: Two structures: 2, Cystic plate: 0, Hepatocystic triangle: 1\n"),
            "{text}"
        );
    }

    #[test]
    fn examples_of_a_file_are_its_first_of_another_video() {
        let record = |qa_type: &str, video: &str, answer: &str| {
            json!({
                "id": "1.0$x$0$1", "qa_type": qa_type, "video": ["a.jpg"], "data_source": "AVOS",
                "metadata": {"video_id": video, "fps": "1.0"},
                "conversations": [
                    {"from": "human", "value": format!("<video>\nWhich one in {video}?")},
                    {"from": "gpt", "value": answer},
                ],
            })
        };
        let records = json!([
            {"qa_type": "next_action"},
            record("next_action", "a", ""),
            record("next_action", "a", "cutting"),
            record("next_action", "a", "never taken"),
            record("next_action", "b", "tying"),
            record("video_summary_gpt", "a", "A summary."),
        ]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.json");
        std::fs::write(&path, records.to_string()).unwrap();
        let shots = Shots::from_file(&path, &["next_action".to_owned(), "tal".to_owned()]).unwrap();
        let text = shown(&shots, sample(0, "next_action", "c"));
        assert!(text.contains("Question: Which one in a?\nAnswer: cutting\n"), "{text}");
        let text = shown(&shots, sample(0, "next_action", "a"));
        assert!(text.contains("Question: Which one in b?\nAnswer: tying\n"), "{text}");
        // Another variant of the same task serves.
        let text = shown(&shots, sample(0, "video_summary_gemini", "b"));
        assert!(text.contains("A summary."), "{text}");
        let error = shots.show(&mut sample(0, "video_summary_gpt", "a")).unwrap_err();
        assert!(error.contains("train.json") && error.contains("video_summary_gpt"), "{error}");
    }
}
