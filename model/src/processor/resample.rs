//! Bicubic resampling of 8-bit RGB, bit for bit as Pillow 11.3 does it (`src/libImaging/Resample.c`).
//!
//! Antialiased, a = -0.5; coefficients rounded to 22-bit fixed point; horizontal pass first, then vertical, each
//! rounded and clamped to 8 bits. Later Pillow versions choose the order by size: other pixels. Both passes run over
//! contiguous bytes: the horizontal one on strips of rows turned on their side.

use image::RgbImage;
use rayon::prelude::*;

const CHANNELS: usize = 3;
/// Bits after the binary point: 32 less 8 for the pixel and 2 for overshoot and sign.
const PRECISION_BITS: u32 = 32 - 8 - 2;
/// Rows that one strip of the horizontal pass handles together.
const STRIP_ROWS: usize = 16;
const STRIP_BYTES: usize = STRIP_ROWS * CHANNELS;
/// Columns that are turned together.
const TURN_COLUMNS: usize = 128;
/// Bytes of a row that the vertical pass handles together.
const BLOCK_BYTES: usize = 64;

/// Which input samples each output sample along one axis is made of.
#[derive(Debug)]
struct Axis {
    taps: Vec<(usize, usize)>,
    /// `[num_outputs, max_taps]`, fixed point.
    coefficients: Vec<i32>,
    max_taps: usize,
}

impl Axis {
    fn new(input: usize, output: usize) -> Self {
        let scale = input as f64 / output as f64;
        let filter_scale = scale.max(1.0);
        let support = 2.0 * filter_scale;
        let max_taps = support.ceil() as usize * 2 + 1;
        let mut taps = Vec::with_capacity(output);
        let mut coefficients = vec![0i32; output * max_taps];
        let mut weights = vec![0f64; max_taps];
        for (index, row) in coefficients.chunks_exact_mut(max_taps).enumerate() {
            let center = (index as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let last = ((center + support + 0.5) as usize).min(input);
            let count = last - first;
            let mut sum = 0.0;
            for (tap, weight) in weights[..count].iter_mut().enumerate() {
                *weight = bicubic(((tap + first) as f64 - center + 0.5) * (1.0 / filter_scale));
                sum += *weight;
            }
            for (coefficient, weight) in row.iter_mut().zip(&weights[..count]) {
                let scaled = weight / sum * f64::from(1u32 << PRECISION_BITS);
                *coefficient = (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32;
            }
            taps.push((first, count));
        }
        Self { taps, coefficients, max_taps }
    }

    fn coefficients(&self, index: usize) -> (usize, &[i32]) {
        let (first, count) = self.taps[index];
        (first, &self.coefficients[index * self.max_taps..][..count])
    }
}

fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// How to resize pictures of one size to another; made once and used for every frame of a video.
#[derive(Debug)]
pub(super) struct Resampler {
    input: (usize, usize),
    output: (usize, usize),
    horizontal: Option<Axis>,
    vertical: Option<Axis>,
}

/// A picture after the horizontal pass; rows are finished on demand.
#[derive(Debug)]
pub(super) struct HalfResized<'a> {
    rows: std::borrow::Cow<'a, [u8]>,
}

impl Resampler {
    /// Sizes are `(height, width)`, in pixels, none zero.
    pub(super) fn new(input: (usize, usize), output: (usize, usize)) -> Self {
        Self {
            input,
            output,
            horizontal: (input.1 != output.1).then(|| Axis::new(input.1, output.1)),
            vertical: (input.0 != output.0).then(|| Axis::new(input.0, output.0)),
        }
    }

    /// The horizontal pass over the whole picture, in parallel over strips of rows.
    pub(super) fn horizontal<'a>(&self, image: &'a RgbImage) -> HalfResized<'a> {
        let source = image.as_raw();
        let Some(axis) = &self.horizontal else {
            return HalfResized { rows: source.as_slice().into() };
        };
        let (in_row, out_row) = (self.input.1 * CHANNELS, self.output.1 * CHANNELS);
        let mut rows = vec![0u8; self.input.0 * out_row];
        rows.par_chunks_mut(STRIP_ROWS * out_row).zip(source.par_chunks(STRIP_ROWS * in_row)).for_each_init(
            || vec![[0u8; STRIP_BYTES]; self.input.1],
            |columns, (out, strip)| {
                turn(strip, in_row, columns);
                horizontal_strip(axis, columns, out, out_row);
            },
        );
        HalfResized { rows: rows.into() }
    }

    /// Bytes of one finished row.
    pub(super) fn row_bytes(&self) -> usize {
        self.output.1 * CHANNELS
    }

    /// Writes the finished row `y` into `out`, `[width, channels]`.
    pub(super) fn vertical_row(&self, half: &HalfResized<'_>, y: usize, out: &mut [u8]) {
        let row_bytes = self.row_bytes();
        match &self.vertical {
            None => out.copy_from_slice(&half.rows[y * row_bytes..][..row_bytes]),
            Some(axis) => {
                let (first, coefficients) = axis.coefficients(y);
                vertical_row(&half.rows[first * row_bytes..], coefficients, out);
            }
        }
    }
}

/// Resizes a picture to `(height, width)` as Pillow 11.3's `Image.resize(size, BICUBIC)` does, to the bit.
pub fn resize_bicubic(image: &RgbImage, height: usize, width: usize) -> RgbImage {
    let (in_width, in_height) = image.dimensions();
    if in_width == 0 || in_height == 0 || width == 0 || height == 0 {
        return RgbImage::new(width as u32, height as u32);
    }
    let resampler = Resampler::new((in_height as usize, in_width as usize), (height, width));
    let half = resampler.horizontal(image);
    let mut out = vec![0u8; height * resampler.row_bytes()];
    out.par_chunks_mut(resampler.row_bytes())
        .enumerate()
        .for_each(|(y, row)| resampler.vertical_row(&half, y, row));
    RgbImage::from_raw(width as u32, height as u32, out).expect("the buffer holds height x width x 3 bytes")
}

/// Turns a strip of rows on its side: `columns[x]` holds pixel `x` of every row. Missing rows stay as they are.
fn turn(strip: &[u8], row_bytes: usize, columns: &mut [[u8; STRIP_BYTES]]) {
    // In blocks of columns that stay in the first-level cache: each is written once for every row.
    for (block, columns) in columns.chunks_mut(TURN_COLUMNS).enumerate() {
        for (index, row) in strip.chunks_exact(row_bytes).enumerate() {
            let at = index * CHANNELS;
            let pixels = row[block * TURN_COLUMNS * CHANNELS..].as_chunks::<CHANNELS>().0;
            for (pixel, column) in pixels.iter().zip(columns.iter_mut()) {
                column[at..at + CHANNELS].copy_from_slice(pixel);
            }
        }
    }
}

const HALF: i32 = 1 << (PRECISION_BITS - 1);

#[inline(always)]
fn clamp(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// A plain loop: `array::map` is compiled apart from its caller, without the caller's instructions.
#[inline(always)]
fn clamp_all<const N: usize>(sums: &[i32; N]) -> [u8; N] {
    let mut bytes = [0u8; N];
    for (byte, &sum) in bytes.iter_mut().zip(sums) {
        *byte = clamp(sum);
    }
    bytes
}

/// Compiles a pass for AVX2 beside the baseline and picks at run time; the integers are the same.
macro_rules! with_avx2 {
    ($(#[$doc:meta])* fn $name:ident / $wide:ident / $body:ident ($($arg:ident: $type:ty),*)) => {
        $(#[$doc])*
        fn $name($($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn $wide($($arg: $type),*) {
                    $body($($arg),*);
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has AVX2, asked on the line above.
                    return unsafe { $wide($($arg),*) };
                }
            }
            $body($($arg),*);
        }
    };
}

with_avx2! {
    /// One strip of rows: every output column is a weighted sum of turned input columns.
    fn horizontal_strip / horizontal_strip_avx2 / horizontal_strip_body(
        axis: &Axis, columns: &[[u8; STRIP_BYTES]], out: &mut [u8], out_row: usize
    )
}

#[inline(always)]
fn horizontal_strip_body(axis: &Axis, columns: &[[u8; STRIP_BYTES]], out: &mut [u8], out_row: usize) {
    for x in 0..axis.taps.len() {
        let (first, coefficients) = axis.coefficients(x);
        let mut sums = [HALF; STRIP_BYTES];
        for (column, &coefficient) in columns[first..].iter().zip(coefficients) {
            for (sum, &byte) in sums.iter_mut().zip(column) {
                *sum += i32::from(byte) * coefficient;
            }
        }
        let bytes = clamp_all(&sums);
        for (row, pixel) in out.chunks_exact_mut(out_row).zip(bytes.as_chunks::<CHANNELS>().0) {
            row[x * CHANNELS..][..CHANNELS].copy_from_slice(pixel);
        }
    }
}

with_avx2! {
    /// One output row: a weighted sum of the input rows that start at `rows`.
    fn vertical_row / vertical_row_avx2 / vertical_row_body(rows: &[u8], coefficients: &[i32], out: &mut [u8])
}

#[inline(always)]
fn vertical_row_body(rows: &[u8], coefficients: &[i32], out: &mut [u8]) {
    let row_bytes = out.len();
    let (blocks, rest) = out.as_chunks_mut::<BLOCK_BYTES>();
    let num_blocks = blocks.len();
    for (index, block) in blocks.iter_mut().enumerate() {
        let mut sums = [HALF; BLOCK_BYTES];
        for (row, &coefficient) in rows.chunks_exact(row_bytes).zip(coefficients) {
            let bytes = &row[index * BLOCK_BYTES..][..BLOCK_BYTES];
            for (sum, &byte) in sums.iter_mut().zip(bytes) {
                *sum += i32::from(byte) * coefficient;
            }
        }
        *block = clamp_all(&sums);
    }
    for (index, byte) in rest.iter_mut().enumerate() {
        let at = num_blocks * BLOCK_BYTES + index;
        let terms = rows.chunks_exact(row_bytes).zip(coefficients);
        *byte = clamp(HALF + terms.map(|(row, &coefficient)| i32::from(row[at]) * coefficient).sum::<i32>());
    }
}

#[cfg(test)]
mod tests {
    use super::{super::golden, *};

    #[test]
    fn one_colour_stays_one_colour_and_equal_sizes_are_copied() {
        let grey = RgbImage::from_pixel(37, 19, image::Rgb([1, 128, 254]));
        for (height, width) in [(5, 90), (70, 4), (19, 90), (70, 37)] {
            let out = resize_bicubic(&grey, height, width);
            assert_eq!(out.dimensions(), (width as u32, height as u32));
            assert!(out.pixels().all(|pixel| pixel.0 == [1, 128, 254]));
        }
        let noise = golden::picture(19, 37, 5);
        assert_eq!(resize_bicubic(&noise, 19, 37), noise);
    }

    #[test]
    fn coefficients_of_a_doubling_are_the_cubics() {
        // Output 2 lies at 1.25: its taps 0 to 2 and 3 are 1.25 - 0.5 = 0.75 away from 0 and so on.
        let axis = Axis::new(8, 16);
        let (first, coefficients) = axis.coefficients(4);
        let expected = [0.75f64 + 1.0, 0.75, 0.25, 1.25]
            .map(|distance| (bicubic(distance) * 4_194_304.0).round() as i32);
        assert_eq!((first, coefficients), (0, &expected[..]));
        assert_eq!(bicubic(0.5), 0.5625);
        assert_eq!(bicubic(1.5), -0.0625);
        assert_eq!((bicubic(0.0), bicubic(1.0), bicubic(2.0)), (1.0, 0.0, 0.0));
    }

    #[test]
    fn the_wide_passes_equal_the_plain_ones() {
        let picture = golden::picture(45, 83, 9);
        let resampler = Resampler::new((45, 83), (21, 150));
        let half = resampler.horizontal(&picture);
        let axis = resampler.horizontal.as_ref().unwrap();
        let mut columns = vec![[0u8; STRIP_BYTES]; 83];
        turn(&picture.as_raw()[..STRIP_ROWS * 83 * 3], 83 * 3, &mut columns);
        let mut plain = vec![0u8; STRIP_ROWS * 150 * 3];
        horizontal_strip_body(axis, &columns, &mut plain, 150 * 3);
        assert_eq!(half.rows[..plain.len()], plain);
        let (first, coefficients) = resampler.vertical.as_ref().unwrap().coefficients(10);
        let (mut row, mut plain) = (vec![0u8; 450], vec![0u8; 450]);
        resampler.vertical_row(&half, 10, &mut row);
        vertical_row_body(&half.rows[first * 450..], coefficients, &mut plain);
        assert_eq!(row, plain);
    }
}
