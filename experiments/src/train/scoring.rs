//! What a stage scores its completions with: experts, normalization and, where one is needed, its calibration.

use anyhow::{Context, Result, bail};
use burn::tensor::backend::Backend;
use medgrpo_model::vlm::Vlm;
use medgrpo_rewards::{Reward, audit::Limits, compose::normalise::Calibration};
use medgrpo_trainers::prepare::SamplePreparer;

use super::job::TrainJob;
use crate::{
    build::{self, Experts, Scoring, seed_of_stage},
    calibrate::{self, Calibrator, calibration_file},
    config::resolved::{Policy, Stage},
    reward_check::{RewardCheck, reward_check_file},
    run_dir::write_atomic,
};

/// A stage that is about to begin or to go on.
pub(super) struct StageStart<'a> {
    pub(super) index: usize,
    pub(super) stage: &'a Stage,
    /// Steps done.
    pub(super) done: usize,
    pub(super) preparer: &'a SamplePreparer,
    pub(super) stop_ids: &'a [u32],
}

impl TrainJob<'_> {
    /// The scoring of a stage, after calibrating `model` if that has not been done. `None` if the run was asked to stop
    /// meanwhile.
    pub(super) fn scoring<B: Backend, M: Vlm<B> + Clone>(
        &self,
        start: &StageStart<'_>,
        grpo: &Policy,
        model: impl Fn() -> M,
        device: &B::Device,
    ) -> Result<Option<Scoring>> {
        let tasks = &start.stage.data.tasks;
        let experts = build::open_experts(&grpo.rewards, tasks, self.run_dir.path())?;
        let table = match calibrate::table_of(start.stage, self.run_dir.path())? {
            None if grpo.rewards.normalization.calibration().is_some() => {
                match self.calibration(start, grpo, &experts, model, device)? {
                    Some(table) => Some(table),
                    None => return Ok(None),
                }
            }
            table => table,
        };
        let scoring = |table| -> Result<Scoring> {
            let normaliser = build::normaliser(&grpo.rewards.normalization, table)?;
            let reward = build::reward(&grpo.rewards, grpo.max_completion_length, &experts, &normaliser)?;
            Ok(Scoring { reward, normaliser, judge: experts.judge.clone() })
        };
        if start.done == 0 && grpo.rewards.check_records > 0 {
            // On a reward of its own: normalizations remember what they have seen.
            self.check_reward(start, &scoring(table.clone())?.reward, grpo.rewards.check_records)?;
        }
        scoring(table).map(Some)
    }

    /// Keeps in the run directory what the reward pays for tricks, and tells if one pays.
    fn check_reward(&self, start: &StageStart<'_>, reward: &dyn Reward, num_records: usize) -> Result<()> {
        let tasks = &start.stage.data.tasks;
        let check = RewardCheck::of(reward, &self.train, tasks, num_records, Limits::default())?;
        let path = reward_check_file(self.run_dir.path(), &start.stage.name);
        check.write(&path)?;
        write_atomic(&path.with_extension("md"), check.to_markdown().as_bytes())?;
        if check.tell()? > 0 {
            crate::print(&format!(
                "the policy may find that this reward pays for tricks; the whole list: {}",
                path.display()
            ));
        }
        Ok(())
    }

    /// The stage's own table, measured. `None` if the run was asked to stop meanwhile.
    fn calibration<B: Backend, M: Vlm<B> + Clone>(
        &self,
        start: &StageStart<'_>,
        grpo: &Policy,
        experts: &Experts,
        model: impl Fn() -> M,
        device: &B::Device,
    ) -> Result<Option<Calibration>> {
        let path = calibration_file(self.run_dir.path(), &start.stage.name);
        if start.done > 0 {
            bail!(
                "{}: is gone, and the model it was measured on has been trained since; put it back, or name a table in \
                 `recipe.rewards.normalization`",
                path.display()
            );
        }
        let settings =
            grpo.rewards.normalization.calibration().context("only normalizations with one come here")?;
        let calibrator = Calibrator {
            files: &self.train,
            tasks: &start.stage.data.tasks,
            grpo,
            settings,
            experts,
            preparer: start.preparer,
            stop_ids: start.stop_ids,
            workers: &self.workers,
            seed: seed_of_stage(self.experiment.seed, start.index),
            stop: &self.stop,
        };
        let Some(measured) = calibrator.run::<B, M>(&model(), device)? else { return Ok(None) };
        let name = format!("the model that stage {} starts from", start.stage.name);
        let normaliser = |table| build::normaliser(&grpo.rewards.normalization, Some(table));
        calibrate::write(&path, &name, &measured, settings.min_count, normaliser).map(Some)
    }
}
