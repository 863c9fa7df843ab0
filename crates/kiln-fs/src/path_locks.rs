//! Path locks: the files `<path>.lock` by which processes that share a store, real Nix's among them, agree on who makes a
//! path.
//!
//! A lock is an exclusive `flock` on the file. Who has made the path valid deletes the file on release: it is unlinked first,
//! and then marked by a byte, so that whoever waited for that very file sees that it is none any more, and starts again.

use crate::component::Component;
use crate::directory::Directory;
use crate::error::{During as _, Result};
use crate::fail_point::{FailPoint, fail_point};
use crate::status::Status;
use crate::trash::Trash;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// Locks on paths of a store, released when dropped.
#[derive(Debug)]
#[must_use = "the locks are released when this is dropped"]
pub struct PathLocks {
    store: Directory,
    locks: Vec<(Component, OwnedFd)>,
    delete: bool,
    trash: Option<Arc<Trash>>,
}

impl PathLocks {
    /// Locks `paths`, base names in the store directory `store`, one after the other in their order, and waits for those
    /// that others hold; `waiting` is told each lock file that is waited for.
    ///
    /// # Errors
    /// If a lock file can't be made or locked; no lock is held then.
    pub fn acquire(
        store: &Directory,
        paths: impl IntoIterator<Item = Component>,
        waiting: &mut dyn FnMut(&Path),
    ) -> Result<Self> {
        let mut held = Self::none(store)?;
        for path in paths.into_iter().collect::<BTreeSet<_>>() {
            let name = lock_name(&path)?;
            let lock = loop {
                if let Some(lock) = take(store, &name, FlockOperation::NonBlockingLockExclusive)? {
                    break lock;
                }
                waiting(&store.path_of(&name));
                if let Some(lock) = take(store, &name, FlockOperation::LockExclusive)? {
                    break lock;
                }
            };
            held.locks.push((name, lock));
        }
        Ok(held)
    }

    /// Locks `paths`, or none of them if others hold any.
    ///
    /// # Errors
    /// If a lock file can't be made or locked; no lock is held then.
    pub fn try_acquire(
        store: &Directory,
        paths: impl IntoIterator<Item = Component>,
    ) -> Result<Option<Self>> {
        let mut held = Self::none(store)?;
        for path in paths.into_iter().collect::<BTreeSet<_>>() {
            let name = lock_name(&path)?;
            match take(store, &name, FlockOperation::NonBlockingLockExclusive)? {
                Some(lock) => held.locks.push((name, lock)),
                None => return Ok(None),
            }
        }
        Ok(Some(held))
    }

    /// Says whether the lock files are deleted on release: when the paths have become valid, or nobody will need them.
    pub fn delete_on_release(&mut self, delete: bool) {
        self.delete = delete;
    }

    /// As [`delete_on_release`](Self::delete_on_release), but the files are moved to the trash, which has the same effect on
    /// others.
    pub fn discard_on_release(&mut self, trash: Arc<Trash>) {
        self.delete = true;
        self.trash = Some(trash);
    }

    fn none(store: &Directory) -> Result<Self> {
        Ok(Self { store: store.try_clone()?, locks: Vec::new(), delete: false, trash: None })
    }
}

impl Drop for PathLocks {
    fn drop(&mut self) {
        for (name, lock) in self.locks.drain(..) {
            // A lock file that stays is no harm, so failures are none either. The order matters: the file must be gone
            // from its name before those who wait for it learn so.
            if self.delete {
                let _ = match &self.trash {
                    Some(trash) => trash.put(&self.store, &name),
                    None => self.store.remove_file(&name),
                };
                fail_point(FailPoint::LockFileRemoved);
                let _ = rustix::io::write(&lock, b"d");
            }
        }
    }
}

fn lock_name(path: &Component) -> Result<Component> {
    Ok(Component::new([path.as_bytes(), b".lock"].concat())?)
}

/// Opens and locks the file. `None`, only if it isn't to be waited for: somebody else holds it.
fn take(store: &Directory, name: &Component, operation: FlockOperation) -> Result<Option<OwnedFd>> {
    let path = || store.path_of(name);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        let lock = rustix::fs::openat(store, name.as_c_str(), flags, Mode::from_raw_mode(0o600))
            .during("open lock file", path)?;
        match lock_file(&lock, operation) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error).during("lock", path),
        }
        // Its former holder has deleted it if there is something in it.
        if Status::of(lock.as_fd()).during("look at lock file", path)?.size == 0 {
            fail_point(FailPoint::PathLocked);
            return Ok(Some(lock));
        }
    }
}

/// `flock`, again if a signal interrupts it.
pub(crate) fn lock_file(file: &OwnedFd, operation: FlockOperation) -> Result<(), Errno> {
    loop {
        match rustix::fs::flock(file, operation) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}
