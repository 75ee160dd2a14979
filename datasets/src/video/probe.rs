//! What a video file holds, without decoding it: the packets of its first video stream are counted.

use std::{io::Read, path::Path};

use super::{
    ffmpeg::{Tool, input, last_line, start},
    image::MAX_PIXELS,
};
use crate::DatasetError;

/// What a video file holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VideoInfo {
    /// Number of frames shown.
    pub num_frames: usize,
    /// Mean rate in frames per second: as stated, or by the frames' own times where those differ.
    pub fps: f64,
    /// Width in pixels, as shown (after the rotation the file asks for).
    pub width: u32,
    /// Height in pixels, as shown.
    pub height: u32,
    /// Length in seconds: `num_frames / fps`.
    pub duration_sec: f64,
}

/// Looks into a video file.
///
/// # Errors
/// A file that cannot be opened, is no video, has no frames or was cut short; a missing `ffprobe`.
pub fn probe(path: &Path) -> Result<VideoInfo, DatasetError> {
    let media = |message: String| DatasetError::Media { path: path.to_owned(), message };
    let mut args: Vec<std::ffi::OsString> = [
        "-v",
        "error",
        // V: without cover pictures.
        "-select_streams",
        "V:0",
        "-show_entries",
        "packet=pts_time,dts_time,flags:stream=width,height,avg_frame_rate,r_frame_rate,nb_frames:stream_tags=rotate:stream_side_data=\
         rotation",
        "-of",
        "compact",
    ]
    .map(Into::into)
    .to_vec();
    args.extend(input(path));
    let mut running = start(Tool::Ffprobe, path, args)?;
    let mut text = String::new();
    let read = running.stdout().read_to_string(&mut text);
    let ended = running.finish();
    read.map_err(|error| media(format!("the answer of ffprobe cannot be read: {error}")))?;
    let (ok, told) = ended.map_err(|error| media(format!("ffprobe did not end: {error}")))?;
    if !ok {
        return Err(media(format!("not a readable video: {}", last_line(&told))));
    }
    read_report(&text, &told).map_err(media)
}

/// Reads ffprobe's report: one line a packet, then the stream.
fn read_report(text: &str, told: &str) -> Result<VideoInfo, String> {
    let (mut num_packets, mut num_frames) = (0, 0);
    let (mut first_sec, mut last_sec) = (f64::INFINITY, f64::NEG_INFINITY);
    let mut stream = None;
    for line in text.lines() {
        match line.split_once('|') {
            Some(("packet", fields)) => {
                num_packets += 1;
                // Packets that the file's edit list hides are decoded but not shown.
                if !field(fields, "flags").unwrap_or_default().contains('D') {
                    num_frames += 1;
                    let time = |key| field(fields, key)?.parse::<f64>().ok().filter(|time| time.is_finite());
                    if let Some(time_sec) = time("pts_time").or_else(|| time("dts_time")) {
                        first_sec = first_sec.min(time_sec);
                        last_sec = last_sec.max(time_sec);
                    }
                }
            }
            Some(("stream", fields)) => stream = Some(fields),
            _ => {}
        }
    }
    let stream = stream.ok_or("the file has no video stream")?;
    if num_frames == 0 {
        return Err(format!("the video has no frames ({})", last_line(told)));
    }
    let in_header: Option<usize> = field(stream, "nb_frames").and_then(|num| num.parse().ok());
    let says_cut = ["partial file", "ended prematurely", "moov atom not found", "Packet corrupt"];
    if in_header.is_some_and(|num| num_packets < num) || says_cut.iter().any(|text| told.contains(text)) {
        let of = in_header.map(|num| format!(" of {num}")).unwrap_or_default();
        return Err(format!(
            "the video is cut short: {num_packets}{of} frames are there; copy or encode it again"
        ));
    }
    let number = |key| field(stream, key).and_then(|value| value.parse::<u32>().ok()).unwrap_or(0);
    let (width, height) = (number("width"), number("height"));
    if width == 0 || height == 0 || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(format!("frames of {width}x{height} pixels are not read"));
    }
    let turned = field(stream, "rotation")
        .or_else(|| field(stream, "tag:rotate"))
        .and_then(|degrees| degrees.parse::<f64>().ok())
        .is_some_and(|degrees| (degrees / 90.0).round() as i64 % 2 != 0);
    let (width, height) = if turned { (height, width) } else { (width, height) };

    let counted = (last_sec > first_sec).then(|| (num_frames - 1) as f64 / (last_sec - first_sec));
    let stated =
        field(stream, "avg_frame_rate").and_then(rate).or_else(|| rate(field(stream, "r_frame_rate")?));
    // The stated rate is exact (30000/1001) where the rate is constant; elsewhere it may be a guess from a few frames,
    // or from the length of the coded stream, and the frames' own times tell better.
    let fps = match (stated, counted) {
        (Some(stated), Some(counted)) if (stated / counted - 1.0).abs() > 0.02 => counted,
        (Some(fps), _) | (None, Some(fps)) => fps,
        (None, None) => return Err("the video states no frame rate and its frames have no times".into()),
    };
    Ok(VideoInfo { num_frames, fps, width, height, duration_sec: num_frames as f64 / fps })
}

fn field<'a>(fields: &'a str, key: &str) -> Option<&'a str> {
    fields.split('|').find_map(|part| part.strip_prefix(key)?.strip_prefix('='))
}

/// `30000/1001`.
fn rate(text: &str) -> Option<f64> {
    let (num, den) = text.split_once('/')?;
    let rate = num.parse::<f64>().ok()? / den.parse::<f64>().ok()?;
    (rate.is_finite() && rate > 0.0).then_some(rate)
}

#[cfg(test)]
mod tests {
    use super::{VideoInfo, read_report};

    const PACKETS: &str = "packet|pts_time=0.000000|flags=K__\npacket|pts_time=0.066733|dts_time=0.1|flags=___\n\
                           packet|pts_time=9.9|flags=_D_\npacket|pts_time=N/A|dts_time=0.033367|flags=___\n";

    #[test]
    fn frames_are_counted_and_rates_are_exact() {
        let text = format!(
            "{PACKETS}stream|width=640|height=480|r_frame_rate=30/1|avg_frame_rate=30000/1001|nb_frames=4|side_data|\
             rotation=-90\n"
        );
        let fps = 30000.0 / 1001.0;
        assert_eq!(
            read_report(&text, "").unwrap(),
            VideoInfo { num_frames: 3, fps, width: 480, height: 640, duration_sec: 3.0 / fps }
        );
    }

    #[test]
    fn a_guessed_rate_gives_way_to_the_frames_own_times() {
        let text = "packet|pts_time=1.5|flags=K\npacket|pts_time=3.5|flags=_\n\
                    stream|width=6|height=4|r_frame_rate=25/1|avg_frame_rate=0/0|nb_frames=N/A|tag:rotate=180\n";
        let info = read_report(text, "").unwrap();
        assert_eq!((info.fps, info.duration_sec, info.width), (0.5, 4.0, 6));
    }

    #[test]
    fn what_is_missing_is_said() {
        let reason = |text: &str, told: &str| read_report(text, told).expect_err("the report is wrong");
        assert!(reason("packet|flags=K\n", "").contains("no video stream"));
        assert!(reason("stream|width=6|height=4|nb_frames=0\n", "").contains("no frames"));
        let short = format!("{PACKETS}stream|width=6|height=4|avg_frame_rate=25/1|nb_frames=9\n");
        assert!(reason(&short, "").contains("cut short: 4 of 9 frames"));
        assert!(reason(&short.replace("nb_frames=9", "x=1"), "stream 0: partial file").contains("cut short"));
    }
}
