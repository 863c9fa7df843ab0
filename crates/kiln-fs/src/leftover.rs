//! Taking away what may be a leftover of a process that is gone, or in use by one that isn't.
//!
//! Whoever has a lock file, a scratch directory or trash in a store holds a `flock` on it. So what can be locked is nobody's.

use crate::component::Component;
use crate::directory::{Directory, OPEN_FILE};
use crate::error::{During as _, Result};
use crate::path_locks::lock_file;
use crate::status::{Kind, Status};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd as _, OwnedFd};

/// Calls `remove`, which takes `name` away from `directory`, unless somebody holds a lock on it; returns whether nobody did.
/// Who waits for that lock learns that the file is none any more.
///
/// # Errors
/// Those of `remove`, and if the system doesn't say whether it is locked.
pub fn remove_leftover<E: From<crate::Error>>(
    directory: &Directory,
    name: &Component,
    remove: impl FnOnce() -> Result<(), E>,
) -> Result<bool, E> {
    let lock = match open(directory, name)? {
        Opened::Nothing => return Ok(false),
        Opened::Unlockable => None,
        Opened::File(file) => match lock_file(&file, FlockOperation::NonBlockingLockExclusive) {
            // Whoever held it may have deleted it just before, and somebody else may have made another one of that name.
            Ok(()) if !has_name(&file, directory, name)? => return Ok(false),
            Ok(()) => Some(file),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(error) => return Err(error).during("lock", || directory.path_of(name)).map_err(E::from),
        },
    };
    remove()?;
    if let Some(lock) = lock.filter(|_| name.as_bytes().ends_with(b".lock")) {
        // A lock file that lacks the mark is taken for a good one, which is no harm.
        let _ = rustix::io::write(&lock, b"d");
    }
    Ok(true)
}

/// What has a name, as far as locks are concerned.
enum Opened {
    /// Nothing has it any more.
    Nothing,
    /// Something that is never locked, or that nobody but its owner could have locked, and that isn't this process.
    Unlockable,
    File(OwnedFd),
}

fn has_name(file: &OwnedFd, directory: &Directory, name: &Component) -> Result<bool> {
    let locked = Status::of(file.as_fd()).during("look at", || directory.path_of(name))?;
    Ok(directory.status(name)?.is_some_and(|found| found.identity == locked.identity))
}

/// Opens a file or directory, if it is one that can be locked.
fn open(directory: &Directory, name: &Component) -> Result<Opened> {
    let path = || directory.path_of(name);
    let Some(status) = directory.status(name)? else { return Ok(Opened::Nothing) };
    let opened = |flags| rustix::fs::openat(directory, name.as_c_str(), flags, Mode::empty());
    let file = match status.kind {
        Kind::Directory => opened(OPEN_FILE | OFlags::DIRECTORY),
        Kind::Regular => match opened(OPEN_FILE | OFlags::RDWR) {
            Err(Errno::ACCESS | Errno::ROFS) => opened(OPEN_FILE),
            result => result,
        },
        Kind::Symlink | Kind::Other(_) => return Ok(Opened::Unlockable),
    };
    match file {
        Ok(file) => {
            let found = Status::of(file.as_fd()).during("look at", path)?;
            let is_lockable = matches!(found.kind, Kind::Regular | Kind::Directory);
            Ok(if is_lockable { Opened::File(file) } else { Opened::Unlockable })
        }
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => Ok(Opened::Nothing),
        Err(Errno::ACCESS | Errno::PERM) => Ok(Opened::Unlockable),
        Err(error) => Err(error).during("open", path),
    }
}
