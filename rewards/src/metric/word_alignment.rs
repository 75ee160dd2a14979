//! Which word of a prediction stands for which of a reference: as many as possible, then in as few chunks as possible.
//!
//! Words match when they are equal (their stems, as [`meteor`](super::meteor) uses it). The most words that can be matched
//! follows from the counts; the order is sought with a beam over the prediction, as Denkowski and Lavie (2011, section 2.2)
//! do: fewer chunks, then shorter distances between places. The beam makes time linear in the prediction, whatever it repeats.

use std::collections::HashMap;

/// Partial alignments kept after each word.
const BEAM: usize = 40;

/// A one-to-one alignment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Alignment {
    /// Places in the prediction, ascending, each with its place in the reference.
    pub(super) matches: Vec<(usize, usize)>,
    /// Runs that are contiguous and in the same order on both sides.
    pub(super) chunks: usize,
}

/// A partial alignment: fewer chunks, then less distance, come first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    chunks: u32,
    distance: u64,
}

#[derive(Clone, Copy)]
struct State {
    cost: Cost,
    /// Reference place of the match of the word before, if it has one.
    last: Option<u32>,
    /// The step that led here.
    step: u32,
}

/// A step of some state: which place it took, and the step before.
struct Step {
    place: Option<u32>,
    before: u32,
}

/// Aligns two lists of words.
pub(super) fn align(prediction: &[u32], reference: &[u32]) -> Alignment {
    let mut places: HashMap<u32, Vec<u32>> = HashMap::new();
    for (place, &word) in reference.iter().enumerate() {
        places.entry(word).or_default().push(place as u32);
    }
    let mut remaining: HashMap<u32, u32> = HashMap::new();
    for word in prediction {
        *remaining.entry(*word).or_default() += 1;
    }
    let stride = reference.len().div_ceil(64);
    let mut steps = vec![Step { place: None, before: 0 }];
    let mut beam = vec![State { cost: Cost { chunks: 0, distance: 0 }, last: None, step: 0 }];
    // The reference's places that each state of the beam has used, as bits.
    let (mut used, mut next_used) = (vec![0_u64; stride], Vec::new());
    let mut candidates: Vec<(Cost, u32, Option<u32>)> = Vec::new();
    for (index, word) in prediction.iter().enumerate() {
        let Some(places) = places.get(word) else {
            for state in &mut beam {
                state.last = None;
            }
            continue;
        };
        let ahead =
            remaining.get_mut(word).map_or(0, |count| std::mem::replace(count, count.saturating_sub(1)));
        candidates.clear();
        for (parent, state) in beam.iter().enumerate() {
            let used = &used[parent * stride..(parent + 1) * stride];
            let is_free = |place: u32| used[place as usize / 64] & (1 << (place % 64)) == 0;
            let mut num_free = 0;
            for &place in places.iter().filter(|&&place| is_free(place)) {
                num_free += 1;
                let continues = state.last.is_some_and(|last| last + 1 == place);
                let cost = Cost {
                    chunks: state.cost.chunks + u32::from(!continues),
                    distance: state.cost.distance + (index as u64).abs_diff(u64::from(place)),
                };
                candidates.push((cost, parent as u32, Some(place)));
            }
            // Only where places are scarcer than words may a word go without.
            if ahead > num_free {
                candidates.push((state.cost, parent as u32, None));
            }
        }
        if candidates.len() > BEAM {
            candidates.select_nth_unstable(BEAM - 1);
            candidates.truncate(BEAM);
        }
        candidates.sort_unstable();
        next_used.clear();
        let next = candidates.iter().map(|&(cost, parent, place)| {
            let parent = parent as usize;
            let from = next_used.len();
            next_used.extend_from_slice(&used[parent * stride..(parent + 1) * stride]);
            if let Some(place) = place {
                next_used[from + place as usize / 64] |= 1 << (place % 64);
            }
            steps.push(Step { place, before: beam[parent].step });
            State { cost, last: place, step: steps.len() as u32 - 1 }
        });
        let next: Vec<State> = next.collect();
        beam = next;
        std::mem::swap(&mut used, &mut next_used);
    }
    alignment(beam.first(), &steps, prediction, &places)
}

/// Walks the best state's steps back; only words of the reference made one.
fn alignment(
    best: Option<&State>,
    steps: &[Step],
    prediction: &[u32],
    places: &HashMap<u32, Vec<u32>>,
) -> Alignment {
    let mut matches = Vec::new();
    let mut step = best.map_or(0, |state| state.step as usize);
    for (index, _) in prediction.iter().enumerate().rev().filter(|(_, word)| places.contains_key(word)) {
        matches.extend(steps[step].place.map(|place| (index, place as usize)));
        step = steps[step].before as usize;
    }
    matches.reverse();
    let continues = |pair: &[(usize, usize)]| pair[0].0 + 1 == pair[1].0 && pair[0].1 + 1 == pair[1].1;
    let chunks =
        matches.windows(2).filter(|pair| !continues(pair)).count() + usize::from(!matches.is_empty());
    Alignment { matches, chunks }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};

    use super::*;

    /// The fewest chunks of all alignments with the most matches, by trying them all.
    fn by_trying_all(
        prediction: &[u32],
        reference: &[u32],
        taken: &mut Vec<Option<usize>>,
    ) -> (usize, usize) {
        let Some((word, rest)) = prediction.split_first() else {
            let pairs: Vec<(usize, usize)> =
                taken.iter().enumerate().filter_map(|(index, place)| Some((index, (*place)?))).collect();
            let continues =
                |pair: &[(usize, usize)]| pair[0].0 + 1 == pair[1].0 && pair[0].1 + 1 == pair[1].1;
            let breaks = pairs.windows(2).filter(|pair| !continues(pair)).count();
            return (pairs.len(), breaks + usize::from(!pairs.is_empty()));
        };
        let mut best = (0, 0);
        let free =
            (0..reference.len()).filter(|place| reference[*place] == *word && !taken.contains(&Some(*place)));
        for place in free.map(Some).chain([None]).collect::<Vec<_>>() {
            taken.push(place);
            let (matched, chunks) = by_trying_all(rest, reference, taken);
            taken.pop();
            if matched > best.0 || (matched == best.0 && chunks < best.1) {
                best = (matched, chunks);
            }
        }
        best
    }

    #[test]
    fn most_matches_and_fewest_chunks() {
        let seed = 5;
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        for round in 0..400 {
            let mut words =
                || -> Vec<u32> { (0..rng.random_range(0..8)).map(|_| rng.random_range(0..4)).collect() };
            let (prediction, reference) = (words(), words());
            let found = align(&prediction, &reference);
            let expected = by_trying_all(&prediction, &reference, &mut Vec::new());
            assert_eq!(
                (found.matches.len(), found.chunks),
                expected,
                "seed {seed}, round {round}: {prediction:?} {reference:?}"
            );
        }
    }

    #[test]
    fn a_repeated_word_takes_no_quadratic_time() {
        let reference: Vec<u32> = (0..200).map(|place| place % 3).collect();
        let found = align(&vec![1; 20_000], &reference);
        assert_eq!(found.matches.len(), 67);
    }
}
