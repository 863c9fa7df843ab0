//! Whether two files have the same contents, byte by byte.

use super::optimise::buffer_for;
use crate::error::{During as _, Result};
use crate::status::Kind;
use crate::walk::Place;
use rustix::io::Errno;
use std::os::fd::{AsFd as _, OwnedFd};

/// Compares two files, or two links, of the same kind and length. One that has gone is no match.
pub(super) fn same_contents(a: &Place<'_>, b: &Place<'_>, kind: Kind) -> Result<bool> {
    let result = match kind {
        Kind::Regular => same_files(a, b),
        Kind::Symlink => target(a).and_then(|target_of_a| Ok(target_of_a == target(b)?)),
        Kind::Directory | Kind::Other(_) => Ok(false),
    };
    match result {
        Err(crate::Error::Changed(_)) => Ok(false),
        Err(error) if error.is_not_found() => Ok(false),
        result => result,
    }
}

fn target(place: &Place<'_>) -> Result<Vec<u8>> {
    let target = rustix::fs::readlinkat(place.directory, place.name, Vec::new());
    target.map(std::ffi::CString::into_bytes).during("read symlink", || place.path())
}

fn same_files(a: &Place<'_>, b: &Place<'_>) -> Result<bool> {
    let ((file_a, status_a), (file_b, status_b)) = (a.open_file()?, b.open_file()?);
    let (mut buffer_a, mut buffer_b) = (buffer_for(&status_a), buffer_for(&status_a));
    if status_a.size != status_b.size {
        return Ok(false);
    }
    loop {
        fill(&file_a, &mut buffer_a).during("read", || a.path())?;
        fill(&file_b, &mut buffer_b).during("read", || b.path())?;
        if buffer_a != buffer_b {
            return Ok(false);
        }
        if buffer_a.len() < buffer_a.capacity() {
            return Ok(true);
        }
    }
}

/// Reads as much as there is room for, or all there is.
fn fill(file: &OwnedFd, buffer: &mut Vec<u8>) -> Result<(), Errno> {
    buffer.clear();
    while buffer.len() < buffer.capacity() {
        match rustix::io::read(file.as_fd(), rustix::buffer::spare_capacity(buffer)) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
