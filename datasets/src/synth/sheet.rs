//! The contact sheet: six frames of every source with the true boxes and what is going on.

use std::path::Path;

use image::{RgbImage, imageops};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use super::{
    canvas::Canvas,
    plan::Job,
    scene::Look,
    script::Clip,
    source::{BLEEDING, SOURCES, Scene, SourceSpec},
    tools::tool_color,
    video::frame_boxes,
};
use crate::DatasetError;

const CELL_WIDTH: u32 = 256;
const MAX_CELL_HEIGHT: u32 = 192;
const GAP: u32 = 10;
const CAPTION: u32 = 22;
const NUM_COLUMNS: u32 = 6;
const HEADER: u32 = 24;

const PAPER: [u8; 3] = [18, 20, 26];
const INK: [u8; 3] = [232, 234, 240];
const FAINT: [u8; 3] = [150, 156, 170];

/// Draws the sheet and writes it as PNG.
pub(super) fn write(path: &Path, jobs: &[Job]) -> Result<(), DatasetError> {
    let width = NUM_COLUMNS * (CELL_WIDTH + GAP) + GAP;
    let height: u32 = SOURCES.iter().map(|spec| HEADER + cell_height(spec) + CAPTION + GAP).sum();
    let mut page = RgbImage::from_pixel(width, height + GAP, image::Rgb(PAPER));
    let mut top = GAP;
    for spec in &SOURCES {
        let place = match spec.scene {
            Scene::Laparoscopic => "laparoscopic",
            Scene::Endoscopic => "endoscopic",
            Scene::Open => "open surgery",
            Scene::Bench => "bench-top",
            Scene::Anatomy => "laparoscopic anatomy",
        };
        let tail = format!("{place} - {} x {} px - {} fps", spec.width, spec.height, spec.fps);
        text(&mut page, GAP, top, spec.name, INK, FontWeight::Bold);
        let advance =
            (spec.name.len() as u32 + 2) * get_raster_width(FontWeight::Bold, RasterHeight::Size16) as u32;
        text(&mut page, GAP + advance, top, &tail, FAINT, FontWeight::Regular);
        for (column, (job, clip, frame)) in scenes(spec, jobs).into_iter().enumerate() {
            let left = GAP + column as u32 * (CELL_WIDTH + GAP);
            let canvas = Look::new(spec, job.video.look_seed).draw(spec, clip, frame as f32);
            cell(&mut page, left, top + HEADER, spec, &canvas)?;
            let caption = describe(spec, clip, frame);
            text(&mut page, left, top + HEADER + cell_height(spec) + 3, &caption, FAINT, FontWeight::Regular);
        }
        top += HEADER + cell_height(spec) + CAPTION + GAP;
    }
    page.save(path).map_err(|e| DatasetError::Media { path: path.to_path_buf(), message: e.to_string() })
}

/// As high as a frame of full width, within limits.
fn cell_height(spec: &SourceSpec) -> u32 {
    (CELL_WIDTH * spec.height as u32 / spec.width as u32).min(MAX_CELL_HEIGHT)
}

/// Frames that differ in what happens as much as possible, from as many clips as possible.
fn scenes<'a>(spec: &SourceSpec, jobs: &'a [Job]) -> Vec<(&'a Job, &'a Clip, usize)> {
    let mut candidates = Vec::new();
    for job in jobs.iter().filter(|job| job.spec.name == spec.name) {
        for clip in &job.video.clips {
            candidates.extend(clip.events.iter().map(|event| (job, clip, event.last)));
            candidates
                .extend(clip.bleeding_from.map(|from| (job, clip, (from + 2).min(clip.num_frames - 1))));
            if clip.events.is_empty() {
                candidates.push((job, clip, clip.num_frames / 2));
            }
        }
    }
    let mut chosen: Vec<(&Job, &Clip, usize)> = Vec::new();
    while chosen.len() < NUM_COLUMNS as usize && !candidates.is_empty() {
        let known = |what: &(&Job, &Clip, usize)| {
            let same = |other: &&(&Job, &Clip, usize)| activity(other.1, other.2) == activity(what.1, what.2);
            let near =
                |other: &&(&Job, &Clip, usize)| stage(spec, other.1, other.2) == stage(spec, what.1, what.2);
            let here = |other: &&(&Job, &Clip, usize)| std::ptr::eq(other.1, what.1);
            let count =
                |test: &dyn Fn(&&(&Job, &Clip, usize)) -> bool| chosen.iter().filter(|o| test(o)).count();
            2 * count(&same) + 2 * count(&near) + count(&here)
        };
        let next = candidates.iter().enumerate().min_by_key(|(_, c)| known(c)).map_or(0, |(i, _)| i);
        chosen.push(candidates.remove(next));
    }
    chosen
}

fn activity(clip: &Clip, frame: usize) -> &'static str {
    let event = clip.events.iter().find(|event| event.covers(frame as f32));
    match (event, clip.bleeding_from) {
        (Some(event), _) => event.action.name,
        (None, Some(from)) if frame >= from => BLEEDING,
        _ => "idle",
    }
}

fn stage(spec: &SourceSpec, clip: &Clip, frame: usize) -> String {
    if let Some(a) = clip.anatomy {
        return format!("CVS {} / {} / {}", a.two_structures, a.cystic_plate, a.hepatocystic_triangle);
    }
    if let Some(skill) = clip.skill {
        return format!("skill {}/5", skill.overall());
    }
    let before = clip.switch.is_some_and(|switch| frame < switch);
    spec.phases[clip.phase - usize::from(before)].to_owned()
}

fn describe(spec: &SourceSpec, clip: &Clip, frame: usize) -> String {
    let (seconds, stage) = (frame as f64 / spec.fps, stage(spec, clip, frame));
    if clip.events.is_empty() {
        return format!("{seconds:.0} s {stage}");
    }
    format!("{seconds:.0} s {} - {stage}", activity(clip, frame))
}

fn cell(
    page: &mut RgbImage,
    left: u32,
    top: u32,
    spec: &SourceSpec,
    canvas: &Canvas,
) -> Result<(), DatasetError> {
    let frame =
        RgbImage::from_raw(spec.width as u32, spec.height as u32, canvas.to_rgb8()).ok_or_else(|| {
            DatasetError::File { path: "contact sheet".into(), message: "a frame has the wrong size".into() }
        })?;
    let scale =
        (f64::from(CELL_WIDTH) / spec.width as f64).min(f64::from(cell_height(spec)) / spec.height as f64);
    let (w, h) = ((spec.width as f64 * scale).round() as u32, (spec.height as f64 * scale).round() as u32);
    let large = imageops::resize(&frame, w, h, imageops::FilterType::CatmullRom);
    let (x0, y0) = (left + (CELL_WIDTH - w) / 2, top + (cell_height(spec) - h) / 2);
    imageops::replace(page, &large, i64::from(x0), i64::from(y0));
    for (tool, (bounds, _)) in frame_boxes(canvas) {
        let [x1, y1, x2, y2] = bounds.map(|v| (v as f64 * scale).round() as u32);
        let color = tool_color(tool).map(|v| v as u8);
        for t in 0..2 {
            for x in x1..x2.min(w) {
                page.put_pixel(x0 + x, y0 + (y1 + t).min(h - 1), image::Rgb(color));
                page.put_pixel(x0 + x, y0 + (y2 - 1 - t).min(h - 1), image::Rgb(color));
            }
            for y in y1..y2.min(h) {
                page.put_pixel(x0 + (x1 + t).min(w - 1), y0 + y, image::Rgb(color));
                page.put_pixel(x0 + (x2 - 1 - t).min(w - 1), y0 + y, image::Rgb(color));
            }
        }
        label(page, [x0, y0, w, h], [x1, y1], tool.name(), color);
    }
    Ok(())
}

/// The tool's name on a plate of its colour, inside the frame.
fn label(page: &mut RgbImage, frame: [u32; 4], corner: [u32; 2], name: &str, color: [u8; 3]) {
    let advance = get_raster_width(FontWeight::Bold, RasterHeight::Size16) as u32;
    let width = name.len() as u32 * advance + 4;
    let x = frame[0] + corner[0].min(frame[2].saturating_sub(width));
    let y = frame[1] + if corner[1] >= 16 { corner[1] - 16 } else { corner[1] };
    for py in y..(y + 16).min(frame[1] + frame[3]) {
        for px in x..(x + width).min(frame[0] + frame[2]) {
            page.put_pixel(px, py, image::Rgb(color));
        }
    }
    let bright = color.iter().map(|&v| u32::from(v)).sum::<u32>() > 330;
    text(page, x + 2, y, name, if bright { [10, 10, 14] } else { [255; 3] }, FontWeight::Bold);
}

fn text(page: &mut RgbImage, left: u32, top: u32, line: &str, color: [u8; 3], weight: FontWeight) {
    let mut x = left;
    for letter in line.chars() {
        let Some(raster) = get_raster(letter, weight, RasterHeight::Size16) else {
            continue;
        };
        for (dy, row) in raster.rows().enumerate() {
            for (dx, &ink) in row.iter().enumerate() {
                let (px, py) = (x + dx as u32, top + dy as u32);
                if ink == 0 || px >= page.width() || py >= page.height() {
                    continue;
                }
                let pixel = page.get_pixel_mut(px, py);
                let share = f32::from(ink) / 255.0;
                for (channel, &target) in pixel.0.iter_mut().zip(&color) {
                    *channel = (f32::from(*channel) * (1.0 - share) + f32::from(target) * share) as u8;
                }
            }
        }
        x += raster.width() as u32;
    }
}
