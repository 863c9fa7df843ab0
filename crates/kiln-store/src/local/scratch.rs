//! Scratch directories in the store, where objects are made whose path is not known yet.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use kiln_fs::{Component, Directory};
use kiln_nar::NarDigest;
use rustix::fs::{FlockOperation, Mode, Timespec, Timestamps, fchmod, flock, futimens};

use crate::error::{During, Error, Result};

/// A directory `tmp-PID-N`, locked so that no collector takes it for garbage; it is deleted when dropped.
pub(crate) struct Scratch {
    store: Directory,
    name: Component,
    directory: Directory,
}

impl Scratch {
    pub(crate) fn create(store: &Directory) -> Result<Self> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let name = Component::new(format!("tmp-{}-{number}", std::process::id()))
                .map_err(|error| Error::Files(error.into()))?;
            match store.create_directory(&name, 0o700) {
                // Left behind by a process of the same number that was killed.
                Err(error) if error.already_exists() => {}
                Err(error) => return Err(error.into()),
                Ok(directory) => {
                    flock(directory.as_fd(), FlockOperation::NonBlockingLockExclusive)
                        .during("lock", directory.path())?;
                    return Ok(Self { store: store.try_clone()?, name, directory });
                }
            }
        }
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Writes a canonical regular file.
    pub(crate) fn write_file(&self, name: &Component, source: &mut dyn Read) -> Result<NarDigest> {
        let path = self.directory.path_of(name);
        let mut file = self.directory.create_file(name, 0o444)?;
        io::copy(source, &mut file).during("write", &path)?;
        make_canonical(&file).during("set the permissions of", &path)?;
        Ok(kiln_fs::hash_tree(&self.directory, name, &mut ())?)
    }
}

fn make_canonical(file: &File) -> rustix::io::Result<()> {
    let time = Timespec { tv_sec: kiln_fs::canonical::CANONICAL_TIME, tv_nsec: 0 };
    fchmod(file, Mode::from_raw_mode(0o444))?;
    futimens(file, &Timestamps { last_access: time, last_modification: time })
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is garbage once this process is gone.
        let _ = kiln_fs::delete_tree(&self.store, &self.name);
    }
}
