//! From samples on disk to what the model takes: where datasets, which decode, meet the processor, which plans.

use std::{collections::HashMap, sync::Arc};

use medgrpo_datasets::{
    ClipId, Content, DatasetError, Frames, Message, TaskSample, VideoRef,
    video::{ClipInfo, clip_info, image_size, load_frames, load_image},
};
use medgrpo_model::processor::{
    AnswerIds, ChatMessage, ChatPart, DEFAULT_FPS, DEFAULT_MAX_FRAMES, DEFAULT_MIN_FRAMES, Encoded,
    FramePlan, FrameWish, Processor, ProcessorError, SamplingRule, Visual, VisualSize, frame_range,
    plan_frames,
};
use rayon::prelude::*;

use crate::{TrainError, rollout::PreparedSample};

/// Sampling of video files; lists of frames are used whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VideoSampling {
    /// Frames per second, where the record itself wishes none.
    pub fps: f64,
    /// Most frames of one clip.
    pub max_frames: usize,
}

impl Default for VideoSampling {
    fn default() -> Self {
        Self { fps: DEFAULT_FPS, max_frames: DEFAULT_MAX_FRAMES }
    }
}

impl VideoSampling {
    /// Which frames of a clip are used: a list's all, a video file's by the wished rate.
    ///
    /// # Errors
    /// A window without frames, and a rate that gives none.
    pub fn plan(&self, clip: &VideoRef, info: &ClipInfo) -> Result<FramePlan, ProcessorError> {
        match &clip.frames {
            Frames::Files { fps, .. } => Ok(FramePlan::whole(info.num_frames, *fps)),
            Frames::Video { fps, start_sec, end_sec, .. } => {
                let range = frame_range(info.num_frames, info.fps, *start_sec, *end_sec)?;
                let wish = FrameWish::Fps {
                    fps: fps.unwrap_or(self.fps),
                    min_frames: DEFAULT_MIN_FRAMES.min(self.max_frames),
                    max_frames: self.max_frames,
                };
                plan_frames(SamplingRule::QwenVlUtils, range, info.fps, wish)
            }
        }
    }
}

/// Decodes, resizes and tokenises samples.
#[derive(Clone, Debug)]
pub struct SamplePreparer {
    /// Tokenizer, template and pixel settings of the checkpoint.
    pub processor: Arc<Processor>,
    /// Sampling of video files.
    pub sampling: VideoSampling,
    /// Longer prompts are refused; nothing is ever truncated.
    pub max_prompt_tokens: Option<usize>,
}

/// What a conversation shows.
#[derive(Clone)]
struct Shown {
    /// One for each of its media.
    sizes: Vec<VisualSize>,
    /// Their patches, without tokens.
    patches: Encoded,
}

impl SamplePreparer {
    /// Makes a sample ready for the model; `origin` names it in messages.
    pub fn prepare(&self, origin: String, sample: TaskSample) -> Result<PreparedSample, TrainError> {
        let shown = self.show(&origin, &sample.prompt)?;
        self.prepare_shown(origin, sample, shown)
    }

    /// Makes samples ready, in their order; a clip that several of them show is decoded once.
    pub fn prepare_all(&self, samples: Vec<(String, TaskSample)>) -> Vec<Result<PreparedSample, TrainError>> {
        let show = |origin: &str, sample: &TaskSample| self.show(origin, &sample.prompt);
        prepare_showing(samples, show, |origin, sample, shown| self.prepare_shown(origin, sample, shown))
    }

    fn prepare_shown(
        &self,
        origin: String,
        sample: TaskSample,
        shown: Shown,
    ) -> Result<PreparedSample, TrainError> {
        let (prompt, answer_ids) =
            self.encode_shown(&origin, &sample.prompt, sample.answer.as_deref(), shown)?;
        if let Some(max) = self.max_prompt_tokens
            && prompt.input_ids.len() > max
        {
            return Err(too_long(origin, prompt.input_ids.len(), max));
        }
        Ok(PreparedSample { sample: Arc::new(sample), origin, prompt, answer_ids })
    }

    /// Length of a sample's prompt in tokens, from the headers of its media alone.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare), the limit on tokens included.
    pub fn count_prompt_tokens(&self, origin: &str, sample: &TaskSample) -> Result<usize, TrainError> {
        let count = self.count_tokens(origin, &sample.prompt)?;
        match self.max_prompt_tokens {
            Some(max) if count > max => Err(too_long(origin.to_owned(), count, max)),
            _ => Ok(count),
        }
    }

    fn count_tokens(&self, origin: &str, messages: &[Message]) -> Result<usize, TrainError> {
        let mut sizes = Vec::new();
        for content in messages.iter().flat_map(|message| &message.content) {
            match content {
                Content::Text(_) => {}
                Content::Image(image) => {
                    let (width, height) = image_size(&image.path).map_err(unreadable(origin))?;
                    sizes.push(VisualSize::Image { width: width as usize, height: height as usize });
                }
                Content::Video(clip) => {
                    let info = clip_info(clip).map_err(unreadable(origin))?;
                    let plan = self.sampling.plan(clip, &info).map_err(refused(origin))?;
                    let (width, height) = (info.width as usize, info.height as usize);
                    sizes.push(VisualSize::Video { num_frames: plan.indices.len(), width, height });
                }
            }
        }
        self.processor.plan_num_tokens(&chat_messages(messages), &sizes, true).map_err(refused(origin))
    }

    /// A conversation whose last turn is the assistant's, split into prompt and tokens of that turn; without an answer, the
    /// prompt alone.
    pub fn encode_prompt(
        &self,
        origin: &str,
        messages: &[Message],
        answer: Option<&str>,
    ) -> Result<(Encoded, Option<Vec<u32>>), TrainError> {
        let shown = self.show(origin, messages)?;
        self.encode_shown(origin, messages, answer, shown)
    }

    fn encode_shown(
        &self,
        origin: &str,
        messages: &[Message],
        answer: Option<&str>,
        Shown { sizes, patches }: Shown,
    ) -> Result<(Encoded, Option<Vec<u32>>), TrainError> {
        let mut chat = chat_messages(messages);
        let input_ids = self.processor.token_ids(&chat, &sizes, true).map_err(refused(origin))?;
        let prompt = Encoded { input_ids, ..patches };
        let Some(answer) = answer else {
            return Ok((prompt, None));
        };
        chat.push(ChatMessage::text("assistant", answer));
        let AnswerIds { input_ids, answer } =
            self.processor.answer_ids(&chat, &sizes).map_err(refused(origin))?;
        if input_ids[..answer.start] != prompt.input_ids {
            return Err(TrainError::Sample {
                origin: origin.to_owned(),
                message: "the answer's first characters melt into the prompt's last token; trim white space at its start"
                    .to_owned(),
            });
        }
        Ok((prompt, Some(input_ids[answer].to_vec())))
    }

    /// A whole conversation as the model sees it, with the start of the next answer if `add_generation_prompt`.
    pub fn encode_conversation(
        &self,
        origin: &str,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Encoded, TrainError> {
        let visuals = self.load_visuals(origin, messages)?;
        self.processor
            .encode(&chat_messages(messages), &visuals, add_generation_prompt)
            .map_err(refused(origin))
    }

    fn show(&self, origin: &str, messages: &[Message]) -> Result<Shown, TrainError> {
        let visuals = self.load_visuals(origin, messages)?;
        let patches = self.processor.encode_visuals(&visuals).map_err(refused(origin))?;
        Ok(Shown { sizes: visuals.iter().map(Visual::size).collect(), patches })
    }

    fn load_visuals(&self, origin: &str, messages: &[Message]) -> Result<Vec<Visual>, TrainError> {
        let mut visuals = Vec::new();
        for content in messages.iter().flat_map(|message| &message.content) {
            match content {
                Content::Text(_) => {}
                Content::Image(image) => {
                    visuals.push(Visual::Image(load_image(&image.path).map_err(unreadable(origin))?));
                }
                Content::Video(clip) => {
                    let info = clip_info(clip).map_err(unreadable(origin))?;
                    let plan = self.sampling.plan(clip, &info).map_err(refused(origin))?;
                    let frames = load_frames(clip, &plan.indices).map_err(unreadable(origin))?;
                    visuals.push(Visual::Video { frames, sample_fps: plan.sample_fps });
                }
            }
        }
        Ok(visuals)
    }
}

/// `prepare` of each sample with what `show` gives for it; `show` is called once for a clip that several of them show.
fn prepare_showing<S: Clone + Send + Sync, P: Send>(
    samples: Vec<(String, TaskSample)>,
    show: impl Fn(&str, &TaskSample) -> Result<S, TrainError> + Sync,
    prepare: impl Fn(String, TaskSample, S) -> Result<P, TrainError> + Sync,
) -> Vec<Result<P, TrainError>> {
    let mut askers: HashMap<ClipId, Vec<&(String, TaskSample)>> = HashMap::new();
    for asker in &samples {
        if let Some(clip) = asker.1.clip() {
            askers.entry(clip).or_default().push(asker);
        }
    }
    let shared: HashMap<ClipId, S> = askers
        .into_par_iter()
        .filter(|(_, askers)| askers.len() > 1)
        .filter_map(|(clip, askers)| {
            let (origin, sample) = askers[0];
            // Media that cannot be read are left to each sample, so that each is named in a message of its own.
            Some((clip, show(origin, sample).ok()?))
        })
        .collect();
    samples
        .into_par_iter()
        .map(|(origin, sample)| {
            let shown = match sample.clip().and_then(|clip| shared.get(&clip)) {
                Some(shown) => shown.clone(),
                None => show(&origin, &sample)?,
            };
            prepare(origin, sample, shown)
        })
        .collect()
}

/// The messages as chat templates see them: media as marks, without their files.
fn chat_messages(messages: &[Message]) -> Vec<ChatMessage> {
    let part = |content: &Content| match content {
        Content::Text(text) => ChatPart::Text(text.clone()),
        Content::Image(_) => ChatPart::Image,
        Content::Video(_) => ChatPart::Video,
    };
    messages
        .iter()
        .map(|message| ChatMessage {
            role: message.role.as_str().to_owned(),
            content: message.content.iter().map(part).collect(),
        })
        .collect()
}

fn refused(origin: &str) -> impl FnOnce(ProcessorError) -> TrainError {
    let origin = origin.to_owned();
    move |source| TrainError::Processor { origin, source }
}

/// Media errors name the media file; which record asks for it is known here alone.
fn unreadable(origin: &str) -> impl FnOnce(DatasetError) -> TrainError {
    let origin = origin.to_owned();
    move |error| TrainError::Sample { origin, message: error.to_string() }
}

fn too_long(origin: String, count: usize, max: usize) -> TrainError {
    TrainError::Sample {
        origin,
        message: format!(
            "its prompt has {count} tokens, more than max_prompt_tokens = {max}; raise that or lower video.max_pixels"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use medgrpo_datasets::{ImageRef, Role};

    use super::*;
    use crate::testing::asking;

    #[test]
    fn a_clip_of_several_samples_is_shown_once_for_all_of_them() {
        let files = ["a", "b", "a", "none", "a", "none"];
        let asked = |(row, &file): (usize, &&str)| {
            let content = vec![Content::Image(ImageRef { path: file.into() })];
            (format!("row {row}"), asking(row, vec![Message { role: Role::User, content }]))
        };
        let words = ("row 6".to_owned(), asking(6, Vec::new()));
        let samples = files.iter().enumerate().map(asked).chain([words]).collect();
        let calls = Mutex::new(Vec::new());
        let show = |origin: &str, sample: &TaskSample| {
            let file = files.get(sample.row).copied().unwrap_or("words");
            calls.lock().unwrap().push(file);
            match file {
                "none" => Err(too_long(origin.to_owned(), 2, 1)),
                _ => Ok(file),
            }
        };
        let prepared =
            prepare_showing(samples, show, |origin, _, shown| Ok(format!("{origin} shows {shown}")));
        let told: Vec<String> =
            prepared.into_iter().map(|it| it.unwrap_or_else(|error| error.to_string())).collect();
        for (row, wanted) in [
            (0, "row 0 shows a"),
            (1, "row 1 shows b"),
            (2, "row 2 shows a"),
            (4, "row 4 shows a"),
            (6, "row 6 shows words"),
        ] {
            assert_eq!(told[row], wanted);
        }
        assert!(told[3].contains("row 3") && told[5].contains("row 5"), "{told:?}");
        let calls = calls.into_inner().unwrap();
        let count = |file| calls.iter().filter(|&&call| call == file).count();
        assert_eq!([count("a"), count("b"), count("words")], [1, 1, 1]);
    }
}
