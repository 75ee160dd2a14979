//! What happens in a video: phases, events, paths of the tools, bleeding, anatomy and skill, drawn from the seed.
//!
//! Times are sampled-frame numbers `k` of the clip; frame `k` is at `k / fps` seconds. An event shows on the frames
//! `first..=last`, so its span is `first / fps` to `last / fps`.

use std::f32::consts::TAU;

use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use super::{
    noise::lattice,
    source::{Action, Effect, Scene, SourceSpec},
};

/// A video: one place and one surgeon, cut into clips that follow each other.
pub(super) struct Video {
    pub(super) id: String,
    /// For textures and grain.
    pub(super) look_seed: u32,
    pub(super) clips: Vec<Clip>,
}

/// A clip of a video.
pub(super) struct Clip {
    /// Sampled frames of the video before this clip.
    pub(super) offset: usize,
    pub(super) num_frames: usize,
    /// Index of the phase at the end; 0 for sources without phases.
    pub(super) phase: usize,
    /// The frame at which `phase` begins, when the clip starts in the phase before it.
    pub(super) switch: Option<usize>,
    /// In time order, apart.
    pub(super) events: Vec<Event>,
    /// First frame with blood; it stays to the end.
    pub(super) bleeding_from: Option<usize>,
    /// Where blood comes from, as shares of the frame.
    pub(super) bleeding_site: [f32; 2],
    pub(super) steady: Path,
    pub(super) anatomy: Option<Anatomy>,
    pub(super) skill: Option<Skill>,
}

/// An action with its time and place.
pub(super) struct Event {
    pub(super) action: &'static Action,
    pub(super) first: usize,
    pub(super) last: usize,
    pub(super) path: Path,
}

/// Exposure of the three components of the critical view of safety, each 0..=2.
#[derive(Clone, Copy)]
pub(super) struct Anatomy {
    pub(super) two_structures: u8,
    pub(super) cystic_plate: u8,
    pub(super) hepatocystic_triangle: u8,
}

/// Skill scores of 1..=5, each readable from the picture: blood, tremor, number and order of stitches.
#[derive(Clone, Copy)]
pub(super) struct Skill {
    pub(super) respect_for_tissue: u8,
    pub(super) needle_handling: u8,
    pub(super) time_and_motion: u8,
    pub(super) final_product: u8,
}

impl Skill {
    /// Smooth hands and few interruptions: between handling and speed, rounded up.
    pub(super) fn flow(self) -> u8 {
        (self.needle_handling + self.time_and_motion).div_ceil(2)
    }

    /// The mean of the four visible scores, rounded half up.
    pub(super) fn overall(self) -> u8 {
        let sum = self.respect_for_tissue + self.needle_handling + self.time_and_motion + self.final_product;
        (sum + 2) / 4
    }
}

/// The way of a tool's tip, as shares of the frame's width and height.
pub(super) struct Path {
    /// Middle of the orbit.
    pub(super) anchor: [f32; 2],
    sway: [f32; 2],
    rate: [f32; 2],
    shift: [f32; 2],
    /// Amplitude of the shaking.
    pub(super) tremor: f32,
    /// Where the shaft comes from.
    pub(super) entry: [f32; 2],
    seed: u32,
}

impl Path {
    /// The tip at frame `k`.
    pub(super) fn tip(&self, k: f32) -> [f32; 2] {
        std::array::from_fn(|axis| {
            let shake = lattice((k * 4.0) as u32, axis as u32, self.seed) * 2.0 - 1.0;
            self.anchor[axis]
                + self.sway[axis] * (self.rate[axis] * k + self.shift[axis]).sin()
                + self.tremor * shake
        })
    }
}

impl Event {
    /// Whether the action shows on frame `k`.
    pub(super) fn covers(&self, k: f32) -> bool {
        k > self.first as f32 - 0.5 && k < self.last as f32 + 0.5
    }

    /// How much of the action's trace is there at `k`: 0 before, 1 from its last frame on.
    pub(super) fn progress(&self, k: f32) -> f32 {
        ((k - self.first as f32 + 1.0) / (self.last - self.first + 1) as f32).clamp(0.0, 1.0)
    }
}

/// Writes the script of one video with `num_clips` clips, the first being clip number `first_clip` of its source.
pub(super) fn video_script(
    spec: &SourceSpec,
    seed: u64,
    index: usize,
    first_clip: usize,
    num_clips: usize,
) -> Video {
    let key = blake3::hash(format!("practice set/{seed}/{}/{index}", spec.name).as_bytes());
    let mut rng = ChaCha8Rng::from_seed(*key.as_bytes());
    let look_seed = rng.random();
    let mut offset = 0;
    let clips = (0..num_clips)
        .map(|i| {
            let clip = clip_script(spec, first_clip + i, offset, &mut rng);
            offset += clip.num_frames;
            clip
        })
        .collect();
    Video { id: format!("{}_{index:04}", spec.prefix), look_seed, clips }
}

fn clip_script(spec: &SourceSpec, ordinal: usize, offset: usize, rng: &mut ChaCha8Rng) -> Clip {
    let num_frames = spec.clip_frames[rng.random_range(0..spec.clip_frames.len())];
    // Phases take turns, so that small sets are balanced too.
    let phase = if spec.phases.is_empty() { 0 } else { ordinal % spec.num_shown_phases() };
    let switch = (phase > 0 && rng.random_bool(0.25)).then(|| num_frames / 4 * 2);
    let skill = (spec.scene == Scene::Bench).then(|| skill_script(ordinal, rng));
    let tremor = skill.map_or(0.0, |s| 0.028 * f32::from(5 - s.needle_handling));
    let events = event_script(spec, phase, num_frames, tremor, rng);
    let wound = events.iter().find(|event| matches!(event.action.effect, Effect::Slit | Effect::Incision));
    let bleeding = wound
        .filter(|_| spec.bleeds && rng.random_bool(0.6))
        .map(|event| (event.last + 1, event.path.anchor))
        .filter(|&(from, _)| from + 2 <= num_frames);
    Clip {
        offset,
        num_frames,
        phase,
        switch,
        events,
        bleeding_from: bleeding.map(|(from, _)| from),
        bleeding_site: bleeding.map_or([0.5; 2], |(_, site)| site),
        steady: path_script(spec, true, tremor, rng),
        anatomy: (spec.scene == Scene::Anatomy).then(|| anatomy_script(ordinal, rng)),
        skill,
    }
}

/// Two components are independent; the triangle leans on their mean, as good dissection exposes all.
fn anatomy_script(ordinal: usize, rng: &mut ChaCha8Rng) -> Anatomy {
    let two_structures = (ordinal % 3) as u8;
    let cystic_plate = rng.random_range(0..=2);
    let hepatocystic_triangle = if rng.random_bool(0.4) { two_structures } else { rng.random_range(0..=2) };
    Anatomy { two_structures, cystic_plate, hepatocystic_triangle }
}

fn skill_script(ordinal: usize, rng: &mut ChaCha8Rng) -> Skill {
    let level = (ordinal % 5) as i8 + 1;
    let mut near = |spread: i8| (level + rng.random_range(-spread..=spread)).clamp(1, 5) as u8;
    Skill {
        time_and_motion: level as u8,
        needle_handling: near(1),
        respect_for_tissue: near(1),
        final_product: near(1),
    }
}

fn event_script(
    spec: &SourceSpec,
    phase: usize,
    num_frames: usize,
    tremor: f32,
    rng: &mut ChaCha8Rng,
) -> Vec<Event> {
    let actions = spec.actions[phase];
    if actions.is_empty() {
        return Vec::new();
    }
    let unit = spec.event_unit;
    let num_units = num_frames / unit;
    let (shortest, longest) = if unit == 1 { (2, 3) } else { (1, 2) };
    let mut lengths = Vec::new();
    let wanted = *[1, 2, 2, 2, 3].choose(rng).expect("the list is not empty");
    let mut used = 0;
    for _ in 0..wanted {
        let length = rng.random_range(shortest..=longest);
        // One free unit between neighbours and one somewhere, so that no event fills the clip.
        if used + length + lengths.len() < num_units {
            used += length;
            lengths.push(length);
        }
    }
    let gaps = lengths.len().saturating_sub(1);
    let mut slack = num_units - used - gaps;
    let mut cursor = 0;
    let first_action = rng.random_range(0..actions.len());
    let mut events = Vec::with_capacity(lengths.len());
    for (i, &length) in lengths.iter().enumerate() {
        let skip = rng.random_range(0..=slack);
        slack -= skip;
        cursor += skip;
        let repeat = rng.random_bool(0.15);
        let action = actions[(first_action + if repeat { 0 } else { i }) % actions.len()];
        let path = path_script(spec, false, tremor, rng);
        events.push(Event { action, first: cursor * unit, last: (cursor + length) * unit - 1, path });
        cursor += length + 1;
    }
    events
}

/// Steady tools work on the left and come from there, the others from the right.
fn path_script(spec: &SourceSpec, steady: bool, tremor: f32, rng: &mut ChaCha8Rng) -> Path {
    let center = match (spec.scene, steady) {
        (Scene::Open, true) => [0.40, 0.50],
        (Scene::Open, false) => [0.60, 0.50],
        (Scene::Anatomy, _) => [0.42, 0.50],
        (_, true) => [0.42, 0.48],
        (_, false) => [0.58, 0.52],
    };
    let anchor = center.map(|c| c + spec.spread * rng.random_range(-1.0f32..1.0));
    let entry = match (spec.scene, steady) {
        (Scene::Endoscopic, true) => [rng.random_range(0.0..0.6), 1.15],
        (Scene::Endoscopic, false) => [rng.random_range(0.4..1.0), 1.15],
        (Scene::Open, true) => [rng.random_range(-0.1..0.1), 1.2],
        (Scene::Open, false) => [rng.random_range(0.9..1.1), 1.2],
        (Scene::Anatomy, _) => [1.15, rng.random_range(0.1..0.9)],
        (Scene::Laparoscopic, true) => [-0.15, rng.random_range(0.4..1.0)],
        (Scene::Laparoscopic, false) => [1.15, rng.random_range(0.4..1.0)],
        (_, true) => [-0.15, rng.random_range(0.1..1.0)],
        (_, false) => [1.15, rng.random_range(0.1..1.0)],
    };
    let reach = if steady { spec.sway } else { spec.sway * 0.5 };
    Path {
        anchor,
        sway: [reach, reach],
        rate: [spec.speed * rng.random_range(0.8..1.2), spec.speed * rng.random_range(0.8..1.2)],
        shift: [rng.random_range(0.0..TAU), rng.random_range(0.0..TAU)],
        tremor,
        entry,
        seed: rng.random(),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::source::SOURCES, video_script};

    #[test]
    fn events_are_inside_apart_and_on_the_grid() {
        for spec in &SOURCES {
            for index in 0..60 {
                for clip in video_script(spec, 9, index, index * 2, 2).clips {
                    let mut free_from = 0;
                    for event in &clip.events {
                        assert!(
                            event.first >= free_from && event.first < event.last,
                            "{} {index}",
                            spec.name
                        );
                        assert!(event.last < clip.num_frames);
                        assert_eq!(event.first % spec.event_unit, 0);
                        assert_eq!((event.last + 1) % spec.event_unit, 0);
                        free_from = event.last + 2;
                    }
                    assert_eq!(clip.events.is_empty(), spec.actions[clip.phase].is_empty());
                    if let Some(from) = clip.bleeding_from {
                        assert!(from < clip.num_frames && clip.events.iter().any(|e| e.last + 1 == from));
                    }
                }
            }
        }
    }

    #[test]
    fn a_video_depends_on_its_seed_and_number_only() {
        let spec = &SOURCES[0];
        let tips = |seed, index| {
            let video = video_script(spec, seed, index, 0, 2);
            video.clips.iter().map(|c| c.steady.tip(3.0)).collect::<Vec<_>>()
        };
        assert_eq!(tips(1, 4), tips(1, 4));
        assert_ne!(tips(1, 4), tips(2, 4));
        assert_ne!(tips(1, 4), tips(1, 5));
    }
}
