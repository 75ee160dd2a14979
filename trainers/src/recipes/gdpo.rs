//! GDPO: GRPO with every part of the reward on its own scale.

use std::sync::Arc;

use super::GrpoConfig;
use crate::advantage::Gdpo;

impl GrpoConfig {
    /// `advantage` names the parts and their weights.
    pub fn gdpo(advantage: Gdpo) -> Self {
        Self { advantage: Arc::new(advantage), ..Self::default() }
    }
}
