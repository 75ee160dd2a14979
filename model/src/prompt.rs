//! Prompts run once: their keys and values, ready to be shared by any number of completions.
//!
//! The last prompt token is left to the completions, since it is what predicts their first token.

use burn::tensor::{Tensor, backend::Backend};

use crate::{
    ModelError,
    attention::{Mask, Rows, packs},
    decoder::DecoderPass,
    processor::Encoded,
    vlm::{LayerKeyValues, Positions, Vlm},
};

/// Several prompts without their last tokens.
#[derive(Debug)]
pub(crate) struct PromptRows {
    /// Token ids of each; all padded on the right to one length where passes are not packed.
    pub(crate) sequences: Vec<Vec<u32>>,
    /// Number of tokens of each.
    lens: Vec<usize>,
    /// Rotary positions of all, one after the other, padded likewise.
    pub(crate) positions: Positions,
    /// Each prompt's last token.
    pub(crate) last_ids: Vec<u32>,
    /// Rotary position of that token.
    pub(crate) last_positions: Vec<Positions>,
    /// Rotary position of the token after it.
    pub(crate) next_positions: Vec<i64>,
}

impl PromptRows {
    pub(crate) fn new<B: Backend, M: Vlm<B>>(model: &M, inputs: &[&Encoded]) -> Result<Self, ModelError> {
        let placeholders = model.placeholder_ids();
        let longest = inputs.iter().map(|input| input.input_ids.len()).max().unwrap_or(0).saturating_sub(1);
        let mut prompts = Self {
            sequences: Vec::with_capacity(inputs.len()),
            lens: Vec::with_capacity(inputs.len()),
            positions: Positions::default(),
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
            let len = if packs::<B>() { body.len() } else { longest };
            let mut positions = own.slice(0, body.len());
            positions.pad(len);
            prompts.positions.extend(&positions);
            prompts.last_positions.push(own.slice(body.len(), body.len() + 1));
            prompts.next_positions.push(own.next());
            prompts.last_ids.push(*last);
            prompts.lens.push(body.len());
            let mut sequence = body.to_vec();
            sequence.resize(len, 0);
            prompts.sequences.push(sequence);
        }
        Ok(prompts)
    }

    fn longest(&self) -> usize {
        self.lens.iter().copied().max().unwrap_or(0)
    }

    /// A pass over them.
    pub(crate) fn pass<B: Backend, M: Vlm<B>>(&self, model: &M) -> DecoderPass<B> {
        let rows = Rows::independent(self.lens.len(), self.longest());
        let lens: Vec<usize> = self.sequences.iter().map(Vec::len).collect();
        model.pass(rows, &self.positions, Some(&Mask::order(rows.len)), None).packed(&lens)
    }

    /// Hides from completions what is no token of their prompt among the keys of the longest.
    pub(crate) fn padding(&self) -> Option<Mask> {
        let longest = self.longest();
        let valid = |len: &usize| (0..longest).map(|place| place < *len).collect();
        Mask::prompt_padding(&self.lens.iter().map(valid).collect::<Vec<_>>())
    }
}

/// Several prompts after their pass through the decoder.
#[derive(Debug)]
pub struct Prompts<B: Backend> {
    /// Keys and values of all tokens but each prompt's last.
    pub(crate) key_values: LayerKeyValues<B>,
    pub(crate) rows: PromptRows,
}

impl<B: Backend> Prompts<B> {
    /// Runs `inputs` through `model`. `features` are theirs from [`Vlm::encode_vision`], so that callers can reuse them.
    pub fn run<M: Vlm<B>>(
        model: &M,
        inputs: &[&Encoded],
        features: Option<Tensor<B, 2>>,
        device: &B::Device,
    ) -> Result<Self, ModelError> {
        let rows = PromptRows::new(model, inputs)?;
        let hidden = model.embed(&rows.sequences, features, device);
        let key_values = model.prefill(hidden, &rows.pass(model));
        Ok(Self { key_values, rows })
    }

    /// Number of prompts.
    pub fn len(&self) -> usize {
        self.rows.last_ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.last_ids.is_empty()
    }
}
