//! What attention finds, and its gradients, are the same in one operation and composed of tensor operations.

use burn::backend::Autodiff;
use burn_flex::Flex;

use super::{Attention, Heads, KeyValue, Mask, Packing, PassMask, PassPacking, Rows, composed, fused};
use crate::host_op::{check, tests::Input};

type B = Autodiff<Flex>;
type Attend = fn(&Attention<B>, &Input, &KeyValue<B>, Option<&KeyValue<B>>) -> Input;

const HEADS: Heads = Heads { query: 6, kv: 2, dim: 20 };

struct Case {
    name: &'static str,
    rows: Rows,
    heads: Heads,
    own_len: usize,
    prompt_len: usize,
    own_mask: Option<Mask>,
    prompt_mask: Option<Mask>,
    /// Real tokens of each sequence.
    lens: Option<Vec<usize>>,
}

fn valid(lens: &[usize], len: usize) -> Vec<Vec<bool>> {
    lens.iter().map(|real| (0..len).map(|place| place < *real).collect()).collect()
}

fn cases() -> Vec<Case> {
    let plain = |name, rows: Rows| Case {
        name,
        rows,
        heads: HEADS,
        own_len: rows.len,
        prompt_len: 0,
        own_mask: None,
        prompt_mask: None,
        lens: None,
    };
    let causal = |len| Some(Mask::causal(&[vec![true; len]]));
    let rows = Rows { prompts: 2, completions: 3, len: 5 };
    let left_padded: Vec<Vec<bool>> =
        [0, 3].iter().map(|first| (0..9).map(|place| place >= *first).collect()).collect();
    vec![
        plain("one token", Rows::independent(1, 1)),
        plain("full", Rows::independent(3, 17)),
        Case { own_mask: causal(300), ..plain("causal over several blocks", Rows::independent(1, 300)) },
        Case {
            heads: Heads { query: 2, kv: 2, dim: 8 },
            own_mask: causal(33),
            ..plain("a head of its own for every query head", Rows::independent(2, 33))
        },
        Case {
            own_mask: Some(Mask::causal(&valid(&[9, 6], 9))),
            ..plain("padded on the right", Rows::independent(2, 9))
        },
        Case {
            own_mask: Some(Mask::causal(&left_padded)),
            ..plain("padded on the left", Rows::independent(2, 9))
        },
        Case { prompt_len: 7, own_mask: causal(5), ..plain("completions of prompts", rows) },
        Case {
            prompt_len: 7,
            own_mask: causal(5),
            prompt_mask: Mask::prompt_padding(&valid(&[4, 7], 7)),
            ..plain("completions of padded prompts", rows)
        },
        Case {
            prompt_len: 90,
            own_mask: causal(70),
            ..plain("completions that share blocks", Rows { prompts: 1, completions: 4, len: 70 })
        },
        Case {
            own_mask: causal(9),
            lens: Some(vec![6, 9, 1]),
            ..plain("packed prompts", Rows::independent(3, 9))
        },
        Case {
            prompt_len: 7,
            own_mask: causal(5),
            prompt_mask: Mask::prompt_padding(&valid(&[4, 7], 7)),
            lens: Some(vec![5, 1, 2, 4, 0, 3]),
            ..plain("packed completions of packed prompts", rows)
        },
        Case {
            prompt_len: 7,
            own_len: 11,
            prompt_mask: Mask::prompt_padding(&valid(&[4, 7], 7)),
            ..plain("the next token", Rows { prompts: 2, completions: 3, len: 1 })
        },
    ]
}

impl Case {
    /// What `attend` makes of a query, own keys and values and, if there are any, the prompts'.
    fn attend(&self, leaves: &[Input], attend: Attend) -> Input {
        let attention = Attention {
            rows: self.rows,
            heads: self.heads,
            own_mask: self.own_mask.clone().map(PassMask::own),
            prompt_mask: self.prompt_mask.clone().map(|mask| PassMask::of_prompts(mask, self.rows)),
            packing: self.packing().map(PassPacking::new),
        };
        let by_head = |x: &Input| {
            let [rows, width] = x.dims();
            x.clone().reshape([rows, width / self.heads.dim, self.heads.dim])
        };
        let key_value = |leaves: &[Input]| KeyValue { key: by_head(&leaves[0]), value: by_head(&leaves[1]) };
        let prompt = leaves.get(3..5).map(key_value);
        attend(&attention, &leaves[0], &key_value(&leaves[1..3]), prompt.as_ref())
    }

    fn packing(&self) -> Option<Packing> {
        self.lens.as_ref().map(|lens| Packing::new(self.rows, lens).expect("some are shorter"))
    }

    fn check(&self) {
        let Self { rows, heads, own_len, prompt_len, .. } = self;
        let num_tokens = self.packing().map_or(rows.tokens(), |packing| packing.num_tokens());
        let query = [num_tokens, heads.query * heads.dim];
        let keys = |sequences: usize, len| [sequences * heads.kv, len * heads.dim];
        let own = keys(rows.sequences(), *own_len);
        let prompt = keys(rows.prompts, *prompt_len);
        if *prompt_len > 0 {
            let shapes = [query, own, own, prompt, prompt];
            check(self.name, shapes, |x| self.attend(&x, in_one), |x| self.attend(&x, of_tensor_operations));
        } else {
            check(
                self.name,
                [query, own, own],
                |x| self.attend(&x, in_one),
                |x| self.attend(&x, of_tensor_operations),
            );
        }
    }
}

fn in_one(attention: &Attention<B>, query: &Input, own: &KeyValue<B>, prompt: Option<&KeyValue<B>>) -> Input {
    fused::attend(attention, query, own, prompt).expect("arrays of f32")
}

fn of_tensor_operations(
    attention: &Attention<B>,
    query: &Input,
    own: &KeyValue<B>,
    prompt: Option<&KeyValue<B>>,
) -> Input {
    composed::attend(attention, query.clone(), own, prompt)
}

#[test]
fn one_operation_equals_the_composed_ones() {
    for case in cases() {
        case.check();
    }
}
