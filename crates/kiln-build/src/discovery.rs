//! Holding builds back for a moment while it is still being found out what there is to build.
//!
//! What is wanted is followed down to what can be built at once. The first of these that is found is rarely the one that most
//! waits for, and a slot that it takes is taken until it has been built. So those that are found line up, and are submitted
//! together.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::slots::SlotPool;

/// Longest time for which builds are held back, from when something new was wanted while nothing was.
const PATIENCE: Duration = Duration::from_millis(100);

/// Who is being looked at.
#[derive(Debug)]
pub(crate) struct Discovery {
    state: watch::Sender<State>,
    slots: Arc<SlotPool>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// Goals of which it is not known yet what they need.
    count: usize,
    since: Instant,
}

/// A goal of which it is not known yet what it needs, or that could be built and has not lined up yet, until this is dropped.
#[derive(Debug)]
pub(crate) struct Discovering(Arc<Discovery>);

impl Discovery {
    /// Says to `slots` when those who have lined up there need not wait for others any more.
    pub(crate) fn new(slots: Arc<SlotPool>) -> Arc<Self> {
        let state = watch::Sender::new(State { count: 0, since: Instant::now() });
        Arc::new(Self { state, slots })
    }

    pub(crate) fn begin(self: &Arc<Self>) -> Discovering {
        self.state.send_if_modified(|state| {
            if state.count == 0 {
                state.since = Instant::now();
            }
            state.count += 1;
            false
        });
        Discovering(Arc::clone(self))
    }

    /// Returns when it is known of all goals what they need, or it takes too long to find out.
    pub(crate) async fn settled(&self) {
        let mut state = self.state.subscribe();
        let now = *state.borrow_and_update();
        if now.count > 0 {
            // Who waits holds the sender.
            let _ = timeout_at(now.since + PATIENCE, state.wait_for(|state| state.count == 0)).await;
        }
    }
}

impl Discovering {
    /// How long others may be waited for.
    pub(crate) fn deadline(&self) -> Instant {
        self.0.state.borrow().since + PATIENCE
    }
}

impl Drop for Discovering {
    fn drop(&mut self) {
        let is_settled = self.0.state.send_if_modified(|state| {
            state.count -= 1;
            state.count == 0
        });
        if is_settled {
            self.0.slots.admit();
        }
    }
}

#[cfg(test)]
mod tests {
    use kiln_schedule::{JobKind, Priority, Slots};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn s3_of_those_that_are_found_together_the_first_in_the_order_starts() {
        let slots = SlotPool::new(Slots { builds: 1, substitutions: 1 });
        let (discovery, owner) = (Discovery::new(Arc::clone(&slots)), slots.owner());
        let line_up = |name: &str, discovering: Discovering| {
            let priority = Priority::plain(name, name);
            Box::pin(owner.line_up(JobKind::Build, priority, Some(discovering)))
        };
        let (first, second, third) = (discovery.begin(), discovery.begin(), discovery.begin());
        let mut late = line_up("b", first);
        let mut given_up = line_up("0", second);
        assert!(futures_util::poll!(late.as_mut()).is_pending());
        assert!(futures_util::poll!(given_up.as_mut()).is_pending(), "others may come");
        drop(given_up);
        let early = line_up("a", third);
        let early = early.await;
        assert!(futures_util::poll!(late.as_mut()).is_pending());
        drop(early);
        drop(late.await);
        // Who takes too long is not waited for.
        let (slow, quick) = (discovery.begin(), discovery.begin());
        let begin = Instant::now();
        drop(line_up("a", quick).await);
        assert_eq!(begin.elapsed(), PATIENCE);
        let another = discovery.begin();
        drop(line_up("a", another).await);
        assert_eq!(begin.elapsed(), PATIENCE);
        drop(slow);
    }

    #[tokio::test(start_paused = true)]
    async fn s3_builds_wait_for_the_last_goal_to_be_known_but_not_for_long() {
        let discovery = Discovery::new(SlotPool::new(Slots { builds: 1, substitutions: 1 }));
        discovery.settled().await;
        let (first, second) = (discovery.begin(), discovery.begin());
        {
            let settled = discovery.settled();
            tokio::pin!(settled);
            assert!(futures_util::poll!(settled.as_mut()).is_pending());
            drop(first);
            assert!(futures_util::poll!(settled.as_mut()).is_pending());
            drop(second);
            assert!(futures_util::poll!(settled.as_mut()).is_ready());
        }
        let _slow = discovery.begin();
        let begin = Instant::now();
        discovery.settled().await;
        assert_eq!(begin.elapsed(), PATIENCE);
        let _another = discovery.begin();
        discovery.settled().await;
        assert_eq!(begin.elapsed(), PATIENCE, "it has been waited for");
    }
}
