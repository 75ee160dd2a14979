//! When to try again: exponential back-off with full jitter, or when the server says.

use std::{
    process,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The longest pause that we choose ourselves.
const LONGEST: Duration = Duration::from_secs(30);

/// Draws pauses. Not from a seed of the user's: processes of one run must not come back together, and no result depends
/// on it.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    rng: Mutex<ChaCha8Rng>,
}

impl Backoff {
    pub(super) fn new(first: Duration) -> Self {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        let seed = nanos ^ (u64::from(process::id()) << 32);
        Self { first, rng: Mutex::new(ChaCha8Rng::seed_from_u64(seed)) }
    }

    /// The pause after a failed try, the first being number 0: anything from nothing to the doubled-up longest one.
    pub(super) fn pause(&self, try_number: usize) -> Duration {
        let doublings = u32::try_from(try_number).unwrap_or(u32::MAX).min(20);
        let longest = self.first.saturating_mul(1 << doublings).min(LONGEST);
        let share = self.rng.lock().unwrap_or_else(PoisonError::into_inner).random_range(0.0..=1.0);
        longest.mul_f64(share)
    }
}

/// The header `Retry-After`: seconds, or a date (RFC 9110, section 10.2.3). `None` where it is neither.
pub(super) fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(header).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_at_most_and_differ() {
        let backoff = Backoff::new(Duration::from_millis(100));
        let mut longest = [Duration::ZERO; 12];
        for _ in 0..200 {
            for (number, longest) in longest.iter_mut().enumerate() {
                *longest = (*longest).max(backoff.pause(number));
            }
        }
        for (number, longest) in longest.into_iter().enumerate() {
            let bound = Duration::from_millis(100 << number).min(LONGEST);
            assert!(longest <= bound && longest > bound / 2, "try {number}: {longest:?} of {bound:?}");
        }
        assert_eq!(Backoff::new(Duration::ZERO).pause(usize::MAX), Duration::ZERO);
    }

    #[test]
    fn both_forms_of_the_header() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after(" 20 ", now), Some(Duration::from_secs(20)));
        assert_eq!(retry_after("0.5", now), Some(Duration::from_millis(500)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:57 GMT", now), Some(Duration::from_secs(20)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:17 GMT", now), Some(Duration::ZERO));
        for wrong in ["-1", "soon", "", "inf", "1e300"] {
            assert_eq!(retry_after(wrong, now), None, "{wrong}");
        }
    }
}
