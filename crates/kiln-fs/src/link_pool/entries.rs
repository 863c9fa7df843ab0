//! The pool's entries themselves: which files they are, which of them nothing uses, and whether they are what they are called.

use super::LinkPool;
use super::optimise::{PooledFiles, hash_file, hash_symlink};
use crate::component::Component;
use crate::directory::Directory;
use crate::error::{During as _, Error, Result};
use crate::status::{Kind, Status};
use crate::walk::Place;
use rustix::io::Errno;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::panic::resume_unwind;
use std::thread::{self, ScopedJoinHandle};

/// What removing unused entries has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RemovedLinks {
    /// Entries that were removed.
    pub removed: u64,
    /// Bytes that the other entries save: what each takes, for each use of it but the first.
    pub saved: u64,
}

/// Whether an entry is what it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryCheck {
    /// It is.
    Good,
    /// It is not, so it was damaged after it had come there.
    Corrupt,
    /// It was removed meanwhile.
    Vanished,
}

impl LinkPool {
    /// The names of all entries.
    ///
    /// # Errors
    /// If the pool can't be read.
    pub fn names(&self) -> Result<Vec<Component>> {
        self.directory()?.names()
    }

    /// Which files the entries are.
    ///
    /// # Errors
    /// If the pool can't be read.
    pub fn pooled_files(&self) -> Result<PooledFiles> {
        let pooled = PooledFiles::default();
        for name in self.names()? {
            if let Ok(status) = self.status(&name) {
                pooled.insert(status.identity);
            }
        }
        Ok(pooled)
    }

    /// Removes the entries that no store path uses any more, on several threads.
    ///
    /// # Errors
    /// The first failure to remove one, after all have been tried.
    pub fn remove_unused(&self, threads: usize) -> Result<RemovedLinks> {
        let names = self.names()?;
        let each = names.len().div_ceil(threads.max(1)).max(1);
        let shares: Vec<Result<RemovedLinks>> = thread::scope(|scope| {
            let running: Vec<_> = names
                .chunks(each)
                .map(|share| scope.spawn(move || self.remove_unused_among(share)))
                .collect();
            let joined = running.into_iter().map(ScopedJoinHandle::join);
            joined.map(|result| result.unwrap_or_else(|panic| resume_unwind(panic))).collect()
        });
        let mut all = RemovedLinks::default();
        for share in shares {
            let share = share?;
            all.removed += share.removed;
            all.saved = all.saved.saturating_add(share.saved);
        }
        Ok(all)
    }

    fn remove_unused_among(&self, names: &[Component]) -> Result<RemovedLinks> {
        let mut result = RemovedLinks::default();
        let mut failure = None;
        for name in names {
            match self.remove_if_unused(name) {
                Ok(None) => result.removed += 1,
                Ok(Some(bytes)) => result.saved = result.saved.saturating_add(bytes),
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        failure.map_or(Ok(result), Err)
    }

    /// Removes an entry if it is its file's only link; else returns how many bytes it saves.
    fn remove_if_unused(&self, name: &Component) -> Result<Option<u64>> {
        let path = || self.path_of(name);
        match self.status(name) {
            Ok(status) if status.kind == Kind::Directory => Ok(Some(0)),
            // Whoever links to it right now has the link, and the next one a new entry.
            Ok(status) if status.links == 1 => self.remove(name).map(|()| None),
            Ok(status) => Ok(Some(status.size.saturating_mul(status.links.saturating_sub(2)))),
            Err(Errno::NOENT) => Ok(Some(0)),
            Err(error) => Err(error).during("look at", path),
        }
    }

    /// Removes an entry; the store paths that use it stay as they are.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn remove(&self, name: &Component) -> Result<()> {
        self.directory()?.remove_file(name)
    }

    /// Reads an entry and compares it with its name.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn check(&self, name: &Component) -> Result<EntryCheck> {
        let path = self.path_of(name);
        let directory_path = path.parent().map(|path| path.as_os_str().as_bytes()).unwrap_or_default();
        let place = Place::new(self.links.as_fd(), name.as_c_str(), directory_path);
        let hash = match self.status(name) {
            Ok(status) if status.kind == Kind::Regular => hash_file(&place).map(|(hash, _)| hash),
            Ok(status) if status.kind == Kind::Symlink => hash_symlink(&place),
            Ok(_) => return Ok(EntryCheck::Corrupt),
            Err(Errno::NOENT) => return Ok(EntryCheck::Vanished),
            Err(error) => return Err(error).during("look at", || &path),
        };
        match hash {
            Ok(hash) if hash.nix32().as_bytes() == name.as_bytes() => Ok(EntryCheck::Good),
            Ok(_) => Ok(EntryCheck::Corrupt),
            Err(Error::Changed(_)) if matches!(self.status(name), Err(Errno::NOENT)) => {
                Ok(EntryCheck::Vanished)
            }
            Err(error) => Err(error),
        }
    }

    fn status(&self, name: &Component) -> Result<Status, Errno> {
        Status::at(self.links.as_fd(), name.as_c_str())
    }

    fn directory(&self) -> Result<Directory> {
        let path = self.store.path().join(".links");
        let links = self.links.try_clone().during("duplicate the descriptor of", || &path)?;
        Ok(Directory::from_fd(links, path))
    }

    fn path_of(&self, name: &Component) -> std::path::PathBuf {
        self.store.path().join(".links").join(name.as_path())
    }
}
