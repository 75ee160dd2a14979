//! Soft adaptive policy optimisation (Gao et al. 2025).

use super::{GrpoConfig, Surrogate};
use crate::objective::Sapo;

impl GrpoConfig {
    /// A soft gate in place of a clip.
    pub fn sapo() -> Self {
        Self { surrogate: Surrogate::Sapo(Sapo::default()), ..Self::default() }
    }
}
