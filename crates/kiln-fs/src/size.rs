//! How much a tree takes.

use crate::component::Component;
use crate::directory::Directory;
use crate::error::{During as _, Error, Result};
use crate::status::{Identity, Status};
use crate::walk::{Place, Visitor, walk};
use std::collections::HashSet;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;

/// What a tree takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TreeSize {
    /// Lengths of all files and links together, in bytes; a file with several links in the tree counts once.
    pub bytes: u64,
    /// Files, links and directories, each link of a file for itself.
    pub nodes: u64,
}

/// Measures the tree `name` in `directory`.
///
/// # Errors
/// If something can't be looked at, or is no kind of file that a store has.
pub fn tree_size(directory: &Directory, name: &Component) -> Result<TreeSize> {
    let path = directory.path().as_os_str().as_bytes();
    let mut measure = Measure::default();
    walk(&Place::new(directory.as_fd(), name.as_c_str(), path), &mut measure)?;
    Ok(measure.size)
}

/// Whether the tree `name` in `directory` takes no more than `most`. Looks at no more of it than that takes to tell; what
/// can't be looked at isn't small.
#[must_use]
pub fn is_small(directory: &Directory, name: &Component, most: TreeSize) -> bool {
    let path = directory.path().as_os_str().as_bytes();
    let mut measure = Measure { most: Some(most), ..Measure::default() };
    walk(&Place::new(directory.as_fd(), name.as_c_str(), path), &mut measure).is_ok()
}

#[derive(Default)]
struct Measure {
    size: TreeSize,
    linked: HashSet<Identity>,
    /// Where to stop.
    most: Option<TreeSize>,
}

impl Measure {
    fn check(&self, place: &Place<'_>) -> Result<()> {
        match self.most {
            Some(most) if self.size.nodes > most.nodes || self.size.bytes > most.bytes => {
                Err(Error::TooLarge(place.path()))
            }
            _ => Ok(()),
        }
    }

    fn file(&mut self, place: &Place<'_>) -> Result<()> {
        let status = Status::at(place.directory, place.name).during("look at", || place.path())?;
        self.size.nodes += 1;
        if status.links == 1 || self.linked.insert(status.identity) {
            self.size.bytes = self.size.bytes.saturating_add(status.size);
        }
        self.check(place)
    }
}

impl Visitor for Measure {
    fn enter(&mut self, place: &Place<'_>, _: BorrowedFd<'_>) -> Result<()> {
        self.size.nodes += 1;
        self.check(place)
    }

    fn leave(&mut self, _: BorrowedFd<'_>, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn regular(&mut self, place: &Place<'_>) -> Result<()> {
        self.file(place)
    }

    fn symlink(&mut self, place: &Place<'_>) -> Result<()> {
        self.file(place)
    }
}
