//! Moving a tree from one directory to another.

use crate::component::Component;
use crate::directory::{Directory, OPEN_PLACE, change_permissions_of_place};
use crate::error::{During as _, Error, Result};
use crate::status::{Kind, Status};
use crate::walk::Place;
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;

/// Renames `from` to `to`, where nothing may be. Both must be on the same file system.
///
/// To move a directory into another one, its owner needs the right to write to it; if it lacks that, as everything canonical
/// does, it gets it for the moment. A process killed right then leaves it with it.
///
/// # Errors
/// If there is something at `to` already, or the system refuses.
pub fn rename_new(from: (&Directory, &Component), to: (&Directory, &Component)) -> Result<()> {
    let rename = || {
        let flags = RenameFlags::NOREPLACE;
        rustix::fs::renameat_with(from.0, from.1.as_c_str(), to.0, to.1.as_c_str(), flags)
    };
    // The failure may be at either end; an existing target is the one that callers ask for.
    let failed = |error: Errno| {
        let path = if error == Errno::EXIST { to.0.path_of(to.1) } else { from.0.path_of(from.1) };
        Error::System { action: "move", path, source: error.into() }
    };
    match rename() {
        Ok(()) => Ok(()),
        Err(Errno::ACCESS) => {
            let place = Place::new(from.0.as_fd(), from.1.as_c_str(), from.0.path().as_os_str().as_bytes());
            let moved = place.open(OPEN_PLACE).during("open", || place.path())?;
            let status = Status::of(moved.as_fd()).during("look at", || place.path())?;
            if status.kind != Kind::Directory || status.permissions & 0o200 != 0 {
                return Err(failed(Errno::ACCESS));
            }
            change_permissions_of_place(moved.as_fd(), status.permissions | 0o200)
                .during("change the permissions of", || place.path())?;
            let result = rename();
            change_permissions_of_place(moved.as_fd(), status.permissions)
                .during("change the permissions of", || place.path())?;
            result.map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}
