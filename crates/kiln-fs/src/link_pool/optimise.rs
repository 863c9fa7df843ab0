//! Linking the files of trees whose hashes aren't known yet.

use super::replacing::Replacing;
use super::{LinkPool, Linkable, Linked};
use crate::component::Component;
use crate::dump::FileHasher;
use crate::error::{During as _, Error, Result};
use crate::status::{Identity, Kind, Status};
use crate::walk::{Place, Visitor, walk};
use kiln_hash::Sha256;
use std::collections::HashMap;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// Bytes that are read at once.
const BUFFER: usize = 128 << 10;

/// The files that are in a pool, so that those linked to it need not be read. May be used by several threads.
#[derive(Debug, Default)]
pub struct PooledFiles(Mutex<HashMap<Identity, Trust>>);

/// What is known of an entry's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// Somebody has put it there.
    Found,
    /// They were read a while ago, and were what its name says.
    Read,
}

impl PooledFiles {
    pub(super) fn insert(&self, file: Identity) {
        self.lock().entry(file).or_insert(Trust::Found);
    }

    pub(super) fn insert_read(&self, file: Identity) {
        self.lock().insert(file, Trust::Read);
    }

    pub(super) fn was_read(&self, file: Identity) -> bool {
        self.lock().get(&file) == Some(&Trust::Read)
    }

    fn contains(&self, file: Identity) -> bool {
        self.lock().contains_key(&file)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Identity, Trust>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        thread::scope(|scope| {
            let replacing = Replacing::new(self, pooled, scope);
            let mut optimise = Optimise { pool: self, pooled, replacing, suspicious: Vec::new(), depth: 0 };
            let walked = walk(&Place::new(self.store.as_fd(), name.as_c_str(), path), &mut optimise);
            let Optimise { replacing, suspicious, .. } = optimise;
            let linked = replacing.finish();
            walked?;
            Ok(Linked { suspicious, ..linked? })
        })
    }
}

struct Optimise<'a, 'scope> {
    pool: &'a LinkPool,
    pooled: &'a PooledFiles,
    replacing: Replacing<'a, 'scope>,
    suspicious: Vec<PathBuf>,
    depth: usize,
}

impl Optimise<'_, '_> {
    fn link(&mut self, place: &Place<'_>, status: Status, hash: Sha256) -> Result<()> {
        let file = Linkable { parent: place.directory, name: place.name, in_tree: self.depth > 0, status };
        let path = &|| place.path();
        match self.pool.entry_for(&file, &hash, self.pooled, path)? {
            Some(entry) => self.replacing.replace(&file, entry, hash, path),
            None => Ok(()),
        }
    }
}

impl Visitor for Optimise<'_, '_> {
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
            self.suspicious.push(place.path());
            return Ok(());
        }
        let (hash, status) = hash_file(place)?;
        self.link(place, status, hash)
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
        self.link(place, status, hash)
    }
}

/// The hash by which the pool knows a regular file.
pub(super) fn hash_file(place: &Place<'_>) -> Result<(Sha256, Status)> {
    let (file, status) = place.open_file()?;
    let mut hasher = FileHasher::new(status.permissions & 0o100 != 0, status.size);
    let mut buffer = buffer_for(&status);
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

/// Memory for what is read of a file at once. Much of it would be had from the system, and given back, for each file.
pub(super) fn buffer_for(status: &Status) -> Vec<u8> {
    // One byte more than there is shows the end.
    Vec::with_capacity(usize::try_from(status.size).unwrap_or(BUFFER).saturating_add(1).min(BUFFER))
}

/// The hash by which the pool knows a symbolic link.
pub(super) fn hash_symlink(place: &Place<'_>) -> Result<Sha256> {
    let target = rustix::fs::readlinkat(place.directory, place.name, Vec::new())
        .during("read symlink", || place.path())?;
    Ok(FileHasher::of_symlink(target.as_bytes()).finish())
}
