//! Seeds of the parts of a run, all derived from the config's one seed without any state to save.

/// A seed for the `index`-th use of the purpose `what`.
pub fn derive_seed(seed: u64, what: &str, index: u64) -> u64 {
    let hash = blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .update(&index.to_le_bytes())
        .update(what.as_bytes())
        .finalize();
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::derive_seed;

    #[test]
    fn purpose_and_index_matter() {
        let seeds =
            [derive_seed(1, "a", 0), derive_seed(1, "a", 1), derive_seed(1, "b", 0), derive_seed(2, "a", 0)];
        for (place, seed) in seeds.iter().enumerate() {
            assert!(!seeds[..place].contains(seed));
        }
        assert_eq!(seeds[0], derive_seed(1, "a", 0));
    }
}
