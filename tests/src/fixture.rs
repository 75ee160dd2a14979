//! The fixtures of `tests/data/parity`: reference tensors and the conversations they belong to (see its README).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use medgrpo_datasets::{Content, Message, read_messages};
use medgrpo_model::processor::{Encoded, Processor};
use medgrpo_trainers::prepare::{SamplePreparer, VideoSampling};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// Greedy answers of the fixtures were cut here.
pub(crate) const MAX_NEW_TOKENS: usize = 12;

/// A tensor as it stands in a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

/// All tensors of one or several safetensors files.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tensors(pub(crate) BTreeMap<String, Stored>);

impl Tensors {
    /// One file.
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let stored = |view: safetensors::tensor::TensorView<'_>| Stored {
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            bytes: view.data().to_vec(),
        };
        Self(file.tensors().into_iter().map(|(name, view)| (name, stored(view))).collect())
    }

    /// All weights of a checkpoint directory.
    pub(crate) fn read_checkpoint(dir: &Path) -> Self {
        let mut all = Self::default();
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "safetensors") {
                all.0.extend(Self::read(&path).0);
            }
        }
        all
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn get(&self, name: &str) -> &Stored {
        self.0.get(name).unwrap_or_else(|| panic!("no tensor `{name}`"))
    }

    pub(crate) fn shape(&self, name: &str) -> &[usize] {
        &self.get(name).shape
    }

    fn typed<const N: usize, T>(&self, name: &str, dtype: Dtype, read: impl Fn([u8; N]) -> T) -> Vec<T> {
        let stored = self.get(name);
        assert_eq!(stored.dtype, dtype, "{name}");
        stored.bytes.as_chunks::<N>().0.iter().map(|bytes| read(*bytes)).collect()
    }

    pub(crate) fn f32s(&self, name: &str) -> Vec<f32> {
        self.typed(name, Dtype::F32, f32::from_le_bytes)
    }

    pub(crate) fn i64s(&self, name: &str) -> Vec<i64> {
        self.typed(name, Dtype::I64, i64::from_le_bytes)
    }

    pub(crate) fn u8s(&self, name: &str) -> Vec<u8> {
        self.typed(name, Dtype::U8, |[byte]| byte)
    }

    pub(crate) fn ids(&self, name: &str) -> Vec<u32> {
        self.i64s(name).into_iter().map(|id| u32::try_from(id).unwrap()).collect()
    }
}

/// A conversation that ends in an answer, as our processor gives it.
pub(crate) struct Record {
    pub(crate) name: String,
    /// The whole conversation.
    pub(crate) conversation: Encoded,
    /// Everything before the answer, with the generation prompt.
    pub(crate) prompt: Encoded,
    /// The answer with its `<|im_end|>`.
    pub(crate) answer: Vec<u32>,
}

/// A checkpoint, its records and what transformers makes of them.
pub(crate) struct Fixture {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) processor: Arc<Processor>,
    pub(crate) records: Vec<Record>,
    pub(crate) reference: Tensors,
    /// `NAME.json`.
    pub(crate) figures: Value,
}

/// The folder of the fixtures.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/parity")
}

/// Names of all checkpoints.
pub(crate) fn names() -> Vec<String> {
    let files = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert!(names.len() >= 7, "fixtures are missing: {names:?}");
    names
}

/// All fixtures.
pub(crate) fn all() -> Vec<Fixture> {
    names().iter().map(|name| Fixture::open(name)).collect()
}

impl Fixture {
    /// Reads one fixture.
    pub(crate) fn open(name: &str) -> Self {
        let root = root();
        let dir = root.join(name);
        let figures = std::fs::read(root.join(format!("{name}.json"))).unwrap();
        let figures: Value = serde_json::from_slice(&figures).unwrap();
        let processor = Arc::new(Processor::from_dir(&dir).unwrap());
        let preparer = SamplePreparer {
            processor: processor.clone(),
            sampling: VideoSampling::default(),
            max_prompt_tokens: None,
        };
        let conversations = read_messages(&root.join(format!("{name}.messages.jsonl"))).unwrap();
        let record_names = figures["records"].as_array().unwrap();
        let records: Vec<Record> = conversations
            .zip(record_names)
            .map(|(record, record_name)| {
                prepare(&preparer, record_name.as_str().unwrap(), &record.unwrap().messages)
            })
            .collect();
        assert_eq!(records.len(), record_names.len(), "{name}");
        let reference = Tensors::read(&root.join(format!("{name}.safetensors")));
        Self { name: name.to_owned(), dir, processor, records, reference, figures }
    }

    /// Indices of the records whose gradient is stored.
    pub(crate) fn gradient_records(&self) -> Vec<usize> {
        let names = self.figures["gradient_records"].as_array().unwrap();
        names
            .iter()
            .map(|name| self.records.iter().position(|record| record.name == *name).unwrap())
            .collect()
    }
}

fn prepare(preparer: &SamplePreparer, name: &str, messages: &[Message]) -> Record {
    let (last, before) = messages.split_last().unwrap();
    let text: String = last
        .content
        .iter()
        .map(|part| match part {
            Content::Text(text) => text.as_str(),
            _ => panic!("{name}: an answer holds text only"),
        })
        .collect();
    let (prompt, answer) = preparer.encode_prompt(name, before, Some(&text)).unwrap();
    let conversation = preparer.encode_conversation(name, messages, false).unwrap();
    Record { name: name.to_owned(), conversation, prompt, answer: answer.unwrap() }
}

/// Distances of a set of numbers from their references.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Deviation {
    pub(crate) max: f64,
    sum: f64,
    count: usize,
}

impl Deviation {
    /// Adds numbers; panics if there are not equally many or one is not finite.
    pub(crate) fn add(&mut self, what: &str, ours: &[f32], reference: &[f32]) {
        assert_eq!(ours.len(), reference.len(), "{what}: number of values");
        for (ours, reference) in ours.iter().zip(reference) {
            assert!(ours.is_finite(), "{what}: not finite");
            let distance = (f64::from(*ours) - f64::from(*reference)).abs();
            self.max = self.max.max(distance);
            self.sum += distance;
            self.count += 1;
        }
    }

    pub(crate) fn mean(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }

    /// Prints the figures and panics where they are larger than allowed, or where nothing was compared.
    pub(crate) fn check(&self, what: &str, max: f64, mean: f64) {
        println!("{what}: max {:.2e}, mean {:.2e} over {} numbers", self.max, self.mean(), self.count);
        assert!(self.count > 0, "{what}: nothing was compared");
        assert!(self.max <= max && self.mean() <= mean, "{what}: allowed are max {max:e} and mean {mean:e}");
    }
}

/// `|ours - reference| / |reference|` in L2 norm.
pub(crate) fn relative_l2(ours: &[f32], reference: &[f32]) -> f64 {
    assert_eq!(ours.len(), reference.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let difference = norm(&mut ours.iter().zip(reference).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / norm(&mut reference.iter().map(|value| f64::from(*value))).max(f64::MIN_POSITIVE)
}
