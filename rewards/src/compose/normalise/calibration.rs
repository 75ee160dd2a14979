//! What a model's rewards look like before training: quantiles per dataset, task and component.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Pair;

/// Number of stored quantiles: the minimum, every percent, the maximum.
const NUM_QUANTILES: usize = 101;

/// The distribution of one component of a task's reward on a dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Whose.
    #[serde(flatten)]
    pub pair: Pair,
    /// Number of values.
    pub count: usize,
    /// Number of completions that could not be scored.
    #[serde(default)]
    pub num_unscored: usize,
    /// First quartile.
    pub p25: f64,
    /// Median.
    pub p50: f64,
    /// Third quartile.
    pub p75: f64,
    /// Between which values the true median lies with 95 % confidence, by order statistics; absent in tables written by
    /// hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_interval: Option<[f64; 2]>,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Mean.
    pub mean: f64,
    /// Standard deviation, with `count - 1` in the denominator.
    pub std: f64,
    /// The quantiles 0, 0.01, …, 1; empty in tables written by hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quantiles: Vec<f64>,
}

impl Distribution {
    /// The distribution of these values in whatever order; `None` without a finite one.
    pub fn of(pair: Pair, values: &[f32], num_unscored: usize) -> Option<Self> {
        let mut sorted: Vec<f64> =
            values.iter().copied().filter(|value| value.is_finite()).map(f64::from).collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let count = sorted.len();
        let mean = sorted.iter().sum::<f64>() / count as f64;
        let squares: f64 = sorted.iter().map(|value| (value - mean).powi(2)).sum();
        let std = if count > 1 { (squares / (count - 1) as f64).sqrt() } else { 0.0 };
        let at = |share: f64| quantile(&sorted, share);
        // The k-th smallest value lies below the median with a binomial probability; this is its normal approximation.
        let reach = 1.96 * (count as f64).sqrt() / 2.0;
        let rank = |rank: f64| sorted[(rank.max(0.0) as usize).min(count - 1)];
        let half = count as f64 / 2.0;
        Some(Self {
            pair,
            count,
            num_unscored,
            p25: at(0.25),
            p50: at(0.5),
            p75: at(0.75),
            p50_interval: Some([rank((half - reach).floor()), rank((half + reach).ceil())]),
            min,
            max,
            mean,
            std,
            quantiles: (0..NUM_QUANTILES).map(|i| at(i as f64 / (NUM_QUANTILES - 1) as f64)).collect(),
        })
    }

    /// The distance between the quartiles.
    pub fn iqr(&self) -> f64 {
        self.p75 - self.p25
    }
}

/// The value below which a share of the sorted values lies, interpolated in a straight line between two (numpy's default).
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * (place - low as f64)
}

/// The table of a model: one [`Distribution`] a pair, and one a task over all datasets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Of which model, for people.
    #[serde(default)]
    pub model: String,
    /// The pairs.
    pub distributions: Vec<Distribution>,
}

impl Calibration {
    /// The table of what was measured, by pair: values and the number of unscored completions.
    pub fn of(model: String, measured: &BTreeMap<Pair, (Vec<f32>, usize)>) -> Self {
        let mut all: BTreeMap<Pair, (Vec<f32>, usize)> = BTreeMap::new();
        for (pair, (values, unscored)) in measured {
            let (together, num_unscored) = all.entry(pair.on_all_datasets()).or_default();
            together.extend(values);
            *num_unscored += unscored;
        }
        let pairs = measured.iter().chain(&all);
        let distributions = pairs
            .filter_map(|(pair, (values, unscored))| Distribution::of(pair.clone(), values, *unscored))
            .collect();
        Self { model, distributions }
    }

    /// The distribution of a pair.
    pub fn get(&self, pair: &Pair) -> Option<&Distribution> {
        self.distributions.iter().find(|distribution| distribution.pair == *pair)
    }

    /// What is wrong with a table from outside: a number that is not finite, quartiles out of order, a pair twice.
    ///
    /// # Errors
    ///
    /// The first fault, naming its pair.
    pub fn validate(&self) -> Result<(), String> {
        for (index, distribution) in self.distributions.iter().enumerate() {
            let Distribution { pair, p25, p50, p75, min, max, mean, std, quantiles, .. } = distribution;
            if self.distributions[..index].iter().any(|other| other.pair == *pair) {
                return Err(format!("{pair}: the table names it twice"));
            }
            let numbers = [p25, p50, p75, min, max, mean, std].into_iter().chain(quantiles);
            if numbers.into_iter().any(|number| !number.is_finite()) {
                return Err(format!("{pair}: a number is not finite"));
            }
            if !(min <= p25 && p25 <= p50 && p50 <= p75 && p75 <= max) {
                return Err(format!("{pair}: min, p25, p50, p75 and max must not fall"));
            }
            if !(quantiles.is_empty() || (quantiles.len() == NUM_QUANTILES && quantiles.is_sorted())) {
                return Err(format!(
                    "{pair}: there must be {NUM_QUANTILES} quantiles that do not fall, or none"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use medgrpo_datasets::TaskKind;

    use super::*;

    fn pair(dataset: &str) -> Pair {
        Pair { dataset: dataset.to_owned(), task: TaskKind::Stg, component: "iou".to_owned() }
    }

    #[test]
    fn quartiles_are_numpys() {
        // numpy.percentile([1, 2, 4, 8, 16, 32], [25, 50, 75]) gives 2.5, 6, 14.
        let found = Distribution::of(pair("A"), &[32.0, 1.0, 16.0, 2.0, 8.0, 4.0, f32::NAN], 3).unwrap();
        assert_eq!((found.p25, found.p50, found.p75, found.iqr()), (2.5, 6.0, 14.0, 11.5));
        assert_eq!((found.count, found.num_unscored, found.min, found.max), (6, 3, 1.0, 32.0));
        assert_eq!((found.quantiles.len(), found.quantiles[50]), (101, 6.0));
        assert_eq!(Distribution::of(pair("A"), &[f32::NAN], 0), None);
    }

    #[test]
    fn the_interval_of_the_median_holds_it_and_narrows_with_the_count() {
        let of = |count: usize| {
            let values: Vec<f32> = (0..count).map(|i| i as f32 / count as f32).collect();
            Distribution::of(pair("A"), &values, 0).unwrap()
        };
        let width = |d: &Distribution| {
            let [low, high] = d.p50_interval.unwrap();
            assert!(low <= d.p50 && d.p50 <= high, "{d:?}");
            high - low
        };
        let [one, few, many] = [of(1), of(16), of(1600)];
        assert!(width(&one) == 0.0 && width(&few) > 0.4 && width(&many) < 0.06);
    }

    #[test]
    fn a_table_pools_the_datasets_of_a_task() {
        let measured =
            [(pair("A"), (vec![0.0, 0.25], 1)), (pair("B"), (vec![0.75, 1.0], 0)), (pair("C"), (vec![], 4))]
                .into();
        let table = Calibration::of("sft".to_owned(), &measured);
        assert_eq!(table.distributions.len(), 3, "C has no value");
        let all = table.get(&pair("B").on_all_datasets()).unwrap();
        assert_eq!((all.count, all.num_unscored, all.p50), (4, 5, 0.5));
        let text = serde_json::to_string(&table).unwrap();
        assert_eq!(serde_json::from_str::<Calibration>(&text).unwrap(), table);
        table.validate().unwrap();
        let mut twice = table.clone();
        twice.distributions.push(table.distributions[0].clone());
        assert!(twice.validate().unwrap_err().contains("A x stg x iou: the table names it twice"));
        let mut falling = table;
        falling.distributions[1].p75 = 0.0;
        assert!(falling.validate().unwrap_err().starts_with("B x stg x iou: min, p25"));
    }
}
