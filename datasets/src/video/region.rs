//! The box that a region caption asks about, drawn into its frame.
//!
//! Green as in the benchmark's released inference code. That code draws after the resize with coordinates of before,
//! so that most boxes fall outside; ours is drawn on the original frame. The line's width is ours too.

use image::{Rgb, RgbImage};

/// Colour of the drawn line.
pub const REGION_COLOR_RGB: [u8; 3] = [0, 255, 0];

/// Whether a box of `[x1, y1, x2, y2]` pixels has an area and lies inside a frame of `(width, height)`; its right and
/// lower edge may be the frame's.
pub fn box_is_inside(box_xyxy: &[f64; 4], (width, height): (u32, u32)) -> bool {
    let [x1, y1, x2, y2] = *box_xyxy;
    // Written so that a NaN is outside.
    x1 >= 0.0 && y1 >= 0.0 && x1 < x2 && y1 < y2 && x2 <= f64::from(width) && y2 <= f64::from(height)
}

/// Draws the outline of a box, inwards from its edges. The line is 1/100 of the shorter side wide and at least 2 pixels, so that it
/// is still seen after the frame is made small.
///
/// # Errors
/// A box without an area or outside of the frame; the frame is then unchanged.
pub fn draw_region(frame: &mut RgbImage, box_xyxy: &[f64; 4]) -> Result<(), String> {
    let (width, height) = frame.dimensions();
    if !box_is_inside(box_xyxy, (width, height)) {
        return Err(format!(
            "the drawn box {box_xyxy:?} has no area or lies outside the frame of {width}x{height} pixels"
        ));
    }
    let line = (width.min(height) / 100).max(2);
    // A pixel belongs to the box if the box touches it.
    let [left, top] = [box_xyxy[0], box_xyxy[1]].map(|edge| edge.floor() as u32);
    let [right, bottom] = [box_xyxy[2], box_xyxy[3]].map(|edge| edge.ceil() as u32);
    for y in top..bottom {
        let whole_row = y < top + line || y + line >= bottom;
        for x in left..right {
            if whole_row || x < left + line || x + line >= right {
                frame.put_pixel(x, y, Rgb(REGION_COLOR_RGB));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::{REGION_COLOR_RGB, box_is_inside, draw_region};

    #[test]
    fn the_line_runs_inside_of_the_edges() {
        let mut frame = RgbImage::new(20, 10);
        draw_region(&mut frame, &[3.0, 1.5, 11.2, 9.0]).unwrap();
        let drawn = |x, y| frame.get_pixel(x, y).0 == REGION_COLOR_RGB;
        for (x, y) in [(3, 1), (4, 2), (11, 1), (3, 8), (11, 8), (10, 5), (3, 5)] {
            assert!(drawn(x, y), "{x},{y}");
        }
        for (x, y) in [(2, 1), (12, 5), (3, 0), (3, 9), (5, 3), (9, 6)] {
            assert!(!drawn(x, y), "{x},{y}");
        }
        // 9 x 8 pixels with a hollow of 5 x 4.
        assert_eq!(frame.pixels().filter(|pixel| pixel.0 == REGION_COLOR_RGB).count(), 9 * 8 - 5 * 4);
    }

    #[test]
    fn a_box_may_touch_but_not_leave_the_frame() {
        let size = (20, 10);
        assert!(box_is_inside(&[0.0, 0.0, 20.0, 10.0], size));
        for outside in
            [[0.0, 0.0, 20.1, 10.0], [-0.1, 0.0, 5.0, 5.0], [5.0, 5.0, 5.0, 6.0], [0.0, f64::NAN, 5.0, 5.0]]
        {
            assert!(!box_is_inside(&outside, size), "{outside:?}");
            let mut frame = RgbImage::new(20, 10);
            assert!(draw_region(&mut frame, &outside).is_err());
            assert_eq!(frame, RgbImage::new(20, 10));
        }
    }
}
