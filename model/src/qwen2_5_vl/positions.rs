//! M-RoPE positions of one unpadded sequence: temporal, height and width.
//!
//! Semantics of transformers 4.49 (`get_rope_index` of `modeling_qwen2_5_vl.py`), with which the model was released:
//! seconds per temporal patch are not truncated to whole numbers first, and text goes on after the largest position
//! of all three axes. Later versions differ in either point.

use super::Qwen25VlConfig;
use crate::{
    ModelError,
    processor::{Encoded, GridThw},
    vlm::Positions,
};

/// What turns placeholders into positions, besides the sequence itself.
#[derive(Clone, Copy, Debug)]
struct Rules {
    image_token_id: u32,
    video_token_id: u32,
    vision_start_token_id: u32,
    merge_size: usize,
    tokens_per_second: f32,
}

/// Positions of `input`'s tokens on the three axes, each `[num_tokens]`.
///
/// # Errors
/// When placeholders, grids and `second_per_grid_ts` do not belong together.
pub fn rope_positions(config: &Qwen25VlConfig, input: &Encoded) -> Result<Positions, ModelError> {
    let rules = Rules {
        image_token_id: config.image_token_id,
        video_token_id: config.video_token_id,
        vision_start_token_id: config.vision_start_token_id,
        merge_size: config.vision.spatial_merge_size,
        tokens_per_second: config.vision.tokens_per_second as f32,
    };
    position_ids(
        &rules,
        &input.input_ids,
        &input.images.grids,
        &input.videos.grids,
        &input.second_per_grid_ts,
    )
}

fn position_ids(
    rules: &Rules,
    input_ids: &[u32],
    image_grids: &[GridThw],
    video_grids: &[GridThw],
    second_per_grid_ts: &[f32],
) -> Result<Positions, ModelError> {
    if second_per_grid_ts.len() != video_grids.len() {
        return Err(ModelError::Input(format!(
            "{} videos but {} values of second_per_grid_ts",
            video_grids.len(),
            second_per_grid_ts.len()
        )));
    }
    let mut positions = Positions::default();
    let mut images = image_grids.iter();
    let mut videos = video_grids.iter().zip(second_per_grid_ts);
    let mut next = 0i64;
    let mut index = 0;
    while let Some(&id) = input_ids.get(index) {
        let (kind, grid, second_per_grid) = if id == rules.image_token_id {
            ("image", images.next().copied(), 0.0)
        } else if id == rules.video_token_id {
            let (grid, seconds) = videos.next().unzip();
            ("video", grid.copied(), seconds.copied().unwrap_or(0.0))
        } else {
            push(&mut positions, next, next, next);
            next += 1;
            index += 1;
            continue;
        };
        if index == 0 || input_ids[index - 1] != rules.vision_start_token_id {
            return Err(ModelError::Input(format!(
                "the {kind} placeholder at token {index} does not follow <|vision_start|>"
            )));
        }
        let grid = grid.ok_or_else(|| {
            ModelError::Input(format!(
                "the {kind} placeholder at token {index} has no {kind}: more placeholders than {kind}s"
            ))
        })?;
        let num_tokens = merged_tokens(grid, rules.merge_size)?;
        let run = input_ids[index..].iter().take_while(|&&other| other == id).count();
        if run != num_tokens {
            return Err(ModelError::Input(format!(
                "{run} {kind} placeholders at token {index}, but its grid {}x{}x{} needs {num_tokens}",
                grid.t, grid.h, grid.w
            )));
        }
        next = push_grid(&mut positions, grid, rules, second_per_grid, next)?;
        index += run;
    }
    if images.next().is_some() || videos.next().is_some() {
        return Err(ModelError::Input("more images or videos than placeholders in the token ids".to_owned()));
    }
    Ok(positions)
}

fn merged_tokens(grid: GridThw, merge_size: usize) -> Result<usize, ModelError> {
    let divisible = merge_size > 0 && grid.h.is_multiple_of(merge_size) && grid.w.is_multiple_of(merge_size);
    if !divisible || grid.num_patches() == 0 {
        return Err(ModelError::Input(format!(
            "grid {}x{}x{} is empty or not divisible by the merge size {merge_size}",
            grid.t, grid.h, grid.w
        )));
    }
    Ok(grid.num_tokens(merge_size))
}

/// Appends one grid that starts at `start` and returns where text goes on.
fn push_grid(
    positions: &mut Positions,
    grid: GridThw,
    rules: &Rules,
    second_per_grid: f32,
    start: i64,
) -> Result<i64, ModelError> {
    if !second_per_grid.is_finite() || second_per_grid < 0.0 {
        return Err(ModelError::Input(format!("second_per_grid_ts of {second_per_grid} is not a duration")));
    }
    let (height, width) = (grid.h / rules.merge_size, grid.w / rules.merge_size);
    let mut largest = start;
    for t in 0..grid.t {
        // In float32 and in this order, then truncated, as the reference does: other orders land on other integers.
        let temporal = start + (t as f32 * second_per_grid * rules.tokens_per_second) as i64;
        for h in 0..height as i64 {
            for w in 0..width as i64 {
                push(positions, temporal, start + h, start + w);
            }
        }
        largest = largest.max(temporal);
    }
    Ok(largest.max(start + height.max(width) as i64 - 1) + 1)
}

fn push(positions: &mut Positions, t: i64, h: i64, w: i64) {
    positions.t.push(t);
    positions.h.push(h);
    positions.w.push(w);
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: u32 = 90;
    const VIDEO: u32 = 91;
    const START: u32 = 92;
    const END: u32 = 93;
    const RULES: Rules = Rules {
        image_token_id: IMAGE,
        video_token_id: VIDEO,
        vision_start_token_id: START,
        merge_size: 2,
        tokens_per_second: 2.0,
    };

    fn grid(t: usize, h: usize, w: usize) -> GridThw {
        GridThw { t, h, w }
    }

    #[test]
    fn text_counts_up_on_all_axes() {
        let positions = position_ids(&RULES, &[1, 2, 3], &[], &[], &[]).unwrap();
        assert_eq!(positions, Positions::text(0, 3));
        assert!(position_ids(&RULES, &[], &[], &[], &[]).unwrap().is_empty());
    }

    #[test]
    fn image_spans_its_rows_and_columns_and_text_follows_the_largest() {
        // 1 x 2 x 3 merged cells after two text tokens; the largest position is 2 + 2.
        let ids = [1, START, IMAGE, IMAGE, IMAGE, IMAGE, IMAGE, IMAGE, END, 5];
        let positions = position_ids(&RULES, &ids, &[grid(1, 4, 6)], &[], &[]).unwrap();
        assert_eq!(positions.t, [0, 1, 2, 2, 2, 2, 2, 2, 5, 6]);
        assert_eq!(positions.h, [0, 1, 2, 2, 2, 3, 3, 3, 5, 6]);
        assert_eq!(positions.w, [0, 1, 2, 3, 4, 2, 3, 4, 5, 6]);
        assert_eq!(positions.next(), 7);
    }

    #[test]
    fn video_time_is_truncated_after_multiplying_and_text_follows_it() {
        // 1.33 s per patch at 2 positions a second: 0, 2.66, 5.32 -> 0, 2, 5; text goes on at 1 + 5 + 1.
        let ids = [START, VIDEO, VIDEO, VIDEO, END];
        let positions = position_ids(&RULES, &ids, &[], &[grid(3, 2, 2)], &[1.33]).unwrap();
        assert_eq!(positions.t, [0, 1, 3, 6, 7]);
        assert_eq!(positions.h, [0, 1, 1, 1, 7]);
        // Half a second per patch is not truncated to 0 before multiplying (pitfall of 4.57).
        let positions = position_ids(&RULES, &ids, &[], &[grid(3, 2, 2)], &[0.5]).unwrap();
        assert_eq!(positions.t, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn mixed_inputs_take_their_own_grids_in_order_of_appearance() {
        let ids = [START, VIDEO, VIDEO, END, START, IMAGE, END, START, IMAGE, IMAGE, END];
        let positions =
            position_ids(&RULES, &ids, &[grid(1, 2, 2), grid(1, 2, 4)], &[grid(2, 2, 2)], &[1.0]).unwrap();
        assert_eq!(positions.t, [0, 1, 3, 4, 5, 6, 7, 8, 9, 9, 11]);
        assert_eq!(positions.w, [0, 1, 1, 4, 5, 6, 7, 8, 9, 10, 11]);
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let image = [START, IMAGE, END];
        for (ids, images, videos, seconds) in [
            (&image[..], vec![], vec![], vec![]),
            (&image[..], vec![grid(1, 2, 4)], vec![], vec![]),
            (&image[..], vec![grid(1, 2, 2), grid(1, 2, 2)], vec![], vec![]),
            (&image[..], vec![grid(1, 2, 3)], vec![], vec![]),
            (&image[..], vec![grid(0, 2, 2)], vec![], vec![]),
            (&[IMAGE], vec![grid(1, 2, 2)], vec![], vec![]),
            (&[1, IMAGE], vec![grid(1, 2, 2)], vec![], vec![]),
            (&[START, VIDEO], vec![], vec![grid(1, 2, 2)], vec![]),
            (&[START, VIDEO], vec![], vec![grid(1, 2, 2)], vec![f32::NAN]),
            (&[START, VIDEO], vec![], vec![grid(1, 2, 2)], vec![-1.0]),
        ] {
            let got = position_ids(&RULES, ids, &images, &videos, &seconds);
            assert!(matches!(got, Err(ModelError::Input(_))), "{ids:?} {images:?} {videos:?} {seconds:?}");
        }
    }
}
