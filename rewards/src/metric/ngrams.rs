//! Counted n-grams of up to four words, for the metrics that compare them.
//!
//! A word is a number and an n-gram four of them in one integer, so that counting is sorting integers, in an order that
//! depends on the texts alone.

use std::collections::HashMap;

/// Length of the longest n-grams counted.
pub(super) const MAX_N: usize = 4;

/// Gives every distinct word a number, from 1 in the order of first appearance.
#[derive(Default)]
pub(super) struct Vocabulary<'a> {
    numbers: HashMap<&'a str, u32>,
}

impl<'a> Vocabulary<'a> {
    pub(super) fn numbers(&mut self, words: &'a [String]) -> Vec<u32> {
        let mut number = |word: &'a String| {
            let next = self.numbers.len() as u32 + 1;
            *self.numbers.entry(word).or_insert(next)
        };
        words.iter().map(&mut number).collect()
    }
}

/// Distinct n-grams with their counts, those of one length together in ascending order.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// By length less one.
    pub(super) by_length: [Vec<(u128, u32)>; MAX_N],
    /// Number of words.
    pub(super) num_words: usize,
}

pub(super) fn count(words: &[u32]) -> Counted {
    let by_length = std::array::from_fn(|index| {
        let packed = |gram: &[u32]| gram.iter().fold(0, |packed, &word| (packed << 32) | u128::from(word));
        let mut grams: Vec<u128> = words.windows(index + 1).map(packed).collect();
        grams.sort_unstable();
        grams.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u32)).collect()
    });
    Counted { by_length, num_words: words.len() }
}

/// The n-grams that both hold, with the counts in `a` and in `b`.
pub(super) fn shared<'s>(
    a: &'s [(u128, u32)],
    b: &'s [(u128, u32)],
) -> impl Iterator<Item = (u128, u32, u32)> + 's {
    let mut others = b.iter().peekable();
    a.iter().filter_map(move |&(gram, count)| {
        while others.next_if(|(other, _)| *other < gram).is_some() {}
        let &(_, other) = others.peek().filter(|(other, _)| *other == gram)?;
        Some((gram, count, *other))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grams_are_counted_by_length() {
        let words = ["a", "b", "a", "b"].map(str::to_owned);
        let mut vocabulary = Vocabulary::default();
        let counted = count(&vocabulary.numbers(&words));
        assert_eq!(counted.by_length[0], [(1, 2), (2, 2)]);
        assert_eq!(counted.by_length[1], [((1 << 32) | 2, 2), ((2 << 32) | 1, 1)]);
        assert_eq!(counted.by_length.each_ref().map(Vec::len), [2, 2, 2, 1]);
        let other = count(&vocabulary.numbers(&["b", "a", "c"].map(str::to_owned)));
        let shared: Vec<_> = shared(&counted.by_length[1], &other.by_length[1]).collect();
        assert_eq!(shared, [((2 << 32) | 1, 1, 1)]);
        assert_eq!(count(&[]).by_length.concat(), []);
    }
}
