//! `medgrpo data`: make and look at data.

use anyhow::{Result, bail};
use medgrpo_datasets::{
    Dataset, MedVidBenchFile,
    medvidbench::MediaCheck,
    synth::{SynthConfig, render},
};

use crate::{
    cli::{DataCheckArgs, SynthArgs},
    progress::Progress,
};

pub(super) fn synth(args: &SynthArgs) -> Result<()> {
    let progress = Progress::start("render", args.clips, "clips");
    let config = SynthConfig { out_dir: args.out.clone(), seed: args.seed, clips: args.clips };
    let summary = render(&config, &|done, _| progress.set(done))?;
    progress.finish();
    crate::print(&serde_json::to_string_pretty(&summary)?);
    Ok(())
}

pub(super) fn check(args: &DataCheckArgs) -> Result<()> {
    let root = match &args.root {
        Some(root) => root.clone(),
        None => args.file.parent().map(Into::into).unwrap_or_default(),
    };
    let file = MedVidBenchFile::open(&args.file, root)?;
    let media = if args.no_media { MediaCheck::Skip } else { MediaCheck::Headers };
    let problems = file.check(media);
    for problem in &problems {
        crate::print(&format!("row {}: {}", problem.row, problem.reason));
    }
    crate::print(&format!("{}: {} rows, {} bad", args.file.display(), file.len(), problems.len()));
    if !problems.is_empty() {
        bail!("{} of {} rows cannot be used", problems.len(), file.len());
    }
    Ok(())
}
