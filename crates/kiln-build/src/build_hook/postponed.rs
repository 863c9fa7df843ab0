//! Builds for which there is a machine, but not now.
//!
//! Machines are alike for all builds of one [`Kind`]. So when something ends, one waiting build of each kind is woken, the
//! first in the order of builds; and only if it gets a place is the next of its kind woken, too. Otherwise each end would
//! cost as many questions as builds wait. A hook of one's own may have other reasons; therefore, and because machines come
//! back unseen, every build is also offered again after a time of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kiln_schedule::Priority;
use tokio::sync::oneshot;

/// What a machine must be and have for a build.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) system: Vec<u8>,
    pub(crate) features: BTreeSet<String>,
}

/// The builds that wait for a machine.
#[derive(Debug, Default)]
pub(super) struct Postponed(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<Kind, BTreeMap<(Priority, u64), oneshot::Sender<()>>>,
    next_number: u64,
}

impl Postponed {
    /// Waits until it makes sense to offer a build again, at most for this time.
    pub(super) async fn wait(&self, kind: &Kind, priority: Priority, most: Duration) {
        let (sender, woken) = oneshot::channel();
        let place = self.with(|state| {
            state.next_number += 1;
            let place = (priority, state.next_number);
            state.waiting.entry(kind.clone()).or_default().insert(place.clone(), sender);
            place
        });
        let _leaving = Leaving { postponed: self, kind, place };
        // The time is over, or somebody has woken it.
        let _ = tokio::time::timeout(most, woken).await;
    }

    /// Something has ended: there may be a place for one of each kind.
    pub(super) fn wake(&self) {
        self.with(|state| {
            state.waiting.retain(|_, waiting| {
                wake_first(waiting);
                !waiting.is_empty()
            });
        });
    }

    /// A build of this kind has got a place: there may be another.
    pub(super) fn wake_next(&self, kind: &Kind) {
        self.with(|state| {
            if let Some(waiting) = state.waiting.get_mut(kind) {
                wake_first(waiting);
            }
        });
    }

    /// There is nobody any more who could find a machine.
    pub(super) fn wake_all(&self) {
        // Those that wait are told by the end of their channels.
        drop(self.with(|state| std::mem::take(&mut state.waiting)));
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Wakes the first of those that have not gone.
fn wake_first(waiting: &mut BTreeMap<(Priority, u64), oneshot::Sender<()>>) {
    while let Some((_, sender)) = waiting.pop_first() {
        if sender.send(()).is_ok() {
            return;
        }
    }
}

/// A place that is given up when this is dropped.
struct Leaving<'a> {
    postponed: &'a Postponed,
    kind: &'a Kind,
    place: (Priority, u64),
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.postponed.with(|state| {
            if let Some(waiting) = state.waiting.get_mut(self.kind) {
                waiting.remove(&self.place);
                if waiting.is_empty() {
                    state.waiting.remove(self.kind);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::poll;
    use std::pin::pin;
    use std::task::Poll;

    const LONG: Duration = Duration::from_secs(1000);

    fn kind(system: &str) -> Kind {
        Kind { system: system.into(), features: BTreeSet::new() }
    }

    fn priority(name: &str) -> Priority {
        Priority::plain(name, name)
    }

    #[tokio::test]
    async fn h1_an_end_wakes_the_first_of_each_kind() {
        let (postponed, one, other) = (Postponed::default(), kind("one"), kind("other"));
        let mut b = pin!(postponed.wait(&one, priority("b"), LONG));
        let mut a = pin!(postponed.wait(&one, priority("a"), LONG));
        let mut c = pin!(postponed.wait(&other, priority("c"), LONG));
        assert!(poll!(&mut b).is_pending() && poll!(&mut a).is_pending() && poll!(&mut c).is_pending());
        postponed.wake();
        assert_eq!((poll!(&mut a), poll!(&mut c)), (Poll::Ready(()), Poll::Ready(())));
        assert!(poll!(&mut b).is_pending(), "it waits for what comes of the first");
        postponed.wake_next(&other);
        assert!(poll!(&mut b).is_pending());
        postponed.wake_next(&one);
        assert_eq!(poll!(&mut b), Poll::Ready(()));
    }

    #[tokio::test(start_paused = true)]
    async fn h1_nobody_waits_longer_than_the_interval() {
        let (postponed, one) = (Postponed::default(), kind("one"));
        let start = tokio::time::Instant::now();
        postponed.wait(&one, priority("a"), Duration::from_secs(5)).await;
        assert_eq!(start.elapsed().as_secs(), 5);
        assert!(postponed.with(|state| state.waiting.is_empty()));
    }

    #[tokio::test]
    async fn s5_who_gives_up_is_not_woken_in_place_of_another() {
        let (postponed, one) = (Postponed::default(), kind("one"));
        let mut b = pin!(postponed.wait(&one, priority("b"), LONG));
        {
            let mut a = pin!(postponed.wait(&one, priority("a"), LONG));
            assert!(poll!(&mut a).is_pending() && poll!(&mut b).is_pending());
        }
        postponed.wake();
        assert_eq!(poll!(&mut b), Poll::Ready(()));
    }
}
