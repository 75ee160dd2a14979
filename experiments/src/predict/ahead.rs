//! Preparing the next piece of work while the one before is done.

use std::{panic::resume_unwind, sync::mpsc, thread};

use anyhow::Result;

/// Hands every item, prepared on a thread of its own one item ahead, to `work`, in order, until that says `false` or
/// fails. At most two prepared items exist at a time.
///
/// # Panics
/// If `prepare` does.
pub(super) fn one_ahead<T: Send, P: Send>(
    items: Vec<T>,
    prepare: impl Fn(T) -> P + Send,
    mut work: impl FnMut(P) -> Result<bool>,
) -> Result<()> {
    thread::scope(|scope| {
        // Without a place in between: one item waits at the sender.
        let (sender, receiver) = mpsc::sync_channel(0);
        let preparing = scope.spawn(move || {
            for item in items {
                // Nobody receives any more: the work was stopped.
                if sender.send(prepare(item)).is_err() {
                    break;
                }
            }
        });
        let mut outcome = Ok(true);
        for prepared in receiver {
            outcome = work(prepared);
            if !matches!(outcome, Ok(true)) {
                break;
            }
        }
        preparing.join().unwrap_or_else(|panic| resume_unwind(panic));
        outcome.map(drop)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn items_come_in_order_and_no_further_than_wished() {
        let mut seen = Vec::new();
        one_ahead(
            (0..20).collect(),
            |item: usize| item * 2,
            |item| {
                seen.push(item);
                Ok(true)
            },
        )
        .unwrap();
        assert_eq!(seen, (0..20).map(|item| item * 2).collect::<Vec<_>>());
        one_ahead(Vec::<usize>::new(), |item| item, |_| panic!("nothing to do")).unwrap();

        for fails in [false, true] {
            let prepared = AtomicUsize::new(0);
            let prepare = |item: usize| {
                prepared.fetch_add(1, Ordering::SeqCst);
                item
            };
            let outcome = one_ahead((0..20).collect(), prepare, |item| match item {
                5 if fails => anyhow::bail!("five"),
                item => Ok(item < 5),
            });
            assert_eq!(outcome.is_err(), fails);
            assert!(prepared.load(Ordering::SeqCst) <= 7, "one ahead at most");
        }
    }
}
