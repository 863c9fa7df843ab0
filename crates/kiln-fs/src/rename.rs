//! Moving a tree from one directory to another.

use crate::component::Component;
use crate::delete::delete_tree;
use crate::directory::{Directory, OPEN_PLACE, change_permissions_of_place};
use crate::error::{During as _, Error, Result};
use crate::fail_point::{FailPoint, fail_point};
use crate::status::{Kind, Status};
use crate::walk::Place;
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// Renames `from` to `to`, where nothing may be. Both must be on the same file system.
///
/// To move a directory into another one, its owner needs the right to write to it; if it lacks that, as everything canonical
/// does, it gets it for the moment. A process killed right then leaves it with it.
///
/// # Errors
/// If there is something at `to` already, or the system refuses.
pub fn rename_new(from: (&Directory, &Component), to: (&Directory, &Component)) -> Result<()> {
    match rename(from, to, RenameFlags::NOREPLACE) {
        Err(Errno::ACCESS) => {
            let moved = Movable::new(from)?;
            let result = rename(from, to, RenameFlags::NOREPLACE);
            moved.restore()?;
            result.map_err(|error| failed(from, to, error))
        }
        result => result.map_err(|error| failed(from, to, error)),
    }
}

/// Puts each of two trees in the place of the other, in one step, which some file systems cannot do. Both must be on the same one.
///
/// Directories get the right to be written to for the moment, as in [`rename_new`].
fn exchange(a: (&Directory, &Component), b: (&Directory, &Component)) -> Result<()> {
    match rename(a, b, RenameFlags::EXCHANGE) {
        Err(Errno::ACCESS) => {
            let movable = [Movable::new(a)?, Movable::new(b)?];
            let result = rename(a, b, RenameFlags::EXCHANGE);
            movable.into_iter().try_for_each(Movable::restore)?;
            result.map_err(|error| failed(a, b, error))
        }
        result => result.map_err(|error| failed(a, b, error)),
    }
}

/// Puts the tree `new` at `place`, and deletes what is there. Where the file system can exchange two trees, there is no moment
/// without one at `place`; where it cannot, and the new one cannot be moved, the old one goes back.
///
/// # Errors
/// If the system refuses. Then the old tree may be left beside the new one, as `<name>.old`.
pub fn replace(new: (&Directory, &Component), place: (&Directory, &Component)) -> Result<()> {
    if place.0.status(place.1)?.is_none() {
        return rename_new(new, place);
    }
    match exchange(new, place) {
        Err(error) if error.os_error() == Some(Errno::INVAL.raw_os_error()) => replace_in_steps(new, place),
        exchanged => {
            exchanged?;
            fail_point(FailPoint::OutputExchanged);
            delete_tree(new.0, new.1).map(drop)
        }
    }
}

fn replace_in_steps(new: (&Directory, &Component), place: (&Directory, &Component)) -> Result<()> {
    let aside = Component::new([place.1.as_bytes(), b".old"].concat())?;
    let old = (new.0, &aside);
    rename_new(place, old)?;
    if let Err(error) = rename_new(new, place) {
        rename_new(old, place)?;
        return Err(error);
    }
    delete_tree(new.0, &aside).map(drop)
}

fn rename(
    from: (&Directory, &Component),
    to: (&Directory, &Component),
    flags: RenameFlags,
) -> std::result::Result<(), Errno> {
    rustix::fs::renameat_with(from.0, from.1.as_c_str(), to.0, to.1.as_c_str(), flags)
}

/// The failure may be at either end; an existing target is the one that callers ask for.
fn failed(from: (&Directory, &Component), to: (&Directory, &Component), error: Errno) -> Error {
    let path = if error == Errno::EXIST { to.0.path_of(to.1) } else { from.0.path_of(from.1) };
    Error::System { action: "move", path, source: error.into() }
}

/// A tree whose directory may be written to for as long as it is moved.
struct Movable {
    file: OwnedFd,
    path: PathBuf,
    /// What its permissions were, if they were changed.
    before: Option<u32>,
}

impl Movable {
    fn new(tree: (&Directory, &Component)) -> Result<Self> {
        let place = Place::new(tree.0.as_fd(), tree.1.as_c_str(), tree.0.path().as_os_str().as_bytes());
        let file = place.open(OPEN_PLACE).during("open", || place.path())?;
        let status = Status::of(file.as_fd()).during("look at", || place.path())?;
        let lacks_the_right = status.kind == Kind::Directory && status.permissions & 0o200 == 0;
        if lacks_the_right {
            change_permissions_of_place(file.as_fd(), status.permissions | 0o200)
                .during("change the permissions of", || place.path())?;
        }
        let before = lacks_the_right.then_some(status.permissions);
        Ok(Self { file, path: place.path(), before })
    }

    fn restore(self) -> Result<()> {
        match self.before {
            None => Ok(()),
            Some(permissions) => change_permissions_of_place(self.file.as_fd(), permissions)
                .during("change the permissions of", || self.path),
        }
    }
}
