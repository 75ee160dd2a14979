//! How much better an answer was than expected: rewards of a batch in, one number per completion out.

mod constant;
mod group_mean;

pub use constant::Constant;
pub use group_mean::{GroupMean, Scale};

/// A pure function of the rewards of one batch of groups.
///
/// `None` stands for a completion that could not be scored: it takes no part in any statistic and its advantage is 0.
pub trait Advantage: Send + Sync {
    /// One advantage per completion, in the shape of `rewards`.
    fn advantages(&self, rewards: &[Vec<Option<f32>>]) -> Vec<Vec<f32>>;
}
