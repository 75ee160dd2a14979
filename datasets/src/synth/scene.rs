//! Draws a frame of a clip: place, traces, blood, tools, light, smoke, lens and grain, in that order.

use super::{
    canvas::{Canvas, Paint, Rgb, mix},
    noise::{NoiseMap, lattice, smooth},
    scenery::{self, MARGIN},
    script::{Clip, Event, Path},
    source::{Effect, Scene, SourceSpec, Tool},
    tools::{Pose, draw_ghost, draw_hand, draw_tool},
};

const BLOOD: Rgb = [158.0, 4.0, 12.0];
const THREAD: Rgb = [30.0, 40.0, 190.0];
const SMOKE: Rgb = [222.0, 226.0, 232.0];

/// Tints of the phases, by index: what tells them apart at any size.
const TINTS: [Rgb; 4] = [[1.12, 0.98, 0.94], [1.05, 0.95, 0.34], [0.70, 0.36, 0.42], [0.55, 0.85, 1.18]];

/// What all frames of a video share.
pub(super) struct Look {
    /// Background with [`MARGIN`] pixels more on every side than the frame.
    texture: Canvas,
    light: Vec<f32>,
    smoke: NoiseMap,
    seed: u32,
}

impl Look {
    pub(super) fn new(spec: &SourceSpec, seed: u32) -> Self {
        Self {
            texture: scenery::texture(spec, seed),
            light: scenery::light(spec, seed),
            smoke: NoiseMap::fractal(128, 128, 32.0, 4, seed ^ 0x51),
            seed,
        }
    }

    /// The clip at frame `k` (fractions are between sampled frames).
    pub(super) fn draw(&self, spec: &SourceSpec, clip: &Clip, k: f32) -> Canvas {
        let mut canvas = Canvas::new(spec.width, spec.height);
        let camera = camera_offset(spec, clip.offset as f32 + k);
        self.background(&mut canvas, camera, tint(spec, clip, k));
        let size = [spec.width as f32, spec.height as f32];
        // World shares of the frame to pixels: what lies on the tissue moves with it.
        let world = |p: [f32; 2]| [p[0] * size[0] - camera[0], p[1] * size[1] - camera[1]];
        if let Some(anatomy) = clip.anatomy {
            scenery::draw_anatomy(&mut canvas, anatomy, world, size[1]);
        }
        if let Some(skill) = clip.skill {
            scenery::draw_stitches(&mut canvas, skill, self.seed, world, size[1]);
        }
        for event in &clip.events {
            draw_trace(&mut canvas, event, event.progress(k), world(event.path.anchor), size[1]);
        }
        if let Some(from) = clip.bleeding_from
            && k > from as f32 - 0.5
        {
            self.blood(&mut canvas, world(clip.bleeding_site), k - from as f32, size[1]);
        }
        draw_tools(&mut canvas, spec, clip, k);
        for (pixel, &light) in canvas.pixels.iter_mut().zip(&self.light) {
            *pixel = pixel.map(|v| v * light);
        }
        let smoke: f32 = clip.events.iter().map(|event| smoke_density(event, k)).sum();
        if smoke > 0.0 {
            self.smoke(&mut canvas, smoke, clip.offset as f32 + k);
        }
        self.lens(&mut canvas, spec, (clip.offset as f32 + k) * 8.0);
        canvas
    }

    fn background(&self, canvas: &mut Canvas, camera: [f32; 2], tint: Rgb) {
        let (ox, oy) = (camera[0] + MARGIN as f32, camera[1] + MARGIN as f32);
        let (ix, iy) = (ox.floor() as usize, oy.floor() as usize);
        let (fx, fy) = (ox.fract(), oy.fract());
        let stride = self.texture.width;
        for y in 0..canvas.height {
            let upper = &self.texture.pixels[(y + iy) * stride + ix..][..canvas.width + 1];
            let lower = &self.texture.pixels[(y + iy + 1) * stride + ix..][..canvas.width + 1];
            for (x, pixel) in canvas.pixels[y * canvas.width..][..canvas.width].iter_mut().enumerate() {
                let color = mix(mix(upper[x], upper[x + 1], fx), mix(lower[x], lower[x + 1], fx), fy);
                *pixel = [color[0] * tint[0], color[1] * tint[1], color[2] * tint[2]];
            }
        }
    }

    /// A pool that is wide from its first frame and keeps spreading.
    fn blood(&self, canvas: &mut Canvas, site: [f32; 2], age: f32, height: f32) {
        let radius = height * (0.24 + 0.03 * age.max(0.0)).min(0.40);
        for i in 0..7 {
            let random = |j| lattice(i, j, self.seed ^ 0xB100D) - 0.5;
            let reach = if i == 0 { 0.0 } else { radius * 0.9 };
            let center = [site[0] + reach * 2.0 * random(0), site[1] + reach * 1.6 * random(1)];
            let share = if i == 0 { 0.8 } else { 0.35 + 0.3 * (random(2) + 0.5) };
            let paint = Paint { color: BLOOD, gloss: 0.35, alpha: 0.92, owner: None };
            canvas.blob(center, radius * share, radius * share * 0.8, 3.0 * random(3), 0.12, paint);
        }
    }

    fn smoke(&self, canvas: &mut Canvas, density: f32, time: f32) {
        let width = canvas.width;
        for (i, pixel) in canvas.pixels.iter_mut().enumerate() {
            let (x, y) = ((i % width) as f32, (i / width) as f32);
            let puff = self.smoke.sample_mirrored(x * 0.6 + time * 5.0, y * 0.6 + time * 9.0);
            let alpha = density * (0.35 + 1.1 * smooth((puff - 0.25) * 2.0));
            *pixel = mix(*pixel, SMOKE, alpha.min(0.85));
        }
    }

    fn lens(&self, canvas: &mut Canvas, spec: &SourceSpec, frame: f32) {
        let (width, height) = (spec.width as f32, spec.height as f32);
        let radius = 0.505 * width.min(height);
        let grain_seed = self.seed.wrapping_add(frame as u32);
        for (y, row) in canvas.pixels.chunks_exact_mut(spec.width).enumerate() {
            for (x, pixel) in row.iter_mut().enumerate() {
                let grain = lattice(x as u32, y as u32, grain_seed) * 6.0 - 3.0;
                if spec.scene != Scene::Endoscopic {
                    *pixel = [pixel[0] + grain, pixel[1] + grain, pixel[2] + grain];
                    continue;
                }
                let (dx, dy) = (x as f32 + 0.5 - width / 2.0, y as f32 + 0.5 - height / 2.0);
                let open = (radius - (dx * dx + dy * dy).sqrt()).clamp(0.0, 1.0);
                // Nothing can be seen beyond the scope's edge.
                if open < 0.5 {
                    canvas.owners[y * spec.width + x] = 0;
                }
                *pixel = pixel.map(|v| (v + grain) * open + 6.0 * (1.0 - open));
            }
        }
    }
}

fn camera_offset(spec: &SourceSpec, time: f32) -> [f32; 2] {
    let reach = if spec.scene == Scene::Bench { 2.0 } else { MARGIN as f32 * 0.55 };
    [reach * (time * 0.55).sin(), reach * 0.7 * (time * 0.41 + 1.0).sin()]
}

fn tint(spec: &SourceSpec, clip: &Clip, k: f32) -> Rgb {
    if spec.phases.is_empty() {
        return [1.0; 3];
    }
    match clip.switch {
        Some(frame) if k < frame as f32 - 0.5 => TINTS[clip.phase - 1],
        _ => TINTS[clip.phase],
    }
}

fn smoke_density(event: &Event, k: f32) -> f32 {
    if event.action.effect != Effect::Smoke || !event.covers(k) {
        return 0.0;
    }
    0.36 + 0.18 * event.progress(k)
}

/// What an action leaves on the tissue.
fn draw_trace(canvas: &mut Canvas, event: &Event, progress: f32, site: [f32; 2], height: f32) {
    if progress <= 0.0 {
        return;
    }
    let h = height / 100.0;
    let at = |dx: f32, dy: f32| [site[0] + dx * h, site[1] + dy * h];
    let line = |dx: f32| at(dx * progress, dx * progress * 0.35);
    match event.action.effect {
        Effect::Smoke => {
            canvas.blob(site, 7.0 * h, 5.0 * h * progress, 0.4, 0.5, Paint::flat([60.0, 35.0, 20.0], 0.8));
        }
        Effect::Slit => {
            canvas.capsule(
                line(-14.0),
                2.6 * h,
                line(14.0),
                2.6 * h,
                Paint::flat([235.0, 170.0, 150.0], 0.9),
            );
            canvas.capsule(line(-13.0), 1.5 * h, line(13.0), 1.5 * h, Paint::flat([40.0, 6.0, 12.0], 1.0));
        }
        Effect::Clips => {
            let paint = Paint { color: [255.0, 215.0, 90.0], gloss: 0.7, alpha: 1.0, owner: None };
            let shown = (3.0 * progress).ceil() as usize;
            for i in 0..shown {
                let x = -7.0 + 7.0 * i as f32;
                canvas.capsule(at(x - 1.0, -5.0), 1.6 * h, at(x + 1.0, 5.0), 1.6 * h, paint);
            }
        }
        Effect::Incision => {
            canvas.capsule(
                line(-18.0),
                2.4 * h,
                line(18.0),
                2.4 * h,
                Paint::flat([250.0, 215.0, 150.0], 0.9),
            );
            canvas.capsule(line(-18.0), 1.3 * h, line(18.0), 1.3 * h, Paint::flat([215.0, 10.0, 20.0], 1.0));
        }
        Effect::Stitches => {
            let shown = (4.0 * progress).ceil() as usize;
            for i in 0..shown {
                let x = -12.0 + 8.0 * i as f32;
                canvas.capsule(
                    at(x - 2.0, -5.0),
                    1.3 * h,
                    at(x + 2.0, 5.0),
                    1.3 * h,
                    Paint::flat(THREAD, 1.0),
                );
            }
        }
    }
}

fn pose(spec: &SourceSpec, path: &Path, k: f32, away: f32) -> Pose {
    let (width, height) = (spec.width as f32, spec.height as f32);
    let [tip_x, tip_y] = path.tip(k);
    let (tip, from) = ([tip_x * width, tip_y * height], [path.entry[0] * width, path.entry[1] * height]);
    Pose {
        // A tool that comes or goes slides along its own line.
        tip: [tip[0] + (from[0] - tip[0]) * away, tip[1] + (from[1] - tip[1]) * away],
        from,
        size: spec.tool_size * height,
        length: spec.tool_length.map(|share| share * height),
    }
}

fn draw_moving_tool(canvas: &mut Canvas, spec: &SourceSpec, tool: Tool, path: &Path, k: f32, away: f32) {
    // Shaking hands blur: two ghosts at neighbouring moments under the tool itself.
    if path.tremor > 0.0 {
        for shift in [0.25, 0.5] {
            draw_ghost(canvas, tool, pose(spec, path, k + shift, away), spec.contrast);
        }
    }
    let pose = pose(spec, path, k, away);
    draw_tool(canvas, tool, pose, spec.contrast);
    if spec.scene == Scene::Open {
        draw_hand(canvas, pose.end(), pose.from, 0.062 * spec.height as f32, tool == spec.steady);
    }
}

fn draw_tools(canvas: &mut Canvas, spec: &SourceSpec, clip: &Clip, k: f32) {
    let height = spec.height as f32;
    draw_moving_tool(canvas, spec, spec.steady, &clip.steady, k, 0.0);
    for event in clip.events.iter().filter(|event| event.covers(k)) {
        let edge = (event.first as f32 - k).max(k - event.last as f32).max(0.0);
        draw_moving_tool(canvas, spec, event.action.tool, &event.path, k, smooth(edge * 1.6));
        let tip = pose(spec, &event.path, k, 0.0).tip;
        match event.action.effect {
            Effect::Smoke => {
                let spark = Paint::flat([255.0, 250.0, 200.0], 0.95);
                canvas.blob(tip, 0.045 * height, 0.045 * height, 0.0, 0.8, spark);
            }
            Effect::Stitches => {
                let hang = [tip[0] - 0.30 * height, tip[1] + 0.28 * height];
                let mid = [(tip[0] + hang[0]) * 0.5, hang[1]];
                canvas.polyline(&[tip, mid, hang], 0.018 * height, Paint::flat(THREAD, 1.0));
            }
            _ => {}
        }
    }
}
