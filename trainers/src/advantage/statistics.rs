//! Mean and standard deviation of what could be scored.

/// What the sum of squares is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deviation {
    /// The count less one (Bessel's correction), as torch does.
    Sample,
    /// The count.
    Population,
}

/// Of some numbers; `None`s take no part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistics {
    /// 0 of nothing.
    pub mean: f64,
    /// 0 of fewer than two.
    pub std: f64,
}

impl Statistics {
    /// Of `values`.
    pub fn of<'a>(values: impl IntoIterator<Item = &'a Option<f64>>, deviation: Deviation) -> Self {
        let values: Vec<f64> = values.into_iter().flatten().copied().collect();
        if values.is_empty() {
            return Self { mean: 0.0, std: 0.0 };
        }
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let divisor = match deviation {
            Deviation::Sample => count - 1.0,
            Deviation::Population => count,
        };
        Self { mean, std: if values.len() > 1 { (squares / divisor).sqrt() } else { 0.0 } }
    }

    /// Whether the deviation is none, by the tolerance of `torch.isclose`.
    pub fn is_std_zero(&self) -> bool {
        self.std <= 1e-8
    }

    /// `value`'s distance from the mean, in units of the deviation plus `epsilon`.
    pub fn normalise(&self, value: f64, epsilon: f64) -> f64 {
        (value - self.mean) / (self.std + epsilon)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let of = |values: &[Option<f64>], deviation| Statistics::of(values, deviation);
        let some = [Some(1.0), None, Some(3.0)];
        assert_eq!(of(&some, Deviation::Sample), Statistics { mean: 2.0, std: 2.0_f64.sqrt() });
        assert_eq!(of(&some, Deviation::Population), Statistics { mean: 2.0, std: 1.0 });
        assert_eq!(of(&[Some(3.0)], Deviation::Sample), Statistics { mean: 3.0, std: 0.0 });
        assert_eq!(of(&[None], Deviation::Population), Statistics { mean: 0.0, std: 0.0 });
        assert!(of(&[Some(0.3), Some(0.3)], Deviation::Sample).is_std_zero());
    }
}
