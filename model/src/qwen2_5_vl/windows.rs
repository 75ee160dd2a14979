//! Which patches attend to each other in the vision tower.
//!
//! The reference permutes patches into windows and masks; here patches are permuted so that windows of the same size are
//! neighbours, and each size is one dense batch: no padding and no mask. Any order is right as long as it is undone.

use std::collections::BTreeMap;

use super::VisionConfig;
use crate::processor::GridThw;

/// A run of equally long segments, each attending within itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) segments: usize,
    pub(super) len: usize,
}

/// An order of patches and the segments it falls into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Segmentation {
    /// `order[i]` is the patch (in the processor's order) at place `i`.
    pub(super) order: Vec<i32>,
    pub(super) runs: Vec<Run>,
}

impl Segmentation {
    /// Windows of `window_size` pixels inside each temporal slice.
    pub(super) fn windows(config: &VisionConfig, grids: &[GridThw]) -> Self {
        let merge = config.spatial_merge_size;
        let side = config.window_size / merge / config.patch_size;
        let mut segments = Vec::new();
        for_each_slice(grids, |grid, first| {
            let (rows, cols) = (grid.h / merge, grid.w / merge);
            for top in (0..rows).step_by(side) {
                for left in (0..cols).step_by(side) {
                    let units = (top..rows.min(top + side))
                        .flat_map(|row| (left..cols.min(left + side)).map(move |col| row * cols + col));
                    let unit = config.merge_unit();
                    segments.push(
                        units.flat_map(|index| first + index * unit..first + (index + 1) * unit).collect(),
                    );
                }
            }
        });
        Self::group(segments)
    }

    /// Whole temporal slices.
    pub(super) fn slices(grids: &[GridThw]) -> Self {
        let mut segments = Vec::new();
        for_each_slice(grids, |grid, first| segments.push((first..first + grid.h * grid.w).collect()));
        Self::group(segments)
    }

    fn group(segments: Vec<Vec<usize>>) -> Self {
        let mut by_len: BTreeMap<usize, Vec<Vec<usize>>> = BTreeMap::new();
        for segment in segments {
            by_len.entry(segment.len()).or_default().push(segment);
        }
        let runs = by_len.iter().map(|(&len, segments)| Run { segments: segments.len(), len }).collect();
        let order = by_len.into_values().flatten().flatten().map(|patch| patch as i32).collect();
        Self { order, runs }
    }

    /// Places of this order's patches within `other`'s order: selecting them turns `other`'s rows into this one's.
    /// `None` if the orders are equal.
    pub(super) fn selection_from(&self, other: &[i32]) -> Option<Vec<i32>> {
        if self.order == other {
            return None;
        }
        let place = invert(other);
        Some(self.order.iter().map(|&patch| place[patch as usize]).collect())
    }
}

/// `inverse[order[i]] == i`.
pub(super) fn invert(order: &[i32]) -> Vec<i32> {
    let mut inverse = vec![0; order.len()];
    for (place, &patch) in order.iter().enumerate() {
        inverse[patch as usize] = place as i32;
    }
    inverse
}

fn for_each_slice(grids: &[GridThw], mut visit: impl FnMut(GridThw, usize)) {
    let mut first = 0;
    for grid in grids {
        for _ in 0..grid.t {
            visit(*grid, first);
            first += grid.h * grid.w;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> VisionConfig {
        VisionConfig {
            depth: 1,
            hidden_size: 16,
            intermediate_size: 16,
            num_heads: 2,
            in_channels: 3,
            out_hidden_size: 16,
            patch_size: 14,
            spatial_merge_size: 2,
            temporal_patch_size: 2,
            window_size: 56,
            fullatt_block_indexes: vec![],
            tokens_per_second: 2.0,
        }
    }

    #[test]
    fn ragged_windows_are_grouped_by_size() {
        // 3 x 5 merged units in windows of 2 x 2: sizes 4, 4, 2 on the top row and 2, 2, 1 below, in patches times 4.
        let plan = Segmentation::windows(&config(), &[GridThw { t: 1, h: 6, w: 10 }]);
        let runs = [Run { segments: 1, len: 4 }, Run { segments: 3, len: 8 }, Run { segments: 2, len: 16 }];
        assert_eq!(plan.runs, runs);
        // The corner window holds the last unit: patches 56 to 59.
        assert_eq!(plan.order[..4], [56, 57, 58, 59]);
        // The first full window holds units 0, 1, 5, 6.
        assert_eq!(plan.order[28..44], [0, 1, 2, 3, 4, 5, 6, 7, 20, 21, 22, 23, 24, 25, 26, 27]);
        let mut sorted = plan.order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..60).collect::<Vec<i32>>());
    }

    #[test]
    fn slices_never_mix_time() {
        let plan = Segmentation::slices(&[GridThw { t: 3, h: 2, w: 2 }, GridThw { t: 1, h: 4, w: 2 }]);
        assert_eq!(plan.runs, [Run { segments: 3, len: 4 }, Run { segments: 1, len: 8 }]);
    }

    #[test]
    fn selection_composes_orders() {
        let windows = Segmentation { order: vec![2, 0, 1, 3], runs: vec![] };
        let slices = Segmentation { order: vec![0, 1, 2, 3], runs: vec![] };
        assert_eq!(slices.selection_from(&windows.order), Some(vec![1, 2, 0, 3]));
        assert_eq!(slices.selection_from(&slices.order), None);
    }
}
