//! Which size a picture is resized to: sides divisible by a factor, area within limits, shape nearly kept.
//!
//! Two rules differ in where they guard against a side of zero: `smart_resize` of transformers'
//! `image_processing_qwen2_vl.py`, and that of qwen-vl-utils' `vision_process.py`.

/// Largest ratio of the longer to the shorter side.
const MAX_RATIO: f64 = 200.0;

/// Whose rounding decides at the edges (tiny or very long pictures; 10 % of odd sizes differ).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResizeRule {
    /// transformers' image and video processors.
    #[default]
    HuggingFace,
    /// qwen-vl-utils' `fetch_image` and `fetch_video`.
    QwenVlUtils,
}

/// Limits on the area of a resized picture, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelRange {
    /// Smaller pictures are enlarged.
    pub min_pixels: u64,
    /// Larger pictures are shrunk.
    pub max_pixels: u64,
}

/// Returns `(height, width)` after resizing, each a multiple of `factor`.
///
/// # Errors
/// When a side is zero, one side is more than 200 times the other, or the limits leave a side of zero.
pub fn smart_resize(
    rule: ResizeRule,
    height: usize,
    width: usize,
    factor: usize,
    limits: PixelRange,
) -> Result<(usize, usize), String> {
    if height == 0 || width == 0 {
        return Err(format!("the size {width}x{height} has no pixels"));
    }
    let (rows, columns, unit) = (height as f64, width as f64, factor as f64);
    let ratio = rows.max(columns) / rows.min(columns);
    if ratio > MAX_RATIO {
        return Err(format!(
            "the size {width}x{height} is {ratio:.1} times as long as wide; at most {MAX_RATIO} is supported, crop it"
        ));
    }
    let PixelRange { min_pixels, max_pixels } = limits;
    let round = |side: f64| (side / unit).round_ties_even() * unit;
    let (guard_rounding, guard_shrinking) = match rule {
        ResizeRule::HuggingFace => (0.0, unit),
        ResizeRule::QwenVlUtils => (unit, 0.0),
    };
    let (mut h_bar, mut w_bar) = (round(rows).max(guard_rounding), round(columns).max(guard_rounding));
    if h_bar * w_bar > max_pixels as f64 {
        let beta = (rows * columns / max_pixels as f64).sqrt();
        h_bar = ((rows / beta / unit).floor() * unit).max(guard_shrinking);
        w_bar = ((columns / beta / unit).floor() * unit).max(guard_shrinking);
    } else if h_bar * w_bar < min_pixels as f64 {
        let beta = (min_pixels as f64 / (rows * columns)).sqrt();
        h_bar = (rows * beta / unit).ceil() * unit;
        w_bar = (columns * beta / unit).ceil() * unit;
    }
    if h_bar < 1.0 || w_bar < 1.0 {
        return Err(format!(
            "the size {width}x{height} leaves a side of 0 within {min_pixels} to {max_pixels} pixels; raise the limits"
        ));
    }
    Ok((h_bar as usize, w_bar as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ResizeRule::{HuggingFace, QwenVlUtils};

    const HUB: PixelRange = PixelRange { min_pixels: 3136, max_pixels: 12_845_056 };

    fn size(
        rule: ResizeRule,
        height: usize,
        width: usize,
        limits: PixelRange,
    ) -> Result<(usize, usize), String> {
        smart_resize(rule, height, width, 28, limits)
    }

    #[test]
    fn sides_round_to_the_nearest_multiple_and_halves_to_the_even_one() {
        assert_eq!(size(HuggingFace, 480, 640, HUB), Ok((476, 644)));
        // 70 / 28 = 2.5 -> 2; 98 / 28 = 3.5 -> 4.
        assert_eq!(size(HuggingFace, 70, 98, HUB), Ok((56, 112)));
    }

    #[test]
    fn area_is_brought_within_the_limits() {
        let small = PixelRange { min_pixels: 3136, max_pixels: 100_352 };
        // beta = sqrt(1080 * 1920 / 100352) = 4.5457; 237.6 -> 224, 422.4 -> 420.
        assert_eq!(size(HuggingFace, 1080, 1920, small), Ok((224, 420)));
        // beta = sqrt(3136 / 400) = 2.8: 56.0 on both sides, which is exact.
        assert_eq!(size(HuggingFace, 20, 20, HUB), Ok((56, 56)));
    }

    #[test]
    fn the_rules_differ_where_a_side_rounds_to_zero() {
        // 12 / 28 rounds to 0: Hugging Face falls to the minimum's branch, qwen-vl-utils keeps one factor.
        assert_eq!(size(HuggingFace, 12, 1200, HUB), Ok((28, 560)));
        assert_eq!(size(QwenVlUtils, 12, 1200, HUB), Ok((28, 1204)));
        // Shrinking a long picture: qwen-vl-utils can reach 0, Hugging Face keeps one factor.
        let small = PixelRange { min_pixels: 784, max_pixels: 7840 };
        assert_eq!(size(HuggingFace, 28, 2800, small), Ok((28, 868)));
        assert!(size(QwenVlUtils, 28, 2800, small).is_err());
    }

    #[test]
    fn impossible_shapes_are_refused() {
        assert!(size(HuggingFace, 0, 10, HUB).is_err());
        assert!(size(HuggingFace, 10, 2001, HUB).unwrap_err().contains("200.1"));
        assert!(size(HuggingFace, usize::MAX, usize::MAX, HUB).is_ok());
    }
}
