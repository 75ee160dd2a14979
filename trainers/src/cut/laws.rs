//! What holds of every cut, and some by hand.

use super::*;
use crate::testing::Noise;

fn limits(max_sequences: usize, max_tokens: Option<usize>) -> Limits {
    Limits { max_sequences, max_tokens }
}

fn lens(prompt: usize, completions: &[usize]) -> GroupLens {
    GroupLens { prompt, completions: completions.to_vec() }
}

/// Demonstrations: one completion a group.
fn single(lengths: &[[usize; 2]]) -> Vec<GroupLens> {
    lengths.iter().map(|[prompt, completion]| lens(*prompt, &[*completion])).collect()
}

/// A whole number from `low` up to `high`.
fn whole(noise: &mut Noise, low: usize, high: usize) -> usize {
    low + ((noise.uniform() + 1.0) / 2.0 * (high - low + 1) as f64) as usize
}

/// Groups of `size` completions each, or of any number.
fn groups(noise: &mut Noise, size: Option<usize>) -> Vec<GroupLens> {
    // Lengths of models as they are, and short ones, of which a pass costs more than they do.
    let longest = [20, 3000][whole(noise, 0, 1)];
    (0..whole(noise, 0, 12))
        .map(|_| {
            let size = size.unwrap_or_else(|| whole(noise, 0, 6));
            let prompt = whole(noise, 2, longest);
            GroupLens { prompt, completions: (0..size).map(|_| whole(noise, 1, longest)).collect() }
        })
        .collect()
}

/// Limits that some groups are beyond.
fn some_limits(noise: &mut Noise) -> Limits {
    limits(whole(noise, 1, 13), (whole(noise, 0, 2) > 0).then(|| whole(noise, 1, 20_000)))
}

fn extent(groups: &[GroupLens], piece: &[Slice]) -> Extent {
    Extent::of(groups, piece).unwrap()
}

fn positions(groups: &[GroupLens], pieces: &[Vec<Slice>]) -> usize {
    pieces.iter().map(|piece| extent(groups, piece).positions()).sum()
}

/// What all pieces cost with their passes.
fn cost(groups: &[GroupLens], pieces: &[Vec<Slice>]) -> usize {
    pieces.iter().map(|piece| extent(groups, piece).cost() + pass_cost(1)).sum()
}

/// Whole groups in order, each with those before it as long as that is within the limits.
fn in_order(groups: &[GroupLens], limits: Limits) -> Vec<Vec<Slice>> {
    let mut pieces: Vec<Vec<Slice>> = Vec::new();
    for (group, lens) in groups.iter().enumerate() {
        let slice = Slice { group, completions: (0..lens.completions.len()).collect() };
        if let Some(last) = pieces.last_mut() {
            last.push(slice.clone());
            if extent(groups, last).fits(limits) {
                continue;
            }
            last.pop();
        }
        pieces.push(vec![slice]);
    }
    pieces
}

#[test]
fn every_completion_runs_once_and_within_the_limits() {
    let mut noise = Noise::new("cut once");
    for _ in 0..300 {
        let groups = groups(&mut noise, None);
        let limits = some_limits(&mut noise);
        let pieces = cut(&groups, limits);
        let mut seen: Vec<(usize, usize)> = pieces.iter().flatten().flat_map(Slice::places).collect();
        seen.sort_unstable();
        let all = groups.iter().enumerate();
        let all = all.flat_map(|(group, lens)| (0..lens.completions.len()).map(move |place| (group, place)));
        assert!(seen.iter().copied().eq(all), "{groups:?} {limits:?}");
        for piece in &pieces {
            let extent = extent(&groups, piece);
            let alone = extent.groups * extent.completions == 1;
            assert!(alone || extent.fits(limits), "{piece:?} of {groups:?} {limits:?}");
            assert!(piece.iter().all(|slice| slice.completions.len() == extent.completions), "a rectangle");
            for slice in piece {
                let completions = &groups[slice.group].completions;
                let longest = completions.iter().copied().max().unwrap();
                let whole = Extent::group(groups[slice.group].prompt, completions.len(), longest);
                let is_whole = slice.completions.len() == completions.len();
                assert!(is_whole || !whole.fits(limits), "{slice:?} of {groups:?} {limits:?}");
            }
        }
        let work: Vec<usize> = pieces.iter().map(|piece| extent(&groups, piece).cost()).collect();
        assert!(work.is_sorted_by(|before, after| before >= after), "{work:?}");
    }
}

#[test]
fn no_more_work_and_no_more_padding_than_in_order() {
    let mut noise = Noise::new("cut against order");
    let mut saved = [0, 0];
    for _ in 0..300 {
        let size = whole(&mut noise, 1, 4);
        let groups = groups(&mut noise, Some(size));
        let mut limits = some_limits(&mut noise);
        limits.max_sequences = limits.max_sequences.max(size);
        // Groups that are split have no order to be compared with.
        let largest = groups.iter().map(|lens| {
            Extent::group(lens.prompt, size, lens.completions.iter().copied().max().unwrap()).positions()
        });
        limits.max_tokens = limits.max_tokens.map(|max| max.max(largest.max().unwrap_or(0)));
        let (ours, plain) = (cut(&groups, limits), in_order(&groups, limits));
        let [of_ours, of_plain] = [&ours, &plain].map(|pieces| positions(&groups, pieces));
        assert!(cost(&groups, &ours) <= cost(&groups, &plain), "{groups:?} {limits:?}");
        if limits.max_tokens.is_none() || ours.len() >= plain.len() {
            assert!(of_ours <= of_plain, "{groups:?} {limits:?}");
            assert!(frac_padding(&groups, &ours) <= frac_padding(&groups, &plain));
        }
        saved = [saved[0] + of_ours, saved[1] + of_plain];
    }
    println!("positions: {} in all, {} in order", saved[0], saved[1]);
    assert!(saved[0] < saved[1]);
}

#[test]
fn a_group_is_split_at_least_cost() {
    let mut noise = Noise::new("cut a group");
    for _ in 0..100 {
        let group = lens(whole(&mut noise, 2, 400), &[0; 7].map(|_| whole(&mut noise, 1, 900)));
        let limits = limits(3, Some(whole(&mut noise, 400, 3000)));
        let groups = [group];
        let pieces = cut(&groups, limits);
        let ours = cost(&groups, &pieces);
        for _ in 0..100 {
            // Any other way: each completion in any of the parts that still takes it.
            let mut parts: Vec<Vec<Slice>> = Vec::new();
            for completion in 0..7 {
                let place = whole(&mut noise, 0, parts.len());
                let mut grown = parts
                    .get(place)
                    .cloned()
                    .unwrap_or_else(|| vec![Slice { group: 0, completions: Vec::new() }]);
                grown[0].completions.push(completion);
                match parts.get_mut(place).filter(|_| extent(&groups, &grown).fits(limits)) {
                    Some(part) => *part = grown,
                    None => parts.push(vec![Slice::one(0, completion)]),
                }
            }
            let theirs = cost(&groups, &parts);
            assert!(ours <= theirs, "{groups:?} {limits:?}: {pieces:?} {parts:?}");
        }
    }
}

#[test]
fn equal_groups_stay_in_order_and_fill_pieces_evenly() {
    for count in 1..20 {
        for max in 1..8 {
            let groups = vec![lens(9, &[4, 4]); count];
            let pieces = cut(&groups, limits(2 * max, None));
            assert_eq!(pieces.len(), count.div_ceil(max), "{count} groups, {max} a piece");
            let [fewest, most] = [count / pieces.len(), count.div_ceil(pieces.len())];
            assert!(pieces.iter().all(|piece| (fewest..=most).contains(&piece.len())), "{pieces:?}");
            assert!(pieces.iter().all(|piece| piece.is_sorted_by_key(|slice| slice.group)));
            assert_eq!(frac_padding(&groups, &pieces), 0.0);
        }
    }
}

fn by_group(pieces: &[Vec<Slice>]) -> Vec<Vec<usize>> {
    pieces.iter().map(|piece| piece.iter().map(|slice| slice.group).collect()).collect()
}

#[test]
fn by_hand() {
    let mixed = single(&[[1001, 10], [101, 10], [1001, 10], [101, 10]]);
    let pieces = cut(&mixed, limits(2, None));
    assert_eq!(by_group(&pieces), [[0, 2], [1, 3]]);
    assert_eq!(frac_padding(&mixed, &pieces), 0.0);
    // A pass more costs less than 900 positions of padding twice, and more than 90.
    assert_eq!(by_group(&cut(&mixed, limits(4, None))), [[0, 2], [1, 3]]);
    let near = single(&[[1001, 10], [911, 10]]);
    let together = cut(&near, limits(4, None));
    assert_eq!(by_group(&together), [[0, 1]]);
    assert!((frac_padding(&near, &together) - 90.0 / 2020.0).abs() < 1e-12);
    // 1010 positions each: a budget of two takes two, and what is beyond it stays alone.
    let longs = single(&[[1001, 10], [1001, 10], [1001, 10], [3001, 10]]);
    assert_eq!(by_group(&cut(&longs, limits(8, Some(2020)))), [vec![3], vec![0, 1], vec![2]]);
    // Of a group that is beyond it, completions of like length stay together.
    let group = [lens(11, &[900, 30, 900, 30])];
    let pieces = cut(&group, limits(2, None));
    let halves: Vec<Vec<(usize, usize)>> =
        pieces.iter().map(|piece| piece.iter().flat_map(Slice::places).collect()).collect();
    assert_eq!(halves, [[(0, 0), (0, 2)], [(0, 1), (0, 3)]]);
}

#[test]
fn the_more_passes_a_piece_takes_the_fewer_there_are() {
    let extents: Vec<Extent> = [1001, 101, 1001, 101].map(|prompt| Extent::group(prompt, 2, 50)).into();
    assert_eq!(pack(&extents, limits(8, None), 1), [[0, 2], [1, 3]]);
    assert_eq!(pack(&extents, limits(8, None), 51), [[0, 1, 2, 3]]);
    assert_eq!(pack(&extents, limits(1, None), 51), [[0], [2], [1], [3]], "a group stays whole");
    // No number is too large.
    let huge = Extent::group(usize::MAX, usize::MAX, usize::MAX);
    assert_eq!(pack(&[huge; 3], limits(usize::MAX, Some(9)), usize::MAX), [[0], [1], [2]]);
}
