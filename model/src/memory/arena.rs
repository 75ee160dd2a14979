//! Bytes in use, and the most there ever were.

use std::{cell::Cell, rc::Rc};

/// Counts what blocks take.
#[derive(Clone, Debug, Default)]
pub(super) struct Arena(Rc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    now: Cell<usize>,
    peak: Cell<usize>,
    aligns_by_copying: bool,
}

impl Arena {
    /// One in which products and zeros are first made and then copied to where they are aligned, or are not.
    pub(super) fn new(aligns_by_copying: bool) -> Self {
        Self(Rc::new(Counts { aligns_by_copying, ..Counts::default() }))
    }

    /// Takes `bytes` for a product or for zeros.
    pub(super) fn take_aligned(&self, bytes: usize) -> Block {
        let _first = self.0.aligns_by_copying.then(|| self.take(bytes));
        self.take(bytes)
    }

    /// Takes `bytes`, until the last handle of the block is dropped.
    pub(super) fn take(&self, bytes: usize) -> Block {
        let now = self.0.now.get() + bytes;
        self.0.now.set(now);
        self.0.peak.set(self.0.peak.get().max(now));
        Block(Rc::new(Taken { arena: self.clone(), bytes }))
    }

    /// Takes `bytes` and gives them back.
    pub(super) fn pass(&self, bytes: usize) {
        self.take(bytes);
    }

    /// The most bytes at a time.
    pub(super) fn peak(&self) -> usize {
        self.0.peak.get()
    }
}

/// Memory that several tensors may share.
#[derive(Clone, Debug)]
pub(super) struct Block(Rc<Taken>);

#[derive(Debug)]
struct Taken {
    arena: Arena,
    bytes: usize,
}

impl Block {
    /// Whether this is its only handle: then an operation may write its result there.
    pub(super) fn is_unique(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.arena.0.now.set(self.arena.0.now.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_of_what_is_there_at_a_time() {
        let arena = Arena::default();
        let first = arena.take(100);
        let shared = first.clone();
        drop(first);
        assert!(shared.is_unique());
        let second = arena.take(10);
        drop(shared);
        arena.pass(50);
        assert_eq!((arena.peak(), arena.0.now.get()), (110, 10));
        drop(second);
        assert_eq!(arena.0.now.get(), 0);
        for (aligns, peak) in [(false, 40), (true, 80)] {
            let arena = Arena::new(aligns);
            let product = arena.take_aligned(40);
            assert_eq!((arena.peak(), arena.0.now.get()), (peak, 40));
            drop(product);
        }
    }
}
