//! A law: completions that share their prompt's one pass get the log-probabilities and gradients they would get alone.

use anyhow::Result;
use burn::{
    module::Module,
    tensor::{Tensor, TensorData, backend::AutodiffBackend},
};
use medgrpo::device::Job;
use medgrpo_model::{
    checkpoint::Pretrained,
    group_forward::{CompletionLogProbs, Group, LogProbOptions, completion_log_probs},
    processor::Encoded,
    qwen2_5_vl::Qwen25Vl,
};

use super::{forward::numbers, gradients::gradients};
use crate::{
    device::on_device,
    fixture::{Deviation, Fixture, relative_l2},
};

#[test]
fn a_shared_prompt_changes_neither_log_probs_nor_gradients() {
    on_device(SharedPrompt);
}

struct SharedPrompt;

impl Job for SharedPrompt {
    type Output = ();

    fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<()> {
        let fixture = Fixture::open("flat_tied");
        let (model, _) = Qwen25Vl::<B>::from_dir(&fixture.dir, device)?;
        let prompt = |name: &str| &fixture.records.iter().find(|record| record.name == name).unwrap().prompt;
        let prompts = ["text", "two_images", "video_odd", "mixed"].map(prompt);
        // Ragged completions, one of a single token, from the answers of the records.
        let answers: Vec<&Vec<u32>> = fixture.records.iter().map(|record| &record.answer).collect();
        let completions: Vec<Vec<Vec<u32>>> = (0..prompts.len())
            .map(|row| vec![answers[row].clone(), answers[row + 3][..1].to_vec(), answers[row + 5].clone()])
            .collect();
        let weight = |sequence: usize, token: usize| (1.0 + sequence as f32 - 0.3 * token as f32) / 8.0;

        let mut deviation = Deviation::default();
        let mut alone = Vec::new();
        let reference = gradients(&model, |model| {
            let mut lone_loss = Tensor::<B, 1>::zeros([1], device);
            for (row, prompt) in prompts.iter().enumerate() {
                for (index, completion) in completions[row].iter().enumerate() {
                    let scored = score(model, &[(prompt, std::slice::from_ref(completion))], device)?;
                    lone_loss = lone_loss + loss(&scored, |_, token| weight(row * 3 + index, token), device);
                    alone.push(numbers(scored.log_probs));
                }
            }
            Ok(lone_loss)
        })?;
        for wrong in
            [[&[][..], &[]], [&[vec![5]], &completions[1][..2]], [&completions[0][..2], &[vec![5], vec![]]]]
        {
            let groups = [(prompts[0], wrong[0]), (prompts[1], wrong[1])];
            assert!(score(&model, &groups, device).is_err(), "none, ragged or empty completions: {wrong:?}");
        }
        let groups: Vec<(&Encoded, &[Vec<u32>])> =
            prompts.into_iter().zip(completions.iter().map(Vec::as_slice)).collect();
        let shared = score(&model, &groups, device)?;
        let [_, len] = shared.log_probs.dims();
        for (row, alone) in numbers(shared.log_probs.clone()).chunks(len).zip(&alone) {
            deviation.add("log-probabilities", &row[..alone.len()], alone);
        }
        deviation.check("shared prompts against single runs, log-probabilities", 1e-5, 1e-5);

        let ours = gradients(&model, |model| Ok(loss(&score(model, &groups, device)?, weight, device)))?;
        let worst =
            ours.iter().map(|(name, values)| relative_l2(values, &reference[name])).fold(0.0, f64::max);
        println!("shared prompts against single runs, gradients: worst relative L2 distance {worst:.1e}");
        assert!(worst <= 1e-5);
        Ok(())
    }
}

fn score<B: AutodiffBackend, M: Module<B> + medgrpo_model::vlm::Vlm<B>>(
    model: &M,
    groups: &[(&Encoded, &[Vec<u32>])],
    device: &B::Device,
) -> Result<CompletionLogProbs<B>> {
    let groups: Vec<Group<'_>> =
        groups.iter().map(|(prompt, completions)| Group { prompt, completions }).collect();
    Ok(completion_log_probs(model, &groups, LogProbOptions::default(), device)?)
}

fn loss<B: AutodiffBackend>(
    scored: &CompletionLogProbs<B>,
    weight: impl Fn(usize, usize) -> f32,
    device: &B::Device,
) -> Tensor<B, 1> {
    let [rows, len] = scored.log_probs.dims();
    let weights: Vec<f32> = (0..rows * len).map(|place| weight(place / len, place % len)).collect();
    (scored.log_probs.clone() * Tensor::from_data(TensorData::new(weights, [rows, len]), device)).sum()
}
