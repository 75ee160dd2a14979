//! Stages that train a low-rank adapter: killed and resumed they end in the same bytes, and what they leave fits.

use std::process::Command;

use medgrpo::device::Device;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, SafeTensors};

use super::{LAST_CHECKPOINTS, Run, Unbroken, kills::number};
use crate::{cli::binary, device::chosen};

/// An adapter with dropout in each stage, the second on the vision tower too; completions that earn something.
const OVERRIDES: [&str; 6] = [
    "stage.0.lora={ r = 4, lora_dropout = 0.2 }",
    "stage.1.lora={ r = 2, lora_alpha = 8, lora_dropout = 0.1, use_rslora = true, vision = true }",
    "stage.1.recipe={ type = \"grpo\", num_generations = 3, max_completion_length = 8, beta = 0.1, num_iterations = 2, \
     rewards = { embedder = \"lexical\", captions = { similarity = 1.0, rouge_l = 0.5 } } }",
    "stage.1.data.tasks=[\"vs\", \"rc\"]",
    "stage.1.trainer.weight_decay=0.0",
    "stage.0.trainer.vision_cache_disk_mb=8",
];

fn start(run: &Run) -> Command {
    let mut command = run.start_command();
    command.args(OVERRIDES.iter().flat_map(|key| ["--set", key]));
    command
}

fn tensor<'f>(file: &'f SafeTensors<'_>, end: &str) -> &'f [u8] {
    let name = file.names().into_iter().find(|name| name.ends_with(end)).unwrap().to_owned();
    file.tensor(&name).unwrap().data()
}

/// Largest difference between the numbers of two files with the same tensors, all f32.
fn farthest(a: &[u8], b: &[u8]) -> f32 {
    let [a, b] = [a, b].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    assert_eq!(a.len(), b.len(), "other tensors");
    let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    let far = a.tensors().into_iter().flat_map(|(name, tensor)| {
        let other = b.tensor(&name).unwrap();
        assert_eq!((tensor.dtype(), other.dtype()), (Dtype::F32, Dtype::F32), "{name}");
        assert_eq!(tensor.shape(), other.shape(), "{name}");
        let pairs = tensor.data().chunks_exact(4).zip(other.data().chunks_exact(4));
        pairs.map(|(a, b)| (number(a) - number(b)).abs()).collect::<Vec<_>>()
    });
    far.fold(0.0, |most, far| if far > most || far.is_nan() { far } else { most })
}

#[test]
fn adapters_resume_to_the_same_bytes_and_merge_to_the_model() {
    let unbroken = Unbroken::shared();
    let whole = unbroken.scene.run("whole-lora");
    let started = std::time::Instant::now();
    let output = start(&whole).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let duration = started.elapsed();

    let seed = number("MEDGRPO_RESUME_SEED", 0);
    println!("MEDGRPO_RESUME_SEED={seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // In the middle of each stage, between them, and whenever.
    let places =
        ["checkpoints/00-sft-step-000003", LAST_CHECKPOINTS[0], "checkpoints/01-medgrpo-step-000002"];
    let random = number("MEDGRPO_RESUME_KILLS", 0);
    for (kill, place) in places.into_iter().map(Some).chain((0..random).map(|_| None)).enumerate() {
        let broken = unbroken.scene.run(&format!("broken-lora-{kill}"));
        let moment = duration.mul_f64(rng.random_range(0.3..0.95));
        let mut child = start(&broken).spawn().unwrap();
        match place {
            Some(place) => broken.wait_for(&mut child, place),
            None => std::thread::sleep(moment),
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if broken.path().join("config.toml").exists() {
            broken.succeed();
        } else {
            assert!(start(&broken).output().unwrap().status.success());
        }
        whole.outcome().assert_equal(&broken.outcome(), &format!("killed at {place:?} or after {moment:?}"));
    }

    // A checkpoint on the way holds the adapter alone; the last of a stage the merged model too.
    let stages = |path: &str| whole.path().join(path).exists();
    assert!(stages("checkpoints/01-medgrpo-step-000002/adapter/adapter_model.safetensors"));
    assert!(!stages("checkpoints/01-medgrpo-step-000002/model.safetensors"));
    assert!(stages(&format!("{}/model.safetensors", LAST_CHECKPOINTS[1])));

    let base = whole.path().join(LAST_CHECKPOINTS[0]);
    let merged = whole.path().with_extension("merged");
    let output = Command::new(binary())
        .args(["merge", "--model"])
        .arg(&base)
        .arg("--adapter")
        .arg(whole.path().join("adapter"))
        .arg("--out")
        .arg(&merged)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let [merged, model, base] = [merged, whole.path().join("model"), base]
        .map(|dir| std::fs::read(dir.join("model.safetensors")).unwrap());
    let misfit = farthest(&merged, &model);
    println!("merged by the command and by the run: {misfit:e} apart");
    // The command computes on the CPU backend; another device rounds its products differently.
    let is_same = if chosen() == Device::Cpu { merged == model } else { misfit < 1e-6 };
    assert!(is_same, "the adapter on the first stage's model is not the run's model");
    let [model, base] = [&model, &base].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    for frozen in ["embed_tokens.weight", "patch_embed.proj.weight", "norm1.weight", "q_proj.bias"] {
        assert!(tensor(&model, frozen) == tensor(&base, frozen), "{frozen} is not adapted");
    }
    for adapted in ["self_attn.q_proj.weight", "mlp.down_proj.weight", "attn.qkv.weight"] {
        assert!(tensor(&model, adapted) != tensor(&base, adapted), "{adapted} has not learned");
    }
}

#[test]
fn an_adapter_that_does_not_fit_is_refused_before_anything_is_computed() {
    let unbroken = Unbroken::shared();
    let run = unbroken.scene.run("unfit-lora");
    for (key, wanted) in [
        (
            "stage.1.lora={ target_modules = [\"query\"] }",
            "stage.1.lora: LoRA: `target_modules`: `query` names no layer",
        ),
        ("stage.1.lora={ r = 0 }", "`stage.1.lora.r` is 0"),
    ] {
        let output = run.start_command().args(["--set", key]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.contains(wanted), "{message}");
        assert!(!run.path().join("config.toml").exists(), "a refused run leaves nothing behind");
    }
}
