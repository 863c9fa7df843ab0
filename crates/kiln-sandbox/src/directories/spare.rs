//! Directories that are made before they are needed.
//!
//! To make the directories of a small build takes as long as everything else that is done before it. So while a build runs,
//! those of the next one are made, in the trash, where nothing lasts: they get their names when they are taken, and whoever
//! empties the trash, or finds that of a process that was killed, deletes them with everything else in it.

use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use kiln_fs::{Component, Directory, Trash, rename_new};

use crate::SandboxError;

/// One directory of a kind that is ready to be taken, or none.
#[derive(Debug)]
pub(super) struct Spares {
    trash: Arc<Trash>,
    /// Puts into a new directory what all of its kind have, and does to it what has to be done before it has a name.
    furnish: fn(&Directory) -> Result<(), SandboxError>,
    ready: Mutex<Option<Spare>>,
}

#[derive(Debug)]
struct Spare {
    bin: Directory,
    name: Component,
    directory: Directory,
}

impl Spares {
    pub(super) fn new(trash: Arc<Trash>, furnish: fn(&Directory) -> Result<(), SandboxError>) -> Self {
        Self { trash, furnish, ready: Mutex::new(None) }
    }

    /// Where they are made, and discarded ones go.
    pub(super) fn trash(&self) -> &Arc<Trash> {
        &self.trash
    }

    /// Makes one, unless there is one.
    pub(super) fn make(&self) -> Result<(), SandboxError> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.is_none() {
            let (bin, name, directory) = self.trash.create_directory(0o700)?;
            (self.furnish)(&directory)?;
            *ready = Some(Spare { bin, name, directory });
        }
        Ok(())
    }

    /// Gives the one that is ready a name, which nothing may have. `None` if none is, or that fails: then the long way will
    /// succeed, or tell why it doesn't.
    pub(super) fn take(&self, parent: &Directory, name: &Component) -> Option<Directory> {
        let mut ready = match self.ready.try_lock() {
            Ok(ready) => ready,
            Err(TryLockError::Poisoned(ready)) => ready.into_inner(),
            // Who is making one, or deleting them all, isn't waited for.
            Err(TryLockError::WouldBlock) => return None,
        };
        let spare = ready.take()?;
        rename_new((&spare.bin, &spare.name), (parent, name)).ok()?;
        Some(spare.directory)
    }

    /// Empties the trash, which the one that is ready goes with.
    pub(super) fn empty_trash(&self) -> Result<(), SandboxError> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        *ready = None;
        Ok(self.trash.empty()?)
    }
}
