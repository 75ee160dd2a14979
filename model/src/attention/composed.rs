//! Attention made of tensor operations, for any backend. It writes the scores of all pairs of tokens.

use burn::tensor::{Tensor, activation::softmax, backend::Backend};

use super::{Attention, Heads, KeyValue, PassMask, Rows};
use crate::precision::{as_type, raised};

/// See [`Attention::attend`].
pub(super) fn attend<B: Backend>(
    attention: &Attention<B>,
    query: Tensor<B, 2>,
    own: &KeyValue<B>,
    prompt: Option<&KeyValue<B>>,
) -> Tensor<B, 2> {
    let Attention { rows, heads, own_mask, prompt_mask, .. } = attention;
    let (rows, heads) = (*rows, *heads);
    let query = attention.as_rows(query);
    let masked = |scores, mask: &Option<PassMask<B>>| match mask {
        Some(mask) => mask.apply(raised(scores), rows, heads),
        None => raised(scores),
    };
    let dtype = query.dtype();
    let weigh = |scores| as_type(softmax(scores, 2), dtype);
    let query = split_heads(query.mul_scalar(heads.scale()), rows, heads);
    let scores = masked(query.clone().matmul(own.key.clone().transpose()), own_mask);
    let Some(prompt) = prompt else {
        return attention.of_rows(merge_heads(weigh(scores).matmul(own.value.clone()), rows, heads));
    };

    let [batch, queries, head_dim] = query.dims();
    let prompt_len = prompt.len();
    // The completions of a prompt are neighbours: seen as one long row of queries they share its keys.
    let shared = [rows.prompts * heads.kv, rows.completions * queries, head_dim];
    let prompt_scores =
        query.reshape(shared).matmul(prompt.key.clone().transpose()).reshape([batch, queries, prompt_len]);
    let prompt_scores = masked(prompt_scores, prompt_mask);
    let weights = weigh(Tensor::cat(vec![prompt_scores, scores], 2));
    let from_prompt = weights
        .clone()
        .narrow(2, 0, prompt_len)
        .reshape([shared[0], shared[1], prompt_len])
        .matmul(prompt.value.clone())
        .reshape([batch, queries, head_dim]);
    let from_own = weights.narrow(2, prompt_len, own.len()).matmul(own.value.clone());
    attention.of_rows(merge_heads(from_prompt + from_own, rows, heads))
}

/// `[tokens, kv_heads * per_head * head_dim]` as `[prompts * kv_heads * completions, per_head * len, head_dim]`.
pub(super) fn split_heads<B: Backend>(x: Tensor<B, 2>, rows: Rows, heads: Heads) -> Tensor<B, 3> {
    let per_head = x.dims()[1] / (heads.kv * heads.dim);
    x.reshape([rows.prompts, rows.completions, rows.len, heads.kv, per_head, heads.dim])
        .permute([0, 3, 1, 4, 2, 5])
        .reshape([rows.prompts * heads.kv * rows.completions, per_head * rows.len, heads.dim])
}

/// The other way round, for query heads.
fn merge_heads<B: Backend>(x: Tensor<B, 3>, rows: Rows, heads: Heads) -> Tensor<B, 2> {
    let groups = heads.query / heads.kv;
    x.reshape([rows.prompts, heads.kv, rows.completions, groups, rows.len, heads.dim])
        .permute([0, 2, 4, 1, 3, 5])
        .reshape([rows.tokens(), heads.query * heads.dim])
}
