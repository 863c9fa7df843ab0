//! Watching over the daemon: who is connected, what is done for them, and what is counted, told over HTTP.
//!
//! If nobody is to watch, none of this is there. Otherwise each session has a [`Watched`], in which its requests are noted and
//! to which the events go that its client is told of. Nothing is asked of the engine before somebody looks.

mod exposition;
mod figures;
mod health;
mod listening;
mod site;
mod snapshot;
mod watched;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::peer::Peer;

use figures::DaemonFigures;
pub use listening::WatchListener;
pub(crate) use site::serve;
use watched::Watched;

/// What is known of a daemon that is watched over.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    started: u64,
    figures: DaemonFigures,
    /// Whether somebody else's socket is in the place of the daemon's.
    is_replaced: AtomicBool,
    connections: Mutex<BTreeMap<u64, Arc<Watched>>>,
    next_id: AtomicU64,
}

/// A connection that is there. When this is dropped, it has ended.
pub(crate) struct WatchedConnection {
    watch: Arc<Watch>,
    watched: Arc<Watched>,
}

impl Watch {
    pub(crate) fn new() -> Self {
        Self { started: now(), ..Self::default() }
    }

    /// A client has come.
    pub(crate) fn connected(self: &Arc<Self>, peer: &Peer) -> WatchedConnection {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let watched = Arc::new(Watched::new(id, peer));
        self.figures.connections.increment();
        self.figures.open.raise();
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::clone(&watched));
        WatchedConnection { watch: Arc::clone(self), watched }
    }

    /// A client was not let in.
    pub(crate) fn refused(&self) {
        self.figures.refused.increment();
    }

    /// Whether somebody else's socket is in the place of the daemon's.
    pub(crate) fn set_replaced(&self, is_replaced: bool) {
        self.is_replaced.store(is_replaced, Ordering::Relaxed);
    }

    fn connections(&self) -> Vec<Arc<Watched>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl WatchedConnection {
    /// What is noted of it.
    pub(crate) fn watched(&self) -> &Arc<Watched> {
        &self.watched
    }

    /// A request has come.
    pub(crate) fn begin(&self, operation: &'static str) {
        self.watch.figures.asked(operation);
        self.watched.begin(operation);
    }

    /// It has been answered.
    pub(crate) fn end(&self) {
        self.watched.end();
    }
}

impl Drop for WatchedConnection {
    fn drop(&mut self) {
        self.watch.figures.open.lower();
        let id = self.watched.id();
        self.watch.connections.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
