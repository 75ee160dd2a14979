//! From messages and pixels to token ids and patches: what the reference's processor does, on the host.
//!
//! Everything is read from a checkpoint directory. Sizes alone are enough to count tokens, so a sample that does not
//! fit is found before a pixel is decoded. Nothing is truncated, padded or batched here. Decoding files, and choosing
//! which samples to use, is the datasets' part.

mod chat;
mod config;
mod encoded;
mod error;
mod files;
#[cfg(test)]
mod golden;
mod patches;
mod resample;
mod smart_resize;
mod template_functions;
mod tokenizer;
mod train_bpe;
mod video;
mod visual;

use std::{ops::Range, path::Path};

pub use chat::{ChatMessage, ChatPart, ChatTemplate, QWEN25_VL_TEMPLATE};
pub use config::ImageProcessorConfig;
pub use encoded::{Encoded, GridThw, Patches};
pub use error::ProcessorError;
pub use files::{copy_processor_files, write_processor_files};
pub use resample::resize_bicubic;
pub use smart_resize::{PixelRange, ResizeRule, smart_resize};
pub use tokenizer::{SpecialTokens, Tokenizer};
pub use train_bpe::{MIN_VOCAB_SIZE, train_bpe};
pub use video::{
    DEFAULT_FPS, DEFAULT_MAX_FRAMES, DEFAULT_MIN_FRAMES, DEFAULT_TOTAL_PIXELS, FramePlan, FrameWish,
    SamplingRule, frame_limits, frame_range, plan_frames,
};
pub use visual::{PixelOverrides, Visual, VisualSize};

use tokenizer::Tokens;
use visual::{VisualPlan, VisualProcessor};

/// Tokenizer, chat template and pixel settings of one checkpoint.
#[derive(Clone, Debug)]
pub struct Processor {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    visual: VisualProcessor,
}

/// Token ids of a conversation whose last turn is the assistant's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerIds {
    /// The whole conversation with every vision placeholder expanded.
    pub input_ids: Vec<u32>,
    /// Tokens of the last turn's text up to and including `<|im_end|>`. What stands before is the prompt, up to and
    /// including the line end after `<|im_start|>assistant`.
    pub answer: Range<usize>,
}

impl Processor {
    /// Reads `tokenizer.json`, the chat template, `preprocessor_config.json` and `video_preprocessor_config.json`.
    ///
    /// # Errors
    /// When a file is missing or asks for something that is not implemented; the file and key are named.
    pub fn from_dir(dir: &Path) -> Result<Self, ProcessorError> {
        let tokenizer = Tokenizer::from_dir(dir)?;
        let template = ChatTemplate::from_dir(dir, &tokenizer)?;
        let image = ImageProcessorConfig::read_image(dir)?;
        let video = ImageProcessorConfig::read_video(dir)?;
        Ok(Self { tokenizer, template, visual: VisualProcessor::new(image, video) })
    }

    /// The same processor with some pixel settings replaced.
    ///
    /// # Errors
    /// When the limits contradict each other.
    pub fn with_overrides(mut self, overrides: &PixelOverrides) -> Result<Self, ProcessorError> {
        self.visual.apply(overrides)?;
        Ok(self)
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The chat template.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// Settings for images.
    pub fn image_config(&self) -> &ImageProcessorConfig {
        &self.visual.image
    }

    /// Settings for videos.
    pub fn video_config(&self) -> &ImageProcessorConfig {
        &self.visual.video
    }

    /// Token ids and patches of a conversation; `visuals` in order of appearance.
    ///
    /// # Errors
    /// When the visuals do not fit the messages' places for them, or one cannot be used.
    pub fn encode(
        &self,
        messages: &[ChatMessage],
        visuals: &[Visual],
        add_generation_prompt: bool,
    ) -> Result<Encoded, ProcessorError> {
        let input_ids = self.token_ids(messages, &sizes(visuals), add_generation_prompt)?;
        self.with_patches(input_ids, visuals)
    }

    /// As [`Self::encode`], of a conversation that ends with the assistant's answer, and where that answer's tokens are:
    /// see [`AnswerIds::answer`].
    ///
    /// # Errors
    /// As [`Self::encode`], and when the last turn is not the assistant's.
    pub fn encode_with_answer(
        &self,
        messages: &[ChatMessage],
        visuals: &[Visual],
    ) -> Result<(Encoded, Range<usize>), ProcessorError> {
        let AnswerIds { input_ids, answer } = self.answer_ids(messages, &sizes(visuals))?;
        Ok((self.with_patches(input_ids, visuals)?, answer))
    }

    /// Token ids of a conversation, from the sizes of its visuals alone.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn token_ids(
        &self,
        messages: &[ChatMessage],
        sizes: &[VisualSize],
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>, ProcessorError> {
        let plans = self.plan(messages, sizes)?;
        let ids = self.tokenizer.encode(&self.template.render(messages, add_generation_prompt)?)?;
        let mut out = Vec::new();
        self.expand(&ids, &plans, |id, count| out.extend(std::iter::repeat_n(id, count)))?;
        Ok(out)
    }

    /// Number of tokens of a conversation, from the sizes of its visuals alone.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn plan_num_tokens(
        &self,
        messages: &[ChatMessage],
        sizes: &[VisualSize],
        add_generation_prompt: bool,
    ) -> Result<usize, ProcessorError> {
        let plans = self.plan(messages, sizes)?;
        let ids = self.tokenizer.encode(&self.template.render(messages, add_generation_prompt)?)?;
        let mut num_tokens = 0;
        self.expand(&ids, &plans, |_, count| num_tokens += count)?;
        Ok(num_tokens)
    }

    /// Token ids of a conversation that ends with the assistant's answer, from the sizes of its visuals alone. The ids are
    /// those of the whole conversation's text: a token that spans the answer's first byte counts as the answer's.
    ///
    /// # Errors
    /// As [`Self::encode_with_answer`].
    pub fn answer_ids(
        &self,
        messages: &[ChatMessage],
        sizes: &[VisualSize],
    ) -> Result<AnswerIds, ProcessorError> {
        let prompt = match messages.split_last() {
            Some((last, prompt)) if last.role == "assistant" => self.template.render(prompt, true)?,
            _ => {
                return Err(ProcessorError::Conversation(
                    "the last message is not the assistant's".to_owned(),
                ));
            }
        };
        let plans = self.plan(messages, sizes)?;
        let text = self.template.render(messages, false)?;
        if !text.starts_with(&prompt) {
            return Err(ProcessorError::Conversation(
                "the answer cannot be found: the chat template renders the messages before it differently without it"
                    .to_owned(),
            ));
        }
        let Tokens { ids, bytes } = self.tokenizer.encode_with_bytes(&text)?;
        let start = bytes.iter().position(|range| range.end > prompt.len()).unwrap_or(ids.len());
        let end = ids
            .iter()
            .rposition(|&id| id == self.tokenizer.special().im_end)
            .map_or(ids.len(), |last| last + 1);
        let mut input_ids = Vec::new();
        let mut answer = 0..0;
        let mut index = 0;
        self.expand(&ids, &plans, |id, count| {
            if index == start {
                answer.start = input_ids.len();
            }
            input_ids.extend(std::iter::repeat_n(id, count));
            index += 1;
            if index == end {
                answer.end = input_ids.len();
            }
        })?;
        if answer.is_empty() {
            return Err(ProcessorError::Conversation(
                "the chat template renders nothing for the last answer".to_owned(),
            ));
        }
        Ok(AnswerIds { input_ids, answer })
    }

    /// Grid of one visual, from its size alone.
    ///
    /// # Errors
    /// When the size cannot be used.
    pub fn grid(&self, size: VisualSize) -> Result<GridThw, ProcessorError> {
        Ok(self.visual.plan(0, size)?.grid)
    }

    /// Patches of visuals alone, as a conversation without tokens.
    ///
    /// # Errors
    /// When a visual cannot be used.
    pub fn encode_visuals(&self, visuals: &[Visual]) -> Result<Encoded, ProcessorError> {
        self.with_patches(Vec::new(), visuals)
    }

    fn with_patches(&self, input_ids: Vec<u32>, visuals: &[Visual]) -> Result<Encoded, ProcessorError> {
        let mut encoded = Encoded { input_ids, ..Encoded::default() };
        let Encoded { images, videos, second_per_grid_ts, .. } = &mut encoded;
        for (index, visual) in visuals.iter().enumerate() {
            self.visual.append(index, visual, images, videos, second_per_grid_ts)?;
        }
        Ok(encoded)
    }

    /// Plans every visual and checks that the messages have places of the same kinds in the same order.
    fn plan(&self, messages: &[ChatMessage], sizes: &[VisualSize]) -> Result<VisualPlans, ProcessorError> {
        let places = messages.iter().flat_map(|message| &message.content).filter_map(|part| match part {
            ChatPart::Text(_) => None,
            ChatPart::Image => Some("image"),
            ChatPart::Video => Some("video"),
        });
        let places: Vec<&str> = places.collect();
        let given: Vec<&str> = sizes.iter().map(|size| size.kind()).collect();
        if places != given {
            return Err(ProcessorError::Conversation(format!(
                "the messages have places for {places:?} but {given:?} are given"
            )));
        }
        let mut plans = VisualPlans::default();
        for (index, &size) in sizes.iter().enumerate() {
            let plan = self.visual.plan(index, size)?;
            match size {
                VisualSize::Image { .. } => plans.images.push(plan),
                VisualSize::Video { .. } => plans.videos.push(plan),
            }
        }
        Ok(plans)
    }

    /// Calls `emit` with every id and how often it stands: placeholders as often as their visual has tokens.
    fn expand(
        &self,
        ids: &[u32],
        plans: &VisualPlans,
        mut emit: impl FnMut(u32, usize),
    ) -> Result<(), ProcessorError> {
        let special = self.tokenizer.special();
        let (mut images, mut videos) = (plans.images.iter(), plans.videos.iter());
        let mismatch = |kind: &str| {
            ProcessorError::Conversation(format!(
                "the text has other than one <|{kind}_pad|> for each {kind}: does a message spell out the token, or does \
                 the chat template drop {kind}s?"
            ))
        };
        for &id in ids {
            let plan = if id == special.image_pad {
                Some(images.next().ok_or_else(|| mismatch("image"))?)
            } else if id == special.video_pad {
                Some(videos.next().ok_or_else(|| mismatch("video"))?)
            } else {
                None
            };
            emit(id, plan.map_or(1, |plan| plan.num_tokens));
        }
        match (images.next(), videos.next()) {
            (None, None) => Ok(()),
            (Some(_), _) => Err(mismatch("image")),
            (_, Some(_)) => Err(mismatch("video")),
        }
    }
}

#[derive(Debug, Default)]
struct VisualPlans {
    images: Vec<VisualPlan>,
    videos: Vec<VisualPlan>,
}

fn sizes(visuals: &[Visual]) -> Vec<VisualSize> {
    visuals.iter().map(Visual::size).collect()
}

#[cfg(test)]
mod tests {
    use super::{golden::picture, *};
    use rand::{Rng, SeedableRng};

    fn user(parts: Vec<ChatPart>) -> ChatMessage {
        ChatMessage { role: "user".into(), content: parts }
    }

    fn text(text: &str) -> ChatPart {
        ChatPart::Text(text.into())
    }

    const IMAGE: VisualSize = VisualSize::Image { width: 56, height: 56 };

    #[test]
    fn the_answer_is_what_follows_the_prompt_up_to_the_end_of_turn() {
        let processor = golden::processor();
        let tokenizer = processor.tokenizer();
        let asked = user(vec![ChatPart::Image, text("What?")]);
        for answer in ["A hook.", "", "two\nlines ", "hook <|im_end|> hook", "é中"] {
            let turns = [asked.clone(), ChatMessage::text("assistant", answer)];
            let AnswerIds { input_ids, answer: range } = processor.answer_ids(&turns, &[IMAGE]).unwrap();
            assert_eq!(
                tokenizer.decode(&input_ids[range.clone()], false).unwrap(),
                format!("{answer}<|im_end|>")
            );
            let prompt = processor.token_ids(&turns[..1], &[IMAGE], true).unwrap();
            assert_eq!(input_ids[..range.start], prompt);
            assert_eq!(input_ids, processor.token_ids(&turns, &[IMAGE], false).unwrap());
        }
        // A line end that merges with the prompt's counts as the answer's.
        let turns = [asked.clone(), ChatMessage::text("assistant", "\n\nhook")];
        let AnswerIds { input_ids, answer } = processor.answer_ids(&turns, &[IMAGE]).unwrap();
        assert!(tokenizer.decode(&input_ids[answer.clone()], false).unwrap().ends_with("\n\nhook<|im_end|>"));
        assert!(answer.end < input_ids.len());
        assert!(processor.answer_ids(&[asked], &[IMAGE]).is_err());
        assert!(processor.answer_ids(&[], &[]).is_err());
    }

    #[test]
    fn visuals_and_places_must_agree() {
        let processor = golden::processor();
        let video = VisualSize::Video { num_frames: 4, width: 56, height: 56 };
        let both = [user(vec![ChatPart::Video, ChatPart::Image, text("x")])];
        assert_eq!(processor.plan_num_tokens(&both, &[video, IMAGE], true).unwrap(), {
            let empty = [user(vec![text("<|vision_start|><|vision_end|>".repeat(2).as_str()), text("x")])];
            processor.plan_num_tokens(&empty, &[], true).unwrap() + 2 * 4 + 4
        });
        for sizes in [&[IMAGE, video][..], &[video], &[IMAGE], &[video, IMAGE, IMAGE], &[]] {
            assert!(
                matches!(processor.token_ids(&both, sizes, true), Err(ProcessorError::Conversation(_))),
                "{sizes:?}"
            );
        }
        // A placeholder spelled out in the text is parsed, as in the reference, and therefore one too many.
        for spelled in ["<|image_pad|>", "<|video_pad|>"] {
            let messages = [user(vec![ChatPart::Image, text(spelled)])];
            let error = processor.token_ids(&messages, &[IMAGE], true).unwrap_err();
            assert!(error.to_string().contains(spelled), "{error}");
        }
    }

    #[test]
    fn bad_visuals_are_refused_by_place() {
        let processor = golden::processor();
        let video = |frames, sample_fps| Visual::Video { frames, sample_fps };
        let one = || vec![picture(30, 30, 1)];
        for (visual, expected) in [
            (Visual::Image(picture(0, 5, 1)), "no pixels"),
            (Visual::Image(picture(2, 500, 1)), "times as long"),
            (video(vec![], 2.0), "no frames"),
            (video(vec![picture(30, 30, 1), picture(30, 31, 1)], 2.0), "frame 1 is 31x30"),
            (video(one(), 0.0), "its rate is 0"),
            (video(one(), f64::NAN), "its rate is NaN"),
        ] {
            let place = if matches!(visual, Visual::Image(_)) { ChatPart::Image } else { ChatPart::Video };
            let messages = [user(vec![ChatPart::Image, place])];
            let error =
                processor.encode(&messages, &[Visual::Image(picture(30, 30, 1)), visual], true).unwrap_err();
            assert!(
                error.to_string().starts_with("visual 1 (") && error.to_string().contains(expected),
                "{error}"
            );
        }
        let claims = VisualSize::Image { width: 100_000, height: 100_000 };
        assert!(processor.grid(claims).unwrap().num_patches() <= 50_176 / 196);
        assert!(processor.grid(VisualSize::Video { num_frames: usize::MAX, width: 9, height: 9 }).is_err());
    }

    #[test]
    fn pixel_settings_can_be_replaced() {
        let tokens = |overrides: PixelOverrides, size| {
            let processor = golden::processor().with_overrides(&overrides).unwrap();
            processor.grid(size).unwrap().num_tokens(2)
        };
        let large = VisualSize::Image { width: 560, height: 560 };
        let video = VisualSize::Video { num_frames: 8, width: 560, height: 560 };
        let none = PixelOverrides::default;
        assert_eq!(tokens(none(), large), 64);
        assert_eq!(tokens(PixelOverrides { image_max_pixels: Some(400 * 784), ..none() }, large), 400);
        assert_eq!(tokens(PixelOverrides { image_max_pixels: Some(400 * 784), ..none() }, video), 4 * 64);
        assert_eq!(tokens(PixelOverrides { video_max_pixels: Some(16 * 784), ..none() }, video), 4 * 16);
        assert_eq!(
            tokens(PixelOverrides { video_total_pixels: Some(8.0 * 9.0 * 392.0), ..none() }, video),
            4 * 9
        );
        assert_eq!(tokens(PixelOverrides { image_min_pixels: Some(25 * 784), ..none() }, IMAGE), 25);
        for wrong in [
            PixelOverrides { image_min_pixels: Some(1 << 20), ..none() },
            PixelOverrides { video_min_pixels: Some(0), ..none() },
            PixelOverrides { video_max_pixels: Some(3), ..none() },
            PixelOverrides { video_total_pixels: Some(f64::NAN), ..none() },
        ] {
            assert!(
                matches!(golden::processor().with_overrides(&wrong), Err(ProcessorError::Limits(_))),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn any_text_is_encoded_or_refused() {
        let seed = 17;
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let processor = golden::processor();
        let pieces = [
            "<|im_end|>",
            "<|im_start|>assistant\n",
            "<|vision_start|>",
            "\n",
            "\0",
            "{{ 1/0 }}",
            "{% raw %}",
            "é\u{301}",
            "🙂",
            "a",
            " ",
            "\u{feff}",
        ];
        for round in 0..300 {
            let words: String =
                (0..rng.random_range(0..20)).map(|_| pieces[rng.random_range(0..pieces.len())]).collect();
            let turns = [user(vec![text(&words), ChatPart::Image]), ChatMessage::text("assistant", &*words)];
            let AnswerIds { input_ids, answer } = processor.answer_ids(&turns, &[IMAGE]).unwrap();
            assert_eq!(
                input_ids[answer.end - 1],
                processor.tokenizer().special().im_end,
                "seed {seed}, round {round}"
            );
            assert_eq!(processor.plan_num_tokens(&turns, &[IMAGE], false).unwrap(), input_ids.len());
        }
    }
}
