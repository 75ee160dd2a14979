//! `medgrpo replay`: what another recipe would have made of the completions that a run has recorded, without a model.
//!
//! Rewards and completions stay as they are recorded; advantages, losses and weights in the gradient are computed as at the
//! first update of each step, where every probability ratio is 1.

mod outcome;
mod recorded;

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, bail};
use burn::tensor::backend::AutodiffBackend;
use medgrpo_trainers::{
    cut::Limits,
    dynamic_sampling::DynamicSampling,
    filter::Verdict,
    recipes::GrpoConfig,
    replay::{RecordedGroup, Share, replay},
    rollout::advantages,
};
use serde::Serialize;

use self::{
    outcome::{
        ReplayedCompletion, ReplayedGroup, Row, Under, by_length, by_pair, by_step, count_steps,
        largest_advantage_difference, total,
    },
    recorded::{Recorded, for_each_step},
};
use crate::{
    build,
    cli::ReplayArgs,
    config::{
        self,
        resolved::{
            Policy, Stage,
            recipe::{AdvantageType, KlIn, Method},
        },
    },
    device::{Job, run_on_cpu},
    print,
    report::aligned,
    run_dir::{CONFIG_FILE, Position, write_atomic},
};

/// Steps that a table tells; there are more in the file.
const MAX_STEPS_TOLD: usize = 20;

pub(super) fn run(args: &ReplayArgs) -> Result<()> {
    let file = args.run.join(CONFIG_FILE);
    if !file.exists() {
        bail!(
            "{} holds no run (no {CONFIG_FILE}): give a run directory of `medgrpo train`",
            args.run.display()
        );
    }
    let experiment = config::load(&file, &[]).context("the run directory's own config")?;
    let mut plans = BTreeMap::new();
    for (index, stage) in experiment.stages.iter().enumerate() {
        if let Some(recorded) = stage.recipe.on_policy()
            && args.stage.is_none_or(|wanted| wanted == index)
        {
            let policy = config::load_replayed(&file, index, args.recipe, &args.overrides)?;
            plans.insert(index, Plan::new(stage, recorded, &policy)?);
        }
    }
    if plans.is_empty() {
        bail!(
            "there is no stage with a reward to replay: the experiment has {} stages, numbered from 0",
            experiment.stages.len()
        );
    }
    let (groups, num_dropped) = run_on_cpu(Replay { run: &args.run, plans: &plans })?;
    let mut stages = Vec::new();
    for (index, plan) in plans {
        let groups: Vec<ReplayedGroup> =
            groups.iter().filter(|group| group.at.stage == index).cloned().collect();
        if !groups.is_empty() {
            stages.push(ReplayedStage::new(index, plan, groups));
        }
    }
    if stages.is_empty() {
        bail!("{}: no step has been recorded of the stages to replay", args.run.display());
    }
    for stage in &stages {
        print(&stage.to_markdown());
    }
    if num_dropped > 0 {
        print(&format!(
            "{num_dropped} groups that the run drew and did not learn from are left out: no policy's log-probabilities \
             are recorded of them"
        ));
    }
    if let Some(out) = &args.out {
        write_atomic(out, &serde_json::to_vec_pretty(&stages)?)?;
    }
    Ok(())
}

/// What is to be done with a stage.
struct Plan {
    name: String,
    recorded: Side,
    replayed: Side,
    filter: Option<DynamicSampling>,
    micro_batch: Limits,
}

/// A recipe.
struct Side {
    method: Method,
    config: GrpoConfig,
}

impl Plan {
    fn new(stage: &Stage, recorded: &Policy, replayed: &Policy) -> Result<Self> {
        let tasks = &stage.data.tasks;
        if replayed.advantage == AdvantageType::Gdpo
            && let Err(name) = build::component_weights(&replayed.rewards, tasks)
        {
            bail!(
                "\"gdpo\" takes one weight a component, but `{name}` has different ones in the tasks of stage {}: choose \
                 another recipe",
                stage.name
            );
        }
        let measures = |policy: &Policy| policy.kl_in == Some(KlIn::Reward);
        if measures(replayed) && !measures(recorded) {
            bail!(
                "stage {} has recorded no distance from a reference (its `kl_in` was not \"reward\"): choose a recipe with \
                 beta = 0 or kl_in = \"loss\"",
                stage.name
            );
        }
        let side =
            |policy: &Policy| Side { method: policy.method, config: build::grpo_config(policy, tasks) };
        Ok(Self {
            name: stage.name.clone(),
            recorded: side(recorded),
            replayed: side(replayed),
            filter: build::dynamic_sampling(replayed),
            micro_batch: build::micro_batch(&stage.trainer),
        })
    }

    /// Both recipes on the groups of a step.
    fn step<B: AutodiffBackend>(
        &self,
        at: Position,
        groups: Vec<Recorded>,
        device: &B::Device,
    ) -> Vec<ReplayedGroup> {
        let verdicts: Vec<Verdict> = groups
            .iter()
            .map(|group| {
                self.filter
                    .as_ref()
                    .map_or(Verdict::Keep, |sampling| sampling.filter.verdict(&group.completions))
            })
            .collect();
        let kept: Vec<&Recorded> = groups
            .iter()
            .zip(&verdicts)
            .filter(|(_, verdict)| **verdict == Verdict::Keep)
            .map(|(group, _)| group)
            .collect();
        let config = &self.replayed.config;
        let completions = kept.iter().map(|group| group.completions.as_slice());
        let advantages = advantages(&*config.advantage, config.reward_beta(), completions);
        let of_run: Vec<RecordedGroup<'_>> =
            groups.iter().map(|group| as_recorded(group, &group.advantages)).collect();
        let recorded = replay::<B>(&self.recorded.config, &of_run, self.micro_batch, device);
        let of_recipe: Vec<RecordedGroup<'_>> =
            kept.iter().zip(&advantages).map(|(group, advantages)| as_recorded(group, advantages)).collect();
        let replayed = replay::<B>(&self.replayed.config, &of_recipe, self.micro_batch, device);

        let mut replayed = advantages.into_iter().zip(replayed);
        let mut found = Vec::with_capacity(groups.len());
        for ((group, recorded), verdict) in groups.into_iter().zip(recorded).zip(verdicts) {
            let (left_out, replayed) = match verdict {
                Verdict::Keep => (None, replayed.next()),
                Verdict::Drop(reason) => (Some(reason), None),
            };
            found.push(replayed_group(at, group, &recorded, left_out, replayed.as_ref()));
        }
        found
    }
}

fn as_recorded<'a>(group: &'a Recorded, advantages: &'a [f32]) -> RecordedGroup<'a> {
    RecordedGroup {
        prompt_tokens: group.prompt_tokens,
        completions: &group.completions,
        log_probs: &group.log_probs,
        advantages,
    }
}

fn replayed_group(
    at: Position,
    group: Recorded,
    recorded: &[Share],
    left_out: Option<&'static str>,
    replayed: Option<&(Vec<f32>, Vec<Share>)>,
) -> ReplayedGroup {
    let completions = group.completions.iter().enumerate().map(|(place, completion)| ReplayedCompletion {
        num_tokens: completion.token_ids.len(),
        truncated: completion.truncated,
        recorded: Under::new(group.advantages[place], recorded[place]),
        replayed: replayed.map(|(advantages, shares)| Under::new(advantages[place], shares[place])),
    });
    let completions = completions.collect();
    let stored = group.stored;
    ReplayedGroup {
        at,
        origin: stored.origin,
        task: stored.task,
        source: stored.source,
        left_out,
        completions,
    }
}

struct Replay<'a> {
    run: &'a Path,
    plans: &'a BTreeMap<usize, Plan>,
}

impl Job for Replay<'_> {
    type Output = (Vec<ReplayedGroup>, usize);

    fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<Self::Output> {
        let mut groups = Vec::new();
        let num_dropped = for_each_step(self.run, |at, step| {
            if let Some(plan) = self.plans.get(&at.stage) {
                groups.extend(plan.step::<B>(at, step, device));
            }
            Ok(())
        })?;
        Ok((groups, num_dropped))
    }
}

/// A stage as it is told and written.
#[derive(Serialize)]
struct ReplayedStage {
    stage: usize,
    name: String,
    /// Types of the two recipes.
    recorded: Method,
    replayed: Method,
    num_steps: usize,
    largest_advantage_difference: f64,
    total: Vec<Row>,
    by_pair: Vec<Row>,
    by_length: Vec<Row>,
    by_step: Vec<Row>,
    /// What of the two recipes' losses is not in the numbers.
    left_out: Vec<String>,
    groups: Vec<ReplayedGroup>,
}

impl ReplayedStage {
    fn new(stage: usize, plan: Plan, groups: Vec<ReplayedGroup>) -> Self {
        let mut left_out = Vec::new();
        for (whose, side) in [("recorded", &plan.recorded), ("replayed", &plan.replayed)] {
            let GrpoConfig { beta, entropy_coef, top_entropy_quantile, .. } = side.config;
            let terms = [
                (beta > side.config.reward_beta(), "the divergence from the reference (beta)"),
                (entropy_coef > 0.0, "the entropy bonus (entropy_coef)"),
                (top_entropy_quantile < 1.0, "the choice of tokens by entropy (top_entropy_quantile)"),
            ];
            let needed = terms.into_iter().filter(|(is_there, _)| *is_there);
            left_out.extend(needed.map(|(_, what)| format!("{whose}: {what}")));
        }
        Self {
            stage,
            name: plan.name,
            recorded: plan.recorded.method,
            replayed: plan.replayed.method,
            num_steps: count_steps(&groups),
            largest_advantage_difference: largest_advantage_difference(&groups),
            total: total(&groups),
            by_pair: by_pair(&groups),
            by_length: by_length(&groups),
            by_step: by_step(&groups),
            left_out,
            groups,
        }
    }

    fn to_markdown(&self) -> String {
        let word = |method: Method| serde_json::to_string(&method).unwrap_or_default();
        let mut text = format!(
            "## stage {} (\"{}\"): {} steps, recorded {} → replayed {}\n\nLargest difference of an advantage: {:.3e}\n",
            self.stage,
            self.name,
            self.num_steps,
            word(self.recorded),
            word(self.replayed),
            self.largest_advantage_difference
        );
        let whole: Vec<Row> = self.by_pair.iter().chain(&self.total).cloned().collect();
        text += &format!("\n{}", table("dataset, task", &whole, true));
        text += &format!("\n{}", table("length", &self.by_length, false));
        let every = self.by_step.len().div_ceil(MAX_STEPS_TOLD).max(1);
        let steps: Vec<Row> = self.by_step.iter().step_by(every).cloned().collect();
        text += &format!("\n{}", table("step", &steps, true));
        for what in &self.left_out {
            text += &format!("\nleft out, since it takes a model to compute: {what}");
        }
        text
    }
}

/// Recorded → replayed.
fn table(first: &str, rows: &[Row], with_groups: bool) -> String {
    let mut head =
        vec![first, "completions", "mean size of an advantage", "loss", "gradient weight", "share of it"];
    if with_groups {
        head.splice(1..1, ["groups", "without a signal"]);
    }
    let mut lines = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for Row { name, recorded, replayed } in rows {
        let count = |a: usize, b: usize| if a == b { a.to_string() } else { format!("{a} → {b}") };
        let number = |a: f64, b: f64| format!("{a:.4} → {b:.4}");
        let percent = |a: f64, b: f64| format!("{:.1} → {:.1} %", 100.0 * a, 100.0 * b);
        let mut line = vec![name.clone()];
        if with_groups {
            line.push(count(recorded.groups, replayed.groups));
            line.push(percent(recorded.zero_groups, replayed.zero_groups));
        }
        line.push(count(recorded.completions, replayed.completions));
        line.push(number(recorded.mean_abs_advantage, replayed.mean_abs_advantage));
        line.push(number(recorded.loss, replayed.loss));
        line.push(number(recorded.gradient_weight, replayed.gradient_weight));
        line.push(percent(recorded.gradient_share, replayed.gradient_share));
        lines.push(line);
    }
    aligned(&lines)
}
