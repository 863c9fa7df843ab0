//! The temporary roots of all processes, as a collector reads them (see [`TempRoots`](crate::TempRoots) for how they come
//! to be there).

use crate::component::Component;
use crate::directory::Directory;
use crate::error::{During as _, Result};
use crate::path_locks::lock_file;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::OwnedFd;

/// Longest entry that is taken for a path.
const LONGEST: u64 = 4096;

/// What is done with the files of processes that are dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stale {
    /// They are passed over.
    Keep,
    /// They are removed.
    Remove,
}

/// Shows `visit` all temporary roots of living processes in the state directory `state`: the name of the process's file,
/// which is its number, and a full store path as the process has written it.
///
/// Whose roots are to count must have added them before; a collector holds its lock, so that later ones are told to its
/// socket. Files that may not be read are shown to `unreadable`.
///
/// # Errors
/// If the directory can't be read.
pub fn for_each_temp_root(
    state: &Directory,
    stale: Stale,
    visit: &mut dyn FnMut(&Component, &[u8]),
    unreadable: &mut dyn FnMut(crate::Error),
) -> Result<()> {
    let directory = match state.subdirectory(&Component::new("temproots")?) {
        Err(error) if error.is_not_found() => return Ok(()),
        result => result?,
    };
    for name in directory.names()? {
        // Those with a dot are nobody's, such as `.keep`.
        if name.as_bytes().starts_with(b".") {
            continue;
        }
        if let Err(error) = read(&directory, &name, stale, visit) {
            unreadable(error);
        }
    }
    Ok(())
}

fn read(
    directory: &Directory,
    name: &Component,
    stale: Stale,
    visit: &mut dyn FnMut(&Component, &[u8]),
) -> Result<()> {
    let path = || directory.path_of(name);
    let access = if stale == Stale::Remove { OFlags::RDWR } else { OFlags::RDONLY };
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file: OwnedFd = match rustix::fs::openat(directory, name.as_c_str(), flags, Mode::empty()) {
        // Its process has just ended.
        Err(Errno::NOENT) => return Ok(()),
        result => result.during("open", path)?,
    };
    // A lock that merely looks must not make a process that starts just now take its own file for a dead one's.
    let operation = match stale {
        Stale::Remove => FlockOperation::NonBlockingLockExclusive,
        Stale::Keep => FlockOperation::NonBlockingLockShared,
    };
    match lock_file(&file, operation) {
        Ok(()) => {
            if stale == Stale::Remove {
                directory.remove_file(name)?;
                // Whoever has opened it meanwhile sees that it is none any more.
                rustix::io::write(&file, b"d").during("write to", path)?;
            }
            return Ok(());
        }
        Err(Errno::WOULDBLOCK) => {}
        Err(error) => return Err(error).during("lock", path),
    }
    let mut reader = BufReader::new(File::from(file));
    let mut entry = Vec::new();
    loop {
        entry.clear();
        reader.by_ref().take(LONGEST + 1).read_until(0, &mut entry).during("read", path)?;
        // What isn't ended by a NUL is still being written, or is no path.
        match entry.split_last() {
            Some((0, root)) => visit(name, root),
            _ => return Ok(()),
        }
    }
}
