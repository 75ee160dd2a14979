//! Prompts run once: their keys and values, ready to be shared by any number of completions.
//!
//! The last prompt token is left to the completions, since it is what predicts their first token.

use burn::tensor::{Tensor, backend::Backend};

use crate::{
    ModelError,
    attention::{Mask, Rows},
    processor::Encoded,
    vlm::{LayerKeyValues, Positions, Vlm},
};

/// Several prompts, padded on the right to one length, after their pass through the decoder.
#[derive(Debug)]
pub struct Prompts<B: Backend> {
    /// Keys and values of all tokens but each prompt's last.
    pub(crate) key_values: LayerKeyValues<B>,
    /// Which of them are real, per prompt.
    pub(crate) valid: Vec<Vec<bool>>,
    /// Each prompt's last token.
    pub(crate) last_ids: Vec<u32>,
    /// Rotary position of that token.
    pub(crate) last_positions: Vec<Positions>,
    /// Rotary position of the token after it.
    pub(crate) next_positions: Vec<i64>,
}

impl<B: Backend> Prompts<B> {
    /// Runs `inputs` through `model`. `features` are theirs from [`Vlm::encode_vision`], so that callers can reuse them.
    pub fn run<M: Vlm<B>>(
        model: &M,
        inputs: &[&Encoded],
        features: Option<Tensor<B, 2>>,
        device: &B::Device,
    ) -> Result<Self, ModelError> {
        let placeholders = model.placeholder_ids();
        let len = inputs.iter().map(|input| input.input_ids.len()).max().unwrap_or(0).saturating_sub(1);
        let mut sequences = Vec::with_capacity(inputs.len());
        let mut positions = Positions::default();
        let mut prompts = Self {
            key_values: Vec::new(),
            valid: Vec::new(),
            last_ids: Vec::new(),
            last_positions: Vec::new(),
            next_positions: Vec::new(),
        };
        for input in inputs {
            let Some((last, body)) = input.input_ids.split_last().filter(|(_, body)| !body.is_empty()) else {
                return Err(ModelError::Input("a prompt needs at least two tokens".to_owned()));
            };
            if placeholders.contains(last) {
                return Err(ModelError::Input("a prompt must not end inside an image or video".to_owned()));
            }
            let own = model.positions(input)?;
            let mut padded = own.slice(0, body.len());
            padded.pad(len);
            positions.extend(&padded);
            prompts.last_positions.push(own.slice(body.len(), body.len() + 1));
            prompts.next_positions.push(own.next());
            prompts.last_ids.push(*last);
            prompts.valid.push((0..len).map(|place| place < body.len()).collect());
            let mut sequence = body.to_vec();
            sequence.resize(len, 0);
            sequences.push(sequence);
        }
        let hidden = model.embed(&sequences, features, device);
        let mask = Mask::causal(&prompts.valid, device);
        prompts.key_values = model.prefill(hidden, Rows::independent(inputs.len(), len), &positions, &mask);
        Ok(prompts)
    }

    /// Number of prompts.
    pub fn len(&self) -> usize {
        self.last_ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.last_ids.is_empty()
    }
}
