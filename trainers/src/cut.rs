//! A step cut into pieces that run at once: little padding, few pieces, none beyond its limits.
//!
//! Attention takes a piece as two rectangles, and so does everything else but on the CPU, where tokens run packed
//! (`model/src/attention/packing.rs`): its prompts without their last tokens, each padded to the longest, and equally many
//! completions of each, padded likewise. So groups of like length belong together, and a group's completions do, whose
//! prompt then runs once. verl's `use_dynamic_bsz` has a budget of real tokens; here it is one of positions.
//!
//! All is computed from lengths alone: the same lengths are cut alike, whoever runs the pieces.

#[cfg(test)]
mod laws;

use std::{cmp::Reverse, collections::BTreeMap, ops::Range};

use crate::rollout::RolloutGroup;

/// What a pass costs beside its positions, counted in tokens: the weights are read and their gradients written, however
/// little runs.
const PASS_TOKENS: usize = 256;

/// How many positions of padding cost as much as a token: an estimate for where only attention runs over them.
const PADDING_OF_A_TOKEN: usize = 4;

/// Most of what runs at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sequences: a prompt with one completion each.
    pub max_sequences: usize,
    /// Positions with padding: those of the prompts, once a group, and those of the completions. A sequence that has more
    /// by itself runs by itself.
    pub max_tokens: Option<usize>,
}

/// Numbers of tokens of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupLens {
    pub(crate) prompt: usize,
    pub(crate) completions: Vec<usize>,
}

impl GroupLens {
    pub(crate) fn of(groups: &[RolloutGroup]) -> Vec<Self> {
        let lens = |group: &RolloutGroup| Self {
            prompt: group.prepared.prompt.input_ids.len(),
            completions: group.completions.iter().map(|completion| completion.token_ids.len()).collect(),
        };
        groups.iter().map(lens).collect()
    }
}

/// Some of a group's completions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) group: usize,
    /// Their places in the group, rising.
    completions: Vec<usize>,
}

impl Slice {
    /// A completion alone.
    pub(crate) fn one(group: usize, completion: usize) -> Self {
        Self { group, completions: vec![completion] }
    }

    /// (group, completion) of each.
    pub(crate) fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        self.completions.iter().map(|completion| (self.group, *completion))
    }

    /// Its own of what there is of each completion of the group.
    pub(crate) fn of<'t, T>(&self, completions: &'t [T]) -> impl Iterator<Item = &'t T> {
        self.completions.iter().map(|completion| &completions[*completion])
    }
}

/// The rectangles of a piece, of a group or of a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    groups: usize,
    /// Positions of the longest prompt: its last token stands with its completions.
    prompt: usize,
    /// Completions of each group.
    completions: usize,
    /// Positions of the longest completion.
    completion: usize,
    /// Positions that are tokens.
    tokens: usize,
}

impl Extent {
    /// A prompt of `prompt_tokens`, and of its completions so many of at most `completion_tokens`.
    pub(crate) fn group(prompt_tokens: usize, completions: usize, completion_tokens: usize) -> Self {
        let prompt = prompt_tokens.saturating_sub(1);
        let tokens = completions.saturating_mul(completion_tokens).saturating_add(prompt);
        Self { groups: 1, prompt, completions, completion: completion_tokens, tokens }
    }

    /// Of a piece of `groups`; `None` if it is empty.
    fn of(groups: &[GroupLens], piece: &[Slice]) -> Option<Self> {
        let of_slice = |slice: &Slice| {
            let group = &groups[slice.group];
            let sequences = slice.of(&group.completions).map(|len| Self::group(group.prompt, 1, *len));
            sequences.reduce(Self::with_completions)
        };
        piece.iter().filter_map(of_slice).reduce(Self::with_groups)
    }

    fn with_groups(self, other: Self) -> Self {
        let tokens = self.tokens.saturating_add(other.tokens);
        Self { groups: self.groups + other.groups, tokens, ..self.around(other) }
    }

    /// Of the same prompt, which is not run again.
    fn with_completions(self, other: Self) -> Self {
        let tokens = self.tokens.saturating_add(other.tokens - other.prompt);
        Self { completions: self.completions + other.completions, tokens, ..self.around(other) }
    }

    fn around(self, other: Self) -> Self {
        Self {
            prompt: self.prompt.max(other.prompt),
            completion: self.completion.max(other.completion),
            ..self
        }
    }

    fn positions(self) -> usize {
        let group = self.completions.saturating_mul(self.completion).saturating_add(self.prompt);
        self.groups.saturating_mul(group)
    }

    /// What it costs, counted in positions of padding.
    fn cost(self) -> usize {
        self.positions().saturating_add(self.tokens.saturating_mul(PADDING_OF_A_TOKEN - 1))
    }

    fn fits(self, limits: Limits) -> bool {
        self.groups.saturating_mul(self.completions) <= limits.max_sequences
            && limits.max_tokens.is_none_or(|max| self.positions() <= max)
    }
}

/// Cuts a step into pieces, the longest work first: workers that run some side by side then end at about the same time.
///
/// A group is split where it alone is beyond the limits, and only there.
pub(crate) fn cut(groups: &[GroupLens], limits: Limits) -> Vec<Vec<Slice>> {
    let (mut slices, mut extents) = (Vec::new(), Vec::new());
    for (group, lens) in groups.iter().enumerate() {
        let mut order: Vec<usize> = (0..lens.completions.len()).collect();
        order.sort_by_key(|completion| lens.completions[*completion]);
        let sequence = |completion: &usize| Extent::group(lens.prompt, 1, lens.completions[*completion]);
        let sequences: Vec<Extent> = order.iter().map(sequence).collect();
        let Some(whole) = sequences.iter().copied().reduce(Extent::with_completions) else { continue };
        let parts = if whole.fits(limits) {
            vec![(0..sequences.len(), whole)]
        } else {
            partition(&sequences, Extent::with_completions, limits, pass_cost(1)).1
        };
        for (range, extent) in parts {
            let mut completions = order[range].to_vec();
            completions.sort_unstable();
            slices.push(Slice { group, completions });
            extents.push(extent);
        }
    }
    let pieces = pack(&extents, limits, 1);
    pieces.into_iter().map(|piece| piece.into_iter().map(|place| slices[place].clone()).collect()).collect()
}

/// What so many passes cost beside their positions, counted in those of padding.
fn pass_cost(passes: usize) -> usize {
    passes.saturating_mul(PASS_TOKENS * PADDING_OF_A_TOKEN)
}

/// Puts groups, or parts of groups, together in pieces that take `passes` passes each; gives their places, the longest
/// work first. One that is beyond the limits is a piece by itself.
pub(crate) fn pack(extents: &[Extent], limits: Limits, passes: usize) -> Vec<Vec<usize>> {
    let orders: [fn(&Extent) -> [usize; 2]; 4] = [
        |_| [0, 0],
        |extent| [extent.prompt, extent.completion],
        |extent| [extent.completion, extent.prompt],
        |extent| [extent.positions(), 0],
    ];
    // Only those of equally many completions make a rectangle.
    let mut alike: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (place, extent) in extents.iter().enumerate() {
        alike.entry(extent.completions).or_default().push(place);
    }
    let mut pieces: Vec<(Vec<usize>, Extent)> = Vec::new();
    for places in alike.into_values() {
        let ways = orders.map(|key| {
            let mut order = places.clone();
            order.sort_by_key(|place| key(&extents[*place]));
            let sorted: Vec<Extent> = order.iter().map(|place| extents[*place]).collect();
            let (work, ranges) = partition(&sorted, Extent::with_groups, limits, pass_cost(passes));
            (work, order, ranges)
        });
        let Some((_, order, ranges)) = ways.into_iter().min_by_key(|(work, ..)| *work) else { continue };
        for (range, extent) in ranges {
            let mut piece = order[range].to_vec();
            piece.sort_unstable();
            pieces.push((piece, extent));
        }
    }
    pieces.sort_by_key(|(piece, extent)| (Reverse(extent.cost()), piece[0]));
    pieces.into_iter().map(|(piece, _)| piece).collect()
}

/// What pieces cost, with `overhead` a piece; of two cuts that cost the same, the one whose pieces are more alike is the
/// cheaper, by the sum of their squares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Work {
    cost: usize,
    squares: u128,
}

impl Work {
    fn with(self, piece: Extent, overhead: usize) -> Self {
        let cost = piece.cost();
        Self {
            cost: self.cost.saturating_add(cost).saturating_add(overhead),
            squares: self.squares.saturating_add((cost as u128).saturating_mul(cost as u128)),
        }
    }
}

/// Neighbours that run together, and their rectangles.
type Run = (Range<usize>, Extent);

/// The cheapest cut of `items` into runs of neighbours within the limits; a lone item may be beyond them.
fn partition(
    items: &[Extent],
    join: fn(Extent, Extent) -> Extent,
    limits: Limits,
    overhead: usize,
) -> (Work, Vec<Run>) {
    // Of the first items, so many: the cheapest cut's work, and its last run.
    let mut best: Vec<(Work, Option<Run>)> = vec![(Work::default(), None)];
    for end in 1..=items.len() {
        let (mut start, mut run) = (end - 1, items[end - 1]);
        let mut cheapest = (best[start].0.with(run, overhead), Some((start..end, run)));
        while start > 0 {
            start -= 1;
            run = join(run, items[start]);
            if !run.fits(limits) {
                break;
            }
            let work = best[start].0.with(run, overhead);
            if work < cheapest.0 {
                cheapest = (work, Some((start..end, run)));
            }
        }
        best.push(cheapest);
    }
    let (work, mut last) = best[items.len()].clone();
    let mut runs = Vec::new();
    while let Some((range, run)) = last {
        last = best[range.start].1.clone();
        runs.push((range, run));
    }
    runs.reverse();
    (work, runs)
}

/// Share of the positions of `pieces` that is padding.
pub(crate) fn frac_padding(groups: &[GroupLens], pieces: &[Vec<Slice>]) -> f64 {
    let (mut tokens, mut all) = (0, 0);
    for extent in pieces.iter().filter_map(|piece| Extent::of(groups, piece)) {
        tokens += extent.tokens;
        all += extent.positions();
    }
    if all == 0 { 0.0 } else { (all - tokens) as f64 / all as f64 }
}
