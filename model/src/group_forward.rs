//! Log-probabilities of completions, each prompt run once for all of its completions.
//!
//! This is the forward pass of SFT, of every policy-gradient recipe and of `medgrpo score`. Only real completion tokens
//! reach the output head.

use burn::tensor::{Int, Tensor, TensorData, activation::log_softmax, backend::Backend};

use crate::{
    ModelError,
    attention::{Mask, Rows},
    processor::Encoded,
    prompt::Prompts,
    vlm::{DecoderContext, Positions, Vlm},
};

/// A prompt and what was said in answer to it.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// The prompt.
    pub prompt: &'a Encoded,
    /// Token ids of each completion; the groups of one batch have equally many, each of at least one token.
    pub completions: &'a [Vec<u32>],
}

/// Log-probabilities of the tokens of several completions.
#[derive(Clone, Debug)]
pub struct CompletionLogProbs<B: Backend> {
    /// `[sequences, max_len]`, groups one after the other; 0 in the padding.
    pub log_probs: Tensor<B, 2>,
    /// Entropy of the distribution each token was drawn from, same shape; if it was asked for.
    pub entropy: Option<Tensor<B, 2>>,
    /// Number of tokens of each sequence.
    pub lens: Vec<usize>,
}

/// How log-probabilities are computed.
#[derive(Clone, Copy, Debug)]
pub struct LogProbOptions {
    /// Logits are divided by this first, as they were when sampling.
    pub temperature: f64,
    /// Whether to give entropies too.
    pub entropy: bool,
    /// Whether these carry their gradient, which costs a backward pass through them.
    pub entropy_gradient: bool,
}

impl Default for LogProbOptions {
    fn default() -> Self {
        Self { temperature: 1.0, entropy: false, entropy_gradient: false }
    }
}

/// Log-probability of every token of every completion given its prompt and what came before it.
pub fn completion_log_probs<B: Backend, M: Vlm<B>>(
    model: &M,
    groups: &[Group<'_>],
    options: LogProbOptions,
    device: &B::Device,
) -> Result<CompletionLogProbs<B>, ModelError> {
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
    let features = model.encode_vision(&inputs, device);
    let prompts = Prompts::run(model, &inputs, features, device)?;

    let lens: Vec<usize> = groups.iter().flat_map(|group| group.completions.iter().map(Vec::len)).collect();
    let len = lens.iter().copied().max().unwrap_or(0);
    let rows = Rows { prompts: groups.len(), completions, len };
    let mut sequences = Vec::with_capacity(rows.sequences());
    let mut positions = Positions::default();
    for (index, group) in groups.iter().enumerate() {
        let mut own = prompts.last_positions[index].clone();
        own.extend(&Positions::text(prompts.next_positions[index], len - 1));
        for completion in group.completions {
            let mut sequence = vec![prompts.last_ids[index]];
            sequence.extend_from_slice(&completion[..completion.len() - 1]);
            sequence.resize(len, 0);
            sequences.push(sequence);
            positions.extend(&own);
        }
    }
    // Padding stands on the right, where causal order hides it from every real token.
    let own_mask = Mask::causal(&[vec![true; len]], device);
    let prompt_mask = Mask::prompt_padding(&prompts.valid, rows, device);
    let context = DecoderContext {
        own_mask: Some(&own_mask),
        prompt: Some(&prompts.key_values),
        prompt_mask: prompt_mask.as_ref(),
        own: None,
    };
    let hidden = model.decode(model.embed(&sequences, None, device), rows, &positions, context);

    let real: Vec<i32> = (0..rows.tokens() as i32)
        .filter(|place| (*place as usize % len) < lens[*place as usize / len])
        .collect();
    let num_real = real.len();
    let targets: Vec<i32> =
        groups.iter().flat_map(|group| group.completions.iter().flatten().map(|id| *id as i32)).collect();
    let logits = model.logits(hidden.select(0, ints(real.clone(), device))).div_scalar(options.temperature);
    let all = log_softmax(logits, 1);
    let entropy = options.entropy.then(|| {
        let all = if options.entropy_gradient { all.clone() } else { all.clone().detach() };
        (all.clone().exp() * all).sum_dim(1).neg()
    });
    let chosen = all.gather(1, ints(targets, device).reshape([num_real, 1]));

    let mut places = vec![num_real as i32; rows.tokens()];
    for (from, to) in real.iter().enumerate() {
        places[*to as usize] = from as i32;
    }
    let places = ints(places, device);
    let pad = |values: Tensor<B, 2>| {
        let zero = Tensor::zeros([1, 1], device);
        Tensor::cat(vec![values, zero], 0).select(0, places.clone()).reshape([rows.sequences(), len])
    };
    Ok(CompletionLogProbs { log_probs: pad(chosen), entropy: entropy.map(pad), lens })
}

fn ints<B: Backend>(values: Vec<i32>, device: &B::Device) -> Tensor<B, 1, Int> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}
