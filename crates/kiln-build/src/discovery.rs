//! Holding builds back for a moment while it is still being found out what there is to build.
//!
//! What is wanted is followed down to what can be built at once. The first of these that is found is rarely the one that most
//! waits for, and a slot that it takes is taken until it has been built.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// Longest time for which builds are held back, from when something new was wanted while nothing was.
const PATIENCE: Duration = Duration::from_millis(100);

/// Who is being looked at.
#[derive(Debug)]
pub(crate) struct Discovery {
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// Goals of which it is not known yet what they need.
    count: usize,
    since: Instant,
}

/// A goal of which it is not known yet what it needs, until this is dropped.
#[derive(Debug)]
pub(crate) struct Discovering(Arc<Discovery>);

impl Discovery {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: watch::Sender::new(State { count: 0, since: Instant::now() }) })
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

impl Drop for Discovering {
    fn drop(&mut self) {
        self.0.state.send_if_modified(|state| {
            state.count -= 1;
            state.count == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn s3_builds_wait_for_the_last_goal_to_be_known_but_not_for_long() {
        let discovery = Discovery::new();
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
