//! Collecting garbage while work is under way, when space gets short (S9).

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use kiln_store::{FreeSpace, Retention};

use crate::core::Core;

/// How many seconds may pass at least, and at most, between two looks at the free space, whatever the setting
/// `min-free-check-interval` says.
const INTERVALS: std::ops::RangeInclusive<u64> = 1..=10;

impl Core {
    /// Does work, and meanwhile collects garbage if that is wanted and space is short. What the work needs is spared, as it
    /// is temporary roots. A collection ends with the work.
    pub(crate) async fn with_space<T>(&self, work: impl Future<Output = T>) -> T {
        if self.settings.min_free == 0 {
            return work.await;
        }
        tokio::select! {
            biased;
            result = work => result,
            never = self.watch_space() => match never {},
        }
    }

    async fn watch_space(&self) -> Infallible {
        let space = FreeSpace { min: self.settings.min_free, max: self.settings.max_free };
        let retention =
            Retention { outputs: self.settings.keep_outputs, derivations: self.settings.keep_derivations };
        let interval = self.settings.min_free_check_interval.clamp(*INTERVALS.start(), *INTERVALS.end());
        loop {
            let collected = self.store.collect_if_short(space, retention, self.events.clone()).await;
            // The builds may still find enough space; if not, they will say so.
            if let Err(error) = collected {
                self.events.warn(format!("cannot collect garbage although space is short: {error}"));
            }
            tokio::time::sleep(Duration::from_secs(interval)).await;
        }
    }
}
