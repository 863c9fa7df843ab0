//! Clearing up after processes that were killed.
//!
//! Who makes anything in the store has a file of temporary roots first, which says what it is working on. When such a file
//! is there and nobody holds the lock on it, its process is dead: then whoever has work to do next takes away what it may
//! have left, beside the paths and under the same locks as it: lock files, directories of builds, scratch directories,
//! trash. What lies at paths that are not valid stays until somebody makes those paths, or a collector comes.

use kiln_derivation::{Derivation, DerivationOutput};
use kiln_fs::{AbandonedRoots, Component, Directory, PathLocks, Trash, delete_tree};
use kiln_store_path::StorePath;

use crate::error::{Error, Result};
use crate::local::LocalStore;
use crate::local::scratch::Scratch;

impl LocalStore {
    /// What to lock to make the outputs of a derivation: these, and for those whose paths nobody knows yet, as Nix does, the
    /// derivation's own path with their names.
    ///
    /// # Errors
    /// None in practice: all of them are names of files.
    pub fn output_locks(path: &StorePath, derivation: &Derivation) -> Result<Vec<Component>> {
        let name_of = |(name, output): (_, &DerivationOutput)| match output.path() {
            Some(path) => Component::new(path.base_name()),
            None => Component::new(format!("{path}.{name}")),
        };
        let names: Result<Vec<Component>, _> = derivation.outputs.iter().map(name_of).collect();
        names.map_err(|error| Error::Files(error.into()))
    }

    /// The name of the directory in which a build of a derivation happens, beside the store's paths.
    #[must_use]
    pub fn build_directory_name(derivation: &StorePath) -> String {
        format!("{derivation}.chroot")
    }

    /// Makes this process known as one that works on the store, after clearing up after those that died doing so.
    pub(crate) fn begin_work(&self) -> Result<()> {
        let Some(roots) = self.1.as_deref().filter(|roots| !roots.are_begun()) else {
            return Ok(());
        };
        // Before, since the file of a dead process that had the same number is replaced. What cannot be done now is left
        // for the next one: it is in nobody's way.
        let _ = self.clear_up_after_the_dead();
        roots.begin()
    }

    fn clear_up_after_the_dead(&self) -> Result<()> {
        let dead = AbandonedRoots::all(&Directory::open(&self.config().locations.state_dir)?)?;
        if dead.is_empty() {
            return Ok(());
        }
        for roots in &dead {
            for path in roots.paths()? {
                let path = std::str::from_utf8(&path).ok().map(|path| self.store_dir().parse(path));
                if let Some(Ok(path)) = path {
                    self.clear_up(&path)?;
                }
            }
        }
        Scratch::remove_leftovers(self.directory())?;
        Trash::remove_leftovers(self.directory())?;
        Ok(dead.into_iter().try_for_each(AbandonedRoots::remove)?)
    }

    /// Takes away what is left beside a path, unless somebody is working on it now.
    fn clear_up(&self, path: &StorePath) -> Result<()> {
        self.remove_lock(Self::component(path)?)?;
        if !path.is_derivation() || !self.0.database.reader()?.is_valid(path)? {
            return Ok(());
        }
        let locks = Self::output_locks(path, &*self.read_derivation_blocking(path)?)?;
        let chroot = file_name(Self::build_directory_name(path))?;
        if self.directory().status(&chroot)?.is_some()
            && let Some(mut locks) = PathLocks::try_acquire(self.directory(), locks.iter().cloned())?
        {
            locks.delete_on_release(true);
            delete_tree(self.directory(), &chroot)?;
        }
        locks.into_iter().try_for_each(|name| self.remove_lock(name))
    }

    /// Removes the lock file of a path, unless it is locked.
    fn remove_lock(&self, path: Component) -> Result<()> {
        let name = file_name([path.as_bytes(), b".lock"].concat())?;
        if self.directory().status(&name)?.is_some()
            && let Some(mut lock) = PathLocks::try_acquire(self.directory(), [path])?
        {
            lock.delete_on_release(true);
        }
        Ok(())
    }
}

fn file_name(name: impl AsRef<[u8]>) -> Result<Component> {
    Component::new(name).map_err(|error| Error::Files(error.into()))
}
