//! Fresh copies in place of files that have several links.

use super::{CANONICAL_TIME, canonical_times};
use crate::component::Component;
use crate::directory::{create_file_at, scratch_name};
use crate::error::{During as _, Result};
use crate::status::Status;
use crate::walk::Place;
use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// Replaces a regular file by a copy; returns the copy, open for reading.
pub(super) fn file(place: &Place<'_>, file: BorrowedFd<'_>, status: &Status) -> Result<(OwnedFd, Status)> {
    replace(place, |name| {
        let copy = create_file_at(place.directory, name.as_c_str(), 0o600)?;
        copy_contents(file, copy.as_fd())?;
        rustix::fs::fchmod(&copy, Mode::from_raw_mode(0o600 | status.permissions & 0o100))
    })?;
    place.open_file()
}

/// Replaces a symbolic link by a copy; returns the copy.
pub(super) fn symlink(place: &Place<'_>, target: &[u8]) -> Result<(OwnedFd, Status)> {
    replace(place, |name| rustix::fs::symlinkat(target, place.directory, name.as_c_str()))?;
    place.open_link()
}

/// Makes something under another name and renames it. The directory may have been made canonical before, and then stays
/// so.
fn replace(place: &Place<'_>, make: impl FnOnce(&Component) -> Result<(), Errno>) -> Result<()> {
    let directory = place.directory;
    let scratch = scratch_name().during("copy", || place.path())?;
    let before = Status::of(directory).during("look at", || place.path())?;
    let locked = before.permissions & 0o200 == 0;
    if locked {
        rustix::fs::fchmod(directory, Mode::from_raw_mode(before.permissions | 0o200))
            .during("change the permissions of the directory of", || place.path())?;
    }
    let mut result = make(&scratch)
        .and_then(|()| rustix::fs::renameat(directory, scratch.as_c_str(), directory, place.name))
        .inspect_err(|_| {
            let _ = rustix::fs::unlinkat(directory, scratch.as_c_str(), AtFlags::empty());
        });
    if locked {
        result = result.and(rustix::fs::fchmod(directory, Mode::from_raw_mode(before.permissions)));
    }
    if before.modified == (CANONICAL_TIME, 0) {
        result = result.and(rustix::fs::futimens(directory, &canonical_times()));
    }
    result.during("copy", || place.path())
}

fn copy_contents(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut buffer = Vec::with_capacity(256 << 10);
    let mut offset = 0;
    loop {
        buffer.clear();
        let length = rustix::io::pread(from, rustix::buffer::spare_capacity(&mut buffer), offset)?;
        if length == 0 {
            return Ok(());
        }
        offset += length as u64;
        let mut rest = buffer.as_slice();
        while !rest.is_empty() {
            let written = rustix::io::write(to, rest)?;
            rest = rest.get(written..).unwrap_or_default();
        }
    }
}
