//! Making sure that a tree is on the disk.

use crate::component::Component;
use crate::directory::Directory;
use crate::error::{During as _, Result};
use crate::walk::{Place, Visitor, walk};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;

/// Files and directories that are synced one by one; a larger tree is synced with its whole file system, in one call.
const ONE_BY_ONE: usize = 64;

/// Returns when the tree `name` in `directory`, and its name there, would survive a loss of power.
///
/// # Errors
/// If something can't be read, or the disk reports an error.
pub fn sync_tree(directory: &Directory, name: &Component) -> Result<()> {
    let path = directory.path().as_os_str().as_bytes();
    let mut sync = Sync { left: ONE_BY_ONE };
    walk(&Place::new(directory.as_fd(), name.as_c_str(), path), &mut sync)?;
    if sync.left == 0 {
        sync_file_system(directory)
    } else {
        rustix::fs::fsync(directory).during("sync", || directory.path())
    }
}

/// Returns when everything on the file system of a directory would survive a loss of power.
///
/// # Errors
/// If the disk reports an error.
pub fn sync_file_system(directory: &Directory) -> Result<()> {
    rustix::fs::syncfs(directory).during("sync the file system of", || directory.path())
}

struct Sync {
    left: usize,
}

impl Sync {
    fn sync(&mut self, file: BorrowedFd<'_>, place: &Place<'_>) -> Result<()> {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            return Ok(());
        }
        rustix::fs::fsync(file).during("sync", || place.path())
    }
}

impl Visitor for Sync {
    fn enter(&mut self, _: &Place<'_>, _: BorrowedFd<'_>) -> Result<()> {
        Ok(())
    }

    fn leave(&mut self, directory: BorrowedFd<'_>, path: &[u8]) -> Result<()> {
        self.sync(directory, &Place::new(directory, c"", path))
    }

    fn regular(&mut self, place: &Place<'_>) -> Result<()> {
        if self.left == 0 {
            return Ok(());
        }
        let (file, _) = place.open_file()?;
        self.sync(file.as_fd(), place)
    }

    fn symlink(&mut self, _: &Place<'_>) -> Result<()> {
        Ok(())
    }
}
