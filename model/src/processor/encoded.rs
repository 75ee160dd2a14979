//! What the processor hands to the model: token ids and patches, on the host.

/// Grid of one image or video in patches: temporal, height, width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GridThw {
    /// Temporal patches.
    pub t: usize,
    /// Patches along the height.
    pub h: usize,
    /// Patches along the width.
    pub w: usize,
}

impl GridThw {
    /// Number of patches.
    pub fn num_patches(self) -> usize {
        self.t * self.h * self.w
    }

    /// Number of placeholder tokens after merging `merge_size` × `merge_size` patches.
    pub fn num_tokens(self, merge_size: usize) -> usize {
        self.num_patches() / (merge_size * merge_size)
    }
}

/// Normalised patches of several images or videos, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Patches {
    /// `[num_patches, channels * temporal_patch_size * patch_size * patch_size]`, row-major, in the reference's order
    /// (t, h / merge, w / merge, merge, merge).
    pub values: Vec<f32>,
    /// One grid per image or video.
    pub grids: Vec<GridThw>,
}

impl Patches {
    /// Number of rows over all grids.
    pub fn num_patches(&self) -> usize {
        self.grids.iter().map(|grid| grid.num_patches()).sum()
    }
}

/// A conversation ready for the model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Encoded {
    /// Token ids with every vision placeholder expanded, unpadded.
    pub input_ids: Vec<u32>,
    /// Patches of the images, in order of appearance.
    pub images: Patches,
    /// Patches of the videos, in order of appearance.
    pub videos: Patches,
    /// Seconds between temporal patches, one per video (`temporal_patch_size / fps`).
    pub second_per_grid_ts: Vec<f32>,
}
