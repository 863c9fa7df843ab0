//! Path locks and temporary roots of the local store.

use std::path::Path;

use kiln_fs::PathLocks;
use kiln_store_path::StorePath;

use crate::blocking::waiting;
use crate::error::{Error, Result};
use crate::local::LocalStore;
use crate::temp_roots::HeldRoots;

impl LocalStore {
    /// Locks paths against all other processes, and against others in this one; waits for those that are locked already.
    /// `on_wait` gets each lock file that is waited for.
    ///
    /// # Errors
    /// A lock file cannot be made.
    pub async fn lock_paths(
        &self,
        paths: Vec<StorePath>,
        on_wait: impl FnMut(&Path) + Send + 'static,
    ) -> Result<PathLocks> {
        let store = self.clone();
        waiting(move || store.lock_paths_blocking(&paths, on_wait)).await
    }

    /// Locks all paths, or none if one of them is locked already.
    ///
    /// # Errors
    /// A lock file cannot be made.
    pub async fn try_lock_paths(&self, paths: Vec<StorePath>) -> Result<Option<PathLocks>> {
        self.work(move |store| {
            store.refuse_if_read_only()?;
            let names = paths.iter().map(Self::component).collect::<Result<Vec<_>>>()?;
            Ok(PathLocks::try_acquire(store.directory(), names)?)
        })
        .await
    }

    pub(crate) fn lock_paths_blocking(
        &self,
        paths: &[StorePath],
        mut on_wait: impl FnMut(&Path),
    ) -> Result<PathLocks> {
        self.refuse_if_read_only()?;
        let is_ours = |path: &&StorePath| self.2.as_ref().is_none_or(|elsewhere| !elsewhere.contains(*path));
        let names = paths.iter().filter(is_ours).map(Self::component).collect::<Result<Vec<_>>>()?;
        Ok(PathLocks::acquire(self.directory(), names, &mut on_wait)?)
    }

    /// Keeps paths, valid or about to be, from being collected for as long as this handle or a clone of it is there.
    ///
    /// # Errors
    /// The file of temporary roots cannot be written.
    pub async fn add_temp_roots(&self, paths: Vec<StorePath>) -> Result<()> {
        let known = |roots: &HeldRoots| roots.join_all(paths.iter().map(|path| self.print(path)));
        if self.1.as_deref().is_none_or(known) {
            return Ok(());
        }
        let store = self.clone();
        // A collector may take its time to answer.
        waiting(move || store.add_temp_roots_blocking(&paths)).await
    }

    /// Like [`add_temp_roots`](Self::add_temp_roots), for code that may wait for others.
    ///
    /// # Errors
    /// The file of temporary roots cannot be written.
    pub fn add_temp_roots_blocking(&self, paths: &[StorePath]) -> Result<()> {
        match &self.1 {
            Some(roots) => {
                self.begin_work()?;
                roots.add(paths.iter().map(|path| self.print(path)))
            }
            None => Ok(()),
        }
    }

    pub(crate) fn refuse_if_read_only(&self) -> Result<()> {
        if self.config().read_only { Err(Error::ReadOnly) } else { Ok(()) }
    }
}
