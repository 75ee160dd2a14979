//! Which tokens of a micro-batch are learned from: padding is not, and neither is what a recipe leaves out.

use burn::tensor::{DType, Tensor, TensorData, backend::Backend};

/// A choice among the tokens of `[sequences, width]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossMask {
    sequences: usize,
    width: usize,
    learns: Vec<bool>,
}

impl LossMask {
    /// All real tokens of sequences of these lengths, padded on the right to the longest.
    pub fn from_lens(lens: &[usize]) -> Self {
        let width = lens.iter().copied().max().unwrap_or(0);
        let learns = lens.iter().flat_map(|&len| (0..width).map(move |place| place < len)).collect();
        Self { sequences: lens.len(), width, learns }
    }

    /// The tokens that `learns` names, row by row.
    ///
    /// # Panics
    /// If the rows differ in length.
    pub fn from_rows(learns: &[Vec<bool>]) -> Self {
        let width = learns.first().map_or(0, Vec::len);
        assert!(learns.iter().all(|row| row.len() == width), "rows of a mask are equally long");
        Self { sequences: learns.len(), width, learns: learns.concat() }
    }

    /// Leaves out every token of the sequences for which `is_silent` holds.
    pub fn silence(mut self, is_silent: impl Fn(usize) -> bool) -> Self {
        for sequence in (0..self.sequences).filter(|sequence| is_silent(*sequence)) {
            self.learns[sequence * self.width..(sequence + 1) * self.width].fill(false);
        }
        self
    }

    /// Keeps the tokens for which `keeps` holds, given their place in row-major order.
    pub fn filter(&self, keeps: impl Fn(usize) -> bool) -> Self {
        let learns = self.learns.iter().enumerate().map(|(place, learns)| *learns && keeps(place)).collect();
        Self { learns, ..*self }
    }

    /// `[sequences, width]`.
    pub fn dims(&self) -> [usize; 2] {
        [self.sequences, self.width]
    }

    /// Tokens that are learned from.
    pub fn num_tokens(&self) -> usize {
        self.learns.iter().filter(|learns| **learns).count()
    }

    /// Of every token in row-major order, whether it is learned from.
    pub fn as_slice(&self) -> &[bool] {
        &self.learns
    }

    /// The tokens of each sequence.
    pub fn rows(&self) -> impl Iterator<Item = &[bool]> {
        (0..self.sequences).map(|sequence| &self.learns[sequence * self.width..(sequence + 1) * self.width])
    }

    /// 1 where a token is learned from, else 0: `[sequences, width]`.
    pub fn tensor<B: Backend>(&self, dtype: DType, device: &B::Device) -> Tensor<B, 2> {
        let values: Vec<f32> = self.learns.iter().map(|learns| f32::from(u8::from(*learns))).collect();
        Tensor::from_data(TensorData::new(values, self.dims()), (device, dtype))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_and_silent_sequences_are_left_out() {
        let mask = LossMask::from_lens(&[2, 3, 1]);
        assert_eq!(mask.dims(), [3, 3]);
        assert_eq!(mask.num_tokens(), 6);
        let rows: Vec<&[bool]> = mask.rows().collect();
        assert_eq!(rows, [[true, true, false], [true, true, true], [true, false, false]]);
        let mask = mask.silence(|sequence| sequence == 1);
        assert_eq!(mask.num_tokens(), 3);
        assert_eq!(mask.filter(|place| place != 0).num_tokens(), 2);
        assert_eq!(LossMask::from_lens(&[]).dims(), [0, 0]);
    }
}
