//! A batch of groups laid out for the decoder: prompts in one pass, their completions in another beside it.

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};

use crate::{
    ModelError,
    attention::{Mask, Packing, Rows, packs},
    decoder::{DecoderPass, Layer},
    group_forward::Group,
    processor::Encoded,
    prompt::PromptRows,
    vlm::{Positions, Vlm},
};

/// What the host knows of a batch of groups.
pub(crate) struct GroupLayout<'a> {
    pub(crate) inputs: Vec<&'a Encoded>,
    prompts: PromptRows,
    rows: Rows,
    /// Input of each completion: its prompt's last token, then its own but the last; all padded on the right to one length
    /// where passes are not packed.
    sequences: Vec<Vec<u32>>,
    positions: Positions,
    /// Number of tokens of each completion.
    pub(crate) lens: Vec<usize>,
    /// Ids of all completion tokens, padding left out.
    pub(crate) targets: Vec<i32>,
    /// Where completions' tokens stand among the rows; `None` where they fill them.
    packing: Option<Packing>,
}

/// What layers share in the pass of the prompts and in that of the completions.
pub(crate) struct Passes<B: Backend> {
    pub(crate) prompts: DecoderPass<B>,
    pub(crate) completions: DecoderPass<B>,
}

/// What goes into a layer, `[num_tokens, hidden]` each: of real tokens alone where passes are packed.
#[derive(Clone)]
pub(crate) struct Streams<B: Backend> {
    pub(crate) prompts: Tensor<B, 2>,
    pub(crate) completions: Tensor<B, 2>,
}

impl<'a> GroupLayout<'a> {
    /// # Errors
    /// Groups that make no batch; prompts that make no input.
    pub(crate) fn new<B: Backend, M: Vlm<B>>(model: &M, groups: &[Group<'a>]) -> Result<Self, ModelError> {
        let completions = groups.first().map_or(0, |group| group.completions.len());
        let differs = |group: &Group<'_>| {
            group.completions.len() != completions || group.completions.iter().any(Vec::is_empty)
        };
        if completions == 0 || groups.iter().any(differs) {
            return Err(ModelError::Input(
                "a batch needs groups with equally many completions, at least one each and none of them empty"
                    .to_owned(),
            ));
        }
        let inputs: Vec<&Encoded> = groups.iter().map(|group| group.prompt).collect();
        let prompts = PromptRows::new(model, &inputs)?;
        let lens: Vec<usize> =
            groups.iter().flat_map(|group| group.completions.iter().map(Vec::len)).collect();
        let len = lens.iter().copied().max().unwrap_or(0);
        let rows = Rows { prompts: groups.len(), completions, len };
        let mut sequences = Vec::with_capacity(rows.sequences());
        let mut positions = Positions::default();
        for (index, group) in groups.iter().enumerate() {
            for completion in group.completions {
                let len = if packs::<B>() { completion.len() } else { len };
                let mut sequence = [&[prompts.last_ids[index]], &completion[..completion.len() - 1]].concat();
                sequence.resize(len, 0);
                sequences.push(sequence);
                positions.extend(&prompts.last_positions[index]);
                positions.extend(&Positions::text(prompts.next_positions[index], len - 1));
            }
        }
        let targets =
            groups.iter().flat_map(|group| group.completions.iter().flatten().map(|id| *id as i32)).collect();
        let packing = Packing::new(rows, &lens);
        Ok(Self { inputs, prompts, rows, sequences, positions, lens, targets, packing })
    }

    pub(crate) fn passes<B: Backend, M: Vlm<B>>(&self, model: &M) -> Passes<B> {
        let Self { prompts, rows, .. } = self;
        let (order, padding) = (Mask::order(rows.len), prompts.padding());
        let completions = model.pass(*rows, &self.positions, Some(&order), padding.as_ref());
        let lens: Vec<usize> = self.sequences.iter().map(Vec::len).collect();
        Passes { prompts: prompts.pass(model), completions: completions.packed(&lens) }
    }

    /// What goes into the first layer; `features` are those of the prompts' media.
    pub(crate) fn embed<B: Backend, M: Vlm<B>>(
        &self,
        model: &M,
        features: Option<Tensor<B, 2>>,
        device: &B::Device,
    ) -> Streams<B> {
        Streams {
            prompts: model.embed(&self.prompts.sequences, features, device),
            completions: model.embed(&self.sequences, None, device),
        }
    }

    /// What all layers make of the completions, `[num_tokens, hidden]`.
    pub(crate) fn decode<B: Backend, M: Vlm<B>>(&self, model: &M, device: &B::Device) -> Tensor<B, 2> {
        let features = model.encode_vision(&self.inputs, device);
        let mut streams = self.embed(model, features, device);
        let passes = self.passes(model);
        let Some((last, before)) = model.layers().split_last() else {
            return self.of_pass(streams.completions);
        };
        for layer in before {
            streams = passes.run(layer, streams);
        }
        self.of_pass(passes.run_last(last, streams))
    }

    /// The completions' tokens, `[num_tokens, width]`, of what a pass gives.
    pub(crate) fn of_pass<B: Backend>(&self, rows: Tensor<B, 2>) -> Tensor<B, 2> {
        if packs::<B>() { rows } else { self.unpadded(rows) }
    }

    /// The other way round.
    pub(crate) fn as_pass<B: Backend>(&self, values: Tensor<B, 2>) -> Tensor<B, 2> {
        if packs::<B>() { values } else { self.padded(values) }
    }

    /// `[tokens, width]` to `[num_tokens, width]`.
    fn unpadded<B: Backend>(&self, rows: Tensor<B, 2>) -> Tensor<B, 2> {
        let Some(packing) = &self.packing else { return rows };
        let places = packing.places().map(|place| place as i32).collect();
        let places = ints(places, &rows.device());
        rows.select(0, places)
    }

    /// The other way round, with zeros for padding.
    fn padded<B: Backend>(&self, values: Tensor<B, 2>) -> Tensor<B, 2> {
        let Some(packing) = &self.packing else { return values };
        let ([num_tokens, width], device) = (values.dims(), values.device());
        let mut from = vec![num_tokens as i32; self.rows.tokens()];
        packing.places().enumerate().for_each(|(token, place)| from[place] = token as i32);
        let zeros = Tensor::zeros([1, width], (&device, values.dtype()));
        Tensor::cat(vec![values, zeros], 0).select(0, ints(from, &device))
    }

    /// One number a token, `[num_tokens, 1]`, as `[sequences, max_len]` with zeros for padding.
    pub(crate) fn by_sequence<B: Backend>(&self, values: Tensor<B, 2>) -> Tensor<B, 2> {
        self.padded(values).reshape([self.rows.sequences(), self.rows.len])
    }

    /// The other way round.
    pub(crate) fn by_token<B: Backend>(&self, values: Tensor<B, 2>) -> Tensor<B, 2> {
        self.unpadded(values.reshape([self.rows.tokens(), 1]))
    }
}

impl<B: Backend> Passes<B> {
    /// One layer, in which completions see the keys and values that it takes of their prompts.
    pub(crate) fn run<L: Layer<B>>(&self, layer: &L, streams: Streams<B>) -> Streams<B> {
        let (prompts, key_value) = layer.forward(streams.prompts, &self.prompts, None, None);
        let (completions, _) = layer.forward(streams.completions, &self.completions, Some(&key_value), None);
        Streams { prompts, completions }
    }

    /// The last layer, of which only the completions' output is of use.
    pub(crate) fn run_last<L: Layer<B>>(&self, layer: &L, streams: Streams<B>) -> Tensor<B, 2> {
        let key_value = layer.key_value(streams.prompts, &self.prompts);
        layer.forward(streams.completions, &self.completions, Some(&key_value), None).0
    }
}

pub(crate) fn ints<B: Backend>(values: Vec<i32>, device: &B::Device) -> Tensor<B, 1, Int> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}
