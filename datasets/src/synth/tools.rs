//! The instruments and hands: each a handful of capsules in a frame whose origin is the tip and whose first axis
//! points back along the shaft.

use super::{
    canvas::{Canvas, Owner, Paint, Rgb, mix},
    source::Tool,
};

/// Pale steel, which low-contrast sources fade their tools towards.
const STEEL: Rgb = [150.0, 152.0, 158.0];
const SILVER: Rgb = [225.0, 228.0, 235.0];
const GOLD: Rgb = [255.0, 215.0, 90.0];
const GLOVE: Rgb = [236.0, 224.0, 196.0];

/// The colour that tells an instrument from the others.
pub(super) fn tool_color(tool: Tool) -> Rgb {
    match tool {
        Tool::Grasper => [50.0, 110.0, 245.0],
        Tool::Hook => [255.0, 140.0, 20.0],
        Tool::Scissors => [230.0, 40.0, 200.0],
        Tool::Clipper => [40.0, 205.0, 70.0],
        Tool::NeedleDriver => [240.0, 225.0, 50.0],
        Tool::Forceps => [60.0, 225.0, 235.0],
        Tool::Knife => [240.0, 240.0, 255.0],
    }
}

/// Where and how large a tool is drawn, in pixels.
#[derive(Clone, Copy)]
pub(super) struct Pose {
    pub(super) tip: [f32; 2],
    /// A point on the shaft's line, away from the tip.
    pub(super) from: [f32; 2],
    /// Half width of the shaft.
    pub(super) size: f32,
    /// Length from tip to end; `None` to run through `from`.
    pub(super) length: Option<f32>,
}

impl Pose {
    fn axes(&self) -> ([f32; 2], f32) {
        let (dx, dy) = (self.from[0] - self.tip[0], self.from[1] - self.tip[1]);
        let distance = (dx * dx + dy * dy).sqrt().max(1e-3);
        ([dx / distance, dy / distance], distance)
    }

    fn pen(self, canvas: &mut Canvas, alpha: f32) -> Pen<'_> {
        let (u, _) = self.axes();
        Pen { canvas, tip: self.tip, u, size: self.size, alpha, owner: None, silhouette: None }
    }

    /// The end of the shaft.
    pub(super) fn end(&self) -> [f32; 2] {
        let (u, distance) = self.axes();
        let length = self.length.unwrap_or(distance);
        [self.tip[0] + u[0] * length, self.tip[1] + u[1] * length]
    }
}

struct Pen<'a> {
    canvas: &'a mut Canvas,
    tip: [f32; 2],
    u: [f32; 2],
    size: f32,
    alpha: f32,
    owner: Option<Owner>,
    /// Draws everything in this colour, without gloss.
    silhouette: Option<Rgb>,
}

impl Pen<'_> {
    /// `along` and `across` in half shaft widths.
    fn at(&self, along: f32, across: f32) -> [f32; 2] {
        let (a, b) = (along * self.size, across * self.size);
        [self.tip[0] + self.u[0] * a - self.u[1] * b, self.tip[1] + self.u[1] * a + self.u[0] * b]
    }

    fn bar(&mut self, a: [f32; 2], ra: f32, b: [f32; 2], rb: f32, color: Rgb) {
        let (from, to) = (self.at(a[0], a[1]), self.at(b[0], b[1]));
        let paint = match self.silhouette {
            Some(color) => Paint { color, gloss: 0.0, alpha: self.alpha, owner: None },
            None => Paint { color, gloss: 0.8, alpha: self.alpha, owner: self.owner },
        };
        self.canvas.capsule(from, (ra * self.size).max(0.7), to, (rb * self.size).max(0.7), paint);
    }
}

/// Draws an instrument with its shadow; `contrast` fades its colour.
pub(super) fn draw_tool(canvas: &mut Canvas, tool: Tool, pose: Pose, contrast: f32) {
    let shift = [0.5 * pose.size, 0.8 * pose.size];
    let below = Pose { tip: add(pose.tip, shift), from: add(pose.from, shift), ..pose };
    let pen = below.pen(canvas, 0.3);
    draw_parts(Pen { silhouette: Some([20.0, 4.0, 8.0]), ..pen }, tool, below, contrast);
    let pen = pose.pen(canvas, 1.0);
    draw_parts(Pen { owner: Some(tool.owner()), ..pen }, tool, pose, contrast);
}

/// Draws the blur of a shaking instrument, which owns no pixel.
pub(super) fn draw_ghost(canvas: &mut Canvas, tool: Tool, pose: Pose, contrast: f32) {
    draw_parts(pose.pen(canvas, 0.35), tool, pose, contrast);
}

fn add(a: [f32; 2], b: [f32; 2]) -> [f32; 2] {
    [a[0] + b[0], a[1] + b[1]]
}

fn draw_parts(mut pen: Pen<'_>, tool: Tool, pose: Pose, contrast: f32) {
    let (_, distance) = pose.axes();
    let end = pose.length.unwrap_or(distance) / pose.size;
    let color = mix(STEEL, tool_color(tool), contrast);
    let light = mix(color, SILVER, 0.35);
    let dark = mix(color, [30.0, 30.0, 40.0], 0.3);
    match tool {
        Tool::Grasper => {
            pen.bar([3.2, 0.0], 1.0, [end, 0.0], 1.0, color);
            pen.bar([3.4, 0.3], 0.7, [0.2, 0.95], 0.4, light);
            pen.bar([3.4, -0.3], 0.7, [0.2, -0.95], 0.4, light);
            pen.bar([3.9, 0.0], 1.15, [4.6, 0.0], 1.15, dark);
        }
        Tool::Hook => {
            pen.bar([4.2, 0.0], 1.0, [end, 0.0], 1.0, color);
            pen.bar([4.0, 0.0], 0.45, [0.6, 0.0], 0.4, light);
            pen.bar([0.6, 0.0], 0.4, [0.0, 1.5], 0.35, light);
            pen.bar([4.0, 0.0], 1.2, [5.4, 0.0], 1.2, dark);
        }
        Tool::Scissors => {
            pen.bar([4.2, 0.0], 1.0, [end, 0.0], 1.0, color);
            pen.bar([4.4, 0.4], 0.6, [0.0, -0.9], 0.2, light);
            pen.bar([4.4, -0.4], 0.6, [0.0, 0.9], 0.2, light);
            pen.bar([3.2, 0.0], 0.65, [3.4, 0.0], 0.65, dark);
        }
        Tool::Clipper => {
            pen.bar([3.4, 0.0], 1.05, [end, 0.0], 1.05, color);
            pen.bar([3.6, 0.75], 0.5, [0.3, 0.75], 0.5, light);
            pen.bar([3.6, -0.75], 0.5, [0.3, -0.75], 0.5, light);
            pen.bar([0.4, 0.7], 0.3, [0.4, -0.7], 0.3, GOLD);
        }
        Tool::NeedleDriver => {
            pen.bar([2.2, 0.0], 1.0, [end, 0.0], 1.0, color);
            pen.bar([2.6, 0.0], 0.85, [0.3, 0.0], 0.55, light);
            let arc: Vec<[f32; 2]> = (0..=8)
                .map(|i| {
                    let angle = -1.2 + 0.42 * i as f32;
                    pen.at(0.4 - 1.9 * angle.cos() + 1.6, 2.1 * angle.sin() - 0.6)
                })
                .collect();
            let color = pen.silhouette.unwrap_or(SILVER);
            let needle = Paint { color, gloss: 0.0, alpha: pen.alpha, owner: pen.owner };
            pen.canvas.polyline(&arc, (0.22 * pose.size).max(0.8), needle);
        }
        Tool::Forceps => {
            pen.bar([end.min(9.0), 0.0], 0.9, [end, 0.0], 0.9, color);
            pen.bar([end.min(9.0), 0.5], 0.55, [0.0, 0.75], 0.3, light);
            pen.bar([end.min(9.0), -0.5], 0.55, [0.0, -0.75], 0.3, light);
        }
        Tool::Knife => {
            let handle = mix(STEEL, [125.0, 70.0, 215.0], contrast);
            pen.bar([4.2, 0.0], 0.95, [end, 0.0], 0.95, handle);
            pen.bar([4.4, 0.0], 0.85, [1.4, 0.15], 0.8, color);
            pen.bar([1.6, 0.15], 0.8, [0.0, -0.5], 0.1, color);
        }
    }
}

/// Draws a gloved hand that holds a tool at `grip` and comes from `from`.
pub(super) fn draw_hand(canvas: &mut Canvas, grip: [f32; 2], from: [f32; 2], size: f32, mirrored: bool) {
    let pose = Pose { tip: grip, from, size, length: None };
    let (_, distance) = pose.axes();
    let side = if mirrored { -1.0 } else { 1.0 };
    let mut pen = Pen { owner: Some(HAND), ..pose.pen(canvas, 1.0) };
    let shade = mix(GLOVE, [150.0, 130.0, 110.0], 0.35);
    let sleeve: Rgb = [70.0, 140.0, 165.0];
    pen.bar([4.6, 0.6 * side], 1.5, [distance / size + 2.0, 0.6 * side], 1.7, sleeve);
    pen.bar([2.8, 0.5 * side], 1.55, [4.6, 0.6 * side], 1.3, GLOVE);
    for (i, reach) in [0.1, -0.3, 0.2, 0.9].into_iter().enumerate() {
        let across = side * (-0.2 + 0.62 * i as f32);
        pen.bar(
            [2.6, across + 0.1 * side],
            0.46,
            [reach + 0.9, across],
            0.40,
            if i % 2 == 0 { GLOVE } else { shade },
        );
        pen.bar([reach + 0.9, across], 0.40, [reach, across - 0.35 * side], 0.32, GLOVE);
    }
    pen.bar([2.8, -0.8 * side], 0.55, [0.5, -0.45 * side], 0.38, GLOVE);
}

/// Owner number of hands: they hide what is behind them but are not asked about.
pub(super) const HAND: Owner = 100;
