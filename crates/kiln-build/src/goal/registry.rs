//! One goal per thing: what many want is done once, for as long as anybody wants it.
//!
//! A goal is a task. Its [`Interest`]s are held by the requests and goals that want its result; when the last one is
//! dropped the task is aborted, which drops the goal's future and with it all that the goal held: its own interests in
//! other goals, its slot, its builder, its locks. Tasks, unlike nested futures, neither poll nor drop each other
//! recursively, so that a chain of any length is fine.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Goals under way, by key.
#[derive(Debug)]
pub(crate) struct Registry<K: Eq + Hash, S, R> {
    goals: Mutex<HashMap<K, Weak<Shared<S, R>>>>,
}

/// A wish for a goal's result; the goal goes on as long as there is one.
#[derive(Debug)]
pub(crate) struct Interest<S, R>(Arc<Shared<S, R>>);

#[derive(Debug)]
struct Shared<S, R> {
    /// What those who want the goal tell it while it runs.
    state: Arc<S>,
    result: watch::Receiver<Option<R>>,
    task: AbortHandle,
}

impl<K: Eq + Hash + Clone, S, R: Clone + Send + Sync + 'static> Registry<K, S, R> {
    pub(crate) fn new() -> Self {
        Self { goals: Mutex::new(HashMap::new()) }
    }

    /// Joins the goal of this key, if there is one and `join` takes it; otherwise starts it.
    ///
    /// `join` may change the state of the running goal, and refuses one that is past the point where it could still do
    /// what is wanted. Must be called within the runtime.
    pub(crate) fn join_or_start<F>(
        &self,
        key: K,
        join: impl FnOnce(&S) -> bool,
        start: impl FnOnce() -> (Arc<S>, F),
    ) -> Interest<S, R>
    where
        F: Future<Output = R> + Send + 'static,
    {
        let mut goals = self.goals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = goals.get(&key).and_then(Weak::upgrade)
            && join(&running.state)
        {
            return Interest(running);
        }
        let (state, goal) = start();
        let (sender, result) = watch::channel(None);
        let task = tokio::spawn(async move {
            let result = goal.await;
            sender.send_replace(Some(result));
        });
        let shared = Arc::new(Shared { state, result, task: task.abort_handle() });
        goals.insert(key, Arc::downgrade(&shared));
        // Dead entries are swept when they outnumber the living, which keeps the cost per goal constant.
        if goals.len() > 64 && goals.len().is_power_of_two() {
            goals.retain(|_, goal| goal.strong_count() > 0);
        }
        Interest(shared)
    }
}

impl<S, R: Clone> Interest<S, R> {
    /// Waits for the goal's result; `None` if the goal panicked.
    pub(crate) async fn result(&self) -> Option<R> {
        let mut result = self.0.result.clone();
        let value = result.wait_for(Option::is_some).await.ok()?;
        value.clone()
    }
}

impl<S, R> Drop for Shared<S, R> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    type Numbers = Registry<u32, AtomicUsize, usize>;

    struct OnDrop(Arc<AtomicUsize>);

    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn s1_two_wishes_are_one_goal() {
        let registry = Numbers::new();
        let runs = Arc::new(AtomicUsize::new(0));
        let wish = || {
            registry.join_or_start(
                7,
                |state| {
                    state.fetch_add(1, Ordering::SeqCst);
                    true
                },
                || {
                    let runs = Arc::clone(&runs);
                    (Arc::new(AtomicUsize::new(1)), async move {
                        tokio::task::yield_now().await;
                        runs.fetch_add(1, Ordering::SeqCst)
                    })
                },
            )
        };
        let (first, second) = (wish(), wish());
        assert_eq!((first.result().await, second.result().await), (Some(0), Some(0)));
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert_eq!(first.0.state.load(Ordering::SeqCst), 2, "the second one joined");
    }

    #[tokio::test]
    async fn s5_a_goal_that_nobody_wants_is_dropped() {
        let registry = Numbers::new();
        let dropped = Arc::new(AtomicUsize::new(0));
        let held = OnDrop(Arc::clone(&dropped));
        let goal = registry.join_or_start(
            1,
            |_| true,
            || {
                (Arc::default(), async move {
                    let _held = held;
                    std::future::pending().await
                })
            },
        );
        let again = registry.join_or_start(1, |_| true, || (Arc::default(), std::future::pending()));
        drop(goal);
        tokio::task::yield_now().await;
        assert_eq!(dropped.load(Ordering::SeqCst), 0, "one wish is left");
        drop(again);
        while dropped.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn s14_a_chain_of_ten_thousand_goals_is_dropped_without_recursion() {
        let registry = Arc::new(Numbers::new());
        let ended = Arc::new(AtomicUsize::new(0));
        let mut last = registry.join_or_start(0, |_| true, || (Arc::default(), std::future::pending()));
        for key in 1..10_000 {
            let (below, held) = (last, OnDrop(Arc::clone(&ended)));
            last = registry.join_or_start(
                key,
                |_| true,
                || {
                    (Arc::default(), async move {
                        let _held = held;
                        below.result().await.unwrap_or_default()
                    })
                },
            );
        }
        drop(last);
        while ended.load(Ordering::SeqCst) < 9_999 {
            tokio::task::yield_now().await;
        }
    }
}
