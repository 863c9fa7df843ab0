//! Collections that begin by themselves when space gets short.

use std::sync::atomic::{AtomicU64, Ordering};

use kiln_events::{EventSender, Verbosity};
use tokio::sync::Mutex;

use super::collector::{CollectOptions, Collected};
use super::liveness::Retention;
use crate::error::{During, Result};
use crate::local::LocalStore;

/// When a collection begins, and what it is to achieve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeSpace {
    /// `min-free`: it begins when fewer bytes than this are free; 0 for never.
    pub min: u64,
    /// `max-free`: it ends when so many are.
    pub max: u64,
}

/// What one collection that began by itself has to know of others.
#[derive(Debug)]
pub(crate) struct AutomaticCollections {
    /// Held while one is under way.
    running: Mutex<()>,
    /// Bytes that were free after the last one.
    left: AtomicU64,
}

impl Default for AutomaticCollections {
    fn default() -> Self {
        Self { running: Mutex::default(), left: AtomicU64::new(u64::MAX) }
    }
}

impl FreeSpace {
    /// How many bytes to free, if a collection is due. It isn't if the last one has left hardly more than there is now:
    /// another one would not find more.
    fn missing(self, available: u64, left: u64) -> Option<u64> {
        let is_short = available < self.min && available < self.max;
        let is_of_use = available <= left / 100 * 97;
        (is_short && is_of_use).then(|| self.max - available)
    }
}

impl LocalStore {
    /// Collects garbage if too little space is free, and no other such collection is under way in this process. Dropping the
    /// future ends it.
    ///
    /// # Errors
    /// As [`collect_garbage`](Self::collect_garbage).
    pub async fn collect_if_short(
        &self,
        space: FreeSpace,
        retention: Retention,
        events: EventSender,
    ) -> Result<Option<Collected>> {
        if space.min == 0 {
            return Ok(None);
        }
        let automatic = self.automatic_collections();
        let Ok(_running) = automatic.running.try_lock() else { return Ok(None) };
        let available = self.work(LocalStore::available_space).await?;
        let Some(missing) = space.missing(available, automatic.left.load(Ordering::Relaxed)) else {
            return Ok(None);
        };
        events.message(Verbosity::Info, format!("running auto-GC to free {missing} bytes"));
        let options = CollectOptions { retention, max_freed: Some(missing) };
        let collected = self.collect_garbage(options, events).await?;
        automatic.left.store(self.work(LocalStore::available_space).await?, Ordering::Relaxed);
        Ok(Some(collected))
    }
}

impl LocalStore {
    /// Bytes that anybody may still write to the file system of the store.
    fn available_space(&self) -> Result<u64> {
        let real_dir = &self.config().locations.real_dir;
        let status = rustix::fs::fstatvfs(self.directory()).during("look at the file system of", real_dir)?;
        Ok(status.f_bavail.saturating_mul(status.f_frsize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_is_due_when_it_is_of_use() {
        let space = FreeSpace { min: 1000, max: 5000 };
        assert_eq!(space.missing(1000, u64::MAX), None);
        assert_eq!(space.missing(999, u64::MAX), Some(4001));
        assert_eq!(space.missing(900, 900), None, "the last one has not freed more");
        assert_eq!(space.missing(500, 900), Some(4500));
        assert_eq!(FreeSpace { min: 1000, max: 10 }.missing(500, u64::MAX), None);
        assert_eq!(FreeSpace { min: u64::MAX, max: u64::MAX }.missing(1, u64::MAX), Some(u64::MAX - 1));
    }
}
