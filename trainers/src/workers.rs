//! Independent pieces of work side by side, each on its own share of the processor's threads.
//!
//! A CPU backend spreads only its matrix products over threads; whole micro-batches side by side keep every core busy.
//! Which worker does what changes no result: results come in the order of the items.

use std::{
    panic::resume_unwind,
    sync::{Mutex, PoisonError},
};

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// A fixed number of workers.
#[derive(Debug)]
pub struct Workers {
    /// Empty for a single worker, which is the caller itself.
    pools: Vec<ThreadPool>,
}

impl Workers {
    /// `count` workers (at least one) that share `threads` threads; every one gets at least one.
    pub fn new(count: usize, threads: usize) -> Result<Self, ThreadPoolBuildError> {
        let pool = |_| ThreadPoolBuilder::new().num_threads((threads / count).max(1)).build();
        let pools = if count > 1 { (0..count).map(pool).collect::<Result<_, _>>()? } else { Vec::new() };
        Ok(Self { pools })
    }

    /// The caller alone.
    pub fn single() -> Self {
        Self { pools: Vec::new() }
    }

    /// How many items are worked on at a time.
    pub fn count(&self) -> usize {
        self.pools.len().max(1)
    }

    /// What `work` gives for each of `items`, in their order.
    ///
    /// # Panics
    /// If `work` does.
    pub fn map<T: Send, R: Send>(&self, items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
        if self.count() == 1 || items.len() < 2 {
            return items.into_iter().map(work).collect();
        }
        let queue = Mutex::new(items.into_iter().enumerate());
        let take = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work_through = || {
            let mut done = Vec::new();
            while let Some((index, item)) = take() {
                done.push((index, work(item)));
            }
            done
        };
        let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                self.pools.iter().map(|pool| scope.spawn(|| pool.install(work_through))).collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        });
        done.sort_unstable_by_key(|(index, _)| *index);
        done.into_iter().map(|(_, result)| result).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn results_come_in_order_however_many_work() {
        for count in 1..5 {
            let workers = Workers::new(count, 2).unwrap();
            assert_eq!(workers.count(), count);
            let squares = workers.map((0..50u64).collect(), |item| item * item);
            assert_eq!(squares, (0..50).map(|item| item * item).collect::<Vec<u64>>());
            assert!(workers.map(Vec::<u64>::new(), |item| item).is_empty());
        }
    }

    #[test]
    fn workers_run_at_the_same_time_and_share_the_threads() {
        let meeting = Barrier::new(2);
        let threads = Workers::new(2, 6).unwrap().map(vec![(), ()], |()| {
            meeting.wait();
            rayon::current_num_threads()
        });
        assert_eq!(threads, [3, 3]);
    }
}
