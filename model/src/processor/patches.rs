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
    let layout =
        Layout { patch: config.patch_size, merge: config.merge_size, temporal: config.temporal_patch_size };

    let start = values.len();
    let num_values = grid.num_patches() * layout.values_per_patch();
    if start == 0 {
        // Memory that comes zeroed from the system: no pass over it.
        *values = vec![0.0; num_values];
    } else {
        values.resize(start + num_values, 0.0);
    }
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
                        let copies = if time + 1 == halves.len() { layout.temporal - time } else { 1 };
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
        let Self { patch, merge, temporal } = self;
        let (merge_row, patch_row) = (y / patch, y % patch);
        for (column, pixels) in row.chunks_exact(patch * CHANNELS).enumerate() {
            let index = column / merge * merge * merge + merge_row * merge + column % merge;
            let out = &mut out[index * self.values_per_patch()..][..self.values_per_patch()];
            for (channel, bytes) in table.0.iter().enumerate() {
                let slot = |time: usize| ((channel * temporal + time) * patch + patch_row) * patch;
                let first = slot(times.start);
                for (value, pixel) in
                    out[first..first + patch].iter_mut().zip(pixels.as_chunks::<CHANNELS>().0)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// 2 x 2 patches of 2 x 2 pixels merged by 2, no resize, bytes kept.
    fn plain(temporal_patch_size: usize) -> ImageProcessorConfig {
        ImageProcessorConfig {
            do_rescale: false,
            do_normalize: false,
            patch_size: 2,
            merge_size: 2,
            temporal_patch_size,
            ..ImageProcessorConfig::image_default()
        }
    }

    /// Every pixel's red is its place, row by row, from `start`; green is 100, blue is 200.
    fn frame(width: u32, height: u32, start: u8) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([start + (y * width + x) as u8, 100, 200]))
    }

    #[test]
    fn patches_stand_in_squares_of_merged_cells() {
        // 8 x 4 pixels: two merged cells side by side, each of four patches.
        let mut values = Vec::new();
        let grid = append_patches(&plain(1), &[&frame(8, 4, 0)], (4, 8), &mut values);
        assert_eq!(grid, GridThw { t: 1, h: 2, w: 4 });
        let first_pixels: Vec<f32> = values.chunks_exact(12).map(|patch| patch[0]).collect();
        assert_eq!(first_pixels, [0.0, 2.0, 16.0, 18.0, 4.0, 6.0, 20.0, 22.0]);
        assert_eq!(
            values[..12],
            [0.0, 1.0, 8.0, 9.0, 100.0, 100.0, 100.0, 100.0, 200.0, 200.0, 200.0, 200.0]
        );
    }

    #[test]
    fn missing_frames_repeat_the_last_one() {
        let frames = [frame(4, 4, 0), frame(4, 4, 50), frame(4, 4, 90)];
        let mut values = vec![7.0];
        let grid = append_patches(&plain(2), &frames.iter().collect::<Vec<_>>(), (4, 4), &mut values);
        assert_eq!(grid, GridThw { t: 2, h: 2, w: 2 });
        // Behind what was there: [time][patch][channel, frame, y, x]; red of both frames of the first patch.
        assert_eq!(values[1..9], [0.0, 1.0, 4.0, 5.0, 50.0, 51.0, 54.0, 55.0]);
        let second = &values[1 + 4 * 24..];
        assert_eq!(second[..8], [90.0, 91.0, 94.0, 95.0, 90.0, 91.0, 94.0, 95.0]);
        assert_eq!(second.len(), 4 * 24);
        // An image fills every slot of its temporal patch.
        let mut values = Vec::new();
        append_patches(&plain(3), &[&frames[1]], (4, 4), &mut values);
        assert_eq!(values[..12], [50.0, 51.0, 54.0, 55.0].repeat(3));
    }

    #[test]
    fn bytes_are_rescaled_then_normalised() {
        let config = ImageProcessorConfig {
            rescale_factor: 0.5,
            image_mean: [1.0, 2.0, 3.0],
            image_std: [2.0, 4.0, 8.0],
            ..ImageProcessorConfig::image_default()
        };
        let table = ByteTable::new(&config);
        assert_eq!((table.0[0][10], table.0[1][10], table.0[2][255]), (2.0, 0.75, 15.5625));
        assert_eq!(ByteTable::new(&plain(1)).0[2][255], 255.0);
        let rescaled = ByteTable::new(&ImageProcessorConfig { do_normalize: false, ..config });
        assert_eq!(rescaled.0[0][10], 5.0);
    }
}
