//! TensorBoard's event files: the numbers of `metrics.jsonl` for whoever follows runs there.
//!
//! A file is a row of records (`TFRecord`: a length and the message, each with a masked CRC-32C); every message
//! is a protobuf `Event`. Two kinds are written here, the version at the start and the scalars of a step. One file a stage
//! under a fixed name, cut back on resumption as the other logs are: no reader sees a step twice.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::run_dir::RunDirError;

/// TensorBoard takes every file with `tfevents` in its name.
const FILE_NAME: &str = "events.out.tfevents.medgrpo";
const VERSION: &[u8] = b"brain.Event:2";

/// Keys of protobuf fields, `number << 3 | wire type`.
mod key {
    pub(super) const EVENT_WALL_TIME: u8 = 1 << 3 | 1;
    pub(super) const EVENT_STEP: u8 = 2 << 3;
    pub(super) const EVENT_FILE_VERSION: u8 = 3 << 3 | 2;
    pub(super) const EVENT_SUMMARY: u8 = 5 << 3 | 2;
    pub(super) const SUMMARY_VALUE: u8 = 1 << 3 | 2;
    pub(super) const VALUE_TAG: u8 = 1 << 3 | 2;
    pub(super) const VALUE_SIMPLE: u8 = 2 << 3 | 5;
}

/// The scalars of one stage, append-only.
#[derive(Debug)]
pub(crate) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Opens the file of a stage in `folder`, cut back to the first `keep` steps; what is not whole is dropped.
    ///
    /// # Errors
    ///
    /// If it cannot be read or written.
    pub(crate) fn open(folder: &Path, keep: usize) -> Result<Self, RunDirError> {
        fs::create_dir_all(folder).map_err(RunDirError::io(folder))?;
        let path = folder.join(FILE_NAME);
        let open = || {
            let file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
            let kept = kept_bytes(&file, keep as u64)?;
            if kept < file.metadata()?.len() {
                OpenOptions::new().write(true).open(&path)?.set_len(kept)?;
            }
            Ok((file, kept))
        };
        let (file, kept) = open().map_err(RunDirError::io(&path))?;
        let mut events = Self { path, file };
        if kept == 0 {
            let mut event = wall_time(seconds_now());
            event.extend(text(key::EVENT_FILE_VERSION, VERSION));
            events.write(&event)?;
        }
        Ok(events)
    }

    /// Appends the numbers of a step, which must be above those before. The record is handed to the operating system whole.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(crate) fn append(&mut self, step: usize, scalars: &BTreeMap<String, f64>) -> Result<(), RunDirError> {
        self.write(&scalars_event(step as u64, seconds_now(), scalars))
    }

    /// Waits until everything appended is on the disk.
    ///
    /// # Errors
    ///
    /// If the disk refuses.
    pub(crate) fn sync(&self) -> Result<(), RunDirError> {
        self.file.sync_all().map_err(RunDirError::io(&self.path))
    }

    fn write(&mut self, event: &[u8]) -> Result<(), RunDirError> {
        self.file.write_all(&record(event)).map_err(RunDirError::io(&self.path))
    }
}

fn seconds_now() -> f64 {
    // A clock before 1970 is no reason to end a run.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

/// `Event { wall_time, step, summary: Summary { value: [Value { tag, simple_value }] } }`.
fn scalars_event(step: u64, seconds: f64, scalars: &BTreeMap<String, f64>) -> Vec<u8> {
    let mut summary = Vec::new();
    for (name, number) in scalars {
        let mut value = text(key::VALUE_TAG, name.as_bytes());
        value.push(key::VALUE_SIMPLE);
        value.extend((*number as f32).to_le_bytes());
        summary.extend(text(key::SUMMARY_VALUE, &value));
    }
    let mut event = wall_time(seconds);
    event.push(key::EVENT_STEP);
    event.extend(varint(step));
    event.extend(text(key::EVENT_SUMMARY, &summary));
    event
}

fn wall_time(seconds: f64) -> Vec<u8> {
    let mut field = vec![key::EVENT_WALL_TIME];
    field.extend(seconds.to_le_bytes());
    field
}

/// A field of bytes, text or an inner message.
fn text(key: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![key];
    field.extend(varint(bytes.len() as u64));
    field.extend(bytes);
    field
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A message in its frame.
fn record(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(message);
    record.extend(masked_crc(message).to_le_bytes());
    record
}

/// Turned and shifted, because a sum of bytes that hold their own sum says little.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Bytes of the records at the start of `file` that are whole and of steps up to `keep`.
fn kept_bytes(file: &File, keep: u64) -> io::Result<u64> {
    let mut reader = BufReader::new(file);
    let mut kept = 0;
    while let Some(message) = next_message(&mut reader)? {
        if step_of(&message) > keep {
            break;
        }
        kept += record(&message).len() as u64;
    }
    Ok(kept)
}

/// The next message; `None` at the end, or where a record is not whole.
fn next_message(reader: &mut BufReader<&File>) -> io::Result<Option<Vec<u8>>> {
    let mut take = |count: u64| -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        let read = reader.by_ref().take(count).read_to_end(&mut bytes)?;
        Ok((read as u64 == count).then_some(bytes))
    };
    let mut summed = |count: u64| -> io::Result<Option<Vec<u8>>> {
        let (Some(bytes), Some(sum)) = (take(count)?, take(4)?) else { return Ok(None) };
        Ok((sum == masked_crc(&bytes).to_le_bytes()).then_some(bytes))
    };
    match summed(8)?.as_deref().map(<[u8; 8]>::try_from) {
        Some(Ok(length)) => summed(u64::from_le_bytes(length)),
        _ => Ok(None),
    }
}

/// The step of a message that was written here: behind the time; the version has none.
fn step_of(message: &[u8]) -> u64 {
    let Some((&key::EVENT_STEP, digits)) = message.get(9..).and_then(<[u8]>::split_first) else { return 0 };
    let mut step = 0;
    for (place, byte) in digits.iter().take(10).enumerate() {
        step |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            break;
        }
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalars(loss: f64) -> BTreeMap<String, f64> {
        BTreeMap::from([("loss".to_owned(), loss), ("raw/tag/AVOS/mean".to_owned(), 0.5)])
    }

    /// The messages of a file with their times taken out.
    fn messages(path: &Path) -> Vec<Vec<u8>> {
        let file = File::open(path).unwrap();
        let mut reader = BufReader::new(&file);
        let mut found = Vec::new();
        while let Some(mut message) = next_message(&mut reader).unwrap() {
            message[1..9].fill(0);
            found.push(message);
        }
        found
    }

    #[test]
    fn a_record_by_hand() {
        // The sum is that of the CRC catalogue, CRC-32/ISCSI.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked_crc(b"123456789"), 0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8));
        assert_eq!(varint(300), [0xac, 0x02]);
        let event = scalars_event(300, 2.0, &BTreeMap::from([("a".to_owned(), 1.0)]));
        let by_hand = [
            &[0x09][..],
            &2.0_f64.to_le_bytes(),
            &[0x10, 0xac, 0x02],
            &[0x2a, 10, 0x0a, 8, 0x0a, 1, b'a', 0x15],
            &1.0_f32.to_le_bytes(),
        ];
        assert_eq!(event, by_hand.concat());
        assert_eq!((step_of(&event), record(&event).len()), (300, event.len() + 16));
    }

    #[test]
    fn a_resumed_file_is_as_if_never_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("00-sft");
        let path = folder.join(FILE_NAME);
        let mut events = EventFile::open(&folder, 0).unwrap();
        for step in 1..=130 {
            events.append(step, &scalars(1.0 / step as f64)).unwrap();
        }
        events.sync().unwrap();
        drop(events);
        let whole = messages(&path);
        assert_eq!(whole.len(), 131);
        assert_eq!(
            whole.iter().map(|message| step_of(message)).collect::<Vec<_>>(),
            (0..=130).collect::<Vec<_>>()
        );

        // A record that was being written when the process died, and one that a disk spoilt.
        let bytes = fs::read(&path).unwrap();
        for cut in [1, 4, 20] {
            fs::write(&path, &bytes[..bytes.len() - cut]).unwrap();
            let mut events = EventFile::open(&folder, 130).unwrap();
            assert_eq!(messages(&path).len(), 130);
            events.append(130, &scalars(1.0 / 130.0)).unwrap();
            assert_eq!(messages(&path), whole, "cut {cut}");
        }
        let mut spoilt = bytes.clone();
        spoilt[bytes.len() / 2] ^= 1;
        fs::write(&path, &spoilt).unwrap();
        EventFile::open(&folder, 130).unwrap();
        assert!(messages(&path).len() < 80);

        fs::write(&path, &bytes).unwrap();
        let mut events = EventFile::open(&folder, 128).unwrap();
        assert_eq!(messages(&path), whole[..=128]);
        for step in 129..=130 {
            events.append(step, &scalars(1.0 / step as f64)).unwrap();
        }
        assert_eq!(messages(&path), whole);
        // A stage that begins anew.
        EventFile::open(&folder, 0).unwrap();
        assert_eq!(messages(&path), whole[..1]);
    }

    #[test]
    fn any_bytes_are_read_without_panic() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        for bytes in [&[0xff; 40][..], &[0; 40], &record(&[]), &record(&[0x09; 3]), &record(&[0x10; 40])] {
            fs::write(&path, bytes).unwrap();
            EventFile::open(dir.path(), 5).unwrap();
            assert!(fs::metadata(&path).unwrap().len() > 0);
        }
    }
}
