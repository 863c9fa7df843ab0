//! `big-lock`: held shared by every process that has the store open, exclusively while the schema changes.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// The lock, held until dropped.
pub(crate) struct BigLock {
    file: File,
    path: PathBuf,
}

impl BigLock {
    /// Takes the lock shared; calls `on_wait` once if it has to wait for an upgrade of the schema.
    pub(crate) fn shared(directory: &Path, on_wait: &dyn Fn()) -> Result<Self> {
        let path = directory.join("big-lock");
        // 0600: whoever could open the file could also lock the engine out.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| Error::Io { doing: "opening the lock", path: path.clone(), error })?;
        let lock = Self { file, path };
        lock.take(FlockOperation::NonBlockingLockShared, FlockOperation::LockShared, on_wait)?;
        Ok(lock)
    }

    /// Turns the shared lock into an exclusive one. It is given up in between, so what was read under it must be read
    /// again.
    pub(crate) fn make_exclusive(&self, on_wait: &dyn Fn()) -> Result<()> {
        self.take(FlockOperation::NonBlockingLockExclusive, FlockOperation::LockExclusive, on_wait)
    }

    /// Turns the exclusive lock into a shared one.
    pub(crate) fn make_shared(&self) -> Result<()> {
        self.take(FlockOperation::NonBlockingLockShared, FlockOperation::LockShared, &|| {})
    }

    fn take(&self, attempt: FlockOperation, wait: FlockOperation, on_wait: &dyn Fn()) -> Result<()> {
        let mut result = flock(&self.file, attempt);
        if result == Err(Errno::WOULDBLOCK) {
            on_wait();
            result = loop {
                match flock(&self.file, wait) {
                    Err(Errno::INTR) => {}
                    result => break result,
                }
            };
        }
        result.map_err(|errno| Error::Io { doing: "locking", path: self.path.clone(), error: errno.into() })
    }
}
