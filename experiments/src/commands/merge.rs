//! `medgrpo merge`: an adapter into the weights it was trained on.

use anyhow::{Context, Result, bail};
use burn::tensor::backend::AutodiffBackend;
use medgrpo_model::{checkpoint::save_into, weights::SavePrecision};

use crate::{
    cli::MergeArgs,
    device::{Job, run_on_cpu},
    pretrained::load_model,
    print,
    run_dir::write_folder,
};

struct Merge<'a>(&'a MergeArgs);

pub(super) fn run(args: &MergeArgs) -> Result<()> {
    if args.out.exists() {
        bail!("{}: is there already; remove it, or give another --out", args.out.display());
    }
    run_on_cpu(Merge(args))
}

impl Job for Merge<'_> {
    type Output = ();

    fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<()> {
        let Self(args) = self;
        let (model, source) = load_model::<B::InnerBackend>(&args.model, Some(&args.adapter), device)?;
        if let Some(parent) = args.out.parent() {
            std::fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        }
        write_folder(&args.out, |dir| Ok(save_into(&model, &source, SavePrecision::AsLoaded, dir)?))?;
        print(&format!("merged model: {}", args.out.display()));
        Ok(())
    }
}
