//! What a frozen vision tower made of clips, kept by what the clips show.
//!
//! The images and the videos of a prompt go through the tower by themselves, so that features depend neither on what
//! they are batched with nor on what is still kept.

mod disk;

use std::{io, path::Path, sync::Arc};

use burn::tensor::{Tensor, TensorData, backend::Backend};
use quick_cache::{
    DefaultHashBuilder, OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};

use crate::{precision::Precision, processor::Patches};
use disk::Disk;

/// BLAKE3 of patches, their grids and the precision of what is computed with them.
type Key = [u8; 32];

/// Features of clips in memory and, if asked for, on a disk; for one state of the tower's weights.
///
/// A clip that several threads ask for at a time is encoded once.
#[derive(Debug)]
pub struct VisionStore {
    ram: Cache<Key, Arc<TensorData>, Bytes>,
    disk: Option<Disk>,
}

/// Weighs features by their size.
#[derive(Clone, Debug)]
struct Bytes;

impl Weighter<Key, Arc<TensorData>> for Bytes {
    fn weight(&self, _key: &Key, features: &Arc<TensorData>) -> u64 {
        features.bytes.len() as u64
    }
}

impl VisionStore {
    /// A store of at most `ram_bytes`; what is seldom asked for goes first.
    pub fn new(ram_bytes: u64) -> Self {
        let options = OptionsBuilder::new()
            // Sizes tables only: a clip has some hundred tokens of some thousand numbers.
            .estimated_items_capacity((ram_bytes >> 20).clamp(16, 1 << 16) as usize)
            .weight_capacity(ram_bytes)
            // A shard keeps nothing larger than itself, and a long clip has a hundred megabytes.
            .shards(1)
            .build()
            .expect("sizes are given");
        let ram =
            Cache::with_options(options, Bytes, DefaultHashBuilder::default(), DefaultLifecycle::default());
        Self { ram, disk: None }
    }

    /// Keeps features in the folder `dir` too, which only stores for the same weights may have used before, until it
    /// holds `max_bytes`.
    ///
    /// # Errors
    /// A folder that cannot be made or read.
    pub fn with_disk(self, dir: &Path, max_bytes: u64) -> io::Result<Self> {
        Ok(Self { disk: Some(Disk::open(dir, max_bytes)?), ..self })
    }

    /// The features of `patches`, `[num_tokens, hidden]`, by `encode` with `precision` unless they are kept.
    pub(crate) fn features<B: Backend>(
        &self,
        patches: &Patches,
        precision: Precision,
        device: &B::Device,
        encode: impl FnOnce() -> Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        let key = key(patches, precision);
        let find = || {
            if let Some(features) = self.disk.as_ref().and_then(|disk| disk.read(&key)) {
                return Ok::<_, std::convert::Infallible>(Arc::new(features));
            }
            let features = encode().into_data().convert::<f32>();
            if let Some(disk) = &self.disk {
                disk.write(&key, &features);
            }
            Ok(Arc::new(features))
        };
        let Ok(features) = self.ram.get_or_insert_with(&key, find);
        Tensor::from_data(TensorData::clone(&features), device)
    }
}

fn key(patches: &Patches, precision: Precision) -> Key {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[precision as u8]);
    for grid in &patches.grids {
        for side in [grid.t, grid.h, grid.w] {
            hasher.update(&(side as u64).to_le_bytes());
        }
    }
    hasher.update(bytemuck::cast_slice(&patches.values));
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use burn_flex::{Flex, FlexDevice};

    use super::*;
    use crate::processor::GridThw;

    fn patches(value: f32) -> Patches {
        Patches { values: vec![value; 8], grids: vec![GridThw { t: 1, h: 2, w: 2 }] }
    }

    /// Asks for the features of a clip that shows `value`; `encoded` counts how often they are computed.
    fn ask(store: &VisionStore, value: f32, encoded: &AtomicUsize) -> Vec<f32> {
        let features = store.features::<Flex>(&patches(value), Precision::Parameters, &FlexDevice, || {
            encoded.fetch_add(1, Ordering::Relaxed);
            Tensor::from_data([[value, 1.0]], &FlexDevice)
        });
        assert_eq!(features.dims(), [1, 2]);
        features.into_data().into_vec().unwrap()
    }

    #[test]
    fn a_clip_is_encoded_once_whoever_asks() {
        let (store, encoded) = (VisionStore::new(1 << 20), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for value in [1.0, 2.0, 1.0] {
                        assert_eq!(ask(&store, value, &encoded), [value, 1.0]);
                    }
                });
            }
        });
        assert_eq!(encoded.into_inner(), 2);
        let other = Patches { grids: vec![GridThw { t: 1, h: 1, w: 4 }], ..patches(1.0) };
        let keys = [&other, &patches(1.0)].map(|clip| key(clip, Precision::Parameters));
        assert_ne!(keys[0], keys[1]);
        assert_ne!(key(&other, Precision::Bf16), keys[0]);
    }

    #[test]
    fn a_long_clip_is_kept_too() {
        let (store, rows) = (VisionStore::new(1 << 30), 40 << 10);
        let mut encoded = 0;
        for _ in 0..2 {
            store.features::<Flex>(&patches(1.0), Precision::Parameters, &FlexDevice, || {
                encoded += 1;
                Tensor::zeros([rows, 256], &FlexDevice)
            });
        }
        assert_eq!(encoded, 1);
    }

    #[test]
    fn memory_is_bounded_and_the_disk_stands_in() {
        let dir = tempfile::tempdir().unwrap();
        let (encoded, values) = (AtomicUsize::new(0), [1.0, 2.0, 3.0, 4.0]);
        // Room for one clip of 8 bytes.
        let small = VisionStore::new(8);
        for value in values.into_iter().chain(values) {
            ask(&small, value, &encoded);
        }
        assert!(small.ram.weight() <= 8);
        assert!(encoded.swap(0, Ordering::Relaxed) > 4);
        let with_disk = || VisionStore::new(8).with_disk(dir.path(), 1 << 10).unwrap();
        let store = with_disk();
        for value in values.into_iter().chain(values) {
            assert_eq!(ask(&store, value, &encoded), [value, 1.0]);
        }
        assert_eq!(encoded.swap(0, Ordering::Relaxed), 4);
        // Another process finds them; a damaged file is encoded anew.
        for entry in std::fs::read_dir(dir.path()).unwrap().take(1) {
            std::fs::write(entry.unwrap().path(), b"damaged").unwrap();
        }
        let later = with_disk();
        for value in values {
            assert_eq!(ask(&later, value, &encoded), [value, 1.0]);
        }
        assert_eq!(encoded.swap(0, Ordering::Relaxed), 1);
        // A full disk keeps what it has.
        let full = VisionStore::new(8).with_disk(dir.path(), 1).unwrap();
        let before = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(ask(&full, 5.0, &encoded), [5.0, 1.0]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), before);
    }
}
