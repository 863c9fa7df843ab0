//! Connections for reading, kept between uses.

use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use kiln_store_path::StoreDir;

use crate::connection::{Opener, Purpose};
use crate::error::Result;
use crate::latencies::Latencies;
use crate::read::ReadConnection;

/// At most as many connections as threads may read at once; they are opened when first needed.
pub(crate) struct ReaderPool {
    opener: Opener,
    store_dir: StoreDir,
    has_realisations: bool,
    latencies: Arc<Latencies>,
    state: Mutex<State>,
    returned: Condvar,
}

struct State {
    idle: Vec<ReadConnection>,
    /// Connections that may still be opened.
    unopened: usize,
}

impl ReaderPool {
    pub(crate) fn new(
        opener: Opener,
        store_dir: StoreDir,
        has_realisations: bool,
        latencies: Arc<Latencies>,
    ) -> Self {
        let state = State { idle: Vec::new(), unopened: opener.options.readers.max(1) };
        Self {
            opener,
            store_dir,
            has_realisations,
            latencies,
            state: Mutex::new(state),
            returned: Condvar::new(),
        }
    }

    /// Takes a connection, waiting for one to be given back if all are in use.
    pub(crate) fn take(&self) -> Result<Reader<'_>> {
        let begin = Instant::now();
        let mut state = self.lock();
        let connection = loop {
            if let Some(connection) = state.idle.pop() {
                break connection;
            }
            if let Some(left) = state.unopened.checked_sub(1) {
                state.unopened = left;
                drop(state);
                break self.open().inspect_err(|_| {
                    self.lock().unopened += 1;
                    self.returned.notify_one();
                })?;
            }
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        Ok(Reader { pool: self, begin, connection: Some(connection) })
    }

    fn open(&self) -> Result<ReadConnection> {
        let connection = self.opener.open(Purpose::Read)?;
        let opener = self.opener.clone();
        Ok(ReadConnection::new(connection, opener, self.store_dir.clone(), self.has_realisations))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole at every moment at which a panic could strike.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection on loan; it goes back when dropped.
pub struct Reader<'a> {
    pool: &'a ReaderPool,
    /// When it was asked for.
    begin: Instant,
    /// `None` only while being dropped.
    connection: Option<ReadConnection>,
}

impl Deref for Reader<'_> {
    type Target = ReadConnection;

    fn deref(&self) -> &ReadConnection {
        match &self.connection {
            Some(connection) => connection,
            None => unreachable!("a reader has its connection until it is dropped"),
        }
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.lock().idle.push(connection);
            self.pool.returned.notify_one();
            self.pool.latencies.reads.observe(self.begin.elapsed());
        }
    }
}
