//! Whether two rewards put the answers of a group in the same order.

/// Spearman's rank correlation of two lists of one length, ties sharing their mean rank, in `[-1, 1]`; `None` where one of
/// them is constant, for then there is no order to agree with.
pub fn rank_correlation(a: &[f32], b: &[f32]) -> Option<f64> {
    assert_eq!(a.len(), b.len(), "one value of each reward per answer");
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() as f64 - 1.0) / 2.0;
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    let spread = (product(&a, &a) * product(&b, &b)).sqrt();
    (spread > 0.0).then(|| (product(&a, &b) / spread).clamp(-1.0, 1.0))
}

/// Ranks from 0; equal values share the mean of theirs.
fn ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    for equal in order.chunk_by(|&i, &j| values[i] == values[j]) {
        let first = order.iter().position(|index| *index == equal[0]).unwrap_or_default();
        for &index in equal {
            ranks[index] = first as f64 + (equal.len() - 1) as f64 / 2.0;
        }
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        assert_eq!(rank_correlation(&[0.1, 0.5, 0.9], &[1.0, 2.0, 30.0]), Some(1.0));
        assert_eq!(rank_correlation(&[0.1, 0.5, 0.9], &[3.0, 2.0, 1.0]), Some(-1.0));
        // Ranks 0, 1.5, 1.5, 3 and 0, 1, 2, 3: 4.5 / sqrt(4.5 * 5).
        let found = rank_correlation(&[0.0, 0.5, 0.5, 1.0], &[0.0, 1.0, 2.0, 3.0]).unwrap();
        assert!((found - 4.5 / 22.5_f64.sqrt()).abs() < 1e-12, "{found}");
        assert_eq!(rank_correlation(&[1.0, 1.0], &[0.0, 1.0]), None);
        assert_eq!(rank_correlation(&[], &[]), None);
    }
}
