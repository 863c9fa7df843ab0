//! The same work on many things, on several threads.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};

use crate::cancel::Cancel;
use crate::local::worker_threads;

/// Does work on each of `items`, in no particular order, and returns all results. What is left when it is cancelled isn't
/// begun.
pub(crate) fn on_threads<'a, T: Sync, R: Send>(
    items: &'a [T],
    cancel: &Cancel,
    work: impl Fn(&'a T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let share = || {
        let mut results = Vec::new();
        while let Some(item) =
            items.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !cancel.is_cancelled())
        {
            results.push(work(item));
        }
        results
    };
    let threads = worker_threads().min(items.len());
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(share)).collect();
        let joined = running.into_iter().map(ScopedJoinHandle::join);
        joined.flat_map(|result| result.unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}
