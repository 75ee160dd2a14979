//! The numbers of Python's `random.Random(seed)`: the official inference draws its CVS examples with them.
//!
//! Python seeds MT19937 with the 32-bit words of the seed's absolute value, lowest first, and draws below `n` by
//! taking as many high bits of a word as `n` has, again and again until they are below `n`.

use rand_mt::Mt;

/// `random.Random(seed)` for a seed that is not negative.
pub(super) struct PythonRandom(Mt);

impl PythonRandom {
    pub(super) fn new(seed: u64) -> Self {
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let words = [low, high];
        Self(Mt::new_with_key(words[..if high == 0 { 1 } else { 2 }].iter().copied()))
    }

    /// `randint(first, last)`, both ends included.
    ///
    /// # Panics
    /// If `last` is below `first`.
    pub(super) fn randint(&mut self, first: u32, last: u32) -> u32 {
        let width = last.checked_sub(first).expect("randint has its ends in order") + 1;
        let num_bits = u32::BITS - width.leading_zeros();
        loop {
            let drawn = self.0.next_u32() >> (u32::BITS - num_bits);
            if drawn < width {
                return first + drawn;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[Random(i).randint(0, 2)` three times`]`, as Python 3 gives them.
    const TRIPLETS: [(u64, [u32; 3]); 13] = [
        (0, [1, 1, 0]),
        (1, [0, 2, 0]),
        (2, [0, 0, 0]),
        (3, [0, 2, 2]),
        (4, [0, 1, 0]),
        (5, [2, 1, 2]),
        (6, [2, 0, 1]),
        (7, [1, 0, 1]),
        (42, [2, 0, 0]),
        (6244, [1, 1, 0]),
        (u32::MAX as u64, [2, 2, 0]),
        (1 << 32, [0, 1, 1]),
        ((1 << 40) + 7, [2, 2, 2]),
    ];

    #[test]
    fn draws_are_those_of_python() {
        for (seed, triplet) in TRIPLETS {
            let mut random = PythonRandom::new(seed);
            assert_eq!([(); 3].map(|()| random.randint(0, 2)), triplet, "seed {seed}");
        }
        // getrandbits(32) of Random(5): the words themselves.
        let mut random = PythonRandom::new(5);
        let words = [(); 5].map(|()| random.0.next_u32());
        assert_eq!(words, [2_675_342_405, 1_097_127_993, 3_185_950_873, 1_539_898_300, 3_415_330_359]);
    }
}
