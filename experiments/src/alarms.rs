//! Alarms over the metrics of a stage that learns from rewards: collapse of the policy, and rewards that are being hacked.
//!
//! A pure function of the logged numbers. So a resumed run knows from its `metrics.jsonl` what has been told already, and the
//! page finds every alarm there again.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
};

use crate::{config::resolved, report::StageHistory};

/// How the names of alarms start in the metrics.
pub(crate) const PREFIX: &str = "alarm/";

/// Something that goes wrong, at the step it was first seen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Alarm {
    /// Its name in the metrics without [`PREFIX`].
    pub(crate) name: String,
    pub(crate) step: usize,
    /// The metric that was looked at.
    pub(crate) metric: String,
    /// What it is, over the last window.
    pub(crate) value: f64,
    /// What it may be.
    pub(crate) bound: f64,
    /// What has happened, and the key that says it may not.
    why: String,
    /// What to do.
    advice: &'static str,
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metric, value, bound, why, advice, .. } = self;
        write!(f, "`{metric}` is {value:.4}, the bound is {bound:.4}: {why}; {advice}")
    }
}

/// Ends a run whose alarms are to.
#[derive(Debug, thiserror::Error)]
#[error(
    "stage {stage}, step {step}: stopped by an alarm (`alarms.stop`); `medgrpo train --resume {run}` goes on in spite of it"
)]
pub(crate) struct Alarmed {
    pub(crate) stage: String,
    pub(crate) step: usize,
    pub(crate) run: String,
}

/// The watch over one stage.
#[derive(Debug)]
pub(crate) struct Alarms {
    settings: resolved::Alarms,
    tracks: BTreeMap<String, Track>,
    /// Steps in a row without a group whose rewards differ.
    flat_steps: usize,
    /// The alarms that are on, with the steps since they were last seen.
    on: BTreeMap<String, usize>,
}

/// One metric over the steps.
#[derive(Debug, Default)]
struct Track {
    /// The first window.
    first: Vec<f64>,
    /// The last one.
    last: VecDeque<f64>,
    /// Highest mean of a window.
    best: Option<f64>,
}

/// Means of a metric whose first window is over.
#[derive(Clone, Copy, Debug)]
struct Course {
    first: f64,
    now: f64,
    best: f64,
}

impl Track {
    fn push(&mut self, value: f64, window: usize) {
        if self.first.len() < window {
            self.first.push(value);
        }
        self.last.push_back(value);
        if self.last.len() > window {
            self.last.pop_front();
        }
        if self.last.len() == window {
            let now = mean(&self.last);
            self.best = Some(self.best.map_or(now, |best| best.max(now)));
        }
    }

    fn course(&self) -> Option<Course> {
        Some(Course { best: self.best?, first: mean(&self.first), now: mean(&self.last) })
    }
}

fn mean<'a>(values: impl IntoIterator<Item = &'a f64, IntoIter: ExactSizeIterator>) -> f64 {
    let values = values.into_iter();
    let count = values.len();
    values.sum::<f64>() / count as f64
}

/// Something that is beyond its bound.
struct Beyond {
    metric: String,
    value: f64,
    bound: f64,
    why: String,
    advice: &'static str,
}

const ENTROPY: &str = "entropy";
const LENGTH: &str = "completions/mean_length";
const TRUNCATED: &str = "completions/clipped_ratio";
const FLAT: &str = "frac_reward_zero_std";
const KL: &str = "kl";
const REWARD: &str = "reward";

/// `task/dataset` of the mean of a reward.
fn pair_of(metric: &str) -> Option<&str> {
    metric.strip_prefix("rewards/")?.strip_suffix("/mean")
}

impl Alarms {
    /// At the start of a stage.
    pub(crate) fn new(settings: resolved::Alarms) -> Self {
        Self { settings, tracks: BTreeMap::new(), flat_steps: 0, on: BTreeMap::new() }
    }

    /// Whether the run is to end when one begins.
    pub(crate) fn stop(&self) -> bool {
        self.settings.stop
    }

    /// Looks at what a stage has logged so far; gives the alarms of that time.
    pub(crate) fn look_back(&mut self, stage: &StageHistory) -> Vec<Alarm> {
        let mut steps: BTreeMap<usize, BTreeMap<String, f64>> = BTreeMap::new();
        for (name, points) in &stage.series {
            for (step, value) in points {
                steps.entry(*step).or_default().insert(name.clone(), *value);
            }
        }
        steps.iter().flat_map(|(step, metrics)| self.look(*step, metrics)).collect()
    }

    /// Looks at the metrics of the next logged step; gives the alarms that have just begun.
    pub(crate) fn look(&mut self, step: usize, metrics: &BTreeMap<String, f64>) -> Vec<Alarm> {
        let window = self.settings.window;
        for (name, value) in metrics.iter().filter(|(_, value)| value.is_finite()) {
            let is_watched = [ENTROPY, LENGTH, TRUNCATED, KL, REWARD].contains(&name.as_str());
            if is_watched || name.starts_with("rewards/") || name.starts_with("raw/") {
                self.tracks.entry(name.clone()).or_default().push(*value, window);
            }
        }
        let is_flat = metrics.get(FLAT).is_some_and(|share| *share >= 1.0);
        self.flat_steps = if is_flat { self.flat_steps + 1 } else { 0 };

        let found = self.beyond();
        self.on.retain(|name, quiet| {
            *quiet = if found.contains_key(name) { 0 } else { *quiet + 1 };
            *quiet < window
        });
        let mut begun = Vec::new();
        for (name, Beyond { metric, value, bound, why, advice }) in found {
            if self.on.insert(name.clone(), 0).is_none() {
                begun.push(Alarm { name, step, metric, value, bound, why, advice });
            }
        }
        begun
    }

    /// The alarms that are on, as metrics: 1 each.
    pub(crate) fn metrics(&self) -> impl Iterator<Item = (String, f64)> + '_ {
        self.on.keys().map(|name| (format!("{PREFIX}{name}"), 1.0))
    }

    fn course(&self, metric: &str) -> Option<Course> {
        self.tracks.get(metric)?.course()
    }

    /// Everything that is beyond its bound now, by the alarm's name.
    fn beyond(&self) -> BTreeMap<String, Beyond> {
        let alone = [
            ("entropy", self.entropy()),
            ("length", self.length()),
            ("truncated", self.truncated()),
            ("flat_rewards", self.flat_rewards()),
            ("kl", self.kl()),
            ("reward", self.reward()),
        ];
        let pairs = self.tracks.keys().filter_map(|metric| pair_of(metric));
        let hacked = pairs.map(|pair| (format!("hacking/{pair}"), self.hacking(pair)));
        let all = alone.into_iter().map(|(name, found)| (name.to_owned(), found)).chain(hacked);
        all.filter_map(|(name, found)| Some((name, found?))).collect()
    }

    fn entropy(&self) -> Option<Beyond> {
        let Course { first, now, .. } = self.course(ENTROPY)?;
        let share = self.settings.min_entropy_share;
        let (bound, why) = if now < self.settings.min_entropy {
            (
                self.settings.min_entropy,
                "the policy gives almost the same answer every time (min_entropy)".to_owned(),
            )
        } else if now < share * first {
            (
                share * first,
                format!("it has fallen to less than {share} of the {first:.4} at first (min_entropy_share)"),
            )
        } else {
            return None;
        };
        let advice = "lower the learning rate, or raise temperature, entropy_coef or epsilon_high";
        Some(Beyond { metric: ENTROPY.to_owned(), value: now, bound, why, advice })
    }

    fn length(&self) -> Option<Beyond> {
        let Course { first, now, .. } = self.course(LENGTH)?;
        let factor = self.settings.max_length_factor;
        let (bound, word, advice) = if factor == 0.0 || first <= 0.0 {
            return None;
        } else if now > factor * first {
            (factor * first, "grown", "see whether the reward pays for length; rewards.overlong punishes it")
        } else if now < first / factor {
            (
                first / factor,
                "shrunk",
                "see whether the reward pays for short answers: `medgrpo rewards check`",
            )
        } else {
            return None;
        };
        let why = format!(
            "completions have {word} from {first:.1} tokens at first by more than {factor} times (max_length_factor)"
        );
        Some(Beyond { metric: LENGTH.to_owned(), value: now, bound, why, advice })
    }

    fn truncated(&self) -> Option<Beyond> {
        let (value, bound) = (self.course(TRUNCATED)?.now, self.settings.max_truncated_share);
        (bound > 0.0 && value > bound).then(|| Beyond {
            metric: TRUNCATED.to_owned(),
            value,
            bound,
            why: "so large a share of completions is cut off (max_truncated_share)".to_owned(),
            advice: "raise max_completion_length, or set mask_truncated_completions",
        })
    }

    fn flat_rewards(&self) -> Option<Beyond> {
        let bound = self.settings.max_flat_steps;
        (bound > 0 && self.flat_steps >= bound).then(|| Beyond {
            metric: FLAT.to_owned(),
            value: 1.0,
            bound: 1.0,
            why: format!("no group of {bound} steps has rewards that differ: nothing is learned (max_flat_steps)"),
            advice: "raise temperature or num_generations, or choose tasks that are neither solved nor hopeless",
        })
    }

    fn kl(&self) -> Option<Beyond> {
        let (value, bound) = (self.course(KL)?.now, self.settings.max_kl);
        (bound > 0.0 && value > bound).then(|| Beyond {
            metric: KL.to_owned(),
            value,
            bound,
            why: "the policy has left its reference behind (max_kl)".to_owned(),
            advice: "raise beta, or lower the learning rate",
        })
    }

    fn reward(&self) -> Option<Beyond> {
        let Course { now, best, .. } = self.course(REWARD)?;
        let fall = self.settings.max_reward_fall;
        (fall > 0.0 && now < best - fall).then(|| Beyond {
            metric: REWARD.to_owned(),
            value: now,
            bound: best - fall,
            why: format!("it was {best:.4} at its best (max_reward_fall)"),
            advice: "begin anew from an earlier checkpoint with a lower learning rate (docs/how-to/resume-a-run.md)",
        })
    }

    fn hacking(&self, pair: &str) -> Option<Beyond> {
        let (reward, metric) = (format!("rewards/{pair}/mean"), format!("raw/{pair}/mean"));
        let (paid, raw) = (self.course(&reward)?, self.course(&metric)?);
        let margin = self.settings.hacking_margin;
        (margin > 0.0 && paid.now - paid.first >= margin && raw.first - raw.now >= margin).then(|| Beyond {
            metric,
            value: raw.now,
            bound: raw.first - margin,
            why: format!(
                "it has fallen from {:.4} while `{reward}` has risen from {:.4} to {:.4}: the reward is being hacked \
                 (hacking_margin)",
                raw.first, paid.first, paid.now
            ),
            advice: "look at the completions in rollouts.jsonl, and at what `medgrpo rewards check` says of the reward",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: resolved::Alarms = resolved::Alarms {
        stop: false,
        window: 2,
        min_entropy: 0.01,
        min_entropy_share: 0.25,
        max_length_factor: 2.0,
        max_truncated_share: 0.5,
        max_flat_steps: 3,
        max_kl: 1.0,
        max_reward_fall: 0.3,
        hacking_margin: 0.1,
    };

    /// The names of the alarms that begin at each step, for these courses of metrics.
    fn begun(settings: resolved::Alarms, courses: &[(&str, &[f64])]) -> Vec<Vec<String>> {
        let mut alarms = Alarms::new(settings);
        let steps = courses[0].1.len();
        let at =
            |step: usize| courses.iter().map(|(name, values)| ((*name).to_owned(), values[step])).collect();
        let names = |alarms: Vec<Alarm>| alarms.into_iter().map(|alarm| alarm.name).collect();
        (0..steps).map(|step| names(alarms.look(step + 1, &at(step)))).collect()
    }

    /// The step at which an alarm begins, from 1.
    fn onset(name: &str, courses: &[(&str, &[f64])]) -> Option<usize> {
        begun(SETTINGS, courses).iter().position(|names| names == &[name]).map(|place| place + 1)
    }

    #[test]
    fn each_bound_by_hand() {
        // Means of two: 1.0, then 0.6, 0.2.
        assert_eq!(onset("entropy", &[(ENTROPY, &[1.0, 1.0, 0.2, 0.2])]), Some(4));
        assert_eq!(onset("entropy", &[(ENTROPY, &[0.02, 0.01, 0.009])]), Some(3));
        assert_eq!(onset("length", &[(LENGTH, &[10.0, 10.0, 20.0, 20.1])]), Some(4));
        assert_eq!(onset("length", &[(LENGTH, &[10.0, 10.0, 5.0, 4.9])]), Some(4));
        assert_eq!(onset("truncated", &[(TRUNCATED, &[0.5, 0.5, 0.5, 0.6])]), Some(4));
        assert_eq!(onset("flat_rewards", &[(FLAT, &[1.0, 1.0, 0.9, 1.0, 1.0, 1.0])]), Some(6));
        assert_eq!(onset("kl", &[(KL, &[0.0, 0.0, 1.9, 0.2])]), Some(4));
        assert_eq!(onset("reward", &[(REWARD, &[0.2, 0.2, 0.6, 0.6, 0.3, 0.2])]), Some(6));
        let raw = "raw/tag/AVOS/mean";
        let paid = "rewards/tag/AVOS/mean";
        let hacked = "hacking/tag/AVOS";
        assert_eq!(
            onset(hacked, &[(paid, &[0.5, 0.5, 0.75, 0.75]), (raw, &[0.5, 0.5, 0.25, 0.25])]),
            Some(3)
        );
        assert_eq!(onset(hacked, &[(paid, &[0.5, 0.5, 0.75, 0.75]), (raw, &[0.5, 0.5, 0.5, 0.5])]), None);
        assert_eq!(onset(hacked, &[(paid, &[0.5, 0.5, 0.5, 0.5]), (raw, &[0.5, 0.5, 0.25, 0.25])]), None);
    }

    #[test]
    fn a_bound_of_nothing_is_off() {
        let off = resolved::Alarms {
            min_entropy: 0.0,
            min_entropy_share: 0.0,
            max_length_factor: 0.0,
            max_truncated_share: 0.0,
            max_flat_steps: 0,
            max_kl: 0.0,
            max_reward_fall: 0.0,
            hacking_margin: 0.0,
            ..SETTINGS
        };
        let worst: [(&str, &[f64]); 8] = [
            (ENTROPY, &[1.0, 1.0, 0.0, 0.0]),
            (LENGTH, &[1.0, 1.0, 90.0, 90.0]),
            (TRUNCATED, &[1.0; 4]),
            (FLAT, &[1.0; 4]),
            (KL, &[9.0; 4]),
            (REWARD, &[1.0, 1.0, -1.0, -1.0]),
            ("rewards/vs/X/mean", &[0.0, 0.0, 1.0, 1.0]),
            ("raw/vs/X/mean", &[1.0, 1.0, 0.0, 0.0]),
        ];
        assert!(begun(off, &worst).concat().is_empty());
        let all = begun(SETTINGS, &worst).concat();
        assert_eq!(all.len(), 7, "{all:?}");
    }

    #[test]
    fn an_alarm_is_told_once_until_it_has_been_quiet_for_a_window() {
        let mut kl = vec![0.0, 0.0, 3.0, 3.0, 3.0];
        // One mean within the bound, then beyond it again: no news. Two, and it is.
        kl.extend([0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 3.0]);
        let steps: Vec<usize> = begun(SETTINGS, &[(KL, &kl)])
            .iter()
            .enumerate()
            .filter(|(_, names)| !names.is_empty())
            .map(|(place, _)| place + 1)
            .collect();
        assert_eq!(steps, [3, 12]);
    }

    #[test]
    fn a_resumed_stage_goes_on_as_if_never_stopped() {
        let entropy: Vec<f64> = (0..12).map(|step| 1.0 / f64::from(step * step + 1)).collect();
        let metrics = |step: usize| BTreeMap::from([(ENTROPY.to_owned(), entropy[step - 1])]);
        let mut whole = Alarms::new(SETTINGS);
        let told: Vec<Vec<Alarm>> = (1..=12).map(|step| whole.look(step, &metrics(step))).collect();
        assert_eq!(told.concat().len(), 1);
        for stop in 0..12 {
            let points = (1..=stop).map(|step| (step, entropy[step - 1])).collect();
            let stage = StageHistory { series: BTreeMap::from([(ENTROPY.to_owned(), points)]) };
            let mut resumed = Alarms::new(SETTINGS);
            assert_eq!(resumed.look_back(&stage), told[..stop].concat());
            for step in stop + 1..=12 {
                assert_eq!(resumed.look(step, &metrics(step)), told[step - 1], "stopped after {stop}");
            }
            assert_eq!(resumed.metrics().collect::<Vec<_>>(), whole.metrics().collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_alarm_names_metric_value_bound_and_remedy() {
        let mut alarms = Alarms::new(SETTINGS);
        let told = (1..=3).flat_map(|step| {
            alarms.look(step, &BTreeMap::from([(KL.to_owned(), 1.5), ("nan".to_owned(), f64::NAN)]))
        });
        let told: Vec<String> = told.map(|alarm| alarm.to_string()).collect();
        assert_eq!(
            told,
            [
                "`kl` is 1.5000, the bound is 1.0000: the policy has left its reference behind (max_kl); raise beta, or lower the learning rate"
            ]
        );
        assert_eq!(alarms.metrics().collect::<Vec<_>>(), [("alarm/kl".to_owned(), 1.0)]);
    }
}
