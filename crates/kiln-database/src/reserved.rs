//! The file `reserved`: space that a collection gives up first, so that SQLite can work on a full disk.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

/// Makes the file as large as asked for. Failure is no error: where there is no space to reserve, there is none.
pub(crate) fn reserve(directory: &Path, size: u64) {
    let path = directory.join("reserved");
    if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == size) {
        return;
    }
    let allocate = || -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        if size > 0 && fallocate(&file, FallocateFlags::empty(), 0, size).is_err() {
            // Not every file system can reserve; a file that only claims its size would reserve nothing.
            file.set_len(0)?;
        }
        Ok(())
    };
    let _ = allocate();
}

/// Gives the space back.
pub(crate) fn release(directory: &Path) -> io::Result<()> {
    match fs::remove_file(directory.join("reserved")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
