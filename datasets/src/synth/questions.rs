//! Asks about a clip: question, answer in the benchmark's exact form, and the structured truth.

use std::ops::Range;

use rand::{
    Rng,
    seq::{IndexedRandom, SliceRandom},
};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::{
    script::Clip,
    source::{BLEEDING, EventShape, Scene, SourceSpec, Tool},
    templates as say,
    video::FrameBoxes,
};

/// One question about a stretch of a clip.
pub(super) struct Question {
    pub(super) qa_type: &'static str,
    /// Sampled frames of the clip that are shown; times count from the first.
    pub(super) window: Range<usize>,
    pub(super) text: String,
    pub(super) answer: String,
    pub(super) struc_info: Value,
    /// Frame of the clip and box that a region question points at.
    pub(super) region: Option<(usize, [f64; 4])>,
}

/// A clip with what was seen in it.
pub(super) struct Seen<'a> {
    pub(super) spec: &'static SourceSpec,
    pub(super) clip: &'a Clip,
    /// By sampled frame.
    pub(super) boxes: &'a [FrameBoxes],
}

/// Smallest visible part, in pixels, that a question may be about.
const MIN_PIXELS: usize = 16;

/// All questions about a clip.
pub(super) fn ask(seen: &Seen<'_>, rng: &mut ChaCha8Rng) -> Vec<Question> {
    let mut questions = Vec::new();
    let spec = seen.spec;
    let whole = 0..seen.clip.num_frames;
    if !seen.clip.events.is_empty() {
        let num_tags = if spec.scene == Scene::Bench { 1 } else { 2 };
        questions.extend(seen.action_questions(num_tags, rng));
        questions.push(seen.event_list(rng));
    }
    let num_boxes = if matches!(spec.scene, Scene::Anatomy | Scene::Bench) { 1 } else { 2 };
    questions.extend(seen.box_questions(num_boxes, rng));
    if !spec.phases.is_empty() {
        questions.push(seen.next_phase(whole.clone(), rng));
        if rng.random_bool(0.5) {
            questions.push(seen.next_phase(seen.clip.num_frames / 2..seen.clip.num_frames, rng));
        }
        questions.extend(seen.region_caption(rng));
    }
    if spec.scene != Scene::Bench {
        questions.push(seen.summary(rng));
    }
    for window in [whole, 0..seen.clip.num_frames - 2, 2..seen.clip.num_frames] {
        questions.extend(seen.critical_view(window.clone(), rng));
        questions.extend(seen.skill(window, rng));
    }
    questions
}

impl Seen<'_> {
    fn seconds(&self, frame: usize) -> f64 {
        frame as f64 / self.spec.fps
    }

    fn question(&self, qa_type: &'static str, text: String, answer: String, struc_info: Value) -> Question {
        Question { qa_type, window: 0..self.clip.num_frames, text, answer, struc_info, region: None }
    }

    /// The box of a tool that is well in view.
    fn box_of(&self, tool: Tool, frame: usize) -> Option<[f64; 4]> {
        let (bounds, pixels) = self.boxes[frame].get(&tool)?;
        (*pixels >= MIN_PIXELS).then(|| bounds.map(|v| v as f64))
    }

    fn phase(&self) -> Option<&'static str> {
        self.spec.phases.get(self.clip.phase).copied()
    }

    fn action_questions(&self, limit: usize, rng: &mut ChaCha8Rng) -> Vec<Question> {
        let mut labels: Vec<&str> = self.clip.events.iter().map(|event| event.action.name).collect();
        labels.sort_unstable();
        labels.dedup();
        if self.clip.bleeding_from.is_some() {
            labels.push(BLEEDING);
        }
        labels.shuffle(rng);
        labels.truncate(limit);
        labels.into_iter().map(|label| self.action_question(label, rng)).collect()
    }

    fn action_question(&self, label: &str, rng: &mut ChaCha8Rng) -> Question {
        let spans: Vec<(f64, f64)> = match self.clip.bleeding_from {
            Some(from) if label == BLEEDING => {
                vec![(self.seconds(from), self.seconds(self.clip.num_frames - 1))]
            }
            _ => {
                let events = self.clip.events.iter().filter(|event| event.action.name == label);
                events.map(|event| (self.seconds(event.first), self.seconds(event.last))).collect()
            }
        };
        let names = self.spec.action_names();
        let text = say::fill(
            say::pick(say::TAG, rng),
            &[("action", label), ("list", &names.join(", ")), ("procedure", self.spec.procedure)],
        );
        let spans_text: Vec<String> =
            spans.iter().map(|(start, end)| format!("{start:.1}-{end:.1}")).collect();
        let spans: Vec<Value> =
            spans.iter().map(|(start, end)| json!({"start": start, "end": end})).collect();
        let info = if self.spec.event_shape == EventShape::Flat {
            json!([{"action": label, "spans": spans}])
        } else {
            json!([{"procedure": self.spec.procedure, "action_list": names, "action": label, "spans": spans}])
        };
        self.question("tal", text, format!("{} seconds.", spans_text.join(", ")), info)
    }

    fn event_list(&self, rng: &mut ChaCha8Rng) -> Question {
        let mut lines = Vec::new();
        let mut events = Vec::new();
        for event in &self.clip.events {
            let (start, end) = (self.seconds(event.first), self.seconds(event.last));
            let caption = say::action_sentence(event.action, self.spec.target);
            if self.spec.labelled_events {
                lines.push(format!("{start:.1}-{end:.1} seconds: {}: {caption}", event.action.name));
                events.push(
                    json!({"start": start, "end": end, "caption": caption, "action": event.action.name}),
                );
            } else {
                lines.push(format!("{start:.1}-{end:.1} seconds: {caption}"));
                events.push(json!({"start": start, "end": end, "caption": caption}));
            }
        }
        let info = match self.spec.event_shape {
            EventShape::Nested => json!([events]),
            EventShape::Segments => json!([{"dc_segments": events}]),
            EventShape::Flat => json!(events),
        };
        let mut names = self.spec.action_names();
        names.retain(|&name| name != BLEEDING);
        let text = say::fill(say::pick(say::DVC, rng), &[("list", &names.join(", "))]);
        let qa_type = if rng.random_bool(0.5) { "dense_captioning_gpt" } else { "dense_captioning_gemini" };
        self.question(qa_type, text, lines.join("\n"), info)
    }

    /// Boxes of the steady tool first, then of the tools of events.
    fn box_questions(&self, limit: usize, rng: &mut ChaCha8Rng) -> Vec<Question> {
        let mut wanted = vec![(self.spec.steady, 0..self.clip.num_frames)];
        if let Some(event) = self.clip.events.choose(rng) {
            wanted.push((event.action.tool, event.first..event.last + 1));
        }
        if limit < wanted.len() && rng.random_bool(0.5) {
            wanted.reverse();
        }
        wanted.truncate(limit);
        wanted.into_iter().filter_map(|(tool, frames)| self.box_question(tool, frames, rng)).collect()
    }

    /// One to three boxes at whole seconds inside `frames`; `None` when the tool is hidden at one of them.
    fn box_question(&self, tool: Tool, frames: Range<usize>, rng: &mut ChaCha8Rng) -> Option<Question> {
        // Sampled frames between whole seconds.
        let step = (self.spec.fps.ceil() as usize).max(1);
        let first_tick = frames.start.div_ceil(step);
        let num_ticks = ((frames.end - 1) / step + 1).checked_sub(first_tick)?;
        let wanted = *[1, 1, 2, 2, 3].choose(rng)?;
        let num_boxes = wanted.min(num_ticks);
        let stride = match num_boxes {
            1 => rng.random_range(2..=3),
            _ => rng.random_range(1..=((num_ticks - 1) / (num_boxes - 1)).min(3)),
        };
        let covered = (num_boxes.checked_sub(1)?) * stride;
        let start = first_tick + rng.random_range(0..num_ticks - covered);
        // The interval may end before the next box is due; a single box needs an end of its own.
        let spare = (self.clip.num_frames - 1) / step - (start + covered);
        let tail = rng.random_range(usize::from(num_boxes == 1)..stride).min(spare);
        let to_sec = |tick: usize| self.seconds(tick * step).round() as u64;
        let (start_sec, end_sec, stride_sec) =
            (to_sec(start), to_sec(start + covered + tail), to_sec(stride));
        let mut answer = Vec::new();
        let mut dict = serde_json::Map::new();
        for i in 0..num_boxes {
            let tick = start + i * stride;
            let bounds = self.box_of(tool, tick * step)?;
            let corners = bounds.map(|v| format!("{v:.1}")).join(", ");
            answer.push(format!("{:.1} seconds: [{corners}]", to_sec(tick) as f64));
            let seconds = to_sec(tick);
            let key = if self.spec.decimal_keys { format!("{seconds}.0") } else { seconds.to_string() };
            dict.insert(key, json!(bounds));
        }
        let text = say::fill(
            say::pick(say::STG, rng),
            &[
                ("object", tool.name()),
                ("stride", &seconds_word(stride_sec)),
                // With the answer's decimal: a small model copies a time sooner than it rewrites one.
                ("start", &format!("{start_sec}.0")),
                ("end", &format!("{end_sec}.0")),
            ],
        );
        let info = json!([{
            "start": start_sec, "end": end_sec, "stride": stride_sec, "object": tool.name(), "bbox_dict": dict,
        }]);
        Some(self.question("stg", text, answer.join(" "), info))
    }

    fn next_phase(&self, window: Range<usize>, rng: &mut ChaCha8Rng) -> Question {
        let next = self.spec.phases[self.clip.phase + 1];
        let list = self.spec.phases.join(", ");
        let text =
            say::fill(say::pick(say::NAP, rng), &[("list", &list), ("procedure", self.spec.procedure)]);
        let info =
            json!([{"procedure": self.spec.procedure, "step_list": self.spec.phases, "next_action": next}]);
        Question { window, ..self.question("next_action", text, next.to_owned(), info) }
    }

    fn region_caption(&self, rng: &mut ChaCha8Rng) -> Option<Question> {
        let event = self.clip.events.choose(rng).filter(|_| rng.random_bool(0.65));
        let (tool, frames) = match event {
            Some(event) => (event.action.tool, event.first..event.last + 1),
            None => {
                let start = rng.random_range(0..self.clip.num_frames - 2);
                (self.spec.steady, start..self.clip.num_frames)
            }
        };
        let bounds = self.box_of(tool, frames.start)?;
        let answer = match event {
            Some(event) => say::region_sentence(event.action, self.spec.target),
            None => say::steady_sentence(tool, self.spec.target),
        };
        let (start, end) = (self.seconds(frames.start), self.seconds(frames.end - 1));
        let text = say::fill(
            say::pick(say::RC, rng),
            &[("start", &format!("{start:.1}")), ("end", &format!("{end:.1}"))],
        );
        let info = json!([{"question": text, "struc_info": {
            "start": start, "end": end, "object": tool.name(),
            "start_frame": (self.clip.offset + frames.start) * self.spec.native_stride,
            "start_frame_bbox": bounds, "phase_info": self.phase(),
        }}]);
        let qa_type = if rng.random_bool(0.5) { "region_caption_gpt" } else { "region_caption_gemini" };
        Some(Question { region: Some((frames.start, bounds)), ..self.question(qa_type, text, answer, info) })
    }

    fn summary(&self, rng: &mut ChaCha8Rng) -> Question {
        let answer = match (self.clip.anatomy, self.phase()) {
            (Some(anatomy), _) => say::anatomy_sentence(anatomy),
            (None, phase) => {
                let before = self.clip.switch.map(|_| self.spec.phases[self.clip.phase - 1]);
                say::summary_sentence(
                    self.clip,
                    self.spec.target,
                    phase.unwrap_or(self.spec.procedure),
                    before,
                )
            }
        };
        let text = say::fill(say::pick(say::VS, rng), &[("procedure", self.spec.procedure)]);
        let qa_type = if rng.random_bool(0.5) { "video_summary_gpt" } else { "video_summary_gemini" };
        self.question(qa_type, text, answer, json!([]))
    }

    fn critical_view(&self, window: Range<usize>, rng: &mut ChaCha8Rng) -> Option<Question> {
        let anatomy = self.clip.anatomy?;
        let (two, plate, triangle) =
            (anatomy.two_structures, anatomy.cystic_plate, anatomy.hepatocystic_triangle);
        let answer =
            format!("Two structures: {two}, Cystic plate: {plate}, Hepatocystic triangle: {triangle}");
        let info = json!([{"cvs_scores": {
            "two_structures": two, "cystic_plate": plate, "hepatocystic_triangle": triangle,
        }}]);
        let text = say::pick(say::CVS, rng).to_owned();
        Some(Question { window, ..self.question("cvs_assessment", text, answer, info) })
    }

    fn skill(&self, window: Range<usize>, rng: &mut ChaCha8Rng) -> Option<Question> {
        let skill = self.clip.skill?;
        let scores = [
            ("Respect for tissue", skill.respect_for_tissue),
            ("Suture/needle handling", skill.needle_handling),
            ("Time and motion", skill.time_and_motion),
            ("Flow of operation", skill.flow()),
            ("Overall performance", skill.overall()),
            ("Quality of final product", skill.final_product),
        ];
        let answer = scores.map(|(aspect, score)| format!("{aspect}: {score}/5")).join(", ");
        let level = match skill.overall() {
            ..=2 => "N",
            3 => "I",
            _ => "E",
        };
        let by_aspect: serde_json::Map<String, Value> =
            scores.into_iter().map(|(aspect, score)| (aspect.to_owned(), score.into())).collect();
        let info = json!([{"skill_level": level, "skill_scores": by_aspect}]);
        let text = say::pick(say::SA, rng).to_owned();
        Some(Question { window, ..self.question("skill_assessment", text, answer, info) })
    }
}

fn seconds_word(count: u64) -> String {
    if count == 1 { "second".to_owned() } else { format!("{count} seconds") }
}
