//! `medgrpo rewards check`: gold, nothing, half answers and tricks, over the records that a stage trains on.

use anyhow::{Result, bail};
use medgrpo_datasets::{Content, Dataset as _, TaskSample, video::clip_info};
use medgrpo_rewards::audit::{Audit, Auditor, Clip, Finding, Limits};

use super::{reward_of, stage_index};
use crate::{
    build, cli::RewardsCheckArgs, config, print, progress::Progress, run_dir::write_atomic,
    train::render_practice_set,
};

/// Findings of one kind told on the terminal; all are in the JSON.
const MAX_TOLD: usize = 3;

/// The reward pays what it should not: a result, not a mistake in the command.
#[derive(Debug, thiserror::Error)]
#[error("the reward breaks its laws {num} times: a policy would find that; --out FILE.json lists them all")]
pub(crate) struct Violated {
    num: usize,
}

pub(in super::super) fn run(args: &RewardsCheckArgs) -> Result<()> {
    if !(0.0..=1.0).contains(&args.max_beaten_share) || !(0.0..=1.0).contains(&args.min_gold_metric) {
        bail!("--max-beaten-share and --min-gold-metric are from 0 to 1");
    }
    let experiment = config::load(&args.config, &args.overrides)?;
    let index = stage_index(&experiment, args.stage)?;
    let reward = reward_of(&experiment, index, &experiment.out)?;
    render_practice_set(&experiment)?;
    let stage = &experiment.stages[index];
    let files = build::open_train(&experiment)?;
    let chosen: Vec<_> =
        files.iter().map(|file| (file, file.spread(&stage.data.tasks, args.limit))).collect();
    let num_records: usize = chosen.iter().map(|(_, places)| places.len()).sum();
    if num_records == 0 {
        bail!("{}: no row of `data.train` is of the tasks of stage {index}", args.config.display());
    }
    let limits = Limits { max_beaten_share: args.max_beaten_share, min_gold_metric: args.min_gold_metric };
    let mut auditor = Auditor::new(&reward, limits);
    let mut num_unseen = 0;
    let progress = Progress::start("check rewards", num_records, "records");
    let mut done = 0;
    for (file, places) in chosen {
        for place in places {
            let sample = file.usable.get(place)?;
            let clip = look_at(&sample).unwrap_or_else(|| {
                num_unseen += 1;
                Clip::of(&sample)
            });
            auditor.add(&file.origin(&sample), &sample, clip)?;
            done += 1;
            progress.set(done);
        }
    }
    progress.finish();
    let audit = auditor.finish();
    if let Some(out) = &args.out {
        write_atomic(out, &serde_json::to_vec_pretty(&audit)?)?;
    }
    print(&format!("reward of stage {index} (\"{}\"), {num_records} records\n", stage.name));
    print(&audit.to_markdown());
    if num_unseen > 0 {
        print(&format!(
            "{num_unseen} clips could not be read: whole-frame boxes took 1920x1080 for their size\n"
        ));
    }
    tell(&audit)
}

/// Length and size of the sample's clip; `None` without one that can be read.
fn look_at(sample: &TaskSample) -> Option<Clip> {
    let mut contents = sample.prompt.iter().flat_map(|message| &message.content);
    let video = contents.find_map(|content| match content {
        Content::Video(video) => Some(video),
        Content::Text(_) | Content::Image(_) => None,
    })?;
    let info = clip_info(video).ok()?;
    Some(Clip { frame_size: [f64::from(info.width), f64::from(info.height)], ..Clip::of(sample) })
}

fn tell(audit: &Audit) -> Result<()> {
    if !audit.unscored.is_empty() {
        print(&format!("{} records had answers that could not be scored:", audit.unscored.len()));
        for unscored in audit.unscored.iter().take(MAX_TOLD) {
            print(&format!("  {}: {}", unscored.origin, unscored.reason));
        }
    }
    let seldom = audit.findings.len() - audit.violations().count();
    if seldom > 0 {
        print(&format!("{seldom} times a trick was by chance better than a half-right answer (not counted)"));
    }
    let violations: Vec<&Finding> = audit.violations().collect();
    let kind = |finding: &Finding| (finding.task, finding.law, finding.answer);
    let mut kinds: Vec<_> = violations.iter().map(|finding| kind(finding)).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for (task, law, answer) in kinds {
        let of_kind: Vec<_> =
            violations.iter().filter(|finding| kind(finding) == (task, law, answer)).collect();
        let law = serde_json::to_value(law)?.as_str().unwrap_or_default().replace('_', " ");
        print(&format!(
            "{task}: the law \"{law}\" is broken by {}, {} times:",
            answer.as_str(),
            of_kind.len()
        ));
        for finding in of_kind.iter().take(MAX_TOLD) {
            print(&format!(
                "  {}: {:.4} against {:.4}, {:?}",
                finding.origin, finding.value, finding.limit, finding.text
            ));
        }
    }
    match violations.len() {
        0 => {
            print("every law of rewards holds");
            Ok(())
        }
        num => Err(Violated { num }.into()),
    }
}
