//! `medgrpo inspect`: what the model sees, for comparison with other implementations.

use anyhow::{Result, anyhow, bail};
use medgrpo_datasets::{Role, read_messages};
use medgrpo_model::{
    processor::{GridThw, Patches, Processor},
    qwen2_5_vl::{Qwen25VlConfig, rope_positions},
};
use medgrpo_trainers::prepare::{SamplePreparer, VideoSampling};
use safetensors::{Dtype, serialize, tensor::TensorView};

use crate::{cli::InspectArgs, progress::Progress, run_dir::write_atomic};

struct Entry {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

pub(super) fn run(args: &InspectArgs) -> Result<()> {
    let config = Qwen25VlConfig::from_dir(&args.input.model)?;
    let preparer = SamplePreparer {
        processor: Processor::from_dir(&args.input.model)?.into(),
        sampling: VideoSampling::default(),
        max_prompt_tokens: None,
    };
    let records = read_messages(&args.input.data)?.collect::<Result<Vec<_>, _>>()?;
    if records.is_empty() {
        bail!("{}: holds no record", args.input.data.display());
    }
    let progress = Progress::start("inspect", records.len(), "records");
    let mut entries = Vec::new();
    for record in records {
        let index = record.index;
        let origin = format!("{}, row {index}", args.input.data.display());
        let open = record.messages.last().is_none_or(|last| last.role != Role::Assistant);
        let seen = preparer.encode_conversation(&origin, &record.messages, open)?;
        let positions = rope_positions(&config, &seen)?;

        let ids: Vec<i64> = seen.input_ids.iter().map(|id| i64::from(*id)).collect();
        let tokens = ids.len();
        entries.push(integers(format!("{index}.input_ids"), vec![tokens], &ids));
        let axes: Vec<i64> = [positions.t, positions.h, positions.w].concat();
        entries.push(integers(format!("{index}.position_ids"), vec![3, tokens], &axes));
        for (patches, pixels, grid) in [
            (&seen.images, "pixel_values", "image_grid_thw"),
            (&seen.videos, "pixel_values_videos", "video_grid_thw"),
        ] {
            if !patches.grids.is_empty() {
                entries.push(floats(format!("{index}.{pixels}"), patches));
                entries.push(grids(format!("{index}.{grid}"), &patches.grids));
            }
        }
        progress.set(index + 1);
    }
    progress.finish();
    let views = entries
        .iter()
        .map(|entry| {
            Ok((entry.name.as_str(), TensorView::new(entry.dtype, entry.shape.clone(), &entry.bytes)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let bytes = serialize(views, None).map_err(|error| anyhow!("{}: {error}", args.out.display()))?;
    Ok(write_atomic(&args.out, &bytes)?)
}

fn integers(name: String, shape: Vec<usize>, values: &[i64]) -> Entry {
    Entry {
        name,
        dtype: Dtype::I64,
        shape,
        bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}

fn grids(name: String, grids: &[GridThw]) -> Entry {
    let values: Vec<i64> =
        grids.iter().flat_map(|grid| [grid.t as i64, grid.h as i64, grid.w as i64]).collect();
    integers(name, vec![grids.len(), 3], &values)
}

fn floats(name: String, patches: &Patches) -> Entry {
    let rows = patches.num_patches();
    Entry {
        name,
        dtype: Dtype::F32,
        shape: vec![rows, patches.values.len() / rows.max(1)],
        bytes: patches.values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}
