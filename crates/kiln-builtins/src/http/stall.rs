//! Noticing that nothing comes any more.

use super::failure::Failure;
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Watches over a transfer: in each stretch of time of a given length, there has to come a byte a second.
pub(super) struct StallWatch {
    /// Length of a stretch; 0 if nothing is watched.
    limit: Duration,
    start: Instant,
    /// How many bytes have come in this stretch.
    received: u64,
}

impl StallWatch {
    /// Starts to watch.
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, start: Instant::now(), received: 0 }
    }

    /// Takes note of bytes that have come.
    pub(super) fn received(&mut self, length: u64) {
        self.received = self.received.saturating_add(length);
    }

    /// Waits for more, but not for too long.
    pub(super) async fn wait<T>(&mut self, more: impl Future<Output = T>) -> Result<T, Failure> {
        if self.limit.is_zero() {
            return Ok(more.await);
        }
        let mut more = std::pin::pin!(more);
        loop {
            let Some(end) = self.start.checked_add(self.limit) else { return Ok(more.await) };
            // Whoever sends all the time has their account settled here, whoever doesn't, below.
            if Instant::now() < end
                && let Ok(result) = timeout_at(end, more.as_mut()).await
            {
                return Ok(result);
            }
            if self.received < self.limit.as_secs().max(1) {
                return Err(Failure::Stalled(self.limit));
            }
            self.start = Instant::now();
            self.received = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use tokio::time::sleep;

    const LIMIT: Duration = Duration::from_millis(50);

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn b11_silence_is_a_stall() {
        let stalled = run(async { StallWatch::new(LIMIT).wait(pending::<()>()).await });
        assert_eq!(stalled, Err(Failure::Stalled(LIMIT)));
    }

    #[test]
    fn b11_what_comes_counts_for_its_own_stretch_only() {
        let (first, second) = run(async {
            let mut watch = StallWatch::new(LIMIT);
            watch.received(10);
            let first = watch.wait(sleep(LIMIT * 3 / 2)).await;
            (first, watch.wait(sleep(LIMIT * 3 / 2)).await)
        });
        assert_eq!(first, Ok(()));
        assert_eq!(second, Err(Failure::Stalled(LIMIT)));
    }

    #[test]
    fn b11_nothing_is_watched_without_a_limit() {
        let waited = run(async { StallWatch::new(Duration::ZERO).wait(sleep(LIMIT)).await });
        assert_eq!(waited, Ok(()));
        assert_eq!(run(async { StallWatch::new(Duration::MAX).wait(ready(1)).await }), Ok(1));
    }
}
