//! Videos made with ffmpeg at test time: frame `i` is grey of a level that tells `i`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use image::{Rgb, RgbImage};

use super::{ClipInfo, REGION_COLOR_RGB, clip_info, decode_frames, load_frames, probe};
use crate::{DatasetError, Frames, Region, VideoRef};

const WIDTH: u32 = 64;
const HEIGHT: u32 = 48;

fn level(index: usize) -> u8 {
    (20 + index * 5) as u8
}

/// Which frame a picture shows.
fn shown(frame: &RgbImage) -> usize {
    let centre = frame.get_pixel(frame.width() / 2, frame.height() / 2).0[0];
    (usize::from(centre) + 2 - 20) / 5
}

fn ffmpeg(args: &[&str]) {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-nostdin"])
        .args(args)
        .output()
        .expect("ffmpeg is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// `num_frames` pictures at 10 a second, encoded with `options` into `name`.
fn video(folder: &Path, name: &str, num_frames: usize, options: &[&str]) -> PathBuf {
    let pictures = folder.join(format!("{name}.pictures"));
    std::fs::create_dir(&pictures).unwrap();
    for index in 0..num_frames {
        let frame = RgbImage::from_pixel(WIDTH, HEIGHT, Rgb([level(index); 3]));
        frame.save(pictures.join(format!("{index:03}.png"))).unwrap();
    }
    let path = folder.join(name);
    let pattern = pictures.join("%03d.png");
    let mut args = vec!["-framerate", "10", "-i", pattern.to_str().unwrap()];
    args.extend(options);
    args.push(path.to_str().unwrap());
    ffmpeg(&args);
    path
}

const H264: [&str; 6] = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "5"];

#[test]
fn frames_by_index_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = video(folder.path(), "a.mp4", 30, &[&H264[..], &["-bf", "3", "-g", "12"]].concat());
    let info = probe(&path).unwrap();
    assert_eq!((info.num_frames, info.fps, info.width, info.height), (30, 10.0, WIDTH, HEIGHT));
    assert!((info.duration_sec - 3.0).abs() < 1e-6);
    let indices = [29, 0, 7, 7, 8, 9, 11, 13, 15, 3];
    let frames = decode_frames(&path, &indices).unwrap();
    assert_eq!(frames.iter().map(shown).collect::<Vec<_>>(), indices);
    assert!(frames.iter().all(|frame| frame.dimensions() == (WIDTH, HEIGHT)));
    assert!(decode_frames(&path, &[]).unwrap().is_empty());
    let error = decode_frames(&path, &[3, 30]).unwrap_err().to_string();
    assert!(error.contains("a.mp4: the video ends before frame 30"), "{error}");
}

#[test]
fn other_codecs_and_containers() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, &[&str]); 4] = [
        ("a.mkv", &["-c:v", "ffv1"]),
        ("a.avi", &["-c:v", "mjpeg", "-q:v", "1"]),
        ("a.webm", &["-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p", "-crf", "5", "-b:v", "0"]),
        ("a.ts", &["-c:v", "mpeg2video", "-q:v", "1", "-r", "25"]),
    ];
    for (name, options) in cases {
        let path = video(folder.path(), name, 10, options);
        let info = probe(&path).unwrap();
        let frames = decode_frames(&path, &[0, info.num_frames - 1]).unwrap();
        assert_eq!(frames.iter().map(shown).collect::<Vec<_>>(), [0, 9], "{name}: {info:?}");
        if name != "a.ts" {
            assert_eq!((info.num_frames, info.fps.round()), (10, 10.0), "{name}");
        }
    }
}

#[test]
fn a_variable_rate_neither_doubles_nor_drops_frames() {
    let folder = tempfile::tempdir().unwrap();
    // Frames 0 to 9 a tenth of a second apart, the others half a second: the last is at 5.5 seconds.
    let times = "settb=1/1000,setpts='if(lt(N,10),N*100,1000+(N-10)*500)'";
    for name in ["a.mp4", "a.mkv"] {
        let options = [&["-vf", times, "-vsync", "vfr", "-enc_time_base", "1/1000"][..], &H264].concat();
        let path = video(folder.path(), name, 20, &options);
        let info = probe(&path).unwrap();
        assert_eq!(info.num_frames, 20, "{name}");
        assert!((info.fps - 19.0 / 5.5).abs() < 1e-3, "{name}: {info:?}");
        let frames = decode_frames(&path, &(0..20).collect::<Vec<_>>()).unwrap();
        assert_eq!(frames.iter().map(shown).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn rotation_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    // Left half dark, right half bright.
    let frame = RgbImage::from_fn(WIDTH, HEIGHT, |x, _| Rgb([if x < WIDTH / 2 { 20 } else { 220 }; 3]));
    let picture = folder.path().join("0.png");
    frame.save(&picture).unwrap();
    let (plain, turned) = (folder.path().join("plain.mp4"), folder.path().join("turned.mp4"));
    ffmpeg(
        &[
            &["-loop", "1", "-i", picture.to_str().unwrap(), "-frames:v", "4"][..],
            &H264,
            &[plain.to_str().unwrap()],
        ]
        .concat(),
    );
    ffmpeg(&[
        "-i",
        plain.to_str().unwrap(),
        "-c",
        "copy",
        "-metadata:s:v:0",
        "rotate=90",
        turned.to_str().unwrap(),
    ]);
    let info = probe(&turned).unwrap();
    assert_eq!((info.width, info.height), (HEIGHT, WIDTH));
    let [frame] = decode_frames(&turned, &[1]).unwrap().try_into().unwrap();
    assert_eq!(frame.dimensions(), (HEIGHT, WIDTH));
    // A quarter turn puts the halves above each other.
    let (top, bottom) = (frame.get_pixel(20, 5).0[0], frame.get_pixel(20, WIDTH - 5).0[0]);
    assert!(top.abs_diff(bottom) > 150, "{top} {bottom}");
}

#[test]
fn damaged_files_are_errors_that_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path =
        video(folder.path(), "a.mp4", 30, &[&H264[..], &["-movflags", "+faststart", "-g", "5"]].concat());
    let whole = std::fs::read(&path).unwrap();
    let bad = folder.path().join("bad.mp4");
    let check = |bytes: &[u8], wanted: &str| {
        std::fs::write(&bad, bytes).unwrap();
        for error in [probe(&bad).err(), decode_frames(&bad, &[0, 29]).err()] {
            let error = error.expect("the video is damaged").to_string();
            assert!(error.contains("bad.mp4: "), "{error}");
        }
        let error = probe(&bad).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    };
    check(b"", "empty");
    check(b"no video at all", "not a readable video");
    // The table of contents is whole and in front; the pictures are not all there.
    check(&whole[..whole.len() * 2 / 3], "cut short");
    check(&whole[..400], "");
    let sound = folder.path().join("bad.mp4");
    ffmpeg(&["-f", "lavfi", "-i", "sine=duration=0.2", "-c:a", "aac", sound.to_str().unwrap()]);
    assert!(probe(&sound).unwrap_err().to_string().contains("no video"));
    assert!(matches!(probe(&folder.path().join("gone.mp4")), Err(DatasetError::Io { .. })));
    assert!(probe(folder.path()).unwrap_err().to_string().contains("not a video file"));
}

#[test]
fn a_playlist_does_not_reach_other_files_or_the_network() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.mp4");
    std::fs::write(
        &list,
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    )
    .unwrap();
    assert!(probe(&list).is_err());
    // A name that would be an option or a protocol is a name.
    let path = video(folder.path(), "a.mp4", 4, &H264);
    for name in ["-i", "http:x.mp4", "100%d.mp4", "sp ace'[0].mp4"] {
        let copy = folder.path().join(name);
        std::fs::copy(&path, &copy).unwrap();
        assert_eq!(decode_frames(&copy, &[2]).map(|frames| shown(&frames[0])).unwrap(), 2, "{name}");
    }
}

fn clip(frames: Frames, region: Option<Region>) -> VideoRef {
    VideoRef { frames, region }
}

#[test]
fn lists_of_frames_with_repeats_and_a_drawn_box() {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..3).map(|index| folder.path().join(format!("{index}.png"))).collect();
    for (index, path) in paths.iter().enumerate() {
        RgbImage::from_pixel(WIDTH, HEIGHT, Rgb([level(index); 3])).save(path).unwrap();
    }
    let list = vec![paths[0].clone(), paths[1].clone(), paths[1].clone(), paths[2].clone()];
    let files = |paths: &[PathBuf]| Frames::Files { paths: paths.to_vec(), fps: 0.5 };
    let region = Region { frame_index: 2, box_xyxy: [10.0, 8.0, 30.0, 40.0] };
    let with_box = clip(files(&list), Some(region));
    assert_eq!(
        clip_info(&with_box).unwrap(),
        ClipInfo { num_frames: 4, fps: 0.5, width: WIDTH, height: HEIGHT }
    );
    let frames = load_frames(&with_box, &[0, 1, 2, 3]).unwrap();
    assert_eq!(frames.iter().map(|frame| frame.get_pixel(60, 40).0[0]).collect::<Vec<_>>(), [20, 25, 25, 30]);
    let is_drawn = |frame: &RgbImage| frame.get_pixel(10, 8).0 == REGION_COLOR_RGB;
    assert_eq!(
        frames.iter().map(is_drawn).collect::<Vec<_>>(),
        [false, false, true, false],
        "on its place, not its file"
    );

    let error = load_frames(&with_box, &[0, 1]).unwrap_err().to_string();
    assert!(error.contains("the box is on frame 2"), "{error}");
    let outside = Region { box_xyxy: [10.0, 8.0, 65.0, 40.0], ..region };
    let error = load_frames(&clip(files(&list), Some(outside)), &[2]).unwrap_err().to_string();
    assert!(error.contains("1.png: ") && error.contains("64x48"), "{error}");
    RgbImage::new(5, 5).save(&paths[2]).unwrap();
    let error = load_frames(&clip(files(&list), None), &[0, 3]).unwrap_err().to_string();
    assert!(error.contains("2.png: the frame has 5x5 pixels, but the clip's first has 64x48"), "{error}");
    std::fs::remove_file(&paths[1]).unwrap();
    assert!(
        matches!(load_frames(&clip(files(&list), None), &[0, 1]), Err(DatasetError::Io { path, .. }) if path == paths[1])
    );
    assert!(clip_info(&clip(files(&[]), None)).is_err());
}

#[test]
fn a_video_file_as_a_clip() {
    let folder = tempfile::tempdir().unwrap();
    let path = video(folder.path(), "a.mp4", 8, &H264);
    let region = Region { frame_index: 5, box_xyxy: [0.0, 0.0, 64.0, 48.0] };
    let clip = clip(Frames::Video { path, fps: Some(2.0), start_sec: None, end_sec: None }, Some(region));
    assert_eq!(
        clip_info(&clip).unwrap(),
        ClipInfo { num_frames: 8, fps: 10.0, width: WIDTH, height: HEIGHT }
    );
    let frames = load_frames(&clip, &[1, 5]).unwrap();
    assert_eq!(frames.iter().map(shown).collect::<Vec<_>>(), [1, 5]);
    assert_eq!(frames[1].get_pixel(0, 0).0, REGION_COLOR_RGB);
}
