//! Group sequence policy optimisation (Zheng et al. 2025).

use super::{GrpoConfig, Surrogate};
use crate::objective::{Clip, Level};

impl GrpoConfig {
    /// One ratio per sequence, clipped within the paper's narrow bounds.
    pub fn gspo() -> Self {
        let clip = Clip { epsilon: 3e-4, epsilon_high: 4e-4, level: Level::Sequence, ..Clip::default() };
        Self { surrogate: Surrogate::Clip(clip), ..Self::default() }
    }
}
