//! `medgrpo check`: everything that can be found wrong with an experiment in seconds, without loading weights.

use std::path::Path;

use anyhow::{Result, bail};
use medgrpo_datasets::{Dataset, MedVidBenchFile, medvidbench::MediaCheck};
use medgrpo_model::{qwen2_5_vl::Qwen25VlConfig, weights::CheckpointLayout};
use medgrpo_trainers::prepare::SamplePreparer;

use crate::{
    build::{self, Counted, MAX_TOLD},
    cli::CheckArgs,
    config::{
        self,
        resolved::{Experiment, ModelSource, OnBadRow},
    },
    print,
};

/// Token counts are taken of at most this many rows of a file, spread evenly.
const MAX_COUNTED_ROWS: usize = 2_000;

pub(super) fn run(args: &CheckArgs) -> Result<()> {
    let experiment = config::load(&args.config, &args.overrides)?;
    print(&format!("{}: the config is valid", args.config.display()));
    let preparer = match &experiment.model {
        ModelSource::Path(dir) => Some(check_model(&experiment, dir)?),
        ModelSource::Init(_) => {
            print("model: made from nothing; tokens can be counted once its tokenizer is trained");
            None
        }
    };
    let files = experiment.data.train.iter().map(|file| (&file.file, &file.root));
    let files = files.chain(experiment.data.eval.iter().map(|file| (&file.file, &file.root)));
    let mut num_problems = 0;
    for (file, root) in files {
        if experiment.practice.is_some() && !file.exists() {
            print(&format!("{}: not there yet; the practice set will be rendered", file.display()));
            continue;
        }
        num_problems += check_file(file, root, preparer.as_ref())?;
    }
    match (num_problems, experiment.data.on_bad_row) {
        (0, _) => Ok(()),
        (_, OnBadRow::Skip) => {
            print(&format!("{num_problems} bad rows will be left out (data.on_bad_row = \"skip\")"));
            Ok(())
        }
        (_, OnBadRow::Error) => {
            bail!("{num_problems} bad rows; mend them or set `data.on_bad_row = \"skip\"`")
        }
    }
}

fn check_model(experiment: &Experiment, dir: &Path) -> Result<SamplePreparer> {
    let config = Qwen25VlConfig::from_dir(dir)?;
    let layout = CheckpointLayout::read(dir)?;
    let num_parameters: usize =
        layout.tensors.values().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
    print(&format!(
        "{}: Qwen2.5-VL, {:.1} M parameters in {} tensors, {} layers of width {}",
        dir.display(),
        num_parameters as f64 / 1e6,
        layout.tensors.len(),
        config.text.num_hidden_layers,
        config.text.hidden_size
    ));
    build::preparer(experiment, dir)
}

/// Tells of every bad row; returns their number.
fn check_file(path: &Path, root: &Path, preparer: Option<&SamplePreparer>) -> Result<usize> {
    let file = MedVidBenchFile::open(path, root)?;
    let problems = file.check(MediaCheck::Headers);
    for problem in problems.iter().take(MAX_TOLD) {
        print(&format!("{}, row {}: {}", path.display(), problem.row, problem.reason));
    }
    if problems.len() > MAX_TOLD {
        print(&format!(
            "… and {} more; `medgrpo data check {}` lists all",
            problems.len() - MAX_TOLD,
            path.display()
        ));
    }
    let mut num_problems = problems.len();
    print(&format!("{}: {} rows, {} bad", path.display(), file.len(), problems.len()));
    if let Some(preparer) = preparer {
        num_problems += count_tokens(&file, preparer);
    }
    Ok(num_problems)
}

/// Counts prompt tokens; returns the number of rows that are too long or cannot be counted.
fn count_tokens(file: &MedVidBenchFile, preparer: &SamplePreparer) -> usize {
    let count = file.len().min(MAX_COUNTED_ROWS);
    let rows: Vec<usize> = (0..count).map(|number| number * file.len() / count).collect();
    let Counted { tokens, problems } = build::count_prompts(file, &rows, preparer);
    if let (Some(median), Some(max)) = (tokens.get(tokens.len() / 2), tokens.last()) {
        print(&format!("  prompt tokens over {} rows: median {median}, longest {max}", tokens.len()));
    }
    for problem in problems.iter().take(MAX_TOLD) {
        print(&format!("  {}, row {}: {}", file.path().display(), problem.row, problem.reason));
    }
    problems.len()
}
