//! `medgrpo merge-predictions`: shards back into one result, in the order of the file.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, bail};

use super::{
    line::{Prediction, read_predictions},
    settings::{Meta, meta_path},
};
use crate::{cli::MergePredictionsArgs, run_dir::write_atomic};

/// Puts shards together.
///
/// # Errors
/// If a shard is missing, unfinished, given twice or of another run; nothing is written then.
pub fn merge(args: &MergePredictionsArgs) -> Result<()> {
    if args.out.exists() {
        bail!("{} is there already: choose another --out", args.out.display());
    }
    let mut metas: BTreeMap<usize, (&Path, Meta)> = BTreeMap::new();
    let mut answers: BTreeMap<usize, Prediction> = BTreeMap::new();
    for path in &args.shards {
        let told = path.display();
        let Some(meta) = Meta::read(path)? else {
            bail!(
                "{told}: {} is missing, which says of which run it is; keep the two together",
                meta_path(path).display()
            );
        };
        if !path.exists() {
            bail!("{told} is not finished: run the command that makes it again");
        }
        let shard = meta.shard(path)?;
        if let Some((first, begun)) = metas.values().next() {
            let mut told = begun.differences(&meta);
            if begun.shard(first)?.count != shard.count {
                told.push(format!("shard: {}, now {shard}", begun.shard));
            }
            if !told.is_empty() {
                bail!(
                    "{} and {} were made with other settings:\n  {}",
                    first.display(),
                    path.display(),
                    told.join("\n  ")
                );
            }
        }
        let shard_answers = read_predictions(path)?;
        let wanted = (shard.index..meta.num_rows).step_by(shard.count);
        if !wanted.eq(shard_answers.iter().map(|answer| answer.index)) {
            bail!(
                "{told}: does not hold the rows of shard {shard} of {} rows, each once and in order: run the command that \
                 makes it again",
                meta.num_rows
            );
        }
        answers.extend(shard_answers.into_iter().map(|answer| (answer.index, answer)));
        if let Some((other, _)) = metas.insert(shard.index, (path, meta)) {
            bail!("{} and {told} are both shard {shard}", other.display());
        }
    }
    let (first, meta) = metas.values().next().context("no shard is given")?;
    let count = meta.shard(first)?.count;
    let missing: Vec<String> = (0..count)
        .filter(|index| !metas.contains_key(index))
        .map(|index| format!("{index}/{count}"))
        .collect();
    if !missing.is_empty() {
        bail!("shard {} of {} is missing: give all {count}", missing.join(", "), first.display());
    }
    let whole = Meta { shard: "0/1".to_owned(), ..meta.clone() };
    whole.write(&args.out)?;
    let lines: Vec<u8> = answers.values().flat_map(Prediction::to_line).collect();
    write_atomic(&args.out, &lines)?;
    Ok(())
}
