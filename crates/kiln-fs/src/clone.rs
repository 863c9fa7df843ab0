//! A copy of a tree whose files share their data with it, where the file system can do that: btrfs, XFS and others.

use crate::component::Component;
use crate::directory::Directory;
use crate::error::{Error, Result};
use crate::restore::{CaseHack, RestoreOptions, Restorer};
use crate::walk::{Place, Visitor, walk};
use kiln_nar::Event;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;

/// Makes the canonical tree `to`, which must not exist, of clones of the files of `from`: no contents are read or written,
/// and what is changed in one of both later does not change the other. `false` if the file system can't do that, or they
/// are on different ones.
///
/// # Errors
/// If the tree can't be archived, or the copy not be made. What there is of the copy then stays, as it does with `false`.
pub fn clone_tree(from: (&Directory, &Component), to: (&Directory, &Component)) -> Result<bool> {
    let options = RestoreOptions { canonical: true, case_hack: CaseHack::Refuse };
    let mut cloner = Cloner { restorer: Restorer::new(to.0, to.1, options), is_possible: true };
    let root = Place::new(from.0.as_fd(), from.1.as_c_str(), from.0.path().as_os_str().as_bytes());
    match walk(&root, &mut cloner) {
        Err(_) if !cloner.is_possible => Ok(false),
        result => result.map(|()| true),
    }
}

struct Cloner<'a> {
    restorer: Restorer<'a>,
    is_possible: bool,
}

impl Visitor for Cloner<'_> {
    fn entry(&mut self, place: &Place<'_>) -> Result<()> {
        self.restorer.event(Event::Entry(place.name.to_bytes()))
    }

    fn enter(&mut self, _: &Place<'_>, _: BorrowedFd<'_>) -> Result<()> {
        self.restorer.event(Event::Directory)
    }

    fn leave(&mut self, _: BorrowedFd<'_>, _: &[u8]) -> Result<()> {
        self.restorer.event(Event::EndDirectory)
    }

    fn regular(&mut self, place: &Place<'_>) -> Result<()> {
        let (file, status) = place.open_file()?;
        let executable = status.permissions & 0o100 != 0;
        self.restorer.event(Event::Regular { executable, size: status.size, offset: 0 })?;
        if status.size > 0 && !self.restorer.clone_contents(file.as_fd())? {
            self.is_possible = false;
            return Err(Error::Changed(place.path()));
        }
        self.restorer.event(Event::EndRegular)
    }

    fn symlink(&mut self, place: &Place<'_>) -> Result<()> {
        let target = place.read_link()?;
        self.restorer.event(Event::Symlink(&target))
    }
}
