//! The practice set as a whole: the same for the same seed, readable, exact, and not solved by a constant.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;

use super::{
    SPLITS, SynthConfig, SynthSummary,
    plan::{Job, jobs},
    records::video_records,
    render,
    scene::Look,
    source::SOURCES,
    video::frame_boxes,
};
use crate::{Content, Dataset, Frames, Gold, MedVidBenchFile, TaskSample, medvidbench::MediaCheck};

fn config(dir: &Path, seed: u64, clips: usize) -> SynthConfig {
    SynthConfig { out_dir: dir.join("set"), seed, clips }
}

fn render_with(threads: usize, config: &SynthConfig) -> SynthSummary {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| render(config, &|done, total| assert!(done <= total))).unwrap()
}

/// Every file below a folder with the hash of its bytes.
fn hashes(root: &Path) -> BTreeMap<String, blake3::Hash> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                found.insert(name, blake3::hash(&fs::read(path).unwrap()));
            }
        }
    }
    found
}

#[test]
fn one_seed_gives_one_set_on_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let (one, four, other) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("c"));
    render_with(1, &config(&one, 5, 15));
    render_with(4, &config(&four, 5, 15));
    render_with(2, &config(&other, 6, 15));
    let (a, b, c) = (hashes(&one.join("set")), hashes(&four.join("set")), hashes(&other.join("set")));
    assert!(a.len() > 15 * 8, "{} files", a.len());
    assert_eq!(a, b);
    for name in ["train.json", "calibration.json", "test.json", "contact_sheet.png"] {
        assert_ne!(a[name], c[name], "{name}");
    }
    let frame = "data/SynthLap/lap_0000/000000.jpg";
    assert_ne!(a[frame], c[frame]);
}

#[test]
fn a_complete_set_is_kept_and_anything_else_refused() {
    let dir = tempfile::tempdir().unwrap();
    let wanted = config(dir.path(), 5, 15);
    let first = render(&wanted, &|_, _| {}).unwrap();
    assert!(!first.reused);
    let before = hashes(&wanted.out_dir);
    let again = render(&wanted, &|_, _| {}).unwrap();
    assert!(again.reused);
    assert_eq!(SynthSummary { reused: false, ..again }, first);
    let error = render(&SynthConfig { seed: 6, ..wanted.clone() }, &|_, _| {}).unwrap_err().to_string();
    assert!(error.contains("another practice set") && error.contains("seed 5"), "{error}");
    assert_eq!(hashes(&wanted.out_dir), before);
    fs::remove_file(wanted.out_dir.join("practice.json")).unwrap();
    let error = render(&wanted, &|_, _| {}).unwrap_err().to_string();
    assert!(error.contains("no practice.json"), "{error}");
    let error = render(&SynthConfig { clips: 14, ..wanted }, &|_, _| {}).unwrap_err().to_string();
    assert!(error.contains("at least 15"), "{error}");
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["set"], "nothing half-written stays");
}

/// The records of a set without its media.
fn records(seed: u64, clips: usize) -> Vec<(Job, Vec<Value>)> {
    let with_records = |job: Job| {
        let look = Look::new(job.spec, job.video.look_seed);
        let mut boxes = Vec::new();
        for clip in &job.video.clips {
            boxes.extend((0..clip.num_frames).map(|k| frame_boxes(&look.draw(job.spec, clip, k as f32))));
        }
        let rows = video_records(job.spec, &job.video, &boxes, job.split == 0, seed);
        (job, rows)
    };
    jobs(seed, clips).into_iter().map(with_records).collect()
}

fn text<'a>(row: &'a Value, keys: &[&str]) -> &'a str {
    keys.iter().fold(row, |value, key| &value[*key]).as_str().unwrap()
}

fn answer(row: &Value) -> &str {
    row["conversations"][1]["value"].as_str().unwrap()
}

fn numbers(list: &str) -> Vec<f64> {
    list.split(|c: char| !c.is_ascii_digit() && c != '.').filter_map(|n| n.parse().ok()).collect()
}

#[test]
fn truth_lies_inside_clip_and_frame_and_agrees_with_the_answer() {
    for (job, rows) in records(3, 60) {
        let spec = job.spec;
        for row in rows {
            let what = format!("{} {}", text(&row, &["id"]), answer(&row));
            assert!(row["conversations"][0]["value"].as_str().unwrap().starts_with("<video>\n"), "{what}");
            assert!(row["metadata"].as_object().unwrap().values().all(Value::is_string), "{what}");
            let paths = row["video"].as_array().unwrap();
            assert!((4..=12).contains(&paths.len()), "{what}");
            let last_sec = (paths.len() - 1) as f64 / spec.fps;
            let info = &row["struc_info"][0];
            match text(&row, &["qa_type"]) {
                "tal" => {
                    let spans = info["spans"].as_array().unwrap();
                    let gold: Vec<f64> = spans
                        .iter()
                        .flat_map(|s| [s["start"].as_f64().unwrap(), s["end"].as_f64().unwrap()])
                        .collect();
                    assert!(gold.chunks(2).all(|s| 0.0 <= s[0] && s[0] < s[1] && s[1] <= last_sec), "{what}");
                    let written = answer(&row).strip_suffix(" seconds.").unwrap();
                    assert_eq!(numbers(written), gold, "{what}");
                    assert_eq!(written.matches('-').count(), spans.len());
                }
                "stg" => {
                    let boxes = info["bbox_dict"].as_object().unwrap();
                    assert!((1..=3).contains(&boxes.len()), "{what}");
                    let mut written = Vec::new();
                    for (key, corners) in boxes {
                        let time: f64 = key.parse().unwrap();
                        let start = info["start"].as_f64().unwrap();
                        assert!(
                            time >= start && time <= info["end"].as_f64().unwrap() && time <= last_sec,
                            "{what}"
                        );
                        assert_eq!((time - start) % info["stride"].as_f64().unwrap(), 0.0, "{what}");
                        let b: Vec<f64> =
                            corners.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
                        assert!(b[0] >= 0.0 && b[0] < b[2] && b[2] <= spec.width as f64, "{what}");
                        assert!(b[1] >= 0.0 && b[1] < b[3] && b[3] <= spec.height as f64, "{what}");
                        written.push(format!(
                            "{time:.1} seconds: [{:.1}, {:.1}, {:.1}, {:.1}]",
                            b[0], b[1], b[2], b[3]
                        ));
                    }
                    assert_eq!(answer(&row), written.join(" "));
                }
                "dense_captioning_gpt" | "dense_captioning_gemini" => {
                    let mut clock = -1.0;
                    for line in answer(&row).lines() {
                        let (times, caption) = line.split_once(" seconds: ").unwrap();
                        let times = numbers(times);
                        assert!(times[0] > clock && times[0] < times[1] && times[1] <= last_sec, "{what}");
                        clock = times[1];
                        assert!(caption.ends_with('.'), "{what}");
                    }
                }
                "region_caption_gpt" | "region_caption_gemini" => {
                    assert_eq!(row["is_RC"], true);
                    assert!(paths.contains(&row["RC_info"]["start_frame"]), "{what}");
                }
                "next_action" => assert!(spec.phases[1..].contains(&answer(&row)), "{what}"),
                "cvs_assessment" => assert!(numbers(answer(&row)).iter().all(|&v| v <= 2.0), "{what}"),
                "skill_assessment" => {
                    assert_eq!(answer(&row).matches("/5").count(), 6);
                    assert!(
                        info["skill_scores"]
                            .as_object()
                            .unwrap()
                            .values()
                            .all(|v| (1..=5).contains(&v.as_i64().unwrap()))
                    );
                }
                "video_summary_gpt" | "video_summary_gemini" => {
                    assert!(answer(&row).ends_with('.'), "{what}");
                }
                other => panic!("{other}"),
            }
        }
    }
}

#[test]
fn splits_share_no_video_and_every_source_is_in_each() {
    for clips in [15, 23, 100] {
        let mut home = BTreeMap::new();
        let mut cover = BTreeSet::new();
        let mut num_clips = 0;
        for job in jobs(1, clips) {
            num_clips += job.video.clips.len();
            assert!(home.insert(job.video.id.clone(), job.split).is_none(), "{} twice", job.video.id);
            cover.insert((job.spec.name, job.split));
        }
        assert_eq!(num_clips, clips);
        assert_eq!(cover.len(), SOURCES.len() * SPLITS.len());
    }
}

fn span_iou(a: &[f64], b: &[f64]) -> f64 {
    ((a[1].min(b[1]) - a[0].max(b[0])) / (a[1].max(b[1]) - a[0].min(b[0]))).max(0.0)
}

fn box_iou(a: &[f64], b: &[f64]) -> f64 {
    let inter = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0) * (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)
}

/// Share of words two texts have in common, as F1.
fn word_f1(a: &str, b: &str) -> f64 {
    let bag = |t: &str| {
        let mut words = BTreeMap::new();
        t.split_whitespace().for_each(|w| *words.entry(w.to_owned()).or_insert(0usize) += 1);
        words
    };
    let (a, b) = (bag(a), bag(b));
    let common: usize = a.iter().map(|(w, n)| *n.min(b.get(w).unwrap_or(&0))).sum();
    2.0 * common as f64 / (a.values().sum::<usize>() + b.values().sum::<usize>()) as f64
}

fn events(answer: &str) -> Vec<Vec<f64>> {
    answer.lines().map(|line| numbers(line.split_once(" seconds").unwrap().0)).collect()
}

/// F1 of events that overlap by more than .3, .5 and .7, averaged over the three as the benchmark does.
fn event_f1(gold: &[Vec<f64>], guess: &[Vec<f64>]) -> f64 {
    let share = |of: &[Vec<f64>], by: &[Vec<f64>]| {
        let hits =
            [0.3, 0.5, 0.7].map(|t| of.iter().filter(|a| by.iter().any(|b| span_iou(a, b) > t)).count());
        hits.iter().sum::<usize>() as f64 / (3 * of.len()) as f64
    };
    let (precision, recall) = (share(guess, gold), share(gold, guess));
    if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 }
}

fn boxes(row: &Value) -> Vec<Vec<f64>> {
    let dict = row["struc_info"][0]["bbox_dict"].as_object().unwrap();
    dict.values().map(|b| b.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()).collect()
}

/// The score of the best constant answer: STG by the median box, everything else by trying the answers that occur.
fn constant_score(task: &str, rows: &[Value]) -> f64 {
    let mean = |score: &dyn Fn(&str) -> f64| {
        rows.iter().map(|row| score(answer(row))).sum::<f64>() / rows.len() as f64
    };
    if task == "stg" {
        let all: Vec<Vec<f64>> = rows.iter().flat_map(boxes).collect();
        let median: Vec<f64> = (0..4)
            .map(|axis| {
                let mut values: Vec<f64> = all.iter().map(|b| b[axis]).collect();
                values.sort_by(f64::total_cmp);
                values[values.len() / 2]
            })
            .collect();
        return all.iter().map(|b| box_iou(b, &median)).sum::<f64>() / all.len() as f64;
    }
    if task == "cvs" || task == "sa" {
        let parts = answer(&rows[0]).split(", ").count();
        let best_of = |part: usize| {
            let mut counts = BTreeMap::new();
            rows.iter().for_each(|r| {
                *counts.entry(answer(r).split(", ").nth(part).unwrap()).or_insert(0usize) += 1;
            });
            *counts.values().max().unwrap() as f64 / rows.len() as f64
        };
        return (0..parts).map(best_of).sum::<f64>() / parts as f64;
    }
    let candidates: BTreeSet<&str> = rows.iter().map(answer).collect();
    let score = |candidate: &str| match task {
        "nap" => mean(&|gold| f64::from(gold == candidate)),
        "tag" => {
            let guess = numbers(candidate);
            mean(&|gold| {
                let gold = numbers(gold.strip_suffix(" seconds.").unwrap());
                let hits: Vec<f64> = gold
                    .chunks(2)
                    .map(|g| guess.chunks(2).map(|p| span_iou(p, g)).fold(0.0, f64::max))
                    .filter(|&iou| iou >= 0.3)
                    .collect();
                if hits.is_empty() { 0.0 } else { hits.iter().sum::<f64>() / hits.len() as f64 }
            })
        }
        "dvc" => mean(&|gold| event_f1(&events(gold), &events(candidate))),
        _ => mean(&|gold| word_f1(gold, candidate)),
    };
    candidates.into_iter().take(60).map(score).fold(0.0, f64::max)
}

#[test]
fn a_constant_answer_does_badly_and_sources_differ_in_difficulty() {
    let mut groups: BTreeMap<(String, &str), Vec<Value>> = BTreeMap::new();
    for (job, rows) in records(2, 120) {
        for row in rows {
            let task = crate::TaskKind::from_qa_type(text(&row, &["qa_type"])).unwrap().key();
            groups.entry((task.to_owned(), job.spec.name)).or_default().push(row);
        }
    }
    for ((task, source), rows) in &groups {
        let score = constant_score(task, rows);
        let bound = match task.as_str() {
            "stg" | "tag" | "cvs" => 0.50,
            "nap" => 0.40,
            "sa" => 0.35,
            "dvc" => 0.45,
            // Sentences share most of their words; what the clip decides is in the others.
            _ => 0.85,
        };
        println!("{task:4} {source:10} {:4} rows  constant {score:.3}", rows.len());
        assert!(score < bound, "{task} {source}: {score}");
    }
    // What a reader gets who knows where each tool usually is, but not where it is now: the floor of STG rewards.
    let mut floor = BTreeMap::new();
    for spec in &SOURCES {
        let mut by_tool: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for row in &groups[&("stg".to_owned(), spec.name)] {
            by_tool.entry(row["struc_info"][0]["object"].as_str().unwrap()).or_default().push(row.clone());
        }
        let num_rows = |rows: &Vec<Value>| rows.len() as f64;
        let total: f64 = by_tool.values().map(num_rows).sum();
        let score =
            by_tool.values().map(|rows| constant_score("stg", rows) * num_rows(rows)).sum::<f64>() / total;
        let areas: Vec<f64> =
            by_tool.values().flatten().flat_map(boxes).map(|b| (b[2] - b[0]) * (b[3] - b[1])).collect();
        let share = areas.iter().sum::<f64>() / areas.len() as f64 / (spec.width * spec.height) as f64;
        println!("stg  {:10} box share {share:.3}  constant by tool {score:.3}", spec.name);
        floor.insert(spec.name, score);
    }
    assert!(floor["SynthLap"] > 0.35 && floor["SynthOpen"] < 0.2, "{floor:?}");
}

#[test]
fn the_reader_takes_every_row_with_its_media() {
    let dir = tempfile::tempdir().unwrap();
    let wanted = config(dir.path(), 4, 15);
    let summary = render(&wanted, &|_, _| {}).unwrap();
    let mut kinds = BTreeSet::new();
    for split in &summary.splits {
        let file = MedVidBenchFile::open(wanted.out_dir.join(&split.file), &wanted.out_dir).unwrap();
        assert_eq!(file.len(), split.records);
        assert_eq!(file.check(MediaCheck::Headers).len(), 0, "{:?}", file.check(MediaCheck::Headers).first());
        for (_, sample) in file.iter() {
            let sample = sample.unwrap();
            assert!(!matches!(sample.gold, Gold::Hidden), "{}", sample.id);
            kinds.insert(sample.task);
            for path in &media(&sample).0 {
                let size = image::image_dimensions(path).unwrap();
                let spec = SOURCES.iter().find(|spec| spec.name == sample.source.as_str()).unwrap();
                assert_eq!(size, (spec.width as u32, spec.height as u32));
                assert_eq!(sample.fps, spec.fps);
            }
            assert_eq!(media(&sample).1, sample.task == crate::TaskKind::RegionCaption);
        }
    }
    assert_eq!(kinds.len(), 8);
}

/// The frame files of a sample and whether a region is marked.
fn media(sample: &TaskSample) -> (Vec<std::path::PathBuf>, bool) {
    for content in sample.prompt.iter().flat_map(|message| &message.content) {
        if let Content::Video(video) = content
            && let Frames::Files { paths, .. } = &video.frames
        {
            return (paths.clone(), video.region.is_some());
        }
    }
    panic!("{} shows no frames", sample.id)
}
