//! Linking the files of trees whose hashes aren't known yet.

use super::{LinkPool, Linkable, Linked};
use crate::component::Component;
use crate::dump::FileHasher;
use crate::error::{During as _, Error, Result};
use crate::status::{Identity, Kind, Status};
use crate::walk::{Place, Visitor, walk};
use kiln_hash::Sha256;
use std::collections::HashSet;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Mutex, PoisonError};

/// Bytes that are read at once.
const BUFFER: usize = 128 << 10;

/// The files that are in a pool, so that those linked to it need not be read. May be used by several threads.
#[derive(Debug, Default)]
pub struct PooledFiles(Mutex<HashSet<Identity>>);

impl PooledFiles {
    pub(super) fn insert(&self, file: Identity) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(file);
    }

    fn contains(&self, file: Identity) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&file)
    }
}

impl LinkPool {
    /// Links the files of the tree `name` in the store to the pool, reading those that aren't in `pooled`. The tree must be
    /// canonical, and nobody else may write it.
    ///
    /// # Errors
    /// If something can't be read, or the system refuses something; the tree is whole all the same.
    pub fn optimise_tree(&self, name: &Component, pooled: &PooledFiles) -> Result<Linked> {
        let path = self.store.path().as_os_str().as_bytes();
        let mut optimise = Optimise { pool: self, pooled, linked: Linked::default(), depth: 0 };
        walk(&Place::new(self.store.as_fd(), name.as_c_str(), path), &mut optimise)?;
        Ok(optimise.linked)
    }
}

struct Optimise<'a> {
    pool: &'a LinkPool,
    pooled: &'a PooledFiles,
    linked: Linked,
    depth: usize,
}

impl Optimise<'_> {
    fn link(&mut self, place: &Place<'_>, status: Status, hash: &Sha256) -> Result<()> {
        let file = Linkable { parent: place.directory, name: place.name, in_tree: self.depth > 0, status };
        let entry = self.pool.link(&file, hash, &mut self.linked, &|| place.path())?;
        if let Some(entry) = entry {
            self.pooled.insert(entry);
        }
        Ok(())
    }
}

impl Visitor for Optimise<'_> {
    fn enter(&mut self, _: &Place<'_>, _: BorrowedFd<'_>) -> Result<()> {
        self.depth += 1;
        Ok(())
    }

    fn leave(&mut self, _: BorrowedFd<'_>, _: &[u8]) -> Result<()> {
        self.depth -= 1;
        Ok(())
    }

    fn regular(&mut self, place: &Place<'_>) -> Result<()> {
        let status = Status::at(place.directory, place.name).during("look at", || place.path())?;
        if status.links > 1 && self.pooled.contains(status.identity) {
            return Ok(());
        }
        if status.permissions & 0o200 != 0 {
            self.linked.suspicious.push(place.path());
            return Ok(());
        }
        let (hash, status) = hash_file(place)?;
        self.link(place, status, &hash)
    }

    fn symlink(&mut self, place: &Place<'_>) -> Result<()> {
        let status = Status::at(place.directory, place.name).during("look at", || place.path())?;
        if status.kind != Kind::Symlink {
            return Err(Error::Changed(place.path()));
        }
        if status.links > 1 && self.pooled.contains(status.identity) {
            return Ok(());
        }
        let hash = hash_symlink(place)?;
        self.link(place, status, &hash)
    }
}

/// The hash by which the pool knows a regular file.
pub(super) fn hash_file(place: &Place<'_>) -> Result<(Sha256, Status)> {
    let (file, status) = place.open_file()?;
    let mut hasher = FileHasher::new(status.permissions & 0o100 != 0, status.size);
    let mut buffer = Vec::with_capacity(BUFFER);
    let mut left = status.size;
    loop {
        buffer.clear();
        let length = rustix::io::read(file.as_fd(), rustix::buffer::spare_capacity(&mut buffer))
            .during("read", || place.path())?;
        left = left.checked_sub(length as u64).ok_or_else(|| Error::Changed(place.path()))?;
        if length == 0 {
            break;
        }
        hasher.update(&buffer);
    }
    if left > 0 {
        return Err(Error::Changed(place.path()));
    }
    Ok((hasher.finish(), status))
}

/// The hash by which the pool knows a symbolic link.
pub(super) fn hash_symlink(place: &Place<'_>) -> Result<Sha256> {
    let target = rustix::fs::readlinkat(place.directory, place.name, Vec::new())
        .during("read symlink", || place.path())?;
    Ok(FileHasher::of_symlink(target.as_bytes()).finish())
}
