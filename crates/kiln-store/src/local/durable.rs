//! Bringing files to the disk before the row that makes them valid gets there.
//!
//! A row that says that a path is valid must never survive a loss of power that the path's files don't. Files get to the disk when
//! the system finds time for it, unless somebody insists; so who wants that promise sets `fsync-store-paths` or
//! `sync-before-registering`. Then files go first, then their names, then the row, and a commit returns when it is on the
//! disk. `docs/durability.md` tells the whole order.

use kiln_fs::{Component, Directory};
use kiln_narinfo::PathInfo;

use crate::error::Result;
use crate::local::LocalStore;

/// More paths than this are synced with their whole file system, in one call.
const ONE_BY_ONE: usize = 16;

impl LocalStore {
    /// Returns when the files of paths that are about to become valid are on the disk, if the settings want that.
    pub(super) fn sync_before_registering(&self, set: &[PathInfo]) -> Result<()> {
        let config = self.config();
        if config.sync_before_registering || config.sync_store_paths && set.len() > ONE_BY_ONE {
            return Ok(kiln_fs::sync_file_system(self.directory())?);
        }
        for info in set {
            self.sync_if_wanted(self.directory(), &Self::component(&info.path)?)?;
        }
        Ok(())
    }

    /// Returns when a tree is on the disk, if the settings want that. It is to be there before it takes the place of a valid path's
    /// files, or others are made links to its files: what is valid must not be lost for something that is not there yet.
    ///
    /// # Errors
    /// Something can't be read, or the disk reports an error.
    pub fn sync_if_wanted(&self, directory: &Directory, name: &Component) -> Result<()> {
        if self.config().syncs_files() {
            kiln_fs::sync_tree(directory, name)?;
        }
        Ok(())
    }
}
