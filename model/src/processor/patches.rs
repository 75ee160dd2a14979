//! Frames to normalised patches in the reference's order, fused with the vertical pass of the resize.
//!
//! A band is one temporal patch by one row of merged cells: it is contiguous in the output, so bands are filled in
//! parallel. Missing frames of the last temporal patch repeat the last frame; an image is a video of one frame.

use image::RgbImage;
use rayon::prelude::*;

use super::{GridThw, ImageProcessorConfig, resample::Resampler};

const CHANNELS: usize = 3;

/// Grid of `num_frames` frames after resizing to `(height, width)`, which are multiples of patch and merge size.
pub(super) fn grid(config: &ImageProcessorConfig, num_frames: usize, size: (usize, usize)) -> GridThw {
    GridThw {
        t: num_frames.div_ceil(config.temporal_patch_size),
        h: size.0 / config.patch_size,
        w: size.1 / config.patch_size,
    }
}

/// Appends the patches of `frames`, all of one size, resized to `(height, width)`: rows in the order (t, h / merge,
/// w / merge, merge, merge), each `[channels, temporal_patch_size, patch_size, patch_size]`.
pub(super) fn append_patches(
    config: &ImageProcessorConfig,
    frames: &[&RgbImage],
    size: (usize, usize),
    values: &mut Vec<f32>,
) -> GridThw {
    let grid = grid(config, frames.len(), size);
    let Some(&first) = frames.first() else { return grid };
    let (width, height) = first.dimensions();
    let resampler = Resampler::new((height as usize, width as usize), size);
    let table = ByteTable::new(config);
    let layout = Layout {
        patch: config.patch_size,
        merge: config.merge_size,
        temporal: config.temporal_patch_size,
    };

    let start = values.len();
    values.resize(start + grid.num_patches() * layout.values_per_patch(), 0.0);
    let values_per_band = grid.w * layout.merge * layout.values_per_patch();
    let bands_per_time = grid.h / layout.merge;
    values[start..]
        .par_chunks_mut(values_per_band * bands_per_time)
        .zip(frames.par_chunks(layout.temporal))
        .for_each(|(out, frames)| {
            let halves: Vec<_> = frames.iter().map(|frame| resampler.horizontal(frame)).collect();
            out.par_chunks_mut(values_per_band).enumerate().for_each_init(
                || vec![0u8; resampler.row_bytes()],
                |row, (band, out)| {
                    for (time, half) in halves.iter().enumerate() {
                        let copies = if time + 1 == halves.len() {
                            layout.temporal - time
                        } else {
                            1
                        };
                        for y in 0..layout.patch * layout.merge {
                            resampler.vertical_row(half, band * layout.patch * layout.merge + y, row);
                            layout.scatter_row(&table, row, y, time..time + copies, out);
                        }
                    }
                },
            );
        });
    grid
}

/// What every byte becomes in each channel after rescaling and normalising.
#[derive(Debug)]
struct ByteTable([[f32; 256]; CHANNELS]);

impl ByteTable {
    /// Float64 for the rescaling and float32 for the normalising, as the reference's numpy path has it.
    fn new(config: &ImageProcessorConfig) -> Self {
        Self(std::array::from_fn(|channel| {
            std::array::from_fn(|byte| {
                let mut value = byte as f32;
                if config.do_rescale {
                    value = (byte as f64 * config.rescale_factor) as f32;
                }
                if config.do_normalize {
                    value = (value - config.image_mean[channel] as f32) / config.image_std[channel] as f32;
                }
                value
            })
        }))
    }
}

/// Sizes within one patch row.
#[derive(Clone, Copy, Debug)]
struct Layout {
    patch: usize,
    merge: usize,
    temporal: usize,
}

impl Layout {
    fn values_per_patch(self) -> usize {
        CHANNELS * self.temporal * self.patch * self.patch
    }

    /// Spreads row `y` of a band over its patches, for every temporal slot in `times`.
    fn scatter_row(
        self,
        table: &ByteTable,
        row: &[u8],
        y: usize,
        times: std::ops::Range<usize>,
        out: &mut [f32],
    ) {
        let Self {
            patch,
            merge,
            temporal,
        } = self;
        let (merge_row, patch_row) = (y / patch, y % patch);
        for (column, pixels) in row.chunks_exact(patch * CHANNELS).enumerate() {
            let index = column / merge * merge * merge + merge_row * merge + column % merge;
            let out = &mut out[index * self.values_per_patch()..][..self.values_per_patch()];
            for (channel, bytes) in table.0.iter().enumerate() {
                let slot = |time: usize| ((channel * temporal + time) * patch + patch_row) * patch;
                let first = slot(times.start);
                for (value, pixel) in out[first..first + patch]
                    .iter_mut()
                    .zip(pixels.as_chunks::<CHANNELS>().0)
                {
                    *value = bytes[usize::from(pixel[channel])];
                }
                for time in times.start + 1..times.end {
                    out.copy_within(first..first + patch, slot(time));
                }
            }
        }
    }
}
