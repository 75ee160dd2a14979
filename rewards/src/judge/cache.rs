//! Judgements on disk, found again by what was asked.
//!
//! One small JSON file an entry, in folders by the first two digits of its key. An entry is written to a temporary name and
//! renamed, so that processes may share a folder; what cannot be read is asked again and written anew.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{JudgeError, Judgement};

/// The hash of everything that a judgement depends on, as hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// The key of a list of values.
    pub fn of(parts: &[serde_json::Value]) -> Self {
        let text = serde_json::Value::from(parts).to_string();
        Self(blake3::hash(text.as_bytes()).to_hex().to_string())
    }
}

/// What a file holds.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    key: String,
    /// In the order of `Aspect::ALL`.
    scores: [f64; 5],
    /// Who judged, for whoever looks into the file.
    judge: String,
}

/// What looking for an entry gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lookup {
    /// It is there.
    Hit(Judgement),
    /// It was never written.
    Miss,
    /// There is a file that is no entry.
    Corrupt,
}

/// A folder of judgements.
#[derive(Clone, Debug)]
pub struct ScoreCache {
    root: PathBuf,
}

impl ScoreCache {
    /// Opens or makes the folder.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn open(root: &Path) -> Result<Self, JudgeError> {
        fs::create_dir_all(root).map_err(|error| failure(root, &error))?;
        Ok(Self { root: root.to_owned() })
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(&key.0[..2]).join(format!("{}.json", &key.0[2..]))
    }

    /// Looks for an entry. A file that is damaged is none.
    pub fn get(&self, key: &Key) -> Lookup {
        let bytes = match fs::read(self.path(key)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Lookup::Miss,
            Err(_) => return Lookup::Corrupt,
        };
        match serde_json::from_slice(&bytes) {
            Ok(Entry { key: own, scores, .. })
                if own == key.0 && scores.iter().all(|score| (1.0..=5.0).contains(score)) =>
            {
                Lookup::Hit(Judgement { scores })
            }
            _ => Lookup::Corrupt,
        }
    }

    /// Writes an entry, over what may be there.
    ///
    /// # Errors
    ///
    /// If it cannot be written: the judgement would have to be paid for again.
    pub fn put(&self, key: &Key, judgement: &Judgement, judge: &str) -> Result<(), JudgeError> {
        let path = self.path(key);
        let entry = Entry { key: key.0.clone(), scores: judgement.scores, judge: judge.to_owned() };
        let written = (|| {
            let folder = path.parent().unwrap_or(&self.root);
            fs::create_dir_all(folder)?;
            let mut builder = tempfile::Builder::new();
            builder.prefix(".tmp-");
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt as _;
                // A cache may be shared: the umask decides, as for any other file.
                builder.permissions(fs::Permissions::from_mode(0o666));
            }
            let mut file = builder.tempfile_in(folder)?;
            serde_json::to_writer(&mut file, &entry)?;
            file.flush()?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        })();
        written.map_err(|error| failure(&path, &error))
    }
}

fn failure(path: &Path, error: &io::Error) -> JudgeError {
    JudgeError(format!(
        "{}: {error}. Judgements are kept there so that none is paid for twice: make room, or choose another folder",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const JUDGEMENT: Judgement = Judgement { scores: [1.0, 2.0, 3.0, 4.0, 5.0] };

    #[test]
    fn entries_are_found_by_their_key_alone() {
        let dir = tempfile::tempdir().unwrap();
        let cache = ScoreCache::open(&dir.path().join("a/b")).unwrap();
        let [key, other] = ["x", "y"].map(|text| Key::of(&[json!("m"), json!(text)]));
        assert_ne!(key, Key::of(&[json!("mx")]));
        assert_eq!(cache.get(&key), Lookup::Miss);
        cache.put(&key, &JUDGEMENT, "m").unwrap();
        assert_eq!((cache.get(&key), cache.get(&other)), (Lookup::Hit(JUDGEMENT), Lookup::Miss));
        assert_eq!(ScoreCache::open(&dir.path().join("a/b")).unwrap().get(&key), Lookup::Hit(JUDGEMENT));
    }

    #[test]
    fn a_damaged_entry_is_none_and_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let cache = ScoreCache::open(dir.path()).unwrap();
        let [key, other] = ["x", "y"].map(|text| Key::of(&[json!(text)]));
        cache.put(&key, &JUDGEMENT, "m").unwrap();
        let path = cache.path(&key);
        let whole = fs::read(&path).unwrap();
        let wrong_score = String::from_utf8(whole.clone()).unwrap().replace("5.0", "7.0").into_bytes();
        for bytes in [&whole[..whole.len() / 2], b"", b"[]", &wrong_score] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(cache.get(&key), Lookup::Corrupt);
        }
        fs::create_dir_all(cache.path(&other).parent().unwrap()).unwrap();
        fs::write(cache.path(&other), &whole).unwrap();
        assert_eq!(cache.get(&other), Lookup::Corrupt, "another one's entry");
        cache.put(&key, &JUDGEMENT, "m").unwrap();
        assert_eq!(cache.get(&key), Lookup::Hit(JUDGEMENT));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let error = ScoreCache::open(&dir.path().join("file/cache")).unwrap_err();
        assert!(error.0.contains("file/cache"), "{error}");
    }
}
