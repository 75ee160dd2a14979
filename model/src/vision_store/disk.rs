//! Features as files: their shape, their numbers, and a sum over both.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use burn::tensor::TensorData;

use super::Key;

const SUM_BYTES: usize = 32;
const SHAPE_BYTES: usize = 16;

/// A folder with one file a clip.
#[derive(Debug)]
pub(super) struct Disk {
    dir: PathBuf,
    max_bytes: u64,
    used_bytes: AtomicU64,
}

impl Disk {
    pub(super) fn open(dir: &Path, max_bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut used_bytes = 0;
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.path().extension().is_some() {
                // A process died over it.
                fs::remove_file(entry.path())?;
                continue;
            }
            used_bytes += entry.metadata()?.len();
        }
        Ok(Self { dir: dir.to_owned(), max_bytes, used_bytes: AtomicU64::new(used_bytes) })
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.dir.join(blake3::Hash::from(*key).to_hex().as_str())
    }

    /// What was written; nothing where that cannot be read whole.
    pub(super) fn read(&self, key: &Key) -> Option<TensorData> {
        let bytes = fs::read(self.path(key)).ok()?;
        let (content, sum) = bytes.split_at_checked(bytes.len().checked_sub(SUM_BYTES)?)?;
        if blake3::hash(content).as_bytes() != sum {
            tracing::warn!("{}: damaged; the clip is encoded anew", self.path(key).display());
            return None;
        }
        let (shape, numbers) = content.split_at_checked(SHAPE_BYTES)?;
        let shape: Vec<usize> =
            shape.as_chunks().0.iter().map(|side| u64::from_le_bytes(*side) as usize).collect();
        let values: Vec<f32> = numbers.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
        let wanted = shape.iter().try_fold(1_usize, |product, side| product.checked_mul(*side))?;
        (values.len() == wanted).then(|| TensorData::new(values, shape))
    }

    /// Keeps `features`, `[num_tokens, hidden]`, if there is room; a disk that fails costs time, not the run.
    pub(super) fn write(&self, key: &Key, features: &TensorData) {
        let mut content = Vec::with_capacity(SHAPE_BYTES + features.bytes.len() + SUM_BYTES);
        for side in features.shape.iter() {
            content.extend((*side as u64).to_le_bytes());
        }
        for value in features.iter::<f32>() {
            content.extend(value.to_le_bytes());
        }
        let sum = blake3::hash(&content);
        content.extend(sum.as_bytes());
        let num_bytes = content.len() as u64;
        if self.used_bytes.fetch_add(num_bytes, Ordering::Relaxed) + num_bytes > self.max_bytes {
            self.used_bytes.fetch_sub(num_bytes, Ordering::Relaxed);
            return;
        }
        let path = self.path(key);
        // Renamed when whole: another process may be reading. A crash leaves a file whose sum is wrong at worst.
        let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
        if let Err(error) = fs::write(&temporary, content).and_then(|()| fs::rename(&temporary, &path)) {
            tracing::warn!("{}: features are not kept: {error}", path.display());
            // Nothing can be done if this fails too.
            let _ = fs::remove_file(&temporary);
            self.used_bytes.fetch_sub(num_bytes, Ordering::Relaxed);
        }
    }
}
