//! `preprocessor_config.json` and `video_preprocessor_config.json`: what happens to pixels.
//!
//! A key that changes pixels is honoured or refused by name; bookkeeping keys are ignored. Defaults are those of
//! transformers 4.57's `Qwen2VLImageProcessor` and `Qwen2VLVideoProcessor`.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{PixelRange, ProcessorError, ResizeRule, smart_resize};

/// Name of the images' file.
pub(super) const IMAGE_CONFIG_FILE: &str = "preprocessor_config.json";
/// Name of the videos' file.
pub(super) const VIDEO_CONFIG_FILE: &str = "video_preprocessor_config.json";

/// Largest patch, merge or temporal patch size taken: far beyond any model, small enough that no product overflows.
const MAX_PATCH: u64 = 1024;
/// Largest limits taken. Every picture is enlarged to the minimum, so that one is bounded by memory.
const MAX_MAX_PIXELS: u64 = 1 << 48;
const MAX_MIN_PIXELS: u64 = 1 << 26;
const BICUBIC: u64 = 3;

/// How pictures of one kind (images, or frames of videos) become patches.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageProcessorConfig {
    /// Whether pictures are resized at all; if not, their sides must be multiples of patch and merge size.
    pub do_resize: bool,
    /// Which rule chooses the size.
    pub resize_rule: ResizeRule,
    /// Area after resizing.
    pub limits: PixelRange,
    /// Whether bytes are multiplied by `rescale_factor`.
    pub do_rescale: bool,
    /// Usually 1 / 255.
    pub rescale_factor: f64,
    /// Whether mean and standard deviation are applied.
    pub do_normalize: bool,
    /// Mean of each channel, after rescaling.
    pub image_mean: [f64; 3],
    /// Standard deviation of each channel, after rescaling.
    pub image_std: [f64; 3],
    /// Side of a patch, pixels.
    pub patch_size: usize,
    /// Frames of a patch.
    pub temporal_patch_size: usize,
    /// Side of the square of patches that becomes one token.
    pub merge_size: usize,
}

impl ImageProcessorConfig {
    /// transformers' class defaults for images: 3,136 to 1,003,520 pixels.
    pub fn image_default() -> Self {
        Self {
            do_resize: true,
            resize_rule: ResizeRule::HuggingFace,
            limits: PixelRange { min_pixels: 56 * 56, max_pixels: 28 * 28 * 1280 },
            do_rescale: true,
            rescale_factor: 1.0 / 255.0,
            do_normalize: true,
            image_mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            image_std: [0.268_629_54, 0.261_302_58, 0.275_777_11],
            patch_size: 14,
            temporal_patch_size: 2,
            merge_size: 2,
        }
    }

    /// transformers' class defaults for videos: 100,352 to 602,112 pixels a frame.
    pub fn video_default() -> Self {
        let limits = PixelRange { min_pixels: 128 * 28 * 28, max_pixels: 28 * 28 * 768 };
        Self { limits, ..Self::image_default() }
    }

    /// Multiple that both sides of a resized picture have.
    pub fn factor(&self) -> usize {
        self.patch_size * self.merge_size
    }

    /// `(height, width)` that a picture of this size gets under `limits`.
    ///
    /// # Errors
    /// As text, when the size cannot be used: see [`smart_resize`], or not a multiple while `do_resize` is off.
    pub fn resized(&self, height: usize, width: usize, limits: PixelRange) -> Result<(usize, usize), String> {
        let factor = self.factor();
        if self.do_resize {
            return smart_resize(self.resize_rule, height, width, factor, limits);
        }
        if height == 0 || width == 0 || !height.is_multiple_of(factor) || !width.is_multiple_of(factor) {
            return Err(format!(
                "the size {width}x{height} is not a multiple of {factor} and `do_resize` is false; resize it or set \
                 `do_resize` to true"
            ));
        }
        Ok((height, width))
    }

    /// Reads the images' settings of a checkpoint directory.
    ///
    /// # Errors
    /// When the file is missing, unreadable, or asks for something that is not implemented.
    pub fn read_image(dir: &Path) -> Result<Self, ProcessorError> {
        Self::read(&dir.join(IMAGE_CONFIG_FILE), &Self::image_default())
    }

    /// Reads the videos' settings of a checkpoint directory: its own file, else the images' file.
    ///
    /// # Errors
    /// As [`Self::read_image`].
    pub fn read_video(dir: &Path) -> Result<Self, ProcessorError> {
        let own = dir.join(VIDEO_CONFIG_FILE);
        let path = if own.exists() { own } else { dir.join(IMAGE_CONFIG_FILE) };
        Self::read(&path, &Self::video_default())
    }

    fn read(path: &Path, default: &Self) -> Result<Self, ProcessorError> {
        let text = std::fs::read_to_string(path).map_err(ProcessorError::io(path))?;
        let value: Value =
            serde_json::from_str(&text).map_err(|error| ProcessorError::file(path, error.to_string()))?;
        let Value::Object(keys) = value else {
            return Err(ProcessorError::file(path, "must hold a JSON object"));
        };
        Keys { path, keys: &keys }.config(default)
    }

    /// The file's content as transformers writes and reads it; `video` chooses the class named in it.
    pub fn to_json(&self, video: bool) -> Value {
        let (kind, class) = if video {
            ("video_processor_type", "Qwen2VLVideoProcessor")
        } else {
            ("image_processor_type", "Qwen2VLImageProcessor")
        };
        json!({
            kind: class,
            "processor_class": "Qwen2_5_VLProcessor",
            "do_convert_rgb": true,
            "do_resize": self.do_resize,
            "resample": BICUBIC,
            "min_pixels": self.limits.min_pixels,
            "max_pixels": self.limits.max_pixels,
            "size": {"shortest_edge": self.limits.min_pixels, "longest_edge": self.limits.max_pixels},
            "do_rescale": self.do_rescale,
            "rescale_factor": self.rescale_factor,
            "do_normalize": self.do_normalize,
            "image_mean": self.image_mean,
            "image_std": self.image_std,
            "patch_size": self.patch_size,
            "temporal_patch_size": self.temporal_patch_size,
            "merge_size": self.merge_size,
        })
    }
}

/// One file's keys; `null` counts as absent, as in the reference.
struct Keys<'a> {
    path: &'a Path,
    keys: &'a Map<String, Value>,
}

impl Keys<'_> {
    fn config(&self, default: &ImageProcessorConfig) -> Result<ImageProcessorConfig, ProcessorError> {
        self.refuse_unsupported()?;
        let config = ImageProcessorConfig {
            do_resize: self.boolean("do_resize")?.unwrap_or(default.do_resize),
            resize_rule: default.resize_rule,
            limits: self.limits(default.limits)?,
            do_rescale: self.boolean("do_rescale")?.unwrap_or(default.do_rescale),
            rescale_factor: self.number("rescale_factor")?.unwrap_or(default.rescale_factor),
            do_normalize: self.boolean("do_normalize")?.unwrap_or(default.do_normalize),
            image_mean: self.channels("image_mean")?.unwrap_or(default.image_mean),
            image_std: self.channels("image_std")?.unwrap_or(default.image_std),
            patch_size: self.size("patch_size")?.unwrap_or(default.patch_size),
            temporal_patch_size: self.size("temporal_patch_size")?.unwrap_or(default.temporal_patch_size),
            merge_size: self.size("merge_size")?.unwrap_or(default.merge_size),
        };
        if config.image_std.iter().any(|&std| std as f32 == 0.0) {
            return Err(self.error("image_std", "must not be zero"));
        }
        Ok(config)
    }

    fn refuse_unsupported(&self) -> Result<(), ProcessorError> {
        for key in ["image_processor_type", "video_processor_type"] {
            if let Some(value) = self.get(key) {
                // The Qwen2-VL classes are those of Qwen2.5-VL; later families choose sizes by other rules.
                let known = value
                    .as_str()
                    .is_some_and(|class| class.starts_with("Qwen2VL") || class.starts_with("Qwen2_5_VL"));
                if !known {
                    return Err(
                        self.error(key, format!("{value} is not implemented; Qwen2-VL's classes are"))
                    );
                }
            }
        }
        if let Some(value) = self.get("resample")
            && value.as_u64() != Some(BICUBIC)
        {
            return Err(self.error("resample", format!("{value} is not implemented; 3 (bicubic) is")));
        }
        for key in ["do_center_crop", "do_pad"] {
            if self.boolean(key)? == Some(true) {
                return Err(self.error(key, "is not implemented; set it to false"));
            }
        }
        if self.boolean("do_convert_rgb")? == Some(false) {
            return Err(self.error("do_convert_rgb", "pictures are always converted to RGB; set it to true"));
        }
        Ok(())
    }

    /// `min_pixels` and `max_pixels` go before `size`, as in the reference.
    fn limits(&self, default: PixelRange) -> Result<PixelRange, ProcessorError> {
        let mut limits = default;
        if let Some(size) = self.get("size") {
            let Value::Object(keys) = size else {
                return Err(self.error("size", "must be an object with `shortest_edge` and `longest_edge`"));
            };
            let size = Keys { path: self.path, keys };
            let edge = |edge: &str, alias: &str, bound| match size.get(edge).or_else(|| size.get(alias)) {
                Some(value) => self.pixels(&format!("size.{edge}"), value, bound),
                None => Err(self.error(&format!("size.{edge}"), "is missing: an area in pixels")),
            };
            limits.min_pixels = edge("shortest_edge", "min_pixels", MAX_MIN_PIXELS)?;
            limits.max_pixels = edge("longest_edge", "max_pixels", MAX_MAX_PIXELS)?;
        }
        if let Some(value) = self.get("min_pixels") {
            limits.min_pixels = self.pixels("min_pixels", value, MAX_MIN_PIXELS)?;
        }
        if let Some(value) = self.get("max_pixels") {
            limits.max_pixels = self.pixels("max_pixels", value, MAX_MAX_PIXELS)?;
        }
        if limits.min_pixels > limits.max_pixels {
            let PixelRange { min_pixels, max_pixels } = limits;
            return Err(
                self.error("min_pixels", format!("{min_pixels} is more than `max_pixels` {max_pixels}"))
            );
        }
        Ok(limits)
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).filter(|value| !value.is_null())
    }

    fn error(&self, key: &str, message: impl Into<String>) -> ProcessorError {
        ProcessorError::key(self.path, key, message)
    }

    fn boolean(&self, key: &str) -> Result<Option<bool>, ProcessorError> {
        self.get(key)
            .map(|v| v.as_bool().ok_or_else(|| self.error(key, format!("{v} is not true or false"))))
            .transpose()
    }

    fn number(&self, key: &str) -> Result<Option<f64>, ProcessorError> {
        self.get(key)
            .map(|v| v.as_f64().ok_or_else(|| self.error(key, format!("{v} is not a number"))))
            .transpose()
    }

    fn size(&self, key: &str) -> Result<Option<usize>, ProcessorError> {
        let read = |value: &Value| match value.as_u64() {
            Some(size @ 1..=MAX_PATCH) => Ok(size as usize),
            _ => Err(self.error(key, format!("{value} is not a whole number from 1 to {MAX_PATCH}"))),
        };
        self.get(key).map(read).transpose()
    }

    fn pixels(&self, key: &str, value: &Value, bound: u64) -> Result<u64, ProcessorError> {
        // Written by hand these are products, so whole floats are taken too.
        let whole = value
            .as_u64()
            .or_else(|| value.as_f64().filter(|v| v.fract() == 0.0 && *v >= 0.0).map(|v| v as u64));
        match whole {
            Some(pixels) if (1..=bound).contains(&pixels) => Ok(pixels),
            _ => Err(self.error(key, format!("{value} is not a whole number of pixels from 1 to {bound}"))),
        }
    }

    fn channels(&self, key: &str) -> Result<Option<[f64; 3]>, ProcessorError> {
        let read = |value: &Value| {
            if let Some(all) = value.as_f64() {
                return Ok([all; 3]);
            }
            let list: Option<Vec<f64>> =
                value.as_array().and_then(|list| list.iter().map(Value::as_f64).collect());
            list.and_then(|list| <[f64; 3]>::try_from(list).ok())
                .ok_or_else(|| self.error(key, format!("{value} is not a list of three numbers")))
        };
        self.get(key).map(read).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ImageProcessorConfig, ProcessorError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(IMAGE_CONFIG_FILE), text).unwrap();
        ImageProcessorConfig::read_image(dir.path())
    }

    fn limits(text: &str) -> (u64, u64) {
        let PixelRange { min_pixels, max_pixels } = read(text).unwrap().limits;
        (min_pixels, max_pixels)
    }

    #[test]
    fn every_form_of_pixel_limits_is_read() {
        assert_eq!(limits("{}"), (3136, 1_003_520));
        assert_eq!(limits(r#"{"min_pixels": 784, "max_pixels": 12845056}"#), (784, 12_845_056));
        assert_eq!(limits(r#"{"size": {"shortest_edge": 100, "longest_edge": 200}}"#), (100, 200));
        assert_eq!(limits(r#"{"size": {"min_pixels": 100, "max_pixels": 200}}"#), (100, 200));
        // `min_pixels` and `max_pixels` go before `size`; null is absent.
        let both = r#"{"size": {"shortest_edge": 1, "longest_edge": 2}, "min_pixels": 7, "max_pixels": 9}"#;
        assert_eq!(limits(both), (7, 9));
        assert_eq!(limits(r#"{"size": null, "min_pixels": null, "max_pixels": 5000.0}"#), (3136, 5000));
    }

    #[test]
    fn videos_have_their_own_file_or_the_images_one() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(ImageProcessorConfig::read_video(dir.path()), Err(ProcessorError::Io { .. })));
        std::fs::write(dir.path().join(IMAGE_CONFIG_FILE), r#"{"max_pixels": 200704}"#).unwrap();
        let video = ImageProcessorConfig::read_video(dir.path()).unwrap();
        assert_eq!(video.limits, PixelRange { min_pixels: 100_352, max_pixels: 200_704 });
        std::fs::write(dir.path().join(VIDEO_CONFIG_FILE), r#"{"max_pixels": 300000}"#).unwrap();
        assert_eq!(ImageProcessorConfig::read_video(dir.path()).unwrap().limits.max_pixels, 300_000);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let config = ImageProcessorConfig {
            image_mean: [0.1, 0.2, 0.3],
            do_normalize: false,
            patch_size: 16,
            ..ImageProcessorConfig::image_default()
        };
        assert_eq!(read(&config.to_json(false).to_string()).unwrap(), config);
    }

    #[test]
    fn what_is_not_implemented_or_nonsense_is_refused_by_key() {
        for (text, key) in [
            (r#"{"resample": 2}"#, "resample"),
            (r#"{"do_center_crop": true}"#, "do_center_crop"),
            (r#"{"do_pad": true}"#, "do_pad"),
            (r#"{"do_convert_rgb": false}"#, "do_convert_rgb"),
            (r#"{"image_processor_type": "CLIPImageProcessor"}"#, "image_processor_type"),
            (r#"{"video_processor_type": "Qwen3VLVideoProcessor"}"#, "video_processor_type"),
            (r#"{"size": {"height": 224, "width": 224}}"#, "size.shortest_edge"),
            (r#"{"size": 224}"#, "size"),
            (r#"{"min_pixels": 10, "max_pixels": 5}"#, "min_pixels"),
            (r#"{"min_pixels": 0}"#, "min_pixels"),
            (r#"{"min_pixels": 1e30, "max_pixels": 1e30}"#, "min_pixels"),
            (r#"{"max_pixels": "many"}"#, "max_pixels"),
            (r#"{"max_pixels": 3136.5}"#, "max_pixels"),
            (r#"{"patch_size": 0}"#, "patch_size"),
            (r#"{"patch_size": 18446744073709551615}"#, "patch_size"),
            (r#"{"merge_size": -2}"#, "merge_size"),
            (r#"{"do_resize": 1}"#, "do_resize"),
            (r#"{"rescale_factor": "1/255"}"#, "rescale_factor"),
            (r#"{"image_mean": [0.5, 0.5]}"#, "image_mean"),
            (r#"{"image_std": [1, 0, 1]}"#, "image_std"),
        ] {
            match read(text) {
                Err(ProcessorError::Key { key: got, .. }) => assert_eq!(got, key, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        for text in ["", "[]", "{", "nan", "{\"a\": \u{0}}"] {
            assert!(matches!(read(text), Err(ProcessorError::File { .. })), "{text:?}");
        }
    }
}
