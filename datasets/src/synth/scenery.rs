//! The places: tissue, lumen, wound, bench, the hepatocystic anatomy and the practice suture line, and their light.

use super::{
    canvas::{Canvas, Paint, Rgb, mix},
    noise::{NoiseMap, lattice, smooth},
    script::{Anatomy, Skill},
    source::{Scene, SourceSpec},
};

/// Pixels of background beyond each side of the frame, for the camera to move over.
pub(super) const MARGIN: usize = 12;

const FAT: Rgb = [250.0, 205.0, 60.0];

/// Paints the background of a video.
pub(super) fn texture(spec: &SourceSpec, seed: u32) -> Canvas {
    let (width, height) = (spec.width + 2 * MARGIN, spec.height + 2 * MARGIN);
    let mut canvas = Canvas::new(width, height);
    let h = spec.height as f32;
    let coarse = NoiseMap::fractal(width, height, h * 0.30, 5, seed);
    let fine = NoiseMap::fractal(width, height, h * 0.12, 3, seed ^ 0xA5);
    let relief = if spec.scene == Scene::Bench { 0.35 } else { 1.7 };
    let (dark, bright): (Rgb, Rgb) = match spec.scene {
        Scene::Laparoscopic | Scene::Anatomy => ([138.0, 48.0, 44.0], [232.0, 136.0, 116.0]),
        Scene::Endoscopic => ([172.0, 84.0, 70.0], [246.0, 172.0, 146.0]),
        Scene::Open => ([140.0, 34.0, 32.0], [226.0, 112.0, 92.0]),
        Scene::Bench => ([196.0, 146.0, 112.0], [222.0, 176.0, 140.0]),
    };
    for y in 0..height {
        for x in 0..width {
            let i = y * width + x;
            let (c, f) = (coarse.values[i], fine.values[i]);
            // A relief lit from the upper left: the slope of the noise brightens or darkens.
            let slope = f - fine.values[y.saturating_sub(2) * width + x.saturating_sub(2)];
            let mut color = mix(dark, bright, smooth(c * 1.6 - 0.3)).map(|v| v * (1.0 + slope * relief));
            if spec.scene != Scene::Bench {
                let vessel = 1.0 - ((c - 0.5).abs() * 26.0).min(1.0);
                color = mix(color, [120.0, 16.0, 28.0], vessel * 0.55 * smooth(f * 2.0 - 0.4));
                let gloss = smooth((slope - 0.12) * 9.0);
                color = mix(color, [255.0, 244.0, 238.0], gloss * 0.5);
            }
            canvas.pixels[i] = color;
        }
    }
    dress(&mut canvas, spec, &fine, seed);
    canvas
}

/// Adds what belongs to the place on top of its tissue.
fn dress(canvas: &mut Canvas, spec: &SourceSpec, fine: &NoiseMap, seed: u32) {
    let (w, h) = (spec.width as f32, spec.height as f32);
    let margin = MARGIN as f32;
    let at = |x: f32, y: f32| [x * w + margin, y * h + margin];
    let vary = |i| lattice(i, 3, seed) - 0.5;
    match spec.scene {
        Scene::Laparoscopic | Scene::Anatomy => {
            let liver = Paint { color: [122.0, 44.0, 36.0], gloss: 0.5, alpha: 0.92, owner: None };
            canvas.blob(at(0.25 + 0.1 * vary(0), -0.12), 0.62 * w, 0.40 * h, -0.1, 0.06, liver);
            let bladder = Paint { color: [148.0, 158.0, 84.0], gloss: 0.7, alpha: 0.9, owner: None };
            let (x, y) = if spec.scene == Scene::Anatomy { (0.82, 0.16) } else { (0.66, 0.24) };
            canvas.blob(at(x + 0.06 * vary(1), y), 0.24 * w, 0.19 * h, -0.35 + 0.3 * vary(2), 0.10, bladder);
        }
        Scene::Endoscopic => {
            for ring in 0..4 {
                let r = 0.42 - 0.085 * ring as f32;
                let shade = Paint::flat([96.0 - 20.0 * ring as f32, 34.0 - 7.0 * ring as f32, 30.0], 0.42);
                canvas.blob(
                    at(0.52 + 0.12 * vary(0), 0.36 + 0.1 * vary(1)),
                    r * w,
                    r * 0.86 * h,
                    0.4,
                    0.35,
                    shade,
                );
            }
        }
        Scene::Open => drape(canvas, spec, fine, [w * (0.5 + 0.04 * vary(0)) + margin, h * 0.5 + margin]),
        Scene::Bench => {
            let (width, pad) = (canvas.width, [0.10 * w, 0.16 * h, 0.90 * w, 0.86 * h].map(|v| v + margin));
            for (i, pixel) in canvas.pixels.iter_mut().enumerate() {
                let (x, y) = ((i % width) as f32, (i / width) as f32);
                let outside = (pad[0] - x).max(x - pad[2]).max(pad[1] - y).max(y - pad[3]);
                let grain = fine.values[i] * 36.0 + 12.0 * ((y * 0.9 + fine.values[i] * 14.0).sin());
                let table = [64.0 + grain, 78.0 + grain, 96.0 + grain];
                let shadow = 1.0 - 0.5 * smooth(1.0 - outside / (0.06 * h));
                *pixel = mix(*pixel, table.map(|v| v * shadow), (outside + 0.5).clamp(0.0, 1.0));
            }
            let line = Paint::flat([120.0, 52.0, 44.0], 0.9);
            canvas.capsule(at(0.20, 0.5), 0.014 * h, at(0.80, 0.5), 0.014 * h, line);
        }
    }
}

/// Cloth with a lens-shaped opening: skin at its rim, the wound inside.
fn drape(canvas: &mut Canvas, spec: &SourceSpec, fine: &NoiseMap, center: [f32; 2]) {
    let (w, h) = (spec.width as f32, spec.height as f32);
    let width = canvas.width;
    for (i, pixel) in canvas.pixels.iter_mut().enumerate() {
        let (x, y) = ((i % width) as f32, (i / width) as f32);
        let (u, v) = ((x - center[0]) / (0.47 * w), (y - center[1]) / (0.46 * h));
        let d = (u * u + v * v).sqrt() + (fine.values[i] - 0.5) * 0.05;
        let skin = mix([214.0, 152.0, 122.0], [240.0, 190.0, 160.0], fine.values[i]);
        let fold = 0.78 + 0.3 * (x * 0.045 + y * 0.07 + fine.values[i] * 5.0).sin().abs();
        let cloth = [38.0, 112.0, 118.0].map(|c: f32| c * fold);
        *pixel = mix(*pixel, skin, smooth((d - 0.78) * 14.0));
        *pixel = mix(*pixel, cloth, smooth((d - 1.0) * 20.0));
        let rim = 1.0 - ((d - 0.79).abs() * 22.0).min(1.0);
        *pixel = mix(*pixel, [96.0, 20.0, 22.0], rim * 0.7);
    }
}

/// Brightness of every pixel: a spot for scopes, near daylight otherwise.
pub(super) fn light(spec: &SourceSpec, seed: u32) -> Vec<f32> {
    let (w, h) = (spec.width as f32, spec.height as f32);
    let (strength, reach) = match spec.scene {
        Scene::Laparoscopic | Scene::Anatomy => (0.62, 0.72),
        Scene::Endoscopic => (0.60, 0.62),
        Scene::Open => (0.30, 0.80),
        Scene::Bench => (0.22, 0.80),
    };
    let gain = 1.04 + 0.12 * (lattice(7, 7, seed) - 0.5);
    let center =
        [w * (0.5 + 0.1 * (lattice(8, 7, seed) - 0.5)), h * (0.5 + 0.1 * (lattice(9, 7, seed) - 0.5))];
    let mut map = Vec::with_capacity(spec.width * spec.height);
    for y in 0..spec.height {
        for x in 0..spec.width {
            let (dx, dy) = ((x as f32 - center[0]) / w, (y as f32 - center[1]) / h);
            let d = (dx * dx + dy * dy).sqrt() / reach;
            map.push(gain * (1.0 - strength * smooth(d * d)));
        }
    }
    map
}

/// Draws the structures a critical view of safety is judged by, each in its own part of the frame.
pub(super) fn draw_anatomy(
    canvas: &mut Canvas,
    anatomy: Anatomy,
    world: impl Fn([f32; 2]) -> [f32; 2],
    height: f32,
) {
    let h = height;
    // Cystic plate: the pale bed between liver and gallbladder, bared from the left.
    let shown = 0.22 * f32::from(anatomy.cystic_plate);
    let shadow = Paint::flat([40.0, 8.0, 12.0], 0.45);
    let below = |p: [f32; 2]| world([p[0] + 0.008, p[1] + 0.028]);
    if anatomy.cystic_plate > 0 {
        canvas.capsule(below([0.10, 0.17]), 0.098 * h, below([0.10 + shown, 0.14]), 0.088 * h, shadow);
        let plate = Paint { color: [242.0, 246.0, 255.0], gloss: 0.25, alpha: 0.97, owner: None };
        canvas.capsule(world([0.10, 0.17]), 0.095 * h, world([0.10 + shown, 0.14]), 0.085 * h, plate);
    }
    // Hepatocystic triangle: a dark window, hidden by fat until it is cleared.
    let window = Paint { color: [84.0, 16.0, 44.0], gloss: 0.0, alpha: 0.95, owner: None };
    canvas.blob(world([0.80, 0.68]), 0.24 * h, 0.24 * h, 0.0, 0.08, window);
    let lumps: &[[f32; 2]] = match anatomy.hepatocystic_triangle {
        0 => &[[0.72, 0.60], [0.86, 0.60], [0.74, 0.77], [0.87, 0.76], [0.80, 0.68]],
        1 => &[[0.74, 0.77], [0.87, 0.77], [0.80, 0.83]],
        _ => &[],
    };
    for &lump in lumps {
        canvas.blob(below(lump), 0.14 * h, 0.12 * h, lump[0] * 9.0, 0.3, shadow);
        let paint = Paint { color: FAT, gloss: 0.5, alpha: 0.97, owner: None };
        canvas.blob(world(lump), 0.135 * h, 0.115 * h, lump[0] * 9.0, 0.12, paint);
    }
    // Two structures: the cystic duct, then the artery.
    let duct = Paint { color: [120.0, 190.0, 60.0], gloss: 0.7, alpha: 1.0, owner: None };
    let artery = Paint { color: [225.0, 12.0, 16.0], gloss: 0.7, alpha: 1.0, owner: None };
    if anatomy.two_structures > 0 {
        let course = [[0.06, 0.62], [0.18, 0.585], [0.30, 0.575], [0.42, 0.585], [0.54, 0.62]];
        canvas.polyline(&course.map(below), 0.064 * h, shadow);
        canvas.polyline(&course.map(&world), 0.062 * h, duct);
    }
    if anatomy.two_structures > 1 {
        let course = [[0.06, 0.88], [0.18, 0.865], [0.30, 0.84], [0.42, 0.81], [0.54, 0.80]];
        canvas.polyline(&course.map(below), 0.064 * h, shadow);
        canvas.polyline(&course.map(&world), 0.062 * h, artery);
    }
}

/// Draws the finished part of a practice suture: as many stitches as the pace allows, as straight as they were set,
/// and a stain for every lost point of care.
pub(super) fn draw_stitches(
    canvas: &mut Canvas,
    skill: Skill,
    seed: u32,
    world: impl Fn([f32; 2]) -> [f32; 2],
    height: f32,
) {
    let h = height;
    for i in 0..u32::from(5 - skill.respect_for_tissue) {
        let (x, y) = (0.24 + 0.17 * i as f32, 0.29 + 0.04 * lattice(i, 1, seed));
        let stain = Paint { color: [190.0, 10.0, 18.0], gloss: 0.2, alpha: 0.95, owner: None };
        canvas.blob(world([x, y]), 0.105 * h, 0.085 * h, i as f32, 0.15, stain);
    }
    let disorder = 0.055 * f32::from(5 - skill.final_product);
    for i in 0..u32::from(skill.time_and_motion) {
        let random = |j: u32| (lattice(i, 10 + j, seed) - 0.5) * 2.0 * disorder;
        let (x, y) = (0.22 + 0.14 * i as f32 + 0.4 * random(0), 0.5 + 0.5 * random(1));
        let (lean, half) = (random(2) * 0.9, 0.115);
        // Green for a sound stitch, brown for a loose one: the thread's colour is the quickest sign of quality.
        let color = mix([150.0, 60.0, 20.0], [20.0, 150.0, 60.0], f32::from(skill.final_product - 1) / 4.0);
        let paint = Paint::flat(color, 1.0);
        canvas.capsule(world([x - lean, y - half]), 0.036 * h, world([x + lean, y + half]), 0.036 * h, paint);
    }
}
