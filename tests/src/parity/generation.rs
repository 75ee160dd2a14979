//! Greedy answers equal the reference's however they are batched; sampled ones depend on nothing but their seed.

use anyhow::Result;
use burn::tensor::backend::{AutodiffBackend, Backend};
use medgrpo::device::Job;
use medgrpo_model::{
    checkpoint::Pretrained,
    generate::{Completion, FinishReason, GenerationConfig, generate},
    generation_config::read_stop_ids,
    processor::Encoded,
    qwen2_5_vl::Qwen25Vl,
    sampling::Sampling,
    vlm::Vlm,
};

use crate::{
    device::on_device,
    fixture::{self, Fixture, MAX_NEW_TOKENS},
};

#[test]
fn answers_equal_the_reference_and_do_not_depend_on_batching() {
    on_device(Generation);
}

struct Generation;

impl Job for Generation {
    type Output = ();

    fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<()> {
        for fixture in fixture::all() {
            let (model, _) = Qwen25Vl::<B::InnerBackend>::from_dir(&fixture.dir, device)?;
            greedy(&fixture, &model, device)?;
            sampled(&fixture, &model, device)?;
            println!("{}: answers to {} prompts agree", fixture.name, fixture.records.len());
        }
        Ok(())
    }
}

fn config(fixture: &Fixture, sampling: Sampling, num_generations: usize) -> GenerationConfig {
    let stop_ids = read_stop_ids(&fixture.dir).unwrap().unwrap();
    let max_new_tokens = MAX_NEW_TOKENS;
    GenerationConfig { num_generations, max_new_tokens, sampling, stop_ids, log_probs: false }
}

fn greedy<B: Backend>(fixture: &Fixture, model: &Qwen25Vl<B>, device: &B::Device) -> Result<()> {
    let prompts: Vec<&Encoded> = fixture.records.iter().map(|record| &record.prompt).collect();
    for (key, repetition_penalty) in [("greedy_ids", 1.0), ("greedy_penalty_ids", 1.05)] {
        let sampling = Sampling { repetition_penalty, ..Sampling::GREEDY };
        let reference = |index: usize| fixture.reference.ids(&format!("{index}.{key}"));
        let check = |index: usize, completion: &Completion, how: &str| {
            let what = format!("{}, {}: {key} {how}", fixture.name, fixture.records[index].name);
            assert_eq!(completion.token_ids, reference(index), "{what}");
            let stops = config(fixture, sampling, 1).stop_ids;
            let stopped = completion.token_ids.last().is_some_and(|last| stops.contains(last));
            assert_eq!(completion.finish_reason == FinishReason::Stop, stopped, "{what}");
            assert!(stopped || completion.token_ids.len() == MAX_NEW_TOKENS, "{what}");
        };
        for (index, prompt) in prompts.iter().enumerate() {
            let answers = generate(model, &[prompt], &[0], &config(fixture, sampling, 1), device)?;
            check(index, &answers[0][0], "alone");
        }
        let seeds = vec![0; prompts.len()];
        let answers = generate(model, &prompts, &seeds, &config(fixture, sampling, 3), device)?;
        assert_eq!(answers.len(), prompts.len());
        for (index, group) in answers.iter().enumerate() {
            assert_eq!(group.len(), 3);
            group.iter().for_each(|completion| check(index, completion, "in a batch of groups"));
        }
    }
    Ok(())
}

fn sampled<B: Backend>(fixture: &Fixture, model: &Qwen25Vl<B>, device: &B::Device) -> Result<()> {
    let prompts: Vec<&Encoded> = fixture.records.iter().map(|record| &record.prompt).collect();
    let seeds: Vec<u64> = (0..prompts.len() as u64).map(|index| 1000 + index).collect();
    // Hot enough that placeholders would be drawn if they were not banned.
    let sampling = Sampling { temperature: 3.0, ..Sampling::GREEDY };
    let together = generate(model, &prompts, &seeds, &config(fixture, sampling, 4), device)?;
    let banned = model.placeholder_ids();
    for (index, group) in together.iter().enumerate() {
        let alone = generate(
            model,
            &prompts[index..=index],
            &seeds[index..=index],
            &config(fixture, sampling, 2),
            device,
        )?;
        assert_eq!(alone[0], group[..2], "{}, seed {}: depends on the batch", fixture.name, seeds[index]);
        assert!(
            group.iter().any(|completion| completion != &group[0]),
            "completions of a group are all the same"
        );
        for completion in group {
            assert!(completion.token_ids.iter().all(|id| !banned.contains(id)), "a placeholder was sampled");
        }
    }
    Ok(())
}
