//! Media that several prompts of a batch show: encoded once, their features handed to each.

use std::ops::Range;

use burn::tensor::{Tensor, backend::Backend};

use crate::{group_layout::ints, processor::Patches};

/// The media of a batch, of which some show the same.
#[derive(Debug)]
pub(crate) struct SharedMedia<'a> {
    /// Each once, in the order they come first.
    pub(crate) distinct: Vec<&'a Patches>,
    /// The place among them of each of the batch.
    places: Vec<usize>,
}

impl<'a> SharedMedia<'a> {
    pub(crate) fn new(media: impl IntoIterator<Item = &'a Patches>) -> Self {
        let mut shared = Self { distinct: Vec::new(), places: Vec::new() };
        for patches in media {
            let known = shared.distinct.iter().position(|other| shows_the_same(other, patches));
            let place = known.unwrap_or_else(|| {
                shared.distinct.push(patches);
                shared.distinct.len() - 1
            });
            shared.places.push(place);
        }
        shared
    }

    /// From `features` of the distinct ones, `[num_tokens, hidden]`, one after the other, those of all; gradients of what
    /// is shared add up. `unit` patches make a token.
    pub(crate) fn spread<B: Backend>(&self, features: Tensor<B, 2>, unit: usize) -> Tensor<B, 2> {
        if self.distinct.len() == self.places.len() {
            return features;
        }
        let mut next = 0;
        let tokens: Vec<Range<i32>> = self
            .distinct
            .iter()
            .map(|patches| {
                let first = next;
                next += (patches.num_patches() / unit) as i32;
                first..next
            })
            .collect();
        let rows = self.places.iter().flat_map(|place| tokens[*place].clone()).collect();
        let rows = ints(rows, &features.device());
        features.select(0, rows)
    }
}

/// Most that differ do so early on.
fn shows_the_same<'a>(a: &'a Patches, b: &'a Patches) -> bool {
    let bytes = |patches: &'a Patches| bytemuck::cast_slice::<f32, u8>(&patches.values);
    std::ptr::eq(a, b) || (a.grids == b.grids && bytes(a) == bytes(b))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use burn::tensor::TensorData;
    use burn_flex::{Flex, FlexDevice};

    use super::*;
    use crate::{
        lora::fixture::{Learning, base, gradients, numbers, records, relative_l2},
        processor::{Encoded, GridThw},
        qwen2_5_vl::Qwen25Vl,
        vlm::Vlm,
    };

    fn patches(value: f32, [t, h, w]: [usize; 3]) -> Patches {
        Patches { values: vec![value; t * h * w], grids: vec![GridThw { t, h, w }] }
    }

    #[test]
    fn what_shows_the_same_is_there_once() {
        let (a, b, other) = (patches(1.0, [1, 2, 4]), patches(2.0, [1, 2, 2]), patches(1.0, [2, 2, 2]));
        let again = a.clone();
        let shared = SharedMedia::new([&a, &b, &again, &other, &b]);
        assert_eq!(shared.distinct, [&a, &b, &other]);
        assert_eq!(shared.places, [0, 1, 0, 2, 1]);
        let features = Tensor::<Flex, 2>::from_data([[0.0_f32], [1.0], [2.0], [3.0], [4.0]], &FlexDevice);
        assert_eq!(numbers(shared.spread(features, 4)), [0.0, 1.0, 2.0, 0.0, 1.0, 3.0, 4.0, 2.0]);
    }

    /// A prompt without media, one with, the same once more, another, and the first of them again.
    #[test]
    fn features_and_gradients_are_those_of_each_encoded_alone() {
        let (model, records) = (base::<Learning>().0, records());
        let prompts: Vec<&Encoded> = [0, 1, 1, 2, 1].map(|record| &records[record].prompt).into();
        let media = prompts.iter().flat_map(|prompt| [&prompt.images, &prompt.videos]);
        let media: Vec<&Patches> = media.filter(|patches| !patches.grids.is_empty()).collect();
        let distinct = SharedMedia::new(media.iter().copied()).distinct.len();
        assert!(distinct > 1 && distinct < media.len(), "{distinct} of {}", media.len());

        // Of every feature another weight: what is shared is asked for differently.
        let weighted = |features: Tensor<Learning, 2>| {
            let dims = features.dims();
            let weights = (0..dims[0] * dims[1]).map(|place| 0.1 + (place % 7) as f32 / 8.0).collect();
            let weights = TensorData::new(weights, dims);
            (features * Tensor::from_data(weights, &Default::default())).sum()
        };
        let alone = |model: &Qwen25Vl<Learning>| {
            let each =
                prompts.iter().filter_map(|prompt| model.encode_vision(&[prompt], &Default::default()));
            Tensor::cat(each.collect(), 0)
        };
        let together =
            |model: &Qwen25Vl<Learning>| model.encode_vision(&prompts, &Default::default()).unwrap();
        let wide = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<_>>();
        let (ours, theirs) = (numbers(together(&model)), numbers(alone(&model)));
        let features = relative_l2(&ours, wide(&theirs));
        let all =
            |found: &BTreeMap<String, Vec<f32>>| found.values().flatten().copied().collect::<Vec<f32>>();
        let ours = gradients(&model, |view| weighted(together(view)));
        let theirs = gradients(&model, |view| weighted(alone(view)));
        assert!(ours.len() > 10 && ours.keys().eq(theirs.keys()));
        let gradients = relative_l2(&all(&ours), wide(&all(&theirs)));
        println!("features {features:.1e} away (relative), gradients {gradients:.1e}");
        assert!(features < 1e-6 && gradients < 1e-6);
    }
}
