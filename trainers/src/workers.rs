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
    /// Thread pools for two workers, for three and so on: fewer items than workers get larger shares.
    teams: Vec<Vec<ThreadPool>>,
}

impl Workers {
    /// `count` workers (at least one) that share `threads` threads; every one gets at least one.
    pub fn new(count: usize, threads: usize) -> Result<Self, ThreadPoolBuildError> {
        Self::with_start(count, threads, || {})
    }

    /// As [`Workers::new`], and every thread first runs `start`: for backends that keep settings by thread.
    pub fn with_start(
        count: usize,
        threads: usize,
        start: impl Fn() + Clone + Send + Sync + 'static,
    ) -> Result<Self, ThreadPoolBuildError> {
        let team = |size: usize| {
            let share = |place: usize| threads / size + usize::from(place < threads % size);
            let pool = |place: usize| {
                let start = start.clone();
                let pool = ThreadPoolBuilder::new().num_threads(share(place).max(1));
                pool.start_handler(move |_| start()).build()
            };
            (0..size).map(pool).collect()
        };
        Ok(Self { teams: (2..=count).map(team).collect::<Result<_, _>>()? })
    }

    /// How many items are worked on at a time.
    pub fn count(&self) -> usize {
        self.teams.len() + 1
    }

    /// What `work` gives for each of `items`, in their order. A single item is worked on by the caller.
    ///
    /// # Panics
    /// If `work` does.
    pub fn map<T: Send, R: Send>(&self, items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
        let size = self.count().min(items.len());
        let Some(team) = size.checked_sub(2).map(|place| &self.teams[place]) else {
            return items.into_iter().map(work).collect();
        };
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
                team.iter().map(|pool| scope.spawn(|| pool.install(work_through))).collect();
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
    use std::{cell::Cell, sync::Barrier};

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
    fn workers_run_at_the_same_time_and_share_all_threads() {
        for (count, items, threads, shares) in
            [(2, 2, 7, vec![3, 4]), (4, 3, 4, vec![1, 1, 2]), (4, 2, 1, vec![1, 1])]
        {
            let meeting = Barrier::new(items);
            let mut taken = Workers::new(count, threads).unwrap().map(vec![(); items], |()| {
                meeting.wait();
                rayon::current_num_threads()
            });
            taken.sort_unstable();
            assert_eq!(taken, shares, "{count} workers, {items} items, {threads} threads");
        }
    }

    #[test]
    fn threads_start_as_they_are_told() {
        thread_local!(static TOLD: Cell<bool> = const { Cell::new(false) });
        let workers = Workers::with_start(3, 4, || TOLD.set(true)).unwrap();
        for items in 2..=4 {
            assert_eq!(workers.map(vec![(); items], |()| TOLD.get()), vec![true; items]);
        }
    }
}
