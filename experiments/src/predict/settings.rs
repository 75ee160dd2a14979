//! What a file of answers was made with: a sidecar `NAME.meta.json`, so that a resumed run never mixes two settings.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{cli::Shard, run_dir::write_atomic};

/// Files of a checkpoint up to this size go into its fingerprint whole.
const MAX_WHOLE_BYTES: u64 = 1 << 20;
/// Of larger ones so many pieces, spread evenly.
const NUM_PIECES: u64 = 64;
/// Size of a piece.
const PIECE_BYTES: u64 = 4 << 10;

/// What decides the answers, and what is only told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Meta {
    /// Must be the same for a run to go on.
    pub(super) settings: BTreeMap<String, Value>,
    /// The rows answered: `i/n`.
    pub(super) shard: String,
    /// Rows of all shards together.
    pub(super) num_rows: usize,
    /// For people: names and places.
    pub(super) notes: BTreeMap<String, Value>,
}

impl Meta {
    pub(super) fn shard(&self, path: &Path) -> Result<Shard> {
        self.shard.parse().map_err(|reason| anyhow::anyhow!("{}: {reason}", path.display()))
    }

    /// The sidecar of `out`; `None` if there is none.
    pub(super) fn read(out: &Path) -> Result<Option<Self>> {
        let path = meta_path(out);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        let meta = serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?;
        Ok(Some(meta))
    }

    pub(super) fn write(&self, out: &Path) -> Result<()> {
        Ok(write_atomic(&meta_path(out), &serde_json::to_vec_pretty(self)?)?)
    }

    /// The settings that differ, each as `key: theirs, now ours`.
    pub(super) fn differences(&self, now: &Self) -> Vec<String> {
        let none = Value::Null;
        let keys: std::collections::BTreeSet<&String> =
            self.settings.keys().chain(now.settings.keys()).collect();
        let mut told: Vec<String> = keys
            .into_iter()
            .filter_map(|key| {
                let value = |meta: &'_ Self| meta.settings.get(key).unwrap_or(&none).to_string();
                let (theirs, ours) = (value(self), value(now));
                (theirs != ours).then(|| format!("{key}: {theirs}, now {ours}"))
            })
            .collect();
        if self.num_rows != now.num_rows {
            told.push(format!("rows: {}, now {}", self.num_rows, now.num_rows));
        }
        told
    }

    /// Lets a run go on only with what it was begun with.
    pub(super) fn require_same(&self, now: &Self, out: &Path) -> Result<()> {
        let mut told = self.differences(now);
        if self.shard != now.shard {
            told.push(format!("shard: {}, now {}", self.shard, now.shard));
        }
        if told.is_empty() {
            return Ok(());
        }
        bail!(
            "{} was begun with other settings:\n  {}\ngive those again to go on, or choose another --out",
            out.display(),
            told.join("\n  ")
        )
    }
}

/// `NAME.meta.json` beside `NAME`.
pub(super) fn meta_path(out: &Path) -> PathBuf {
    beside(out, ".meta.json")
}

/// `NAME` with an ending more.
pub(super) fn beside(out: &Path, ending: &str) -> PathBuf {
    let mut name: OsString = out.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// A hash of a checkpoint directory's files: names, sizes, and content; of large files pieces of the content, which no
/// training leaves as they were.
pub(super) fn fingerprint_of_model(dir: &Path) -> Result<String> {
    let told = |path: &Path| path.display().to_string();
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| told(dir))? {
        let entry = entry.with_context(|| told(dir))?;
        let name = entry.file_name();
        let is_part = ["json", "jinja", "safetensors", "txt"].iter().any(|ending| {
            Path::new(&name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case(ending))
        });
        if is_part && entry.path().is_file() {
            names.push(name);
        }
    }
    names.sort();
    let mut hasher = blake3::Hasher::new();
    for name in names {
        let path = dir.join(&name);
        let mut file = File::open(&path).with_context(|| told(&path))?;
        let num_bytes = file.metadata().with_context(|| told(&path))?.len();
        hasher.update(name.as_encoded_bytes()).update(&[0]).update(&num_bytes.to_le_bytes());
        let (num_pieces, piece_bytes) =
            if num_bytes <= MAX_WHOLE_BYTES { (1, num_bytes) } else { (NUM_PIECES, PIECE_BYTES) };
        for number in 0..num_pieces {
            // From the first byte to the last.
            let start = (num_bytes - piece_bytes) * number / (num_pieces - 1).max(1);
            let mut piece = Vec::new();
            file.seek(SeekFrom::Start(start)).with_context(|| told(&path))?;
            file.by_ref().take(piece_bytes).read_to_end(&mut piece).with_context(|| told(&path))?;
            hasher.update(&piece);
        }
    }
    Ok(hasher.finalize().to_hex()[..32].to_owned())
}

/// A hash of a file's content.
pub(super) fn hash_of_file(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    std::io::copy(&mut file, &mut hasher).with_context(|| path.display().to_string())?;
    Ok(hasher.finalize().to_hex()[..32].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_was_trained_on_has_another_fingerprint() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
        let weights = vec![7u8; 3 << 20];
        write("model.safetensors", &weights);
        write("config.json", b"{}");
        let first = fingerprint_of_model(dir.path()).unwrap();
        write("notes.md", b"not part of it");
        assert_eq!(fingerprint_of_model(dir.path()).unwrap(), first);
        let shifted: Vec<u8> = weights.iter().map(|byte| byte + 1).collect();
        write("model.safetensors", &shifted);
        let second = fingerprint_of_model(dir.path()).unwrap();
        let mut last = shifted.clone();
        *last.last_mut().unwrap() ^= 1;
        write("model.safetensors", &last);
        let third = fingerprint_of_model(dir.path()).unwrap();
        write("config.json", b"[]");
        let fourth = fingerprint_of_model(dir.path()).unwrap();
        let all = std::collections::BTreeSet::from([first, second, third, fourth]);
        assert_eq!(all.len(), 4, "{all:?}");
        assert!(fingerprint_of_model(&dir.path().join("absent")).is_err());
    }

    #[test]
    fn differences_name_the_key_and_both_values() {
        let meta = |shots: usize, shard: &str| Meta {
            settings: BTreeMap::from([("shots".to_owned(), shots.into())]),
            shard: shard.to_owned(),
            num_rows: 5,
            notes: BTreeMap::new(),
        };
        let out = Path::new("p.jsonl");
        meta(1, "0/1").require_same(&meta(1, "0/1"), out).unwrap();
        let error = meta(1, "0/1").require_same(&meta(0, "1/2"), out).unwrap_err().to_string();
        assert!(error.contains("shots: 1, now 0") && error.contains("shard: 0/1, now 1/2"), "{error}");
        let noted = Meta { notes: BTreeMap::from([("root".to_owned(), "x".into())]), ..meta(1, "0/1") };
        noted.require_same(&meta(1, "0/1"), out).unwrap();
    }
}
