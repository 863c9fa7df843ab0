//! What processes were working on that ended without a word: their files of temporary roots are still there, and nobody
//! holds the locks on them any more.

use crate::component::Component;
use crate::directory::Directory;
use crate::error::{During as _, Error, Result};
use crate::path_locks::lock_file;
use crate::temp_roots::DIRECTORY;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;

/// Longest entry that is taken for a path.
const LONGEST: u64 = 4096;

/// The temporary roots of a process that is dead. They are locked as long as this lives, so that only one looks after them.
#[derive(Debug)]
pub struct AbandonedRoots {
    directory: Directory,
    name: Component,
    file: OwnedFd,
}

impl AbandonedRoots {
    /// Those in the state directory `state`. Files that may not be read, and those that somebody else looks after, are not
    /// among them.
    ///
    /// # Errors
    /// If the directory can't be read.
    pub fn all(state: &Directory) -> Result<Vec<Self>> {
        let directory = match state.subdirectory(&Component::new(DIRECTORY)?) {
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            directory => directory?,
        };
        let failed =
            |source| Error::System { action: "read directory", path: directory.path().to_owned(), source };
        let mut all = Vec::new();
        for entry in std::fs::read_dir(directory.path()).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            // Those with a dot are nobody's, such as `.keep`.
            if name.as_bytes().starts_with(b".") {
                continue;
            }
            let name = Component::new(name.as_bytes())?;
            if let Some(file) = take(&directory, &name) {
                all.push(Self { directory: directory.try_clone()?, name, file });
            }
        }
        Ok(all)
    }

    /// The full store paths that the process has written. What isn't ended by a NUL was still being written.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn paths(&self) -> Result<Vec<Vec<u8>>> {
        let path = || self.directory.path_of(&self.name);
        let mut reader = BufReader::new(File::from(self.file.try_clone().during("duplicate", path)?));
        let mut paths = Vec::new();
        loop {
            let mut entry = Vec::new();
            reader.by_ref().take(LONGEST).read_until(0, &mut entry).during("read", path)?;
            match entry.pop() {
                Some(0) => paths.push(entry),
                _ => return Ok(paths),
            }
        }
    }

    /// Removes the file: nothing is left of what the process was working on.
    ///
    /// # Errors
    /// If it can't be removed.
    pub fn remove(self) -> Result<()> {
        self.directory.remove_file(&self.name)?;
        // Whoever has opened it meanwhile sees that it is none any more.
        rustix::io::write(&self.file, b"d").during("write to", || self.directory.path_of(&self.name))?;
        Ok(())
    }
}

/// Opens and locks the file, if nobody else has.
fn take(directory: &Directory, name: &Component) -> Option<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name.as_c_str(), flags, Mode::empty()).ok()?;
    let locked: Result<(), Errno> = lock_file(&file, FlockOperation::NonBlockingLockExclusive);
    locked.ok().map(|()| file)
}
