//! Scratch directories that may hold stores.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

/// A directory that is deleted with this value, also by an ordinary user who may not write to the directories in it, as
/// is so with store paths.
#[derive(Debug)]
pub struct ScratchDirectory(TempDir);

impl ScratchDirectory {
    /// A new one. It is not below `/tmp`, since builders have a `/tmp` of their own, and it may be a small tmpfs.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn new() -> Self {
        let made = tempfile::Builder::new().prefix("kiln-test-").tempdir_in("/var/tmp");
        Self(made.unwrap_or_else(|error| panic!("cannot make a scratch directory: {error}")))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Default for ScratchDirectory {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for ScratchDirectory {
    fn drop(&mut self) {
        make_writable(self.0.path());
    }
}

/// Makes directories writable for their owner, that what is in them can be deleted.
pub(crate) fn make_writable(root: &Path) {
    let mut open = vec![root.to_path_buf()];
    while let Some(directory) = open.pop() {
        // What cannot be changed is told by whoever deletes it.
        let _ = fs::set_permissions(&directory, fs::Permissions::from_mode(0o700));
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            }
        }
    }
}
