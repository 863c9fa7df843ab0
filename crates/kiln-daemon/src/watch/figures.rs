//! What the daemon itself counts.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use kiln_metrics::{Counter, Gauge};

/// Counts of connections and requests.
#[derive(Debug, Default)]
pub(crate) struct DaemonFigures {
    /// Connections that were let in.
    pub(crate) connections: Counter,
    /// Those that are there.
    pub(crate) open: Gauge,
    /// Those that were not let in.
    pub(crate) refused: Counter,
    /// Requests, by operation: there are few.
    requests: Mutex<BTreeMap<&'static str, u64>>,
}

impl DaemonFigures {
    /// Counts a request.
    pub(crate) fn asked(&self, operation: &'static str) {
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry(operation).or_default() += 1;
    }

    /// How often each operation was asked for.
    pub(crate) fn requests(&self) -> BTreeMap<&'static str, u64> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
