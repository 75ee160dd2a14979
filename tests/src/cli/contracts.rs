//! What `score`, `generate`, `inspect` and `bench` write, to the key.

use std::path::Path;

use safetensors::Dtype;
use serde_json::Value;

use super::{succeed, verb};
use crate::fixture::{self, Deviation, Fixture, MAX_NEW_TOKENS, Tensors};

#[test]
fn score_writes_the_log_probabilities_of_the_last_answers() {
    for (name, more) in
        [("flat_tied", ["--batch-size", "3"]), ("flat_untied_bf16_sharded", ["--threads", "1"])]
    {
        let fixture = Fixture::open(name);
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("scores.jsonl");
        let stdout = succeed(verb("score", name, "messages", &out).iter().map(String::as_str).chain(more));
        assert_eq!(stdout, "", "results are in the file");
        let lines = lines(&out);
        assert_eq!(lines.len(), fixture.records.len());
        let mut deviation = Deviation::default();
        for (index, (line, record)) in lines.iter().zip(&fixture.records).enumerate() {
            assert_eq!(keys(line), ["index", "token_ids", "logprobs"]);
            assert_eq!(line["index"], index);
            assert_eq!(ids(&line["token_ids"]), fixture.reference.ids(&format!("{index}.answer_token_ids")));
            let ours: Vec<f32> = line["logprobs"]
                .as_array()
                .unwrap()
                .iter()
                .map(|value| value.as_f64().unwrap() as f32)
                .collect();
            deviation.add(&record.name, &ours, &fixture.reference.f32s(&format!("{index}.answer_logprobs")));
        }
        deviation.check(&format!("{name}, score"), 1e-3, 2e-5);
        assert_eq!(files(dir.path()), ["scores.jsonl"]);
    }
}

#[test]
fn generate_writes_the_greedy_answers() {
    // The second checkpoint's generation_config.json names one more stop token.
    for name in ["flat_tied", "flat_all_full"] {
        let fixture = Fixture::open(name);
        let stop_ids = medgrpo_model::generation_config::read_stop_ids(&fixture.dir).unwrap().unwrap();
        for (key, penalty) in [("greedy_ids", "1"), ("greedy_penalty_ids", "1.05")] {
            let dir = tempfile::tempdir().unwrap();
            let out = dir.path().join("answers.jsonl");
            let mut args = verb("generate", name, "prompts", &out);
            let length = MAX_NEW_TOKENS.to_string();
            let more =
                ["--max-new-tokens", &length, "--repetition-penalty", penalty, "--num-generations", "2"];
            args.extend(more.map(str::to_owned));
            assert_eq!(succeed(args), "");
            let lines = lines(&out);
            assert_eq!(lines.len(), fixture.records.len());
            for (index, line) in lines.iter().enumerate() {
                assert_eq!(keys(line), ["index", "completions"]);
                assert_eq!(line["index"], index);
                let completions = line["completions"].as_array().unwrap();
                assert_eq!(completions.len(), 2);
                let reference = fixture.reference.ids(&format!("{index}.{key}"));
                let stopped = reference.last().is_some_and(|last| stop_ids.contains(last));
                for completion in completions {
                    assert_eq!(keys(completion), ["text", "token_ids", "finish_reason"]);
                    assert_eq!(ids(&completion["token_ids"]), reference, "{name}, row {index}: {key}");
                    assert_eq!(completion["finish_reason"], if stopped { "stop" } else { "length" });
                    let text = fixture.processor.tokenizer().decode(&reference, true).unwrap();
                    assert_eq!(completion["text"], text.as_str());
                }
            }
        }
    }
    let stopped_early = Fixture::open("flat_all_full").reference.ids("0.greedy_ids");
    assert!(stopped_early.len() < MAX_NEW_TOKENS, "the fixture no longer shows the extra stop token");
}

#[test]
fn sampled_answers_depend_on_the_seed_alone() {
    let dir = tempfile::tempdir().unwrap();
    let run = |seed: &str, batch_size: &str, threads: &str| {
        let out = dir.path().join("answers.jsonl");
        let mut args = verb("generate", "flat_all_full", "prompts", &out);
        let sampling = ["--temperature", "1", "--top-p", "0.9", "--top-k", "50", "--num-generations", "3"];
        let rest =
            ["--max-new-tokens", "10", "--seed", seed, "--batch-size", batch_size, "--threads", threads];
        args.extend(sampling.into_iter().chain(rest).map(str::to_owned));
        succeed(args);
        std::fs::read_to_string(out).unwrap()
    };
    let first = run("7", "8", "0");
    assert_eq!(first, run("7", "1", "1"), "the batch size or the threads changed the answers");
    assert_ne!(first, run("8", "8", "0"));
}

#[test]
fn inspect_writes_what_the_model_sees() {
    for name in ["flat_tied", "patch8_merge3"] {
        let fixture = Fixture::open(name);
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("seen.safetensors");
        assert_eq!(succeed(verb("inspect", name, "messages", &out)), "");
        let seen = Tensors::read(&out);
        let mut expected = 0;
        for (index, record) in fixture.records.iter().enumerate() {
            for key in ["input_ids", "position_ids", "image_grid_thw", "video_grid_thw"] {
                let name = format!("{index}.{key}");
                if fixture.reference.has(&name) {
                    assert_eq!(seen.get(&name), fixture.reference.get(&name), "{name}");
                    expected += 1;
                }
            }
            // The patches themselves are compared with Pillow's in `parity`.
            for (key, patches) in [
                ("pixel_values", &record.conversation.images),
                ("pixel_values_videos", &record.conversation.videos),
            ] {
                if !patches.grids.is_empty() {
                    let name = format!("{index}.{key}");
                    let rows = patches.num_patches();
                    assert_eq!(
                        (seen.get(&name).dtype, seen.shape(&name)),
                        (Dtype::F32, &[rows, patches.values.len() / rows][..])
                    );
                    assert!(seen.f32s(&name) == patches.values, "{name}");
                    expected += 1;
                }
            }
        }
        assert_eq!(seen.0.len(), expected, "tensors that the contract does not name");

        let prompts = dir.path().join("prompts.safetensors");
        succeed(verb("inspect", name, "prompts", &prompts));
        let prompts = Tensors::read(&prompts);
        for index in 0..fixture.records.len() {
            let reference = fixture.reference.ids(&format!("{index}.prompt_ids"));
            assert_eq!(prompts.ids(&format!("{index}.input_ids")), reference, "with the generation prompt");
        }
    }
}

#[test]
fn bench_prints_one_json_object() {
    let root = fixture::root();
    let model = root.join("flat_all_full");
    let data = root.join("flat_all_full.messages.jsonl");
    for what in ["forward", "train", "generate", "process"] {
        for data in [Some(&data), None] {
            let mut args = ["bench", "--what", what, "--batch-size", "2", "--seq-len", "32", "--json"]
                .map(str::to_owned)
                .to_vec();
            args.extend(["--max-new-tokens", "3", "--repetitions", "3", "--model"].map(str::to_owned));
            args.push(model.to_str().unwrap().to_owned());
            if let Some(data) = data {
                args.extend(["--data".to_owned(), data.to_str().unwrap().to_owned()]);
            }
            let stdout = succeed(args);
            assert_eq!(stdout.lines().count(), 1, "{stdout}");
            let result: Value = serde_json::from_str(&stdout).unwrap();
            let number =
                |key: &str| result[key].as_f64().unwrap_or_else(|| panic!("no number `{key}` in {stdout}"));
            assert_eq!(result["what"], what);
            assert_eq!(result["device"], "cpu");
            assert_eq!(result["batch_size"], 2);
            assert!(0.0 < number("min_sec") && number("min_sec") <= number("median_sec"));
            assert!(number("median_sec") <= number("max_sec"));
            let rate = number("tokens_per_step") / number("median_sec");
            assert!((number("tokens_per_sec") / rate - 1.0).abs() < 1e-9);
            if cfg!(target_os = "linux") {
                assert!(number("peak_memory_bytes") > 1e6);
            }
            if what == "generate" {
                assert_eq!(number("tokens_per_step"), 6.0, "3 tokens for each of 2 conversations");
            }
        }
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

/// Names of the files in a folder.
pub(super) fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
