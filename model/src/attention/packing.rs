//! Sequences of unlike length in one pass: all but attention runs over their real tokens, one behind the other.
//!
//! Attention takes sequences as rows of one length. What stands for padding there is another token of the same sequence,
//! which causal order or a mask hides from every real one, and whose own result is left out.
//!
//! Where attention is composed of tensor operations all rows are run instead, padding too: there every layer would select
//! its rows four times, and the gradient of a selection is a sum row by row, on GPUs in a loop over all of them.

use std::sync::{Arc, OnceLock};

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};

use super::Rows;
use crate::host_op::serves;

/// Whether passes over sequences of unlike length are packed on `B`.
pub(crate) fn packs<B: Backend>() -> bool {
    serves::<B>()
}

/// Which places of rows are real tokens: the first ones of each sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packing {
    rows: Rows,
    /// Real tokens of the sequences before each one, and of all.
    starts: Vec<usize>,
}

impl Packing {
    /// Of sequences of `lens` tokens, none longer than `rows.len`; `None` where all are that long, so that nothing is padding.
    pub(crate) fn new(rows: Rows, lens: &[usize]) -> Option<Self> {
        assert_eq!(lens.len(), rows.sequences(), "one length a sequence");
        assert!(lens.iter().all(|len| *len <= rows.len), "rows are as long as their longest sequence");
        let add = |sum: &mut usize, len: &usize| {
            *sum += len;
            Some(*sum)
        };
        let starts: Vec<usize> = std::iter::once(0).chain(lens.iter().scan(0, add)).collect();
        (starts[lens.len()] < rows.tokens()).then_some(Self { rows, starts })
    }

    /// Number of real tokens.
    pub(crate) fn num_tokens(&self) -> usize {
        self.starts[self.rows.sequences()]
    }

    /// Which real token stands at place `position` of `sequence`; `None` for padding.
    pub(super) fn token(&self, sequence: usize, position: usize) -> Option<usize> {
        let token = self.starts[sequence] + position;
        (token < self.starts[sequence + 1]).then_some(token)
    }

    /// Of each real token its place in the rows.
    pub(crate) fn places(&self) -> impl Iterator<Item = usize> {
        (0..self.rows.sequences()).flat_map(|sequence| {
            let len = self.starts[sequence + 1] - self.starts[sequence];
            let start = sequence * self.rows.len;
            start..start + len
        })
    }

    /// Of each place in the rows a real token: the one that stands there, or the first of the sequence.
    fn tokens(&self) -> impl Iterator<Item = usize> {
        let (positions, last) = (0..self.rows.len, self.num_tokens().saturating_sub(1));
        (0..self.rows.sequences()).flat_map(move |sequence| {
            let first = self.starts[sequence].min(last);
            positions.clone().map(move |position| self.token(sequence, position).unwrap_or(first))
        })
    }
}

/// A packing for one pass over tokens: what layers select by is made once.
#[derive(Clone, Debug)]
pub(crate) struct PassPacking<B: Backend> {
    pub(super) packing: Arc<Packing>,
    tokens: OnceLock<Tensor<B, 1, Int>>,
    places: OnceLock<Tensor<B, 1, Int>>,
}

impl<B: Backend> PassPacking<B> {
    pub(crate) fn new(packing: Packing) -> Self {
        Self::of(Arc::new(packing))
    }

    fn of(packing: Arc<Packing>) -> Self {
        Self { packing, tokens: OnceLock::new(), places: OnceLock::new() }
    }

    /// The same for another backend.
    pub(super) fn on<C: Backend>(&self) -> PassPacking<C> {
        PassPacking::of(self.packing.clone())
    }

    /// `[num_tokens, width]` as rows, `[tokens, width]`.
    pub(super) fn as_rows(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let tokens = self.tokens.get_or_init(|| indices(self.packing.tokens(), &x.device()));
        x.select(0, tokens.clone())
    }

    /// The other way round.
    pub(super) fn of_rows(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let places = self.places.get_or_init(|| indices(self.packing.places(), &x.device()));
        x.select(0, places.clone())
    }
}

fn indices<B: Backend>(indices: impl Iterator<Item = usize>, device: &B::Device) -> Tensor<B, 1, Int> {
    let indices: Vec<i32> = indices.map(|index| index as i32).collect();
    let len = indices.len();
    Tensor::from_data(TensorData::new(indices, [len]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_tokens_by_hand() {
        let rows = Rows { prompts: 1, completions: 3, len: 3 };
        let packing = Packing::new(rows, &[2, 0, 3]).unwrap();
        assert_eq!(packing.num_tokens(), 5);
        assert_eq!(packing.places().collect::<Vec<_>>(), [0, 1, 6, 7, 8]);
        assert_eq!(packing.tokens().collect::<Vec<_>>(), [0, 1, 0, 2, 2, 2, 2, 3, 4]);
        assert_eq!(packing.token(0, 2), None);
        assert_eq!(packing.token(2, 1), Some(3));
        assert_eq!(Packing::new(rows, &[3; 3]), None);
    }
}
