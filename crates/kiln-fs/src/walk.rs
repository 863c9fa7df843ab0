//! The way through a tree: in the order of archives, by descriptors, never through a link.
//!
//! It isn't recursive. As an archive has at most 64 levels, so many directories are open at most; deeper trees are refused.

use crate::directory::{
    OPEN_DIRECTORY, OPEN_FILE, OPEN_PLACE, change_permissions_of_place, join, without_access_time,
};
use crate::entries::Entries;
use crate::error::{During as _, Error, Result};
use crate::status::{Kind, Status};
use kiln_nar::MAX_DEPTH;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

/// Something in a directory that is open.
pub(crate) struct Place<'a> {
    pub(crate) directory: BorrowedFd<'a>,
    pub(crate) name: &'a CStr,
    /// Path of the directory, for messages.
    directory_path: &'a [u8],
    /// Which of the directory's entries it is; of no meaning for a root.
    pub(crate) index: usize,
}

impl<'a> Place<'a> {
    pub(crate) fn new(directory: BorrowedFd<'a>, name: &'a CStr, directory_path: &'a [u8]) -> Self {
        Self { directory, name, directory_path, index: 0 }
    }

    /// For messages.
    pub(crate) fn path(&self) -> PathBuf {
        join(self.directory_path, self.name.to_bytes())
    }

    pub(crate) fn open(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(self.directory, self.name, flags, Mode::empty())
    }

    /// Opens a regular file for reading.
    pub(crate) fn open_file(&self) -> Result<(OwnedFd, Status)> {
        let file = without_access_time(OPEN_FILE, |flags| self.open(flags));
        let file = file.map_err(|error| self.not_opened(error))?;
        let status = Status::of(file.as_fd()).during("look at", || self.path())?;
        match status.kind {
            Kind::Regular => Ok((file, status)),
            Kind::Other(kind) => Err(Error::UnsupportedKind { path: self.path(), kind }),
            Kind::Directory | Kind::Symlink => Err(Error::Changed(self.path())),
        }
    }

    /// The target of a symbolic link.
    pub(crate) fn read_link(&self) -> Result<Vec<u8>> {
        let target = rustix::fs::readlinkat(self.directory, self.name, Vec::new());
        Ok(target.during("read symlink", || self.path())?.into_bytes())
    }

    /// Opens a symbolic link as a place.
    pub(crate) fn open_link(&self) -> Result<(OwnedFd, Status)> {
        let link = self.open(OPEN_PLACE).during("open", || self.path())?;
        let status = Status::of(link.as_fd()).during("look at", || self.path())?;
        if status.kind == Kind::Symlink { Ok((link, status)) } else { Err(Error::Changed(self.path())) }
    }

    /// Gives the owner the rights `wanted` on a file or directory of `kind` that can't be opened for lack of them.
    /// Returns whether that could have helped.
    pub(crate) fn grant(&self, kind: Kind, wanted: u32) -> Result<bool> {
        let place = self.open(OPEN_PLACE).during("open", || self.path())?;
        let status = Status::of(place.as_fd()).during("look at", || self.path())?;
        if status.kind != kind || status.permissions & wanted == wanted {
            return Ok(false);
        }
        change_permissions_of_place(place.as_fd(), status.permissions & 0o777 | wanted)
            .during("change the permissions of", || self.path())?;
        Ok(true)
    }

    /// What is there was something else a moment before.
    fn not_opened(&self, error: Errno) -> Error {
        match error {
            Errno::LOOP | Errno::NOTDIR | Errno::NOENT => Error::Changed(self.path()),
            Errno::NXIO => Error::UnsupportedKind { path: self.path(), kind: "socket" },
            error => Error::System { action: "open", path: self.path(), source: error.into() },
        }
    }
}

/// What is done on the way.
pub(crate) trait Visitor {
    /// An entry of the innermost directory comes.
    fn entry(&mut self, _: &Place<'_>) -> Result<()> {
        Ok(())
    }

    /// A directory has been opened; its entries come.
    fn enter(&mut self, place: &Place<'_>, directory: BorrowedFd<'_>) -> Result<()>;

    /// What the directory that was entered last contains.
    fn listed(&mut self, _: &Arc<OwnedFd>, _: &Arc<Entries>, _path: &[u8]) {}

    /// All entries of the innermost directory have come.
    fn leave(&mut self, directory: BorrowedFd<'_>, path: &[u8]) -> Result<()>;

    /// A regular file.
    fn regular(&mut self, place: &Place<'_>) -> Result<()>;

    /// A symbolic link.
    fn symlink(&mut self, place: &Place<'_>) -> Result<()>;

    /// Whether directories that can't be opened may be made so.
    fn may_grant(&self) -> bool {
        false
    }
}

/// A directory on the way.
struct Level {
    fd: Arc<OwnedFd>,
    entries: Arc<Entries>,
    next: usize,
    /// Length of the path of the directory that this one is in.
    parent_path: usize,
}

/// Goes through the tree at `root`, which may also be a file or a link.
pub(crate) fn walk(root: &Place<'_>, visitor: &mut impl Visitor) -> Result<()> {
    let status = Status::at(root.directory, root.name).during("look at", || root.path())?;
    let mut path = root.directory_path.to_vec();
    let mut levels: Vec<Level> = Vec::new();
    if let Some((fd, entries)) = visit(root, status.kind, 0, visitor)? {
        let parent_path = enter_path(&mut path, root.name);
        visitor.listed(&fd, &entries, &path);
        levels.push(Level { fd, entries, next: 0, parent_path });
    }
    while let Some(level) = levels.last() {
        let Some((name, kind)) = level.entries.get(level.next) else {
            visitor.leave(level.fd.as_fd(), &path)?;
            path.truncate(level.parent_path);
            levels.pop();
            continue;
        };
        let place = Place { index: level.next, ..Place::new(level.fd.as_fd(), name, &path) };
        let kind = match kind {
            FileType::Unknown => Status::at(place.directory, name).during("look at", || place.path())?.kind,
            kind => Kind::of(kind),
        };
        visitor.entry(&place)?;
        let opened = visit(&place, kind, levels.len(), visitor)?;
        let below = opened.map(|(fd, entries)| {
            let parent_path = enter_path(&mut path, name);
            visitor.listed(&fd, &entries, &path);
            Level { fd, entries, next: 0, parent_path }
        });
        if let Some(level) = levels.last_mut() {
            level.next += 1;
        }
        levels.extend(below);
    }
    Ok(())
}

/// Shows the visitor one node. Of a directory, returns the descriptor and the entries.
fn visit(
    place: &Place<'_>,
    kind: Kind,
    depth: usize,
    visitor: &mut impl Visitor,
) -> Result<Option<(Arc<OwnedFd>, Arc<Entries>)>> {
    if depth >= MAX_DEPTH {
        return Err(Error::TooDeep(place.path()));
    }
    match kind {
        Kind::Regular => visitor.regular(place)?,
        Kind::Symlink => visitor.symlink(place)?,
        Kind::Directory => {
            let open = || without_access_time(OPEN_DIRECTORY, |flags| place.open(flags));
            let directory = match open() {
                Err(Errno::ACCESS) if visitor.may_grant() && place.grant(Kind::Directory, 0o500)? => open(),
                result => result,
            };
            let directory = directory.map_err(|error| place.not_opened(error))?;
            visitor.enter(place, directory.as_fd())?;
            let mut entries = Entries::read(directory.as_fd()).during("read directory", || place.path())?;
            entries.sort();
            return Ok(Some((Arc::new(directory), Arc::new(entries))));
        }
        Kind::Other(kind) => return Err(Error::UnsupportedKind { path: place.path(), kind }),
    }
    Ok(None)
}

/// Makes `path` that of something in it; returns its length before.
fn enter_path(path: &mut Vec<u8>, name: &CStr) -> usize {
    let length = path.len();
    if !path.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(name.to_bytes());
    length
}
