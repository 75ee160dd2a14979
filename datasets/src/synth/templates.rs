//! The words of the practice set: question templates and the small grammar of its captions.

use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::{
    script::{Anatomy, Clip},
    source::{Action, Effect, Tool},
};

pub(super) const PERSONAS: &[&str] = &[
    "",
    "You watch a surgical recording.",
    "You are a surgeon who reviews videos.",
    "You assist a surgical team.",
    "You teach surgery from recordings.",
];

pub(super) const TAG: &[&str] = &[
    "Possible actions include: {list}. When does {action} happen?",
    "Possible actions include: {list}. Find the segment(s) where {action} happens.",
    "The recording shows {procedure}. Possible actions include: {list}. Give the start and end of {action} in seconds.",
    "Which part of the video shows {action}? Possible actions include: {list}.",
    "Locate {action} in time. Possible actions include: {list}.",
    "This is {procedure}. From which second to which second does {action} last?",
];

pub(super) const STG: &[&str] = &[
    "What are the bounding boxes of the {object} sampled every {stride} from {start} to {end} seconds?",
    "Give the boxes of the {object} every {stride} from {start} to {end} seconds.",
    "Locate the {object} from {start} to {end} seconds, one box every {stride}.",
    "Where is the {object}? Report a box every {stride} between {start} and {end} seconds.",
    "From {start} to {end} seconds, track the {object} with a box every {stride}.",
];

pub(super) const DVC: &[&str] = &[
    "List the events of this video, limited to [{list}]. For each give start time, end time and a description.",
    "Create an event list restricted to [{list}] with start, end and description of each event.",
    "Which of [{list}] happen, and when? Describe every event with its times.",
    "Caption all events of the types [{list}] with their start and end in seconds.",
    "Write one line for each event out of [{list}]: start, end, what happens.",
];

pub(super) const NAP: &[&str] = &[
    "The procedure includes the following step list: [{list}]. What comes next after the current video?",
    "Steps of {procedure}: [{list}]. Which step follows this video?",
    "Choose from [{list}]: what will happen after this clip?",
    "The steps are [{list}]. Predict the next one.",
    "Given the step list [{list}], name the step after the one shown.",
];

pub(super) const RC: &[&str] = &[
    "Describe the activity of the object inside the bounding box at {start} seconds, from {start} to {end} seconds.",
    "What does the object in the box at {start} seconds do until {end} seconds?",
    "A box marks an object at {start} seconds. Describe its activity up to {end} seconds.",
    "Between {start} and {end} seconds, what is the boxed object doing?",
    "Caption the region marked at {start} seconds over the interval {start} to {end} seconds.",
];

pub(super) const VS: &[&str] = &[
    "Summarize the video.",
    "Write a short summary of this {procedure} video.",
    "What happens in this video of {procedure}?",
    "Describe the clip in one sentence.",
    "Give a brief summary of what is seen.",
];

pub(super) const CVS: &[&str] = &[
    "Assess the critical view of safety: give a score (0, 1, 2) to two structures, cystic plate and hepatocystic triangle.",
    "Score the critical view of safety from 0 to 2 for two structures, cystic plate, hepatocystic triangle.",
    "How well is the critical view of safety reached? Rate two structures, cystic plate and hepatocystic triangle (0-2).",
    "Rate the exposure of two structures, cystic plate and hepatocystic triangle with 0, 1 or 2 each.",
    "Assign 0, 1 or 2 to each criterion: two structures, cystic plate, hepatocystic triangle.",
];

pub(super) const SA: &[&str] = &[
    "Assess the skill shown: score the six aspects from 1 to 5.",
    "Score respect for tissue, suture/needle handling, time and motion, flow of operation, overall performance and \
     quality of final product (1-5).",
    "How skilled is the operator? Give each of the six aspects a score out of 5.",
    "Rate the suturing from 1 to 5 in all six aspects.",
    "Grade this exercise: six aspects, each out of 5.",
];

/// One of the templates.
pub(super) fn pick(templates: &'static [&'static str], rng: &mut ChaCha8Rng) -> &'static str {
    templates.choose(rng).copied().unwrap_or_default()
}

/// Puts values in the place of their names in braces.
pub(super) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

pub(super) fn action_sentence(action: &Action, target: &str) -> String {
    format!("The {} {} the {target}.", action.tool.name(), action.verb)
}

/// What the boxed tool does and what can be seen of it.
pub(super) fn region_sentence(action: &Action, target: &str) -> String {
    let sign = match action.effect {
        Effect::Smoke => "raising smoke",
        Effect::Slit => "leaving a dark slit",
        Effect::Clips => "leaving metal clips",
        Effect::Incision => "drawing a red line",
        Effect::Stitches => "pulling a blue thread",
    };
    format!("The {} {} the {target}, {sign}.", action.tool.name(), action.verb)
}

pub(super) fn steady_sentence(tool: Tool, target: &str) -> String {
    let verb = if tool == Tool::Forceps { "hold" } else { "holds" };
    format!("The {} {verb} the {target} still.", tool.name())
}

pub(super) fn summary_sentence(clip: &Clip, target: &str, phase: &str, before: Option<&str>) -> String {
    let when = before.map_or_else(|| format!("During {phase}"), |before| format!("From {before} to {phase}"));
    let mut deeds: Vec<String> = Vec::new();
    for event in &clip.events {
        let deed = format!("the {} {} the {target}", event.action.tool.name(), event.action.verb);
        if !deeds.contains(&deed) {
            deeds.push(deed);
        }
    }
    let blood = if clip.bleeding_from.is_some() { "bleeding follows" } else { "the field stays dry" };
    format!("{when}, {}; {blood}.", deeds.join(" and "))
}

pub(super) fn anatomy_sentence(anatomy: Anatomy) -> String {
    let structures = ["no structure is", "one structure is", "two structures are"];
    let plate = ["covered", "partly bared", "fully bared"];
    let triangle = ["hidden by fat", "partly cleared", "clear"];
    let of = |words: [&'static str; 3], score: u8| words[usize::from(score.min(2))];
    format!(
        "In this view {} seen, the cystic plate is {} and the triangle is {}.",
        of(structures, anatomy.two_structures),
        of(plate, anatomy.cystic_plate),
        of(triangle, anatomy.hepatocystic_triangle)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_short_varied_and_filled_whole() {
        let values = [
            ("list", "a, b"),
            ("action", "c"),
            ("procedure", "d"),
            ("object", "e"),
            ("stride", "2 seconds"),
            ("start", "0"),
            ("end", "4"),
        ];
        for set in [TAG, STG, DVC, NAP, RC, VS, CVS, SA] {
            assert!(set.len() >= 5);
            for template in set {
                let text = fill(template, &values);
                assert!(!text.contains(['{', '}']), "{text}");
                assert!(text.split_whitespace().count() < 40, "{text}");
            }
        }
    }
}
