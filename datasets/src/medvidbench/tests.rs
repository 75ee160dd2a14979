//! Records as they are in the wild, read from files.

use std::{io::Write, path::Path};

use serde_json::{Value, json};

use super::{IndexOrigin, MedVidBenchFile, MediaCheck};
use crate::{
    Content, Dataset, Frames, Gold, OnBadRow, Region, Role, SourceId, Span, TaskKind, TaskSample, Usable,
};

/// A record with everything that is common; `changes` replaces keys, and a null takes one away.
fn record(changes: Value) -> Value {
    let mut record = json!({
        "sampled_video_frames": [260, 262, 263],
        "video": ["data/CoPESD/014014/0260.jpg", "data/CoPESD/014014/0262.jpg", "data/CoPESD/014014/0263.jpg"],
        "conversations": [
            {"from": "human", "value": "<video>\nWhen does the cutting happen?"},
            {"from": "gpt", "value": "20.7-55.7, 66.0-66.0 seconds."}
        ],
        "id": "0.5$014014_part0$260$547", "train": true,
        "data_source": "CoPESD", "dataset_name": "CoPESD", "qa_type": "tal",
        "metadata": {"video_id": "014014", "fps": "0.5", "input_video_start_frame": "260", "input_video_end_frame": "546"},
        "is_RC": false, "RC_info": null,
        "struc_info": [{"action": "cutting", "spans": [{"start": 20.7, "end": 55.7}, {"start": 66.0, "end": 66.0}]}]
    });
    let Value::Object(changes) = changes else { panic!("changes are an object") };
    for (key, value) in changes {
        match value {
            Value::Null => drop(record.as_object_mut().unwrap().shift_remove(&key)),
            value => record[key] = value,
        }
    }
    record
}

fn question(text: &str, answer: Option<&str>) -> Value {
    let mut turns = vec![json!({"from": "human", "value": format!("<video>\n{text}")})];
    turns.extend(answer.map(|answer| json!({"from": "gpt", "value": answer})));
    turns.into()
}

fn read(record: &Value) -> Result<TaskSample, String> {
    let record = super::schema::Record::from_slice(record.to_string().as_bytes())?;
    super::convert(record, 3, Path::new("/media"))
}

fn good(changes: Value) -> TaskSample {
    read(&record(changes)).unwrap()
}

fn reason(changes: Value) -> String {
    read(&record(changes)).expect_err("the record is bad")
}

#[test]
fn a_whole_record() {
    let sample = good(json!({}));
    assert_eq!((sample.row, sample.id.as_str(), sample.fps), (3, "0.5$014014_part0$260$547", 0.5));
    assert_eq!((sample.source, sample.task), (SourceId::from("CoPESD"), TaskKind::Tag));
    assert_eq!((sample.qa_type.as_str(), sample.video_id.as_str()), ("tal", "014014"));
    assert_eq!(sample.answer.as_deref(), Some("20.7-55.7, 66.0-66.0 seconds."));
    let [message] = sample.prompt.as_slice() else { panic!("one turn") };
    assert_eq!(message.role, Role::User);
    let [Content::Video(clip), Content::Text(text)] = message.content.as_slice() else {
        panic!("clip, then text")
    };
    assert_eq!(text, "When does the cutting happen?");
    let Frames::Files { paths, fps } = &clip.frames else { panic!("files") };
    assert_eq!(
        (paths.len(), paths[1].to_str().unwrap(), *fps),
        (3, "/media/data/CoPESD/014014/0262.jpg", 0.5)
    );
    assert_eq!(clip.region, None);
    let spans = vec![Span { start_sec: 20.7, end_sec: 55.7 }, Span { start_sec: 66.0, end_sec: 66.0 }];
    assert_eq!(sample.gold, Gold::Spans(spans));
}

#[test]
fn every_variant_of_the_tasks_is_read() {
    let cases = [
        ("stg", "66.0 seconds: [117.54, 339.56, 626.88, 1005.62]", TaskKind::Stg),
        ("dense_captioning_gpt", "0.0-10.0 seconds: suturing: One.", TaskKind::DenseCaptioning),
        ("dense_captioning_gemini", "0.0-10.0 seconds: One.", TaskKind::DenseCaptioning),
        ("dc", "0.0-10.0 seconds: One.", TaskKind::DenseCaptioning),
        ("next_action", "tying", TaskKind::NextAction),
        ("cvs_assessment", "Two structures: 0, Cystic plate: 0, Hepatocystic triangle: 0", TaskKind::Cvs),
        ("video_summary_gpt", "A summary.", TaskKind::VideoSummary),
        ("video_summary_gemini", "A summary.", TaskKind::VideoSummary),
        ("skill_assessment", "Respect for tissue: 4/5, Time and motion: 3/5", TaskKind::SkillAssessment),
    ];
    for (qa_type, answer, task) in cases {
        // The truth of each can be had from its answer.
        let sample = good(json!({
            "qa_type": qa_type, "struc_info": [], "conversations": question("?", Some(answer))
        }));
        assert_eq!((sample.task, sample.qa_type.as_str()), (task, qa_type));
        assert_ne!(sample.gold, Gold::Hidden, "{qa_type}");
        // Test records hold neither answer nor truth.
        let hidden =
            good(json!({"qa_type": qa_type, "struc_info": [], "conversations": question("?", None)}));
        assert_eq!((hidden.answer, hidden.gold), (None, Gold::Hidden), "{qa_type}");
    }
    assert!(reason(json!({"qa_type": "tal2"})).contains("qa_type \"tal2\""));
}

#[test]
fn both_ids_three_stretches_and_numbers_as_either() {
    let nurvid = good(json!({
        "id": "08_3_part12&&12.5&&90.0&&2.0", "data_source": "", "dataset_name": "NurViD",
        "metadata": {"fps": 2, "input_video_start_time": 12.5, "input_video_end_time": "90.0"}
    }));
    assert_eq!((nurvid.video_id.as_str(), nurvid.source.as_str(), nurvid.fps), ("08_3", "NurViD", 2.0));
    let dollar = good(json!({"metadata": {"fps": "1.0", "start_frame": "260", "end_frame": 546}}));
    assert_eq!(dollar.video_id, "014014");
    let number = good(json!({"id": 17, "metadata": {"fps": "1", "video_id": 5}, "data_source": "Unknown"}));
    assert_eq!((number.id.as_str(), number.video_id.as_str(), number.source.as_str()), ("17", "5", "CoPESD"));
    assert_eq!(good(json!({"id": null})).id, "row 3");
    assert!(reason(json!({"id": "x", "metadata": {"fps": "1"}})).contains("video_id is missing"));
    assert!(reason(json!({"data_source": null, "dataset_name": "Unknown"})).contains("data_source"));
}

#[test]
fn a_rate_that_is_none_names_the_key() {
    for fps in [json!("0"), json!("abc"), json!(-1), json!("nan"), json!(""), json!("inf"), json!(0.0)] {
        let reason = reason(json!({"metadata": {"video_id": "v", "fps": fps}}));
        assert!(reason.starts_with("metadata.fps is \"") && reason.contains("above 0"), "{reason}");
    }
    assert_eq!(reason(json!({"metadata": {"video_id": "v"}})), "metadata.fps is missing");
    assert!(reason(json!({"metadata": {"video_id": "v", "fps": null}})).contains("metadata.fps is missing"));
}

fn region_caption(changes: &Value) -> Value {
    let mut record = record(json!({
        "qa_type": "region_caption_gpt",
        "conversations": question("Describe the object inside the bounding box at 4.0 seconds.", Some("It cuts.")),
        "is_RC": true,
        "RC_info": {"start_frame": "data/CoPESD/014014/0263.jpg", "start_frame_bbox": [1256, 392.5, "1850", 1079.0]},
        "struc_info": [{"question": "?", "struc_info": {
            "start": 4, "end": 6, "object": "knife", "start_frame": 262, "start_frame_bbox": [1, 2, 3, 4], "phase_info": null
        }}]
    }));
    for (key, value) in changes.as_object().unwrap() {
        record[key] = value.clone();
    }
    record
}

#[test]
fn the_drawn_box_finds_its_frame() {
    let region = |changes: Value| {
        let sample = read(&region_caption(&changes)).unwrap();
        assert_eq!(sample.gold, Gold::Text("It cuts.".into()));
        let Content::Video(clip) = &sample.prompt[0].content[0] else { panic!("a clip") };
        clip.region.unwrap()
    };
    let drawn = Region { frame_index: 2, box_xyxy: [1256.0, 392.5, 1850.0, 1079.0] };
    assert_eq!(region(json!({})), drawn);
    // Releases differ in their leading folders.
    let corners = json!([1256, 392.5, 1850, 1079]);
    let moved = json!({"start_frame": "testdata/014014/0263.jpg", "start_frame_bbox": corners});
    assert_eq!(region(json!({"RC_info": moved})), drawn);
    // A number is one of the sampled frames.
    assert_eq!(region(json!({"RC_info": {"start_frame": 260, "start_frame_bbox": corners}})).frame_index, 0);
    // The truth has the box too, bare or under struc_info.
    assert_eq!(region(json!({"RC_info": null})), Region { frame_index: 1, box_xyxy: [1.0, 2.0, 3.0, 4.0] });
    let bare = json!([{"start_frame": "260", "start_frame_bbox": [1, 2, 3, 4]}]);
    assert_eq!(region(json!({"RC_info": null, "struc_info": bare})).frame_index, 0);
    // A frame may stand in the list twice: the first is meant.
    let twice = json!(["a/0.jpg", "data/CoPESD/014014/0263.jpg", "data/CoPESD/014014/0263.jpg"]);
    assert_eq!(region(json!({"video": twice})).frame_index, 1);
}

#[test]
fn a_box_that_cannot_be_drawn_is_refused() {
    let reason = |changes: Value| read(&region_caption(&changes)).expect_err("the box is bad");
    let info =
        |frame: &str, corners: Value| json!({"RC_info": {"start_frame": frame, "start_frame_bbox": corners}});
    let frame = "data/CoPESD/014014/0260.jpg";
    assert!(
        reason(info(frame, json!([5, 5, 5, 9])))
            .contains("RC_info.start_frame_bbox is [5,5,5,9], which has no area")
    );
    assert!(reason(info(frame, json!([-5, 5, 6, 9]))).contains("outside the frame"));
    assert!(reason(info(frame, json!([5, 6, 9]))).contains("four numbers"));
    assert!(
        reason(json!({"RC_info": {"start_frame": frame}, "struc_info": []}))
            .contains("start_frame_bbox is missing")
    );
    let gone =
        json!({"RC_info": {"start_frame": "x/9.jpg", "start_frame_bbox": [1, 2, 3, 4]}, "struc_info": []});
    assert!(reason(gone).contains("\"x/9.jpg\" is no frame of the clip"));
    assert!(reason(json!({"is_RC": false})).contains("nothing says which box"));
    assert!(reason(json!({"video": "clip.mp4"})).contains("RC_info"));
}

#[test]
fn turns_and_the_place_of_the_clip() {
    let human = |value: &str| json!({"from": "human", "value": value});
    let gpt = |value: &str| json!({"from": "gpt", "value": value});
    let several = good(json!({"conversations": [
        {"from": "system", "value": "Be brief."}, human("Look:\n<video>\nWhich tool?"), gpt("A knife."), human("When?"), gpt("1.0-2.0 seconds.")
    ]}));
    let roles: Vec<Role> = several.prompt.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::User]);
    assert!(matches!(
        several.prompt[1].content.as_slice(),
        [Content::Text(before), Content::Video(_), Content::Text(after)] if before == "Look:\n" && after == "Which tool?"
    ));
    assert_eq!(several.answer.as_deref(), Some("1.0-2.0 seconds."));
    let unmarked = good(json!({"conversations": [human("When?"), gpt("1.0-2.0 seconds.")]}));
    assert!(
        matches!(unmarked.prompt[0].content.as_slice(), [Content::Video(_), Content::Text(text)] if text == "When?")
    );
    assert_eq!(good(json!({"conversations": [human("<video>\nWhen?"), gpt(" ")]})).answer, None);

    assert!(reason(json!({"conversations": []})).contains("no question"));
    assert!(
        reason(json!({"conversations": [human("<video>\n"), gpt("x")]}))
            .contains("conversations[0] has no text")
    );
    assert!(reason(json!({"conversations": [human("<video><video>?"), gpt("x")]})).contains("2 times"));
    assert!(
        reason(json!({"conversations": [human("<video>?"), gpt("a"), gpt("b")]})).contains("not the human's")
    );
    assert!(
        reason(json!({"conversations": [{"from": "robot", "value": "?"}]})).contains("from is \"robot\"")
    );
}

#[test]
fn paths_stay_inside_the_media_root() {
    let path = |file: &str| {
        let sample = good(json!({"video": [file]}));
        let Content::Video(clip) = &sample.prompt[0].content[0] else { panic!("a clip") };
        match &clip.frames {
            Frames::Files { paths, .. } => paths[0].clone(),
            Frames::Video { path, .. } => path.clone(),
        }
    };
    assert_eq!(path("a/../b.jpg"), Path::new("/media/a/../b.jpg"));
    assert_eq!(path("/media/a.jpg"), Path::new("/media/a.jpg"));
    assert_eq!(path("a.MP4"), Path::new("/media/a.MP4"));
    for outside in ["../a.jpg", "a/../../b.jpg", "/etc/passwd", "/media/../etc/passwd", "", "a\u{0}.jpg"] {
        let reason = reason(json!({"video": ["ok.jpg", outside]}));
        assert!(reason.starts_with("video[1]: "), "{reason}");
    }
    assert!(reason(json!({"video": []})).contains("no frames"));
    assert!(reason(json!({"video": ["a.jpg", "b.mp4"]})).contains("among frames"));
    assert!(reason(json!({"video": 5})).contains("video: expected a list of frame files"));
}

#[test]
fn a_file_with_bad_rows_stays_readable_and_lists_them_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.json");
    let mut file = std::fs::File::create(&path).unwrap();
    let good = record(json!({}));
    write!(file, "[{good},\n{},\n{{\"id\": \"", record(json!({"metadata": {"video_id": "v", "fps": "0"}})))
        .unwrap();
    file.write_all(b"\xff\xfe\"}, ").unwrap();
    write!(file, "{{\"id\": }}, 5, {good}]").unwrap();
    let data = MedVidBenchFile::open(&path, folder.path()).unwrap();
    assert_eq!(data.len(), 6);
    let problems = data.check(MediaCheck::Skip);
    assert_eq!(problems.iter().map(|problem| problem.row).collect::<Vec<_>>(), [1, 2, 3, 4]);
    for (problem, wanted) in
        problems.iter().zip(["metadata.fps", "not UTF-8", "expected value", "invalid type"])
    {
        assert!(problem.reason.contains(wanted), "{}", problem.reason);
    }
    assert_eq!(data.get(5).unwrap().row, 5);
    let error = data.get(1).unwrap_err().to_string();
    assert!(error.contains("data.json, row 1: metadata.fps is \"0\""), "{error}");
    let summary = data.summary();
    assert_eq!((summary.num_rows, summary.num_bad_rows, summary.num_without_answer), (6, 4, 0));
    assert_eq!(summary.num_by_clip.values().copied().collect::<Vec<_>>(), [2], "both show the same frames");
    assert_eq!(summary.num_by_source_and_task[&("CoPESD".into(), TaskKind::Tag)], 2);
    assert_eq!(data.iter().filter(|(_, sample)| sample.is_ok()).count(), 2);
    let usable = Usable::new(data, OnBadRow::Skip).unwrap();
    assert_eq!((usable.len(), usable.skipped().len()), (2, 4));
    assert_eq!(usable.get(1).unwrap().row, 5);
}

#[test]
fn media_that_are_gone_or_too_small_for_a_box_are_found() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["0.png", "1.png"] {
        image::RgbImage::new(40, 30).save(folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join("empty.png"), "").unwrap();
    let boxes = |x2: f64| json!([{"bbox_dict": {"0": [0, 0, 40, 30], "2": [1, 1, x2, 29.5]}}]);
    let rows = [
        record(json!({"video": ["0.png", "1.png", "1.png"]})),
        record(json!({"video": ["0.png", "gone.png"]})),
        record(json!({"video": ["0.png", "empty.png"]})),
        record(json!({"video": ["0.png"], "qa_type": "stg", "struc_info": boxes(40.0)})),
        record(json!({"video": ["0.png"], "qa_type": "stg", "struc_info": boxes(40.5)})),
        record(json!({
            "video": ["0.png", "1.png"], "is_RC": true,
            "RC_info": {"start_frame": "1.png", "start_frame_bbox": [3, 3, 9, 31]}
        })),
    ];
    let path = folder.path().join("data.jsonl");
    std::fs::write(&path, rows.map(|row| format!("{row}\n")).concat()).unwrap();
    let data = MedVidBenchFile::open(&path, folder.path()).unwrap();
    let rows = |media| data.check(media).into_iter().map(|problem| problem.row).collect::<Vec<_>>();
    assert!(rows(MediaCheck::Skip).is_empty());
    assert_eq!(rows(MediaCheck::Exists), [1, 2]);
    assert_eq!(rows(MediaCheck::Headers), [1, 2, 4, 5]);
    let problems = data.check(MediaCheck::Headers);
    assert!(problems[2].reason.contains("box at 2 seconds") && problems[2].reason.contains("40x30"));
    assert!(problems[3].reason.contains("1.png: the drawn box"), "{}", problems[3].reason);
}

#[test]
fn an_index_is_reused_until_the_file_changes_and_lost_folders_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.json");
    let write =
        |num_rows| std::fs::write(&path, Value::from(vec![record(json!({})); num_rows]).to_string()).unwrap();
    let open = || MedVidBenchFile::open(&path, folder.path()).unwrap();
    write(2);
    assert_eq!(open().index_origin(), IndexOrigin::Built);
    let again = open();
    assert_eq!((again.index_origin(), again.len()), (IndexOrigin::Reused, 2));
    assert_eq!(again.index_path(), Some(folder.path().join("data.json.idx").as_path()));
    assert_eq!(
        again.get(1).unwrap(),
        TaskSample { row: 1, ..read(&record(json!({}))).unwrap() }.under(folder.path())
    );
    write(3);
    assert_eq!((open().index_origin(), open().len()), (IndexOrigin::Built, 3));
    // A folder in the place of the index: it cannot be written there.
    std::fs::remove_file(folder.path().join("data.json.idx")).unwrap();
    std::fs::create_dir(folder.path().join("data.json.idx")).unwrap();
    write(4);
    let elsewhere = open();
    assert_eq!((elsewhere.len(), elsewhere.index_origin()), (4, IndexOrigin::Built));
    let index = elsewhere.index_path().unwrap().to_owned();
    assert!(index.starts_with(std::env::temp_dir()));
    assert_eq!(open().index_origin(), IndexOrigin::Reused);
    std::fs::remove_file(index).unwrap();
}

impl TaskSample {
    /// The same sample with its media under another root.
    fn under(mut self, root: &Path) -> Self {
        for content in self.prompt.iter_mut().flat_map(|message| &mut message.content) {
            if let Content::Video(clip) = content
                && let Frames::Files { paths, .. } = &mut clip.frames
            {
                paths.iter_mut().for_each(|path| *path = root.join(path.strip_prefix("/media").unwrap()));
            }
        }
        self
    }
}

#[test]
fn compressed_files_are_unpacked_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.jsonl.gz");
    let pack = |text: &str| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        gzip.finish().unwrap()
    };
    let row = record(json!({}));
    // Two members, as `cat a.gz b.gz` makes.
    std::fs::write(&path, [pack(&format!("{row}\n{row}\n")), pack(&format!("\n{row}"))].concat()).unwrap();
    let open = || MedVidBenchFile::open(&path, folder.path()).unwrap();
    let first = open();
    assert_eq!((first.len(), first.index_origin()), (3, IndexOrigin::Built));
    assert_eq!(first.get(2).unwrap().video_id, "014014");
    assert_eq!(open().index_origin(), IndexOrigin::Reused);
    std::fs::remove_file(folder.path().join("data.jsonl.gz.unpacked")).unwrap();
    assert_eq!(
        (open().len(), open().index_origin()),
        (3, IndexOrigin::Reused),
        "unpacked again, then reused"
    );
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let error = MedVidBenchFile::open(&path, folder.path()).unwrap_err().to_string();
    assert!(error.contains("not a whole gzip file"), "{error}");
    std::fs::write(&path, "plain").unwrap();
    assert!(MedVidBenchFile::open(&path, folder.path()).is_err());
}

#[test]
fn what_is_no_file_of_records_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.json");
    let reason = || MedVidBenchFile::open(&path, folder.path()).unwrap_err().to_string();
    assert!(reason().contains("data.json"));
    std::fs::write(&path, "{\"0\": {}}").unwrap();
    assert!(reason().contains("not a JSON array"));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(reason().contains("not a file"));
}

/// Resident memory of this process in bytes, without mapped files.
#[cfg(target_os = "linux")]
fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

#[cfg(target_os = "linux")]
#[test]
fn a_large_file_opens_in_bounded_memory() {
    const NUM_ROWS: usize = 20_000;
    const ALONE: &str = "MEDGRPO_TEST_LARGE_FILE";
    let Ok(path) = std::env::var(ALONE) else {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.json");
        let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
        let frames: Vec<String> =
            (0..60).map(|frame| format!("data/high_light_images/{frame:04}.jpg")).collect();
        let row = record(json!({"video": frames})).to_string();
        for index in 0..NUM_ROWS {
            write!(file, "{}{row}", if index == 0 { "[" } else { ", " }).unwrap();
        }
        file.write_all(b"]").unwrap();
        drop(file);
        // Memory is counted by process, so the opening runs in one of its own, where no other test runs beside it.
        let alone = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "medvidbench::tests::a_large_file_opens_in_bounded_memory"])
            .env(ALONE, &path)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&alone.stdout);
        assert!(alone.status.success() && told.contains("1 passed"), "{told}");
        return;
    };
    let path = Path::new(&path);
    assert!(std::fs::metadata(path).unwrap().len() > 40 << 20);
    let before = anonymous_bytes();
    let data = MedVidBenchFile::open(path, "/media").unwrap();
    assert_eq!((data.len(), data.index_origin()), (NUM_ROWS, IndexOrigin::Built));
    assert_eq!(data.get(NUM_ROWS - 1).unwrap().row, NUM_ROWS - 1);
    drop(data);
    assert_eq!(MedVidBenchFile::open(path, "/media").unwrap().index_origin(), IndexOrigin::Reused);
    let taken = anonymous_bytes().saturating_sub(before);
    assert!(taken < 8 << 20, "{taken} bytes taken");
}
