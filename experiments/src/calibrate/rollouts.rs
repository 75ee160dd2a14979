//! A calibration from completions that a run has stored.

use std::path::Path;

use anyhow::{Context, Result, bail};
use medgrpo_datasets::TaskKind;

use super::Measured;
use crate::{build, config::resolved::rewards::Rewards, rollouts::for_each_line};

/// The components in the parts of every stored completion.
pub(crate) fn from_rollouts(path: &Path, rewards: &Rewards) -> Result<Measured> {
    let mut measured = Measured::default();
    for_each_line(path, |line| {
        let group = line.group;
        let task = TaskKind::from_key(&group.task).with_context(|| format!("`{}` is no task", group.task))?;
        let components = build::component_names(rewards, task);
        let source = group.source.as_str().into();
        for completion in &group.completions {
            let parts = &completion.worth.parts;
            measured.add(&source, task, &components, |name| parts.get(name).copied());
        }
        Ok(())
    })?;
    if measured.by_pair.is_empty() {
        bail!("{}: holds no completion", path.display());
    }
    Ok(measured)
}
