//! Methods as other frameworks run them, where that differs from the papers'.

use std::sync::Arc;

use super::{GrpoConfig, Surrogate};
use crate::{
    advantage::{GroupMean, Scale},
    aggregate::Aggregate,
    objective::Clip,
};

/// Most that the loss of a bad completion counts in verl and EasyR1 (`clip_ratio_c`, `clip_ratio_dual`).
const DUAL_CLIP: f64 = 3.0;

impl GrpoConfig {
    /// TRL's defaults: its `loss_type` is `"dapo"`.
    pub fn trl_grpo() -> Self {
        Self { aggregate: Aggregate::TokenMean, ..Self::default() }
    }

    /// DAPO as TRL's documentation sets it up: completions that were cut off are left out of the loss, and groups without
    /// spread are learned from, since TRL does not draw again.
    pub fn trl_dapo() -> Self {
        Self { mask_truncated_completions: true, ..Self::dapo() }
    }

    /// verl's GRPO on vision-language models (`run_qwen2_5_vl-7b`): `low_var_kl` at 0.01 in the loss.
    pub fn verl_grpo() -> Self {
        Self { beta: 0.01, ..Self::trl_grpo() }.like_verl()
    }

    /// DAPO as EasyR1 runs it.
    pub fn easyr1_dapo() -> Self {
        Self::dapo().like_verl()
    }

    /// MedGRPO (Su et al. 2026): the bounds 0.2 and 0.3, no divergence. What else makes the method are its rewards.
    pub fn medgrpo() -> Self {
        Self { surrogate: Surrogate::Clip(Clip { epsilon_high: 0.3, ..Clip::default() }), ..Self::default() }
    }

    /// The same with what the paper leaves open as in EasyR1, whose default bounds are the paper's: every token of the step
    /// alike, dual clip, epsilon. That the paper was run with it is an inference.
    pub fn medgrpo_paper() -> Self {
        Self { aggregate: Aggregate::TokenMean, ..Self::medgrpo() }.like_verl()
    }

    /// verl's advantage and dual clip, which EasyR1 shares.
    fn like_verl(self) -> Self {
        let surrogate = match self.surrogate {
            Surrogate::Clip(clip) => Surrogate::Clip(Clip { clip_ratio_c: Some(DUAL_CLIP), ..clip }),
            other => other,
        };
        Self { surrogate, advantage: Arc::new(GroupMean::verl(Scale::Group)), ..self }
    }
}
