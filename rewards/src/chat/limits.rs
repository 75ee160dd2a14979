//! At most so much in any minute: requests, or tokens.
//!
//! The window slides: what began within the last minute is remembered and summed, so that no minute holds more than the
//! limit, wherever it starts. Tokens are known only after a request, so its entry can be corrected; crates with token
//! buckets, which forget what they let through, cannot do that.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A limit on the sum of amounts within a span of time.
#[derive(Debug)]
pub(super) struct Window {
    limit: u64,
    span: Duration,
    entries: Mutex<Entries>,
    /// Held while waiting: first come, first served.
    queue: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Entries {
    /// When, ticket, how much; the oldest first.
    list: VecDeque<(Instant, u64, u64)>,
    next_ticket: u64,
}

impl Window {
    pub(super) fn new(limit: u64, span: Duration) -> Self {
        Self { limit, span, entries: Mutex::default(), queue: tokio::sync::Mutex::new(()) }
    }

    /// Waits until the amount fits; what is larger than the limit waits until nothing else is remembered.
    pub(super) async fn acquire(&self, amount: u64) -> u64 {
        let _turn = self.queue.lock().await;
        loop {
            match self.try_acquire(amount, Instant::now()) {
                Ok(ticket) => return ticket,
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// A ticket, or how long to wait before asking again.
    fn try_acquire(&self, amount: u64, now: Instant) -> Result<u64, Duration> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        while entries.list.front().is_some_and(|&(start, ..)| now.duration_since(start) >= self.span) {
            entries.list.pop_front();
        }
        let sum: u64 = entries.list.iter().map(|&(_, _, amount)| amount).sum();
        match entries.list.front() {
            Some(&(oldest, ..)) if sum.saturating_add(amount) > self.limit => {
                Err(self.span - now.duration_since(oldest))
            }
            _ => {
                let ticket = entries.next_ticket;
                entries.next_ticket += 1;
                entries.list.push_back((now, ticket, amount));
                Ok(ticket)
            }
        }
    }

    /// Replaces the estimate that was let through by what it was.
    pub(super) fn correct(&self, ticket: u64, amount: u64) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.list.iter_mut().rev().find(|(_, other, _)| *other == ticket) {
            entry.2 = amount;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_minute_holds_more_than_the_limit() {
        let window = Window::new(10, Duration::from_secs(60));
        let start = Instant::now();
        let at = |sec: u64| start + Duration::from_secs(sec);
        let first = window.try_acquire(6, at(0)).unwrap();
        window.try_acquire(4, at(10)).unwrap();
        assert_eq!(window.try_acquire(1, at(20)), Err(Duration::from_secs(40)));
        window.correct(first, 3);
        window.try_acquire(3, at(20)).unwrap();
        assert_eq!(window.try_acquire(1, at(59)), Err(Duration::from_secs(1)));
        window.try_acquire(3, at(60)).unwrap();
        // Larger than the limit: alone.
        assert_eq!(window.try_acquire(11, at(79)), Err(Duration::from_secs(1)));
        assert_eq!(window.try_acquire(11, at(80)), Err(Duration::from_secs(40)));
        window.try_acquire(11, at(120)).unwrap();
    }
}
