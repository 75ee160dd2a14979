//! Token ids, positions, grids and pixels.

use medgrpo_model::{
    processor::{Encoded, GridThw, ImageProcessorConfig, Patches},
    qwen2_5_vl::{Qwen25VlConfig, rope_positions},
};

use crate::fixture::{self, Fixture, Tensors};

#[test]
fn token_ids_grids_and_positions_equal_the_reference() {
    for fixture in fixture::all() {
        let config = Qwen25VlConfig::from_dir(&fixture.dir).unwrap();
        for (index, record) in fixture.records.iter().enumerate() {
            let what = format!("{}, {}", fixture.name, record.name);
            let reference = |key: &str| format!("{index}.{key}");
            let tensors = &fixture.reference;
            let seen = &record.conversation;
            assert_eq!(seen.input_ids, tensors.ids(&reference("input_ids")), "{what}");
            assert_eq!(record.prompt.input_ids, tensors.ids(&reference("prompt_ids")), "{what}: prompt");
            assert_eq!(record.answer, tensors.ids(&reference("answer_token_ids")), "{what}: answer");
            for (patches, key) in [(&seen.images, "image_grid_thw"), (&seen.videos, "video_grid_thw")] {
                assert_eq!(grids(patches), optional(tensors, &reference(key)), "{what}: {key}");
            }
            match tensors.has(&reference("second_per_grid_ts")) {
                true => assert_eq!(
                    seen.second_per_grid_ts,
                    tensors.f32s(&reference("second_per_grid_ts")),
                    "{what}"
                ),
                false => assert!(seen.second_per_grid_ts.is_empty(), "{what}"),
            }
            let positions = rope_positions(&config, seen).unwrap();
            let delta = positions.next() - positions.len() as i64;
            let axes = [positions.t, positions.h, positions.w].concat();
            assert_eq!(axes, tensors.i64s(&reference("position_ids")), "{what}: positions");
            assert_eq!([delta], tensors.i64s(&reference("rope_delta"))[..], "{what}: rope_delta");
        }
    }
}

#[test]
fn prompts_of_their_own_equal_conversations_without_their_answer() {
    for fixture in fixture::all() {
        let preparer = medgrpo_trainers::prepare::SamplePreparer {
            processor: fixture.processor.clone(),
            sampling: Default::default(),
            max_prompt_tokens: None,
        };
        let prompts = fixture::root().join(format!("{}.prompts.jsonl", fixture.name));
        let prompts: Vec<_> =
            medgrpo_datasets::read_messages(&prompts).unwrap().map(Result::unwrap).collect();
        assert_eq!(prompts.len(), fixture.records.len());
        for (prompt, record) in prompts.iter().zip(&fixture.records) {
            let encoded = preparer.encode_conversation(&record.name, &prompt.messages, true).unwrap();
            assert!(encoded == record.prompt, "{}, {}", fixture.name, record.name);
        }
    }
}

#[test]
fn pixels_are_within_a_grey_level_of_pillow() {
    let fixtures = fixture::all();
    let first = fixtures.iter().find(|fixture| fixture.name == "flat_tied").unwrap();
    let (mut compared, mut exact, mut stored_floats) = (0_usize, 0_usize, 0_usize);
    for fixture in &fixtures {
        for (index, record) in fixture.records.iter().enumerate() {
            let Encoded { images, videos, .. } = &record.conversation;
            for (patches, config, key) in [
                (images, fixture.processor.image_config(), "pixel_values"),
                (videos, fixture.processor.video_config(), "pixel_values_videos"),
            ] {
                if patches.grids.is_empty() {
                    continue;
                }
                let what = format!("{}, {}: {key}", fixture.name, record.name);
                let ours = levels(patches, config);
                let theirs = reference_levels(fixture, index, key, config).unwrap_or_else(|| {
                    let index = first.records.iter().position(|other| other.name == record.name).unwrap();
                    reference_levels(first, index, key, config).unwrap()
                });
                assert_eq!(ours.len(), theirs.len(), "{what}");
                for (place, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                    assert!(
                        (ours - theirs).abs() <= 1.001,
                        "{what}: level {ours} at {place}, Pillow's is {theirs}"
                    );
                    compared += 1;
                    exact += usize::from((ours - theirs).abs() < 1e-3);
                }
                if let Some(floats) =
                    fixture.reference.has(&format!("{index}.{key}")).then(|| format!("{index}.{key}"))
                {
                    let theirs = fixture.reference.f32s(&floats);
                    let wrong =
                        patches.values.iter().zip(&theirs).filter(|(a, b)| (*a - *b).abs() > 1e-6).count();
                    assert_eq!(wrong, 0, "{what}: normalised values differ");
                    stored_floats += theirs.len();
                }
            }
        }
    }
    println!("{compared} pixel values, {exact} of them Pillow's grey level exactly");
    assert!(compared > 100_000 && stored_floats > 0);
}

fn grids(patches: &Patches) -> Vec<i64> {
    patches.grids.iter().flat_map(|GridThw { t, h, w }| [*t as i64, *h as i64, *w as i64]).collect()
}

fn optional(tensors: &Tensors, name: &str) -> Vec<i64> {
    if tensors.has(name) { tensors.i64s(name) } else { Vec::new() }
}

/// Grey levels before normalisation.
fn levels(patches: &Patches, config: &ImageProcessorConfig) -> Vec<f64> {
    denormalise(&patches.values, config)
}

fn denormalise(values: &[f32], config: &ImageProcessorConfig) -> Vec<f64> {
    let per_channel = config.temporal_patch_size * config.patch_size * config.patch_size;
    let level = |(place, value): (usize, &f32)| {
        let channel = place / per_channel % 3;
        (f64::from(*value) * config.image_std[channel] + config.image_mean[channel]) / config.rescale_factor
    };
    values.iter().enumerate().map(level).collect()
}

/// The stored levels of a record, the one kept frame of a still patch repeated; `None` where they are not stored.
fn reference_levels(
    fixture: &Fixture,
    index: usize,
    key: &str,
    config: &ImageProcessorConfig,
) -> Option<Vec<f64>> {
    let tensors = &fixture.reference;
    if tensors.has(&format!("{index}.{key}")) {
        return Some(denormalise(&tensors.f32s(&format!("{index}.{key}")), config));
    }
    let name = format!("{index}.{key}_levels");
    if !tensors.has(&name) {
        return None;
    }
    let frame = config.patch_size * config.patch_size;
    let repeats = config.temporal_patch_size / tensors.shape(&name)[2];
    let levels = tensors.u8s(&name);
    let levels = levels.chunks(frame).flat_map(|frame| std::iter::repeat_n(frame, repeats)).flatten();
    Some(levels.map(|level| f64::from(*level)).collect())
}
