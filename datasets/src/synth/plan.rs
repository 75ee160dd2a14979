//! Which videos are rendered, which split each is in, and what the finished set amounts to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    SPLITS, SynthConfig, VERSION,
    script::{Video, video_script},
    source::{SOURCES, SourceSpec},
};
use crate::TaskKind;

/// Fewest clips: every source needs a video in every split.
pub const MIN_CLIPS: usize = 3 * SOURCES.len();

/// A video to render.
pub(super) struct Job {
    pub(super) spec: &'static SourceSpec,
    pub(super) video: Video,
    /// Index into [`SPLITS`].
    pub(super) split: usize,
}

/// The videos of a practice set, source by source.
///
/// Clips are dealt out evenly. Videos have three clips (fewer in small sets); about 15 % of a source's videos, at
/// least one, go to calibration and as many to test. Which ones does not depend on the seed.
pub(super) fn jobs(seed: u64, clips: usize) -> Vec<Job> {
    let mut jobs = Vec::new();
    for (i, spec) in SOURCES.iter().enumerate() {
        let num_clips = clips / SOURCES.len() + usize::from(i < clips % SOURCES.len());
        let per_video = match num_clips {
            ..6 => 1,
            6..30 => 2,
            _ => 3,
        };
        let num_videos = num_clips.div_ceil(per_video);
        let held_out = ((num_videos as f64 * 0.15).round() as usize).max(1);
        for index in 0..num_videos {
            let first_clip = index * per_video;
            let video = video_script(spec, seed, index, first_clip, per_video.min(num_clips - first_clip));
            let from_end = num_videos - 1 - index;
            let split = if from_end < held_out {
                2
            } else if from_end < 2 * held_out {
                1
            } else {
                0
            };
            jobs.push(Job { spec, video, split });
        }
    }
    jobs
}

/// What a practice set holds, as written to [`super::SUMMARY_FILE`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SynthSummary {
    /// [`VERSION`] of the renderer.
    pub version: u32,
    /// The seed it follows from.
    pub seed: u64,
    /// Clips over all sources.
    pub clips: usize,
    /// Videos over all sources.
    pub videos: usize,
    /// By split, in the order train, calibration, test.
    pub splits: Vec<SplitSummary>,
    /// By source, easiest first.
    pub sources: Vec<SourceSummary>,
    /// Whether it was there already.
    #[serde(skip)]
    pub reused: bool,
}

/// One of the three files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SplitSummary {
    /// `train.json`, `calibration.json` or `test.json`.
    pub file: String,
    /// Videos its clips come from; no other split has clips of them.
    pub videos: usize,
    /// Rows.
    pub records: usize,
    /// Rows by task key.
    pub tasks: BTreeMap<String, usize>,
}

/// One source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceSummary {
    /// `data_source` of its records.
    pub name: String,
    /// Width of its frames in pixels.
    pub width: usize,
    /// Height of its frames in pixels.
    pub height: usize,
    /// Sampled frames per second.
    pub fps: f64,
    /// Frames per second of its video files.
    pub video_fps: f64,
    /// Number of videos.
    pub videos: usize,
    /// Number of clips.
    pub clips: usize,
    /// Rows over all splits.
    pub records: usize,
    /// Rows by task key.
    pub tasks: BTreeMap<String, usize>,
}

pub(super) fn summarize(config: &SynthConfig, jobs: &[Job], records: &[Vec<Value>]) -> SynthSummary {
    let of = |keep: &dyn Fn(&Job) -> bool| {
        let chosen: Vec<_> = jobs.iter().zip(records).filter(|(job, _)| keep(job)).collect();
        let videos = chosen.len();
        let clips: usize = chosen.iter().map(|(job, _)| job.video.clips.len()).sum();
        let mut tasks = BTreeMap::new();
        for row in chosen.iter().flat_map(|(_, rows)| rows.iter()) {
            let task =
                row["qa_type"].as_str().and_then(TaskKind::from_qa_type).unwrap_or(TaskKind::OpenQuestion);
            *tasks.entry(task.key().to_owned()).or_insert(0) += 1;
        }
        (videos, clips, tasks)
    };
    let splits = SPLITS.iter().enumerate().map(|(split, name)| {
        let (videos, _, tasks) = of(&|job| job.split == split);
        SplitSummary { file: format!("{name}.json"), videos, records: tasks.values().sum(), tasks }
    });
    let sources = SOURCES.iter().map(|spec| {
        let (videos, clips, tasks) = of(&|job| job.spec.name == spec.name);
        SourceSummary {
            name: spec.name.to_owned(),
            width: spec.width,
            height: spec.height,
            fps: spec.fps,
            video_fps: spec.fps * spec.native_stride as f64,
            videos,
            clips,
            records: tasks.values().sum(),
            tasks,
        }
    });
    SynthSummary {
        version: VERSION,
        seed: config.seed,
        clips: config.clips,
        videos: jobs.len(),
        splits: splits.collect(),
        sources: sources.collect(),
        reused: false,
    }
}
