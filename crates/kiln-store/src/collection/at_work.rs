//! Being the collector.

use std::sync::Arc;

use kiln_events::{EventSender, Verbosity};
use kiln_fs::{Access, CollectorLock, Directory};

use super::announced::Announced;
use super::socket::{BoundSocket, ServedSocket};
use crate::cancel::Cancel;
use crate::error::{During, Error, Result};
use crate::local::LocalStore;

/// The collector's lock and socket.
pub(super) struct AtWork {
    pub(super) announced: Arc<Announced>,
    socket: ServedSocket,
    lock: CollectorLock,
}

impl AtWork {
    /// Begins to collect: from now on nothing becomes a temporary root without being announced.
    pub(super) fn begin(store: &LocalStore, events: &EventSender, cancel: &Cancel) -> Result<Self> {
        let state_dir = &store.config().locations.state_dir;
        let state = Directory::open(state_dir)?;
        let socket = BoundSocket::bind(&state)?;
        let announced = Arc::new(Announced::new().during("begin to collect in", state_dir)?);
        let lock = lock_collector(&state, Access::Exclusive, events, cancel)?;
        let socket = socket.serve(announced.clone(), store.store_dir().clone(), events.clone())?;
        Ok(Self { announced, socket, lock })
    }

    /// Ends it. What is left keeps other collectors out.
    pub(super) fn end(self) -> Result<Option<CollectorLock>> {
        // First: who is not answered then finds that there is no collector.
        drop(self.socket);
        Ok(self.lock.share()?)
    }
}

/// Takes the collector's lock, saying so if that takes a while.
pub(crate) fn lock_collector(
    state: &Directory,
    access: Access,
    events: &EventSender,
    cancel: &Cancel,
) -> Result<CollectorLock> {
    let mut is_told = false;
    let lock = CollectorLock::acquire(state, access, &mut || {
        if !std::mem::replace(&mut is_told, true) {
            events.message(Verbosity::Notice, "waiting for the big garbage collector lock...");
        }
        !cancel.is_cancelled()
    })?;
    lock.ok_or(Error::Cancelled)
}
