//! A small software rasteriser: anti-aliased capsules and blobs over an RGB image, with an owner for every pixel.
//!
//! The owner plane is what makes boxes exact: a box is the bounds of the pixels an object still owns at the end.

/// Who a pixel belongs to; 0 is the background.
pub(super) type Owner = u8;

/// A colour with channels of 0..=255 (values outside are clipped on output).
pub(super) type Rgb = [f32; 3];

/// A frame being drawn.
pub(super) struct Canvas {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) pixels: Vec<Rgb>,
    pub(super) owners: Vec<Owner>,
}

/// How a capsule looks.
#[derive(Clone, Copy)]
pub(super) struct Paint {
    pub(super) color: Rgb,
    /// Strength of the highlight along a lit cylinder; 0 is flat.
    pub(super) gloss: f32,
    pub(super) alpha: f32,
    /// Owner to write where coverage times alpha is at least a half; `None` leaves the plane alone.
    pub(super) owner: Option<Owner>,
}

impl Paint {
    pub(super) fn flat(color: Rgb, alpha: f32) -> Self {
        Self { color, gloss: 0.0, alpha, owner: None }
    }
}

/// Mixes `a` towards `b`.
pub(super) fn mix(a: Rgb, b: Rgb, t: f32) -> Rgb {
    [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t]
}

impl Canvas {
    pub(super) fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![[0.0; 3]; width * height], owners: vec![0; width * height] }
    }

    /// Integer pixel ranges that cover a float box, clipped to the frame.
    fn clip(&self, x0: f32, y0: f32, x1: f32, y1: f32) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let bound = |v: f32, limit: usize| v.max(0.0).min(limit as f32) as usize;
        let xs = bound(x0.floor(), self.width)..bound(x1.ceil() + 1.0, self.width);
        let ys = bound(y0.floor(), self.height)..bound(y1.ceil() + 1.0, self.height);
        (xs, ys)
    }

    /// A round-ended bar from `a` to `b` whose half width goes from `ra` to `rb`, lit like a cylinder.
    pub(super) fn capsule(&mut self, a: [f32; 2], ra: f32, b: [f32; 2], rb: f32, paint: Paint) {
        let r = ra.max(rb) + 1.0;
        let (xs, ys) =
            self.clip(a[0].min(b[0]) - r, a[1].min(b[1]) - r, a[0].max(b[0]) + r, a[1].max(b[1]) + r);
        let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
        let inv_len2 = 1.0 / (dx * dx + dy * dy).max(1e-6);
        let inv_len = inv_len2.sqrt();
        for y in ys {
            for x in xs.clone() {
                let (px, py) = (x as f32 + 0.5 - a[0], y as f32 + 0.5 - a[1]);
                let t = ((px * dx + py * dy) * inv_len2).clamp(0.0, 1.0);
                let radius = ra + (rb - ra) * t;
                let (ox, oy) = (px - dx * t, py - dy * t);
                let coverage = (radius + 0.5 - (ox * ox + oy * oy).sqrt()).clamp(0.0, 1.0);
                if coverage <= 0.0 {
                    continue;
                }
                let mut color = paint.color;
                if paint.gloss > 0.0 {
                    let across = ((px * dy - py * dx) * inv_len / radius.max(0.5)).clamp(-1.0, 1.0);
                    let body = 1.0 - paint.gloss * 0.45 * (across + 0.35).powi(2);
                    let shine = (1.0 - (across + 0.35).abs() * 3.5).max(0.0) * paint.gloss * 90.0;
                    for channel in &mut color {
                        *channel = *channel * body + shine;
                    }
                }
                self.put(y * self.width + x, color, coverage * paint.alpha, paint.owner);
            }
        }
    }

    /// A chain of capsules of one half width.
    pub(super) fn polyline(&mut self, points: &[[f32; 2]], radius: f32, paint: Paint) {
        for pair in points.windows(2) {
            self.capsule(pair[0], radius, pair[1], radius, paint);
        }
    }

    /// An ellipse with half axes `rx`, `ry` turned by `angle`, whose edge fades over the share `soft` of its radius.
    /// Shaded like a dome by `gloss`.
    pub(super) fn blob(&mut self, center: [f32; 2], rx: f32, ry: f32, angle: f32, soft: f32, paint: Paint) {
        let reach = rx.max(ry) + 1.0;
        let (xs, ys) = self.clip(center[0] - reach, center[1] - reach, center[0] + reach, center[1] + reach);
        let (sin, cos) = angle.sin_cos();
        let fade = soft.max(1.5 / rx.min(ry).max(1.0));
        for y in ys {
            for x in xs.clone() {
                let (px, py) = (x as f32 + 0.5 - center[0], y as f32 + 0.5 - center[1]);
                let (u, v) = ((px * cos + py * sin) / rx, (py * cos - px * sin) / ry);
                let d = (u * u + v * v).sqrt();
                let coverage = ((1.0 - d) / fade).clamp(0.0, 1.0);
                if coverage <= 0.0 {
                    continue;
                }
                let mut color = paint.color;
                if paint.gloss > 0.0 {
                    let (lx, ly) = (u + 0.35, v + 0.45);
                    let far = (lx * lx + ly * ly).sqrt();
                    let body = 1.08 - paint.gloss * 0.38 * far;
                    let shine = (1.0 - far * 4.0).max(0.0) * paint.gloss * 80.0;
                    for channel in &mut color {
                        *channel = *channel * body + shine;
                    }
                }
                self.put(y * self.width + x, color, coverage * paint.alpha, paint.owner);
            }
        }
    }

    fn put(&mut self, index: usize, color: Rgb, alpha: f32, owner: Option<Owner>) {
        self.pixels[index] = mix(self.pixels[index], color, alpha);
        if let Some(owner) = owner
            && alpha >= 0.5
        {
            self.owners[index] = owner;
        }
    }

    /// The bounds `[x1, y1, x2, y2)` of the pixels that `owner` holds and how many there are; `None` for no pixel.
    pub(super) fn bounds(&self, owner: Owner) -> Option<([usize; 4], usize)> {
        let (mut x1, mut y1, mut x2, mut y2, mut count) = (usize::MAX, usize::MAX, 0, 0, 0);
        for (y, row) in self.owners.chunks_exact(self.width).enumerate() {
            for (x, _) in row.iter().enumerate().filter(|&(_, &o)| o == owner) {
                x1 = x1.min(x);
                y1 = y1.min(y);
                x2 = x2.max(x + 1);
                y2 = y2.max(y + 1);
                count += 1;
            }
        }
        (count > 0).then_some(([x1, y1, x2, y2], count))
    }

    /// The frame as packed 8-bit RGB.
    pub(super) fn to_rgb8(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.pixels.len() * 3);
        for p in &self.pixels {
            // Float to integer casts saturate.
            bytes.extend_from_slice(&[(p[0] + 0.5) as u8, (p[1] + 0.5) as u8, (p[2] + 0.5) as u8]);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::{Canvas, Paint};

    fn owned(owner: u8) -> Paint {
        Paint { color: [200.0; 3], gloss: 0.0, alpha: 1.0, owner: Some(owner) }
    }

    #[test]
    fn bounds_are_the_pixels_a_bar_covers() {
        let mut canvas = Canvas::new(40, 20);
        // Pixel centres lie at .5: a bar of half width 2 around y = 10 from x = 10 to 20 covers rows 8..12, columns 8..22.
        canvas.capsule([10.0, 10.0], 2.0, [20.0, 10.0], 2.0, owned(3));
        let (bounds, count) = canvas.bounds(3).expect("drawn");
        assert_eq!(bounds, [8, 8, 22, 12]);
        assert!((44..=56).contains(&count), "{count}");
        assert!(canvas.bounds(1).is_none());
    }

    #[test]
    fn what_is_covered_no_longer_counts() {
        let mut canvas = Canvas::new(40, 20);
        canvas.capsule([10.0, 10.0], 2.0, [20.0, 10.0], 2.0, owned(1));
        canvas.capsule([20.0, -5.0], 6.0, [20.0, 30.0], 6.0, owned(2));
        let (bounds, _) = canvas.bounds(1).expect("half of it shows");
        assert_eq!(bounds, [8, 8, 14, 12]);
    }

    #[test]
    fn drawing_off_the_frame_is_clipped() {
        let mut canvas = Canvas::new(8, 8);
        canvas.capsule([-50.0, -50.0], 3.0, [60.0, 60.0], 3.0, owned(1));
        canvas.blob([200.0, 200.0], 4.0, 4.0, 0.0, 0.1, owned(2));
        assert_eq!(canvas.bounds(1).map(|b| b.0), Some([0, 0, 8, 8]));
        assert!(canvas.bounds(2).is_none());
    }
}
