//! The five sources of the practice set: what each shows, how hard it is, and how its records are written.
//!
//! Difficulty is geometry: large, slow, bright tools near the centre at one end, small, fast, pale ones at the other.

/// What kind of place is rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scene {
    Laparoscopic,
    Endoscopic,
    Open,
    Bench,
    /// Laparoscopic view of the hepatocystic anatomy.
    Anatomy,
}

/// An instrument; the discriminant plus one is its owner number on the canvas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tool {
    Grasper,
    Hook,
    Scissors,
    Clipper,
    NeedleDriver,
    Forceps,
    Knife,
}

impl Tool {
    pub(super) const ALL: [Self; 7] = [
        Self::Grasper,
        Self::Hook,
        Self::Scissors,
        Self::Clipper,
        Self::NeedleDriver,
        Self::Forceps,
        Self::Knife,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Grasper => "grasper",
            Self::Hook => "hook",
            Self::Scissors => "scissors",
            Self::Clipper => "clipper",
            Self::NeedleDriver => "needle driver",
            Self::Forceps => "forceps",
            Self::Knife => "knife",
        }
    }

    pub(super) fn owner(self) -> u8 {
        self as u8 + 1
    }
}

/// What an action leaves in the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Smoke while it lasts, then a scorched spot.
    Smoke,
    /// A dark slit.
    Slit,
    /// Metal clips.
    Clips,
    /// A red line.
    Incision,
    /// Blue stitches, with a taut thread while it lasts.
    Stitches,
}

/// Something done with an instrument.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Action {
    /// The label in closed lists.
    pub(super) name: &'static str,
    /// Third person, for sentences.
    pub(super) verb: &'static str,
    pub(super) tool: Tool,
    pub(super) effect: Effect,
}

pub(super) static COAGULATE: Action =
    Action { name: "coagulating", verb: "coagulates", tool: Tool::Hook, effect: Effect::Smoke };
pub(super) static CUT: Action =
    Action { name: "cutting", verb: "cut", tool: Tool::Scissors, effect: Effect::Slit };
pub(super) static CLIP: Action =
    Action { name: "clipping", verb: "clips", tool: Tool::Clipper, effect: Effect::Clips };
pub(super) static INCISE: Action =
    Action { name: "incising", verb: "incises", tool: Tool::Knife, effect: Effect::Incision };
pub(super) static SUTURE: Action =
    Action { name: "suturing", verb: "sutures", tool: Tool::NeedleDriver, effect: Effect::Stitches };

/// The label for blood in the field, asked for like an action.
pub(super) const BLEEDING: &str = "bleeding";

/// Which metadata keys say where the clip lies in its video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Convention {
    /// `input_video_start_frame` and `input_video_end_frame`.
    InputFrames,
    /// `input_video_start_time` and `input_video_end_time`, in seconds.
    InputTimes,
    /// `start_frame` and `end_frame`.
    PlainFrames,
}

/// How `id` is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdStyle {
    /// `fps$video$start$end`
    Dollar,
    /// `video&&start&&end&&fps`
    Ampersand,
}

/// The shape of `struc_info` for events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventShape {
    /// `[[{…}, …]]`
    Nested,
    /// `[{"dc_segments": [{…}, …]}]`
    Segments,
    /// `[{…}, …]`
    Flat,
}

/// Everything that distinguishes one source from another.
pub(super) struct SourceSpec {
    pub(super) name: &'static str,
    /// Start of its video ids.
    pub(super) prefix: &'static str,
    pub(super) scene: Scene,
    pub(super) width: usize,
    pub(super) height: usize,
    /// Sampled frames per second.
    pub(super) fps: f64,
    /// Frames of the video file for each sampled one.
    pub(super) native_stride: usize,
    /// Clip lengths in sampled frames.
    pub(super) clip_frames: &'static [usize],
    pub(super) procedure: &'static str,
    /// What the instruments work on.
    pub(super) target: &'static str,
    /// In the order of the procedure; clips show all but the last.
    pub(super) phases: &'static [&'static str],
    /// Actions that occur in each shown phase; one entry for sources without phases.
    pub(super) actions: &'static [&'static [&'static Action]],
    /// Whether cutting can cause bleeding.
    pub(super) bleeds: bool,
    /// The instrument in view all the time.
    pub(super) steady: Tool,
    /// Half width of a shaft as a share of the frame's height.
    pub(super) tool_size: f32,
    /// Length of hand-held tools as a share of the height; `None` for shafts that enter at the frame's edge.
    pub(super) tool_length: Option<f32>,
    /// 1 for full colours, 0 for steel grey.
    pub(super) contrast: f32,
    /// Radians of the tip's orbit per sampled frame.
    pub(super) speed: f32,
    /// How far tips move about their place, and how far apart those places are, as shares of the frame.
    pub(super) sway: f32,
    pub(super) spread: f32,
    /// Frames by which event bounds are rounded: 2 keeps them on whole temporal patches.
    pub(super) event_unit: usize,
    pub(super) convention: Convention,
    pub(super) id_style: IdStyle,
    pub(super) event_shape: EventShape,
    /// `bbox_dict` keys as `"4.0"` instead of `"4"`.
    pub(super) decimal_keys: bool,
    /// DVC lines carry the action label before the sentence.
    pub(super) labelled_events: bool,
    /// The JPEG frames are decoded from the written video instead of saved from the renderer.
    pub(super) frames_from_video: bool,
}

impl SourceSpec {
    /// The closed list of labels that TAG asks about.
    pub(super) fn action_names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> =
            self.actions.iter().flat_map(|set| set.iter().map(|action| action.name)).collect();
        names.sort_unstable();
        names.dedup();
        if self.bleeds {
            names.push(BLEEDING);
        }
        names
    }

    /// Number of phases a clip can show.
    pub(super) fn num_shown_phases(&self) -> usize {
        self.phases.len().saturating_sub(1)
    }
}

/// The sources, easiest first.
pub(super) static SOURCES: [SourceSpec; 5] = [
    SourceSpec {
        name: "SynthLap",
        prefix: "lap",
        scene: Scene::Laparoscopic,
        width: 96,
        height: 72,
        fps: 1.0,
        native_stride: 4,
        clip_frames: &[8, 10, 12],
        procedure: "gallbladder removal",
        target: "gallbladder",
        phases: &["preparation", "dissection", "clipping-and-cutting", "coagulation", "extraction"],
        actions: &[&[&COAGULATE, &CUT], &[&COAGULATE, &CUT], &[&CLIP, &CUT], &[&COAGULATE, &CLIP]],
        bleeds: true,
        steady: Tool::Grasper,
        tool_size: 0.060,
        tool_length: None,
        contrast: 1.0,
        speed: 0.35,
        sway: 0.05,
        spread: 0.19,
        event_unit: 2,
        convention: Convention::InputFrames,
        id_style: IdStyle::Dollar,
        event_shape: EventShape::Nested,
        decimal_keys: false,
        labelled_events: false,
        frames_from_video: false,
    },
    SourceSpec {
        name: "SynthView",
        prefix: "view",
        scene: Scene::Anatomy,
        width: 96,
        height: 80,
        fps: 1.0,
        native_stride: 2,
        clip_frames: &[8, 10],
        procedure: "gallbladder removal",
        target: "gallbladder",
        phases: &[],
        actions: &[&[]],
        bleeds: false,
        steady: Tool::Grasper,
        tool_size: 0.050,
        tool_length: None,
        contrast: 1.0,
        speed: 0.5,
        sway: 0.06,
        spread: 0.26,
        event_unit: 2,
        convention: Convention::PlainFrames,
        id_style: IdStyle::Ampersand,
        event_shape: EventShape::Flat,
        decimal_keys: true,
        labelled_events: false,
        frames_from_video: false,
    },
    SourceSpec {
        name: "SynthEndo",
        prefix: "endo",
        scene: Scene::Endoscopic,
        width: 96,
        height: 96,
        fps: 0.5,
        native_stride: 4,
        clip_frames: &[8, 10],
        procedure: "submucosal dissection",
        target: "mucosa",
        phases: &["marking", "incision", "dissection", "closure", "retrieval"],
        actions: &[&[&COAGULATE, &INCISE], &[&INCISE, &CLIP], &[&INCISE, &COAGULATE], &[&CLIP, &COAGULATE]],
        bleeds: true,
        steady: Tool::Forceps,
        tool_size: 0.040,
        tool_length: None,
        contrast: 0.9,
        speed: 0.8,
        sway: 0.08,
        spread: 0.26,
        event_unit: 2,
        convention: Convention::InputFrames,
        id_style: IdStyle::Dollar,
        event_shape: EventShape::Flat,
        decimal_keys: false,
        labelled_events: false,
        frames_from_video: true,
    },
    SourceSpec {
        name: "SynthBench",
        prefix: "bench",
        scene: Scene::Bench,
        width: 80,
        height: 60,
        fps: 2.0,
        native_stride: 3,
        clip_frames: &[10, 12],
        procedure: "bench-top suturing",
        target: "pad",
        phases: &[],
        actions: &[&[&SUTURE, &CUT]],
        bleeds: false,
        steady: Tool::Forceps,
        tool_size: 0.042,
        tool_length: None,
        contrast: 0.9,
        speed: 0.6,
        sway: 0.06,
        spread: 0.30,
        event_unit: 2,
        convention: Convention::InputFrames,
        id_style: IdStyle::Ampersand,
        event_shape: EventShape::Nested,
        decimal_keys: false,
        labelled_events: true,
        frames_from_video: false,
    },
    SourceSpec {
        name: "SynthOpen",
        prefix: "open",
        scene: Scene::Open,
        width: 160,
        height: 90,
        fps: 0.5,
        native_stride: 3,
        clip_frames: &[8, 10],
        procedure: "open wound care",
        target: "wound",
        phases: &["incision", "dissection", "hemostasis", "closure", "dressing"],
        actions: &[&[&INCISE, &CUT], &[&CUT, &INCISE], &[&COAGULATE, &CUT], &[&SUTURE, &CUT]],
        bleeds: true,
        steady: Tool::Forceps,
        tool_size: 0.023,
        tool_length: Some(0.27),
        contrast: 0.55,
        speed: 2.3,
        sway: 0.12,
        spread: 0.26,
        event_unit: 1,
        convention: Convention::InputTimes,
        id_style: IdStyle::Ampersand,
        event_shape: EventShape::Segments,
        decimal_keys: false,
        labelled_events: true,
        frames_from_video: false,
    },
];

#[cfg(test)]
mod tests {
    use super::{SOURCES, Tool};

    #[test]
    fn sources_are_complete_and_distinct() {
        for (i, spec) in SOURCES.iter().enumerate() {
            assert!(SOURCES[..i].iter().all(|s| s.name != spec.name && s.prefix != spec.prefix));
            assert_eq!(spec.actions.len(), spec.num_shown_phases().max(1), "{}", spec.name);
            assert!(spec.clip_frames.iter().all(|n| n % 2 == 0 && n % spec.event_unit == 0), "{}", spec.name);
            assert!(spec.width % 2 == 0 && spec.height % 2 == 0, "video encoders want even sides");
            for action in spec.actions.iter().flat_map(|set| set.iter()) {
                assert_ne!(action.tool, spec.steady, "{}: a tool must name one object", spec.name);
            }
        }
        for tool in Tool::ALL {
            let used = SOURCES.iter().any(|s| {
                s.steady == tool
                    || s.actions.iter().flat_map(|set| set.iter()).any(|action| action.tool == tool)
            });
            assert!(used, "{}", tool.name());
        }
    }
}
