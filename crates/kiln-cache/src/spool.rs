//! Files that are written before it is known what they are called.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{During, Result};

/// A file under a scratch name, which is deleted with this value unless it gets a name of its own; or one without a name.
#[derive(Debug)]
pub(crate) struct Spool {
    file: File,
    path: PathBuf,
    has_scratch_name: bool,
}

impl Spool {
    /// A new file in a directory. Blocks.
    pub(crate) fn create(directory: &Path) -> Result<Self> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = directory.join(format!("kiln-{}-{number}", std::process::id()));
            match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Self { file, path, has_scratch_name: true }),
                // A process that had the same number has left it, or has it in another namespace.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).during("create file", &path),
            }
        }
    }

    /// A new file that will never have a name, in the directory for temporary files. Blocks.
    pub(crate) fn nameless() -> Result<Self> {
        let path = std::env::temp_dir();
        let file = tempfile::tempfile_in(&path).during("create file in", &path)?;
        Ok(Self { file, path, has_scratch_name: false })
    }

    /// The file, open for reading and writing.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Where it is for now, or in which directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name, in place of whatever has it. Blocks.
    pub(crate) fn name(mut self, name: &Path, syncs: bool) -> Result<()> {
        if syncs {
            self.file.sync_data().during("sync", &self.path)?;
        }
        fs::rename(&self.path, name).during("create file", name)?;
        self.has_scratch_name = false;
        Ok(())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if self.has_scratch_name {
            // What stays is deleted by whoever has the directory for itself next.
            let _ = fs::remove_file(&self.path);
        }
    }
}
