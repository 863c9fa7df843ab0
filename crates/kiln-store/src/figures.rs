//! What a store has counted since it was opened.

use kiln_metrics::Counter;

use crate::collection::Collected;

/// What a store has counted since it was opened, by this process alone.
#[derive(Debug, Default)]
pub struct StoreFigures {
    /// Paths that became valid, or were registered once more.
    pub registered_paths: Counter,
    /// Bytes of their archives.
    pub registered_bytes: Counter,
    /// Collections that came to their end.
    pub collections: Counter,
    /// Paths that they deleted.
    pub collected_paths: Counter,
    /// Bytes that they freed.
    pub freed_bytes: Counter,
}

impl StoreFigures {
    pub(crate) fn collected(&self, collected: &Collected) {
        self.collections.increment();
        self.collected_paths.add(collected.paths.len() as u64);
        self.freed_bytes.add(collected.freed);
    }
}
