//! What the operation takes besides inputs and output.

use super::{Gradients, GroupAttention, Heads, Rows};

/// Numbers that are there while the operation runs, and those kept for its backward pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Working {
    /// Kept after the forward pass.
    pub(crate) kept: usize,
    /// For a while in it.
    pub(crate) forward: usize,
    /// For a while in the backward pass, besides what it finds.
    pub(crate) backward: usize,
}

impl Working {
    /// For queries of `rows` over keys of these lengths, on so many threads.
    pub(crate) fn of(rows: Rows, heads: Heads, own_len: usize, prompt_len: usize, threads: usize) -> Self {
        let sizes = GroupAttention {
            rows,
            heads,
            own_len,
            prompt_len,
            own_mask: None,
            prompt_mask: None,
            packing: None,
        };
        let query = rows.tokens() * heads.query * heads.dim;
        let keys_values = sizes.num_units() * Gradients::lens(&sizes).iter().sum::<usize>();
        let num_blocks = sizes.num_units() * sizes.unit_len().div_ceil(sizes.block_len().max(1));
        let scores = threads.min(num_blocks) * sizes.block_len() * sizes.num_keys();
        // The scaled queries, then the blocks' scores or the output by unit.
        let forward = query + query.max(scores);
        // Queries and what is asked, by unit; what the parts find, with two sets of scores or its sum by unit and by token.
        let parts = query + sizes.num_parts() * keys_values;
        let backward = 2 * query + parts + query.max((2 * scores).saturating_sub(query + keys_values));
        Self { kept: 2 * rows.tokens() * heads.query, forward, backward }
    }
}
