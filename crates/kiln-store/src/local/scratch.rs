//! Scratch directories in the store, where objects are made whose path is not known yet.
//!
//! They have few names, of which each takes the first that is free: so it is quickly seen whether somebody has left one. The names
//! are those of store paths, and temporary roots while they are in use: some releases of real Nix delete everything else that
//! they find in the store, locked or not.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use kiln_fs::{Component, Directory, FailPoint, delete_tree, fail_point};
use kiln_nar::NarDigest;
use kiln_store_path::StorePath;
use rustix::fs::{FlockOperation, Mode, Timespec, Timestamps, fchmod, flock, futimens};
use rustix::io::Errno;

use crate::error::{During, Error, Result};
use crate::local::LocalStore;

/// Names that are looked at after a crash: more are seldom taken at the same time.
const NAMES: u64 = 64;

/// More than can be in use.
const MOST: u64 = 1 << 16;

/// A directory `000…N-tmp-kiln`, locked so that nobody takes it for left behind; it is deleted when dropped.
pub(crate) struct Scratch {
    store: Directory,
    name: Component,
    directory: Directory,
}

impl Scratch {
    pub(crate) fn create(store: &LocalStore) -> Result<Self> {
        Self::create_in(store.directory(), |name| {
            let path = StorePath::from_base_name(name.as_bytes())?;
            store.add_temp_roots_blocking(std::slice::from_ref(&path))
        })
    }

    /// `protect` makes a name safe from collectors before there is anything.
    fn create_in(store: &Directory, protect: impl Fn(&Component) -> Result<()>) -> Result<Self> {
        for number in 0..MOST {
            let name = name(number)?;
            if !remove_if_left(store, &name)? {
                continue;
            }
            protect(&name)?;
            let directory = match store.create_directory(&name, 0o700) {
                // Somebody was faster, or took it for left behind before it was locked.
                Err(error) if error.already_exists() || error.is_not_found() => continue,
                directory => directory?,
            };
            fail_point(FailPoint::ScratchMade);
            if lock(&directory)? && directory.is_at(store, &name)? {
                return Ok(Self { store: store.try_clone()?, name, directory });
            }
        }
        let (path, source) = (store.path().to_owned(), Errno::EXIST.into());
        Err(Error::Files(kiln_fs::Error::System { action: "create a scratch directory in", path, source }))
    }

    /// Deletes what processes that were killed have left behind.
    pub(super) fn remove_leftovers(store: &Directory) -> Result<()> {
        (0..NAMES).try_for_each(|number| remove_if_left(store, &name(number)?).map(drop))
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

fn name(number: u64) -> Result<Component> {
    Component::new(format!("{number:032}-tmp-kiln")).map_err(|error| Error::Files(error.into()))
}

/// Locks a directory as long as it is open; false if somebody else has.
fn lock(directory: &Directory) -> Result<bool> {
    match flock(directory.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno).during("lock", directory.path()),
    }
}

/// Deletes a scratch directory that nobody uses; false if there is one that somebody uses.
fn remove_if_left(store: &Directory, name: &Component) -> Result<bool> {
    match store.subdirectory(name) {
        // Whoever used it may have deleted it before it was locked, and somebody else may have one of the same name by now.
        Ok(left) if lock(&left)? && left.is_at(store, name)? => {
            delete_tree(store, name).map(|_| true).map_err(Error::from)
        }
        Ok(_in_use) => Ok(false),
        Err(error) if error.is_not_found() => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn make_canonical(file: &File) -> rustix::io::Result<()> {
    let time = Timespec { tv_sec: kiln_fs::canonical::CANONICAL_TIME, tv_nsec: 0 };
    fchmod(file, Mode::from_raw_mode(0o444))?;
    futimens(file, &Timestamps { last_access: time, last_modification: time })
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fail_point(FailPoint::ScratchDone);
        // What stays is garbage once this process is gone.
        let _ = delete_tree(&self.store, &self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One has opened a directory that another deletes before it is locked, and a third makes anew.
    #[test]
    fn what_is_in_use_is_not_taken_for_left_behind() {
        let scratch = tempfile::tempdir().unwrap();
        let store = Directory::open(scratch.path()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let store = store.try_clone().unwrap();
                    for _ in 0..300 {
                        let made = Scratch::create_in(&store, |_| Ok(())).unwrap();
                        let file = Component::new("x").unwrap();
                        made.write_file(&file, &mut &b"contents"[..]).unwrap();
                        assert!(made.directory().status(&file).unwrap().is_some());
                    }
                });
            }
        });
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    }
}
