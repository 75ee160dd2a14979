//! Writes videos through FFmpeg and frames as JPEG, and reads videos back frame by frame.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
};

use ffmpeg_sidecar::{child::FfmpegChild, command::FfmpegCommand};
use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder};

use crate::DatasetError;

const JPEG_QUALITY: u8 = 90;

pub(super) fn io_error(path: &Path, source: std::io::Error) -> DatasetError {
    DatasetError::Io { path: path.to_path_buf(), source }
}

fn media_error(path: &Path, message: impl Into<String>) -> DatasetError {
    DatasetError::Media { path: path.to_path_buf(), message: message.into() }
}

/// The encoder this FFmpeg has: H.264 where it was built in, MPEG-4 part 2 otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoder {
    H264,
    Mpeg4,
}

impl Encoder {
    /// Asks FFmpeg; an error says how to get it when there is none.
    pub(super) fn detect() -> Result<Self, DatasetError> {
        let program = ffmpeg_sidecar::paths::ffmpeg_path();
        let fail = |what: String| {
            let message = format!("{what}; install FFmpeg (package `ffmpeg`) and put it on the PATH");
            media_error(&program, message)
        };
        let mut child = FfmpegCommand::new()
            .args(["-hide_banner", "-loglevel", "error", "-encoders"])
            .spawn()
            .map_err(|e| fail(format!("FFmpeg does not start: {e}")))?;
        let mut list = String::new();
        let mut stdout = child.take_stdout().ok_or_else(|| fail("FFmpeg has no output".into()))?;
        stdout.read_to_string(&mut list).map_err(|e| fail(format!("FFmpeg cannot be read: {e}")))?;
        child.wait().map_err(|e| fail(format!("FFmpeg does not end: {e}")))?;
        let has = |name: &str| list.split_whitespace().any(|word| word == name);
        match (has("libx264"), has("mpeg4")) {
            (true, _) => Ok(Self::H264),
            (false, true) => Ok(Self::Mpeg4),
            (false, false) => Err(fail("this FFmpeg has neither a libx264 nor an mpeg4 encoder".into())),
        }
    }

    fn args(self) -> &'static [&'static str] {
        match self {
            Self::H264 => &["-c:v", "libx264", "-preset", "veryfast", "-crf", "20"],
            Self::Mpeg4 => &["-c:v", "mpeg4", "-q:v", "3"],
        }
    }
}

/// A video file being written from raw frames; dropped before [`finish`](Self::finish), FFmpeg is stopped.
pub(super) struct VideoWriter {
    path: PathBuf,
    child: FfmpegChild,
    /// `None` once all frames are handed over.
    stdin: Option<std::process::ChildStdin>,
}

impl VideoWriter {
    pub(super) fn start(
        path: &Path,
        encoder: Encoder,
        width: usize,
        height: usize,
        fps: f64,
    ) -> Result<Self, DatasetError> {
        let mut command = FfmpegCommand::new();
        command
            .args(["-hide_banner", "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"])
            .args(["-s", &format!("{width}x{height}"), "-r", &fps.to_string(), "-i", "-"])
            .args(encoder.args())
            // One thread and no dates: the same frames give the same file on any number of cores.
            .args(["-pix_fmt", "yuv420p", "-threads", "1", "-fflags", "+bitexact", "-flags:v", "+bitexact"])
            .arg(path);
        let mut child =
            command.spawn().map_err(|e| media_error(path, format!("FFmpeg does not start: {e}")))?;
        let stdin = child.take_stdin();
        Ok(Self { path: path.to_path_buf(), child, stdin })
    }

    pub(super) fn write(&mut self, rgb: &[u8]) -> Result<(), DatasetError> {
        let written = match &mut self.stdin {
            Some(stdin) => stdin.write_all(rgb),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        written.map_err(|e| {
            media_error(&self.path, format!("FFmpeg stopped reading: {e}{}", complaint(&mut self.child)))
        })
    }

    pub(super) fn finish(mut self) -> Result<(), DatasetError> {
        self.stdin = None;
        let said = complaint(&mut self.child);
        let status = self.child.wait().map_err(|e| io_error(&self.path, e))?;
        if status.success() {
            return Ok(());
        }
        Err(media_error(&self.path, format!("FFmpeg could not encode it ({status}){said}")))
    }
}

impl Drop for VideoWriter {
    fn drop(&mut self) {
        // Only after a failure is there anything to stop; its error is on the way, these two would add nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What FFmpeg wrote to its error stream, ready to be appended to a message.
fn complaint(child: &mut FfmpegChild) -> String {
    let mut text = Vec::new();
    if let Some(mut stderr) = child.take_stderr() {
        // A broken pipe here only costs the detail of a message that is reported anyway.
        let _ = stderr.read_to_end(&mut text);
    }
    let text = String::from_utf8_lossy(&text);
    if text.trim().is_empty() { String::new() } else { format!(": {}", text.trim()) }
}

/// All frames of a video as packed RGB.
pub(super) fn read_video(path: &Path, width: usize, height: usize) -> Result<Vec<Vec<u8>>, DatasetError> {
    let mut child = FfmpegCommand::new()
        .args(["-hide_banner", "-loglevel", "error", "-threads", "1", "-i"])
        .arg(path)
        .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-fps_mode", "passthrough", "-"])
        .spawn()
        .map_err(|e| media_error(path, format!("FFmpeg does not start: {e}")))?;
    let mut bytes = Vec::new();
    let mut stdout = child.take_stdout().ok_or_else(|| media_error(path, "FFmpeg has no output"))?;
    stdout.read_to_end(&mut bytes).map_err(|e| io_error(path, e))?;
    let said = complaint(&mut child);
    let status = child.wait().map_err(|e| io_error(path, e))?;
    if !status.success() {
        return Err(media_error(path, format!("FFmpeg could not decode it ({status}){said}")));
    }
    Ok(bytes.chunks_exact(width * height * 3).map(<[u8]>::to_vec).collect())
}

/// Writes a frame.
pub(super) fn write_jpeg(path: &Path, rgb: &[u8], width: usize, height: usize) -> Result<(), DatasetError> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY)
        .write_image(rgb, width as u32, height as u32, ExtendedColorType::Rgb8)
        .map_err(|e| media_error(path, e.to_string()))?;
    std::fs::write(path, bytes).map_err(|e| io_error(path, e))
}
