//! Models as the verbs take them: a checkpoint directory, perhaps with an adapter on it.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use burn::tensor::backend::Backend;
use medgrpo_model::{
    checkpoint::{CheckpointSource, Pretrained},
    lora::{Adaptable, load_adapter},
    precision::Precision,
    qwen2_5_vl::Qwen25Vl,
};

use crate::config::resolved::Policy;

/// What `bf16` asks for, of a device that has it.
///
/// # Errors
/// If `device` cannot compute with it.
pub(crate) fn precision<B: Backend>(bf16: bool, device: &B::Device) -> Result<Precision> {
    let precision = if bf16 { Precision::Bf16 } else { Precision::Parameters };
    check_support::<B>("bf16", precision, device)?;
    Ok(precision)
}

/// Whether `device` has what the `rollout_bf16` of these recipes asks for.
///
/// # Errors
/// If it cannot compute with it.
pub(crate) fn check_rollouts<'a, B: Backend>(
    policies: impl IntoIterator<Item = &'a Policy>,
    device: &B::Device,
) -> Result<()> {
    if policies.into_iter().any(|policy| policy.rollout_bf16) {
        check_support::<B>("rollout_bf16", Precision::Bf16, device)?;
    }
    Ok(())
}

fn check_support<B: Backend>(key: &str, precision: Precision, device: &B::Device) -> Result<()> {
    ensure!(
        precision.is_supported::<B>(device),
        "{key}: this device has no arithmetic of bfloat16; leave it out or take another --device"
    );
    Ok(())
}

/// The model of `dir` with the adapter of another directory, if one is given, merged into its weights.
pub(crate) fn load_model<B: Backend>(
    dir: &Path,
    adapter: Option<&Path>,
    device: &B::Device,
) -> Result<(Qwen25Vl<B>, CheckpointSource)> {
    let (model, source) = Qwen25Vl::from_dir(dir, device)?;
    let Some(adapter) = adapter else { return Ok((model, source)) };
    let on_what = || format!("the adapter {} on the model {}", adapter.display(), dir.display());
    Ok((load_adapter(model, adapter).with_context(on_what)?.merged(), source))
}
