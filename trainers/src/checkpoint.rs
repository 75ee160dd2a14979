//! Training checkpoints: a Hugging Face directory in f32 plus what exact resumption needs, written all or not at all.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use burn::tensor::backend::AutodiffBackend;
use medgrpo_model::{
    checkpoint::{CheckpointSource, save_into},
    lora::save_adapter,
    weights::SavePrecision,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{TrainError, learner::Learner, recipe::Policy};

/// Where a run stands, besides weights and optimizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainState {
    /// Which stage, from 0.
    pub stage_index: usize,
    /// Its name.
    pub stage: String,
    /// Steps of the stage that are done.
    pub step: usize,
    /// Place of the sample stream.
    pub stream: Value,
    /// What the source has learned: null where it learns nothing.
    #[serde(default)]
    pub source: Value,
    /// The best step of the stage so far, where a metric says which that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
}

/// A step that was better than those before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The metric that says so.
    pub metric: String,
    /// Its value.
    pub value: f64,
    /// Steps of the stage that were done.
    pub step: usize,
}

/// Folders whose name starts so are what a process that died left of a checkpoint: nothing reads them.
const TEMPORARY_PREFIX: &str = ".tmp-checkpoint-";
const STATE: &str = "train_state.json";
const CHECKSUMS: &str = "checksums.json";

/// Where the adapter of a model that has one lies in its checkpoint.
pub const ADAPTER: &str = "adapter";

/// What of a model with an adapter is stored.
#[derive(Clone, Copy, Debug)]
pub enum Stored<'a> {
    /// The whole model; it has no adapter.
    Model,
    /// The adapter alone; the model below it goes by this name.
    Adapter(&'a str),
    /// The adapter, and the model with the adapter merged into it.
    AdapterAndMerged(&'a str),
}

/// Writes a checkpoint to `dir`, which must not exist yet, through a temporary folder beside it.
pub fn save<B: AutodiffBackend, M: Policy<B>>(
    dir: &Path,
    model: &M,
    source: &CheckpointSource,
    stored: Stored<'_>,
    learner: &Learner<B, M>,
    state: &TrainState,
) -> Result<(), TrainError> {
    let parent = dir.parent().unwrap_or(Path::new("."));
    let failed = |error: std::io::Error| error_at(dir, format!("checkpoint cannot be written: {error}"));
    fs::create_dir_all(parent).map_err(failed)?;
    let temporary = tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempdir_in(parent).map_err(failed)?;
    if let Stored::Adapter(base) | Stored::AdapterAndMerged(base) = stored {
        let adapter = temporary.path().join(ADAPTER);
        fs::create_dir(&adapter).map_err(failed)?;
        save_adapter(model, base, &adapter)?;
    }
    match stored {
        Stored::Model => save_into(model, source, SavePrecision::F32, temporary.path())?,
        Stored::Adapter(_) => {}
        Stored::AdapterAndMerged(_) => {
            save_into(&model.clone().merged(), source, SavePrecision::F32, temporary.path())?;
        }
    }
    learner.save(temporary.path())?;
    let text = serde_json::to_vec_pretty(state).expect("plain data serialises");
    write_synced(&temporary.path().join(STATE), &text)?;
    let sums = serde_json::to_vec_pretty(&checksums(temporary.path())?).expect("plain data serialises");
    write_synced(&temporary.path().join(CHECKSUMS), &sums)?;
    fs::rename(temporary.keep(), dir).map_err(failed)?;
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// Reads the state of a checkpoint after comparing every file with its checksum.
pub fn load_state(dir: &Path) -> Result<TrainState, TrainError> {
    let stored: BTreeMap<String, String> = read_json(&dir.join(CHECKSUMS))?;
    let found = checksums(dir)?;
    if let Some((file, _)) = stored.iter().find(|(file, sum)| found.get(*file) != Some(*sum)) {
        return Err(error_at(
            &dir.join(file),
            "is damaged: its checksum is not the one stored with the checkpoint",
        ));
    }
    read_json(&dir.join(STATE))
}

/// The state of a checkpoint as it stands there, compared with nothing.
pub fn peek_state(dir: &Path) -> Result<TrainState, TrainError> {
    read_json(&dir.join(STATE))
}

/// BLAKE3 sums of a checkpoint's files and of its adapter's, the list of sums itself left out.
fn checksums(dir: &Path) -> Result<BTreeMap<String, String>, TrainError> {
    let mut sums = checksums_below(dir, "")?;
    let adapter = dir.join(ADAPTER);
    if adapter.exists() {
        sums.extend(checksums_below(&adapter, &format!("{ADAPTER}/"))?);
    }
    Ok(sums)
}

fn checksums_below(dir: &Path, prefix: &str) -> Result<BTreeMap<String, String>, TrainError> {
    let mut sums = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(|error| error_at(dir, error))? {
        let path = entry.map_err(|error| error_at(dir, error))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name != CHECKSUMS && path.is_file() {
            let mut hasher = blake3::Hasher::new();
            File::open(&path)
                .and_then(|file| hasher.update_reader(file).map(|_| ()))
                .map_err(|error| error_at(&path, error))?;
            sums.insert(format!("{prefix}{name}"), hasher.finalize().to_hex().to_string());
        }
    }
    Ok(sums)
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    fs::write(path, bytes).and_then(|()| File::open(path)?.sync_all()).map_err(|error| error_at(path, error))
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, TrainError> {
    let bytes = fs::read(path).map_err(|error| error_at(path, error))?;
    serde_json::from_slice(&bytes).map_err(|error| error_at(path, error))
}

fn error_at(path: &Path, what: impl std::fmt::Display) -> TrainError {
    TrainError::Checkpoint { path: PathBuf::from(path), message: what.to_string() }
}
