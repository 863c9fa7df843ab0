//! Noticing that nothing comes any more.

use crate::failure::Failure;
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Watches over a transfer: in each stretch of time of a given length that was spent waiting for it, there have to come
/// so many bytes a second. Time in which nobody waited, because what had come was still being used, does not count.
pub(crate) struct StallWatch {
    /// Length of a stretch; 0 if nothing is watched.
    limit: Duration,
    /// Bytes a second.
    slowest: u64,
    /// How long was waited in this stretch.
    waited: Duration,
    /// How many bytes have come in this stretch.
    received: u64,
}

impl StallWatch {
    /// Starts to watch.
    pub(crate) fn new(limit: Duration, slowest: u64) -> Self {
        Self { limit, slowest, waited: Duration::ZERO, received: 0 }
    }

    /// Takes note of bytes that have come.
    pub(crate) fn received(&mut self, length: u64) {
        self.received = self.received.saturating_add(length);
    }

    /// Waits for more, but not for too long.
    pub(crate) async fn wait<T>(&mut self, more: impl Future<Output = T>) -> Result<T, Failure> {
        if self.limit.is_zero() {
            return Ok(more.await);
        }
        let mut more = std::pin::pin!(more);
        loop {
            let begun = Instant::now();
            let result = timeout(self.limit.saturating_sub(self.waited), more.as_mut()).await;
            self.waited = self.waited.saturating_add(begun.elapsed());
            // Whoever sends little all the time has their account settled here, too.
            if self.waited >= self.limit {
                if self.received < self.limit.as_secs().max(1).saturating_mul(self.slowest) {
                    return Err(Failure::Stalled { limit: self.limit, slowest: self.slowest });
                }
                self.waited = Duration::ZERO;
                self.received = 0;
            }
            if let Ok(result) = result {
                return Ok(result);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use tokio::time::sleep;

    const LIMIT: Duration = Duration::from_millis(50);
    const STALLED: Failure = Failure::Stalled { limit: LIMIT, slowest: 1 };

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn b11_silence_is_a_stall() {
        let stalled = run(async { StallWatch::new(LIMIT, 1).wait(pending::<()>()).await });
        assert_eq!(stalled, Err(STALLED));
    }

    #[test]
    fn b11_what_comes_counts_for_its_own_stretch_only() {
        let (first, second) = run(async {
            let mut watch = StallWatch::new(LIMIT, 1);
            watch.received(10);
            let first = watch.wait(sleep(LIMIT * 3 / 2)).await;
            (first, watch.wait(sleep(LIMIT * 3 / 2)).await)
        });
        assert_eq!(first, Ok(()));
        assert_eq!(second, Err(STALLED));
    }

    #[test]
    fn who_sends_too_little_is_stalled_too() {
        let failure = run(async {
            let mut watch = StallWatch::new(LIMIT, 100);
            loop {
                if let Err(failure) = watch.wait(sleep(LIMIT / 10)).await {
                    return failure;
                }
                watch.received(1);
            }
        });
        assert_eq!(failure, Failure::Stalled { limit: LIMIT, slowest: 100 });
    }

    #[test]
    fn the_time_of_whoever_uses_it_does_not_count() {
        let waited = run(async {
            let mut watch = StallWatch::new(LIMIT, 1);
            watch.wait(ready(())).await.unwrap();
            sleep(LIMIT * 2).await;
            watch.wait(sleep(LIMIT / 10)).await
        });
        assert_eq!(waited, Ok(()));
    }

    #[test]
    fn b11_nothing_is_watched_without_a_limit() {
        let waited = run(async { StallWatch::new(Duration::ZERO, 1).wait(sleep(LIMIT)).await });
        assert_eq!(waited, Ok(()));
        assert_eq!(run(async { StallWatch::new(Duration::MAX, 1).wait(ready(1)).await }), Ok(1));
    }
}
