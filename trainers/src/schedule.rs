//! The course of the learning rate.

/// How the rate falls after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// Half a cosine wave down to 0.
    Cosine,
    /// A straight line down to 0.
    Linear,
    /// Not at all.
    Constant,
}

/// Linear warm-up, then [`Decay`]; the factors of Hugging Face's `get_scheduler`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Highest rate.
    pub learning_rate: f64,
    /// Steps over which it rises from 0.
    pub warmup_steps: usize,
    /// Steps in all.
    pub max_steps: usize,
    /// What follows the warm-up.
    pub decay: Decay,
}

impl Schedule {
    /// The rate of the step after `done` steps.
    pub fn rate(&self, done: usize) -> f64 {
        if done < self.warmup_steps {
            return self.learning_rate * done as f64 / self.warmup_steps as f64;
        }
        let left = self.max_steps.saturating_sub(self.warmup_steps).max(1);
        let progress = ((done - self.warmup_steps) as f64 / left as f64).min(1.0);
        self.learning_rate
            * match self.decay {
                Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
                Decay::Linear => 1.0 - progress,
                Decay::Constant => 1.0,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_by_hand() {
        let schedule = |decay| Schedule { learning_rate: 2.0, warmup_steps: 4, max_steps: 12, decay };
        assert_eq!(schedule(Decay::Linear).rate(0), 0.0);
        assert_eq!(schedule(Decay::Linear).rate(1), 0.5);
        assert_eq!(schedule(Decay::Linear).rate(4), 2.0);
        assert_eq!(schedule(Decay::Linear).rate(6), 1.5);
        assert!((schedule(Decay::Cosine).rate(8) - 1.0).abs() < 1e-12);
        assert!(schedule(Decay::Cosine).rate(12).abs() < 1e-12);
        assert_eq!(schedule(Decay::Constant).rate(11), 2.0);
        assert_eq!(Schedule { warmup_steps: 0, ..schedule(Decay::Linear) }.rate(0), 2.0);
    }
}
