//! Frames of a video file by index, at their shown size.
//!
//! `ffmpeg` selects the wished frames, turns them as the file asks, and sends each as a PPM picture, which carries its
//! own size. Only the wished frames are kept.

use std::{
    collections::BTreeMap,
    io::{BufReader, Read},
    path::Path,
};

use image::RgbImage;

use super::{
    ffmpeg::{Tool, input, last_line, start},
    image::MAX_PIXELS,
};
use crate::DatasetError;

/// Beyond this many pieces the selection would be too long an argument; then the whole stretch is sent and sifted here.
const MAX_PIECES: usize = 2000;

/// The frames of a video at `indices`, in that order; an index may repeat. Frames are counted as they are shown, from
/// 0, whatever their times.
///
/// # Errors
/// A file that cannot be opened, is no video, or ends before the last wished frame; a missing `ffmpeg`.
pub fn decode_frames(path: &Path, indices: &[usize]) -> Result<Vec<RgbImage>, DatasetError> {
    let media = |message: String| DatasetError::Media { path: path.to_owned(), message };
    let mut num_uses = BTreeMap::<usize, usize>::new();
    for &index in indices {
        *num_uses.entry(index).or_default() += 1;
    }
    let wished: Vec<usize> = num_uses.keys().copied().collect();
    let (Some(&first), Some(&last)) = (wished.first(), wished.last()) else { return Ok(Vec::new()) };
    let pieces = pieces(&wished);
    let sent: Vec<usize> = if pieces.len() > MAX_PIECES { (first..=last).collect() } else { wished.clone() };
    let selection =
        if pieces.len() > MAX_PIECES { format!("between(n,{first},{last})") } else { pieces.join("+") };

    let mut args: Vec<std::ffi::OsString> = ["-v", "error", "-nostdin"].map(Into::into).to_vec();
    args.extend(input(path));
    // New times of exactly one frame a tick: no frame is doubled or dropped, whatever the file's own times. The older
    // and newer spellings of the option for that (-vsync, -fps_mode) each fail in some releases.
    let filter = format!("select='{selection}',settb=1/25,setpts=N");
    let num_sent = sent.len().to_string();
    let output = [
        "-map",
        "0:V:0",
        "-vf",
        &filter,
        "-r",
        "25",
        "-frames:v",
        &num_sent,
        "-f",
        "image2pipe",
        "-c:v",
        "ppm",
        "-pix_fmt",
        "rgb24",
        "pipe:1",
    ];
    args.extend(output.map(Into::into));

    let mut running = start(Tool::Ffmpeg, path, args)?;
    let mut reader = BufReader::with_capacity(1 << 20, running.stdout());
    let mut frames = BTreeMap::new();
    let mut num_read = 0;
    for index in sent {
        let keep = num_uses.contains_key(&index);
        match read_ppm(&mut reader, keep).map_err(|reason| media(format!("frame {index}: {reason}")))? {
            Some(frame) => num_read += usize::from(frames.insert(index, frame).is_none()),
            None => break,
        }
    }
    drop(reader);
    let (ok, told) = running.finish().map_err(|error| media(format!("ffmpeg did not end: {error}")))?;
    let found = wished.iter().take_while(|index| frames.contains_key(index)).count();
    if found < wished.len() {
        let missing = wished[found];
        let reason = if told.trim().is_empty() { String::new() } else { format!(" ({})", last_line(&told)) };
        return Err(media(if num_read == 0 && !ok {
            format!("the video cannot be decoded{reason}")
        } else {
            format!("the video ends before frame {missing}{reason}")
        }));
    }
    if !told.trim().is_empty() {
        tracing::warn!(
            "{}: damaged, but every wished frame was decoded: {}",
            path.display(),
            last_line(&told)
        );
    }
    Ok(indices
        .iter()
        .map(|index| {
            let uses = num_uses.get_mut(index).expect("every index was counted");
            *uses -= 1;
            let frame = if *uses == 0 { frames.remove(index) } else { frames.get(index).cloned() };
            frame.expect("every wished frame was found")
        })
        .collect())
}

/// The selection as ffmpeg expressions: stretches of equal stride are one piece.
fn pieces(wished: &[usize]) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < wished.len() {
        let first = wished[at];
        let stride = wished.get(at + 1).map_or(1, |next| next - first);
        let mut end = at + 1;
        while end < wished.len() && wished[end] - wished[end - 1] == stride {
            end += 1;
        }
        let last = wished[end - 1];
        pieces.push(match (end - at, stride) {
            (1, _) => format!("eq(n,{first})"),
            (_, 1) => format!("between(n,{first},{last})"),
            _ => format!("between(n,{first},{last})*not(mod(n-{first},{stride}))"),
        });
        at = end;
    }
    pieces
}

/// The next picture, or `None` at the end. A picture that is not kept is read over and given as an empty one.
fn read_ppm(reader: &mut impl Read, keep: bool) -> Result<Option<RgbImage>, String> {
    let broken = |error: std::io::Error| format!("the decoder's output broke off: {error}");
    let mut numbers = [0_u32; 3];
    let mut byte = [0_u8];
    for (index, wanted) in b"P6\n".iter().enumerate() {
        match reader.read(&mut byte).map_err(broken)? {
            0 if index == 0 => return Ok(None),
            1 if byte[0] == *wanted => {}
            _ => return Err("the decoder sent no PPM picture".into()),
        }
    }
    for number in &mut numbers {
        loop {
            reader.read_exact(&mut byte).map_err(broken)?;
            match byte[0] {
                digit @ b'0'..=b'9' if *number < 1 << 24 => *number = *number * 10 + u32::from(digit - b'0'),
                b' ' | b'\n' => break,
                _ => return Err("the decoder sent no PPM picture".into()),
            }
        }
    }
    let [width, height, depth] = numbers;
    if depth != 255 || width == 0 || height == 0 || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(format!("frames of {width}x{height} pixels are not read"));
    }
    let num_bytes = width as usize * height as usize * 3;
    if keep {
        let mut pixels = vec![0; num_bytes];
        reader.read_exact(&mut pixels).map_err(broken)?;
        return Ok(RgbImage::from_raw(width, height, pixels));
    }
    let skipped = std::io::copy(&mut reader.take(num_bytes as u64), &mut std::io::sink()).map_err(broken)?;
    if skipped < num_bytes as u64 {
        Err("the decoder's output broke off".into())
    } else {
        Ok(Some(RgbImage::new(0, 0)))
    }
}
