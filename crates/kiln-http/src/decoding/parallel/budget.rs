//! How many threads help with decoding, in the whole process.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::available_parallelism;

/// More threads than this for one file bring little: whoever takes what they decode is slower.
const MOST_OF_FILE: usize = 4;

/// More threads than this there are not even on a large machine, because of the memory that they take.
const MOST_OF_PROCESS: usize = 16;

/// Threads that may be started.
pub(super) struct Budget {
    free: AtomicUsize,
    /// At most so many for one file.
    of_file: usize,
}

/// Some threads of a budget, which has them back when this is dropped.
pub(super) struct Permits {
    budget: Arc<Budget>,
    count: usize,
}

impl Budget {
    /// That of this process: as many threads as can run at once, but not very many.
    pub(super) fn of_process() -> Arc<Self> {
        static PROCESS: LazyLock<Arc<Budget>> = LazyLock::new(|| {
            Budget::new(available_parallelism().map_or(1, usize::from).min(MOST_OF_PROCESS))
        });
        Arc::clone(&PROCESS)
    }

    pub(super) fn new(threads: usize) -> Arc<Self> {
        Arc::new(Self { free: AtomicUsize::new(threads), of_file: threads.clamp(1, MOST_OF_FILE) })
    }

    /// How many threads one file may have at most; at least one.
    pub(super) fn of_file(&self) -> usize {
        self.of_file
    }

    /// As many threads as are wanted, or as there are; at least `least`, or none.
    pub(super) fn take(self: &Arc<Self>, least: usize, wanted: usize) -> Option<Permits> {
        let granted = |free: usize| Some(free.min(wanted)).filter(|count| *count >= least.max(1));
        let left = |free| Some(free - granted(free)?);
        let free = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).ok()?;
        Some(Permits { budget: Arc::clone(self), count: granted(free)? })
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.free.load(Ordering::Relaxed)
    }
}

impl Permits {
    pub(super) fn count(&self) -> usize {
        self.count
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        self.budget.free.fetch_add(self.count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_more_than_there_is() {
        let budget = Budget::new(5);
        let first = budget.take(1, 3).unwrap();
        let second = budget.take(2, 3).unwrap();
        assert_eq!((first.count(), second.count(), budget.free()), (3, 2, 0));
        assert!(budget.take(1, 1).is_none());
        drop(second);
        assert!(budget.take(3, 4).is_none());
        assert_eq!(budget.free(), 2);
        drop(first);
        assert_eq!(budget.free(), 5);
        assert!(budget.take(0, 0).is_none());
    }

    #[test]
    fn a_file_does_not_get_all() {
        assert_eq!(Budget::new(100).of_file(), MOST_OF_FILE);
        assert_eq!(Budget::new(2).of_file(), 2);
    }
}
