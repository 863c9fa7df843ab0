//! Deleting a tree of any depth and shape, whoever made it and whatever they do meanwhile.
//!
//! The innermost directories are kept open, a bounded number of them. To go up beyond these, `..` is opened and must be the
//! very directory that was left on the way down: a directory that was moved elsewhere meanwhile doesn't lead the
//! deletion there.

use crate::component::Component;
use crate::directory::{Directory, OPEN_DIRECTORY, join};
use crate::entries::{Entries, for_each_entry};
use crate::error::{During as _, Error, Result};
use crate::status::{Identity, Kind, Status};
use crate::walk::Place;
use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::rc::Rc;

/// Directories that are open at most, beside the one that the tree is in.
const OPEN_LEVELS: usize = 32;

/// How often a directory is looked through again in which something has appeared.
const ATTEMPTS: u32 = 16;

/// Longest path that is put together for messages.
const MAX_PATH: usize = 4096;

/// Deletes the tree `name` in `directory`, if it is there; returns how many bytes that freed, as the collector counts them:
/// the lengths of files and links that had one link, or two, of which the other is taken to be the one in the pool.
///
/// Permissions of directories in the tree are no obstacle to their owner. What can't be deleted doesn't keep the rest
/// from being deleted.
///
/// # Errors
/// The first of them, after everything has been tried.
pub fn delete_tree(directory: &Directory, name: &Component) -> Result<u64> {
    let path = directory.path().as_os_str().as_bytes().to_vec();
    let mut deletion = Deletion { path, levels: Vec::new(), freed: 0, failure: None };
    deletion.remove(directory.as_fd(), name.as_c_str());
    while let Some(level) = deletion.levels.last_mut() {
        match (level.directories.pop(), level.fd.clone()) {
            // Many directories are empty, and then this is all.
            (Some(name), Some(fd)) if rustix::fs::unlinkat(&fd, &*name, AtFlags::REMOVEDIR).is_ok() => {}
            (Some(name), Some(fd)) => deletion.remove(fd.as_fd(), &name),
            _ => deletion.ascend(directory.as_fd())?,
        }
    }
    deletion.failure.map_or(Ok(deletion.freed), Err)
}

/// A directory whose entries are being deleted.
struct Level {
    /// Of the innermost directory always there; not if too many others are open.
    fd: Option<Rc<OwnedFd>>,
    identity: Identity,
    name: Box<CStr>,
    /// Directories in it that are yet to be deleted.
    directories: Entries,
    /// How often it may still be looked through.
    attempts: u32,
    /// Whether something in it can't be deleted.
    failed: bool,
    /// Length of the path of the directory that it is in.
    parent_path: usize,
}

struct Deletion {
    /// Of the innermost directory; cut off where it gets too long.
    path: Vec<u8>,
    levels: Vec<Level>,
    freed: u64,
    failure: Option<Error>,
}

impl Deletion {
    /// Deletes something that isn't a directory; of a directory, only what isn't one in it, and makes it the innermost.
    fn remove(&mut self, parent: BorrowedFd<'_>, name: &CStr) {
        let path = self.path.clone();
        let place = Place::new(parent, name, &path);
        let opened = match place.open(OPEN_DIRECTORY) {
            Err(Errno::ACCESS) if place.grant(Kind::Directory, 0o700).unwrap_or(false) => {
                place.open(OPEN_DIRECTORY)
            }
            result => result,
        };
        let status = opened.as_ref().map_err(|&error| error).and_then(|fd| Status::of(fd.as_fd()));
        match (opened, status) {
            (Ok(fd), Ok(status)) => self.descend(fd, status.identity, name),
            (Err(Errno::NOENT), _) => {}
            (Err(Errno::NOTDIR | Errno::LOOP), _) => {
                if let Err(error) = self.unlink(parent, name) {
                    self.fail("delete", error, name);
                }
            }
            (Err(error), _) | (_, Err(error)) => self.fail("open directory", error, name),
        }
    }

    fn descend(&mut self, fd: OwnedFd, identity: Identity, name: &CStr) {
        let parent_path = self.path.len();
        if parent_path < MAX_PATH {
            self.path.push(b'/');
            self.path.extend_from_slice(name.to_bytes());
        }
        self.levels.push(Level {
            fd: Some(Rc::new(fd)),
            identity,
            name: name.into(),
            directories: Entries::default(),
            attempts: ATTEMPTS,
            failed: false,
            parent_path,
        });
        let outer = self.levels.len().checked_sub(OPEN_LEVELS + 1);
        if let Some(level) = outer.and_then(|outer| self.levels.get_mut(outer)) {
            level.fd = None;
        }
        self.look_through();
    }

    /// Deletes what isn't a directory in the innermost directory, and notes the directories.
    fn look_through(&mut self) {
        let Some(fd) = self.levels.last().and_then(|level| level.fd.clone()) else { return };
        let mut directories = Entries::default();
        let mut failures = Vec::new();
        let mut freed = 0;
        let result = for_each_entry(fd.as_fd(), |name, kind| match kind {
            FileType::Directory | FileType::Unknown => directories.push(name, kind),
            _ => match unlink(fd.as_fd(), name) {
                Ok(size) => freed += size,
                Err(Errno::ISDIR) => directories.push(name, kind),
                Err(error) if failures.is_empty() => failures.push((error, Box::<CStr>::from(name))),
                Err(_) => {}
            },
        });
        self.freed += freed;
        for (error, name) in failures {
            self.fail("delete", error, &name);
        }
        if let Err(error) = result {
            self.fail("read directory", error, c"");
        }
        if let Some(level) = self.levels.last_mut() {
            level.directories = directories;
        }
    }

    /// Deletes the innermost directory, all of whose directories have been dealt with.
    fn ascend(&mut self, root: BorrowedFd<'_>) -> Result<()> {
        let Some(mut level) = self.levels.pop() else { return Ok(()) };
        let reopened = self.reopen_parent(&level)?;
        let outer = self.levels.last().and_then(|parent| parent.fd.clone()).or(reopened);
        if let Some(parent) = self.levels.last_mut() {
            parent.fd = outer.clone();
        }
        let parent = outer.as_ref().map_or(root, |fd| fd.as_fd());
        let mut result = rustix::fs::unlinkat(parent, &*level.name, AtFlags::REMOVEDIR);
        if result == Err(Errno::ACCESS) && make_writable(parent) {
            result = rustix::fs::unlinkat(parent, &*level.name, AtFlags::REMOVEDIR);
        }
        match result {
            Err(Errno::NOTEMPTY | Errno::EXIST) if !level.failed && level.attempts > 0 => {
                level.attempts -= 1;
                if let Some(fd) = &level.fd {
                    let _ = rustix::fs::seek(fd, rustix::fs::SeekFrom::Start(0));
                }
                self.levels.push(level);
                self.look_through();
                return Ok(());
            }
            Err(Errno::NOTEMPTY | Errno::EXIST) if !level.failed => {
                let path = join(&self.path, b"");
                self.failed(Error::NeverEmpty(path));
            }
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Ok(()) | Err(Errno::NOENT) => level.failed = false,
            Err(error) => self.fail("delete directory", error, c""),
        }
        self.path.truncate(level.parent_path);
        if level.failed
            && let Some(parent) = self.levels.last_mut()
        {
            parent.failed = true;
        }
        Ok(())
    }

    /// Opens the directory that `level` is in, if it isn't open: it must be the one through which `level` was reached.
    fn reopen_parent(&self, level: &Level) -> Result<Option<Rc<OwnedFd>>> {
        let (Some(parent), Some(fd)) = (self.levels.last(), &level.fd) else { return Ok(None) };
        if parent.fd.is_some() {
            return Ok(None);
        }
        let path = || join(&self.path, b"");
        let open = || rustix::fs::openat(fd, c"..", OPEN_DIRECTORY, Mode::empty());
        let opened = match open() {
            Err(Errno::ACCESS) if make_writable(fd.as_fd()) => open(),
            result => result,
        };
        let opened = opened.during("open the directory that contains", path)?;
        let status = Status::of(opened.as_fd()).during("look at the directory that contains", path)?;
        if status.identity == parent.identity { Ok(Some(Rc::new(opened))) } else { Err(Error::Moved(path())) }
    }

    fn unlink(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        self.freed += unlink(parent, name)?;
        Ok(())
    }

    /// Notes that something in the innermost directory can't be deleted.
    fn fail(&mut self, action: &'static str, error: Errno, name: &CStr) {
        let path = join(&self.path, name.to_bytes());
        self.failed(Error::System { action, path, source: error.into() });
    }

    fn failed(&mut self, error: Error) {
        if let Some(level) = self.levels.last_mut() {
            level.failed = true;
        }
        self.failure.get_or_insert(error);
    }
}

/// Deletes something that isn't a directory; returns how many bytes that frees.
pub(crate) fn unlink(parent: BorrowedFd<'_>, name: &CStr) -> Result<u64, Errno> {
    let status = match Status::at(parent, name) {
        Err(Errno::ACCESS) if make_writable(parent) => Status::at(parent, name),
        result => result,
    };
    match status {
        Err(Errno::NOENT) => Ok(0),
        status => unlink_seen(parent, name, &status?),
    }
}

/// The same for something that was just looked at.
pub(crate) fn unlink_seen(parent: BorrowedFd<'_>, name: &CStr, status: &Status) -> Result<u64, Errno> {
    let mut result = rustix::fs::unlinkat(parent, name, AtFlags::empty());
    if result == Err(Errno::ACCESS) && make_writable(parent) {
        result = rustix::fs::unlinkat(parent, name, AtFlags::empty());
    }
    match result {
        Ok(()) => Ok(if status.links <= 2 { status.size } else { 0 }),
        Err(Errno::NOENT) => Ok(0),
        Err(error) => Err(error),
    }
}

/// Gives the owner of an open directory all rights on it; returns whether that could help.
fn make_writable(directory: BorrowedFd<'_>) -> bool {
    Status::of(directory).is_ok_and(|status| {
        status.permissions & 0o700 != 0o700
            && rustix::fs::fchmod(directory, Mode::from_raw_mode(status.permissions & 0o777 | 0o700)).is_ok()
    })
}
