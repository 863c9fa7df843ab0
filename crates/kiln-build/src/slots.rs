//! Waiting for a slot: the scheduler's step function behind an `await`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_schedule::{Job, JobId, JobKind, Priority, Scheduler, Slots};
use tokio::sync::oneshot;

/// All slots of an engine.
#[derive(Debug)]
pub(crate) struct SlotPool {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    scheduler: Scheduler,
    next_id: JobId,
    waiting: HashMap<JobId, oneshot::Sender<()>>,
}

/// A slot, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    pool: Arc<SlotPool>,
    id: JobId,
}

impl SlotPool {
    pub(crate) fn new(slots: Slots) -> Arc<Self> {
        let state = State { scheduler: Scheduler::new(slots), next_id: 0, waiting: HashMap::new() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Waits for a slot. Dropping the future gives up the place in the queue.
    pub(crate) async fn acquire(self: &Arc<Self>, kind: JobKind, priority: Priority) -> Slot {
        let (sender, started) = oneshot::channel();
        let slot = self.with(|state| {
            let id = state.next_id;
            state.next_id += 1;
            state.waiting.insert(id, sender);
            let started = state.scheduler.submit(Job { id, kind, priority });
            state.wake(&started);
            Slot { pool: Arc::clone(self), id }
        });
        // The sender is kept until it is used, so that this does not fail.
        let _ = started.await;
        slot
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn wake(&mut self, started: &[JobId]) {
        for sender in started.iter().filter_map(|id| self.waiting.remove(id)) {
            // Whoever has given up meanwhile drops its slot, which starts the next one.
            let _ = sender.send(());
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let id = self.id;
        self.pool.with(|state| {
            state.waiting.remove(&id);
            let started = state.scheduler.finish(id);
            state.wake(&started);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn priority(name: &str) -> Priority {
        Priority::plain(name, name)
    }

    #[tokio::test]
    async fn s4_a_dropped_slot_is_the_next_ones() {
        let pool = SlotPool::new(Slots { builds: 1, substitutions: 1 });
        let first = pool.acquire(JobKind::Build, priority("a")).await;
        let second = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.acquire(JobKind::Build, priority("b")).await }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        drop(second.await.unwrap());
        pool.acquire(JobKind::Build, priority("c")).await;
    }

    #[tokio::test]
    async fn s5_who_gives_up_waiting_holds_nothing() {
        let pool = SlotPool::new(Slots { builds: 1, substitutions: 1 });
        let first = pool.acquire(JobKind::Build, priority("a")).await;
        {
            let waiting = pool.acquire(JobKind::Build, priority("b"));
            tokio::pin!(waiting);
            assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        }
        drop(first);
        pool.acquire(JobKind::Build, priority("c")).await;
    }
}
