//! Finding and making the places in the new root directory where something is put.
//!
//! Targets are resolved beneath the new root as if it were the root directory already, so that symbolic links in what
//! has been bound there can't lead out of it. New names are made on the sandbox's own file system only, never in a
//! directory of the host.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, symlinkat};
use rustix::io::Errno;

/// The new root directory while it is being built.
pub(super) struct NewRoot {
    descriptor: OwnedFd,
    device: u64,
    /// Directories of the sandbox's own that are in use as parents, to save resolving them again and again.
    parents: RefCell<BTreeMap<PathBuf, Rc<OwnedFd>>>,
    /// An empty directory, once there is one that no path leads to any more.
    empty: OnceCell<OwnedFd>,
}

/// What a mount point must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

impl NewRoot {
    /// `descriptor` is that of the tmpfs.
    pub(super) fn new(descriptor: OwnedFd) -> Result<Self, Errno> {
        let device = fstat(&descriptor)?.st_dev;
        Ok(Self { descriptor, device, parents: RefCell::default(), empty: OnceCell::new() })
    }

    /// What is at `target`.
    pub(super) fn open(&self, target: &Path) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.descriptor, target, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// What is at `target`, made if there is nothing.
    pub(super) fn open_or_create(&self, target: &Path, kind: Kind) -> Result<OwnedFd, Errno> {
        let known = target.parent().is_some_and(|parent| self.parents.borrow().contains_key(parent));
        // In a directory that has just been made there is most likely nothing of that name.
        let first = if known { self.create(target, kind) } else { self.open(target) };
        match first {
            Err(Errno::EXIST) => self.open(target),
            Err(Errno::NOENT) if !known => self.create(target, kind),
            result => result,
        }
    }

    fn create(&self, target: &Path, kind: Kind) -> Result<OwnedFd, Errno> {
        match kind {
            Kind::Directory => {
                let (parent, name) = self.parent(target)?;
                mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                openat(&parent, name, flags, Mode::empty())
            }
            Kind::File => self.create_file(target),
        }
    }

    /// A new and empty file at `target`, open for writing.
    pub(super) fn create_file(&self, target: &Path) -> Result<OwnedFd, Errno> {
        let (parent, name) = self.parent(target)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
        openat(&parent, name, flags, Mode::from_raw_mode(0o644))
    }

    /// A new symbolic link at `target`.
    pub(super) fn create_symlink(&self, target: &Path, points_to: &Path) -> Result<(), Errno> {
        let (parent, name) = self.parent(target)?;
        symlinkat(points_to, &parent, name)
    }

    /// To be called when something has been mounted at `target`: what is below it now is not what was there before.
    pub(super) fn covered(&self, target: &Path) {
        self.parents.borrow_mut().retain(|parent, _| !parent.starts_with(target));
    }

    /// Keeps an empty directory over which something has been mounted.
    pub(super) fn keep_empty(&self, directory: OwnedFd) {
        // The first one does as well as any.
        let _ = self.empty.set(directory);
    }

    /// The empty directory that was kept.
    pub(super) fn empty(&self) -> Option<BorrowedFd<'_>> {
        self.empty.get().map(AsFd::as_fd)
    }

    /// The directory that `target` is to be made in, made itself if need be, and the last component.
    fn parent<'a>(&self, target: &'a Path) -> Result<(Rc<OwnedFd>, &'a OsStr), Errno> {
        let name = target.file_name().ok_or(Errno::INVAL)?;
        let parent = target.parent().ok_or(Errno::INVAL)?;
        if let Some(known) = self.parents.borrow().get(parent) {
            return Ok((Rc::clone(known), name));
        }
        let directory = match self.open(parent) {
            Err(Errno::NOENT) => self.create_directories(parent)?,
            result => result?,
        };
        self.check_own(directory.as_fd())?;
        let directory = Rc::new(directory);
        self.parents.borrow_mut().insert(parent.to_owned(), Rc::clone(&directory));
        Ok((directory, name))
    }

    fn create_directories(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let mut so_far = PathBuf::from("/");
        let mut directory = self.open(&so_far)?;
        for component in path.components() {
            let Component::Normal(name) = component else {
                if component == Component::RootDir {
                    continue;
                }
                return Err(Errno::INVAL);
            };
            so_far.push(name);
            directory = match self.open(&so_far) {
                Err(Errno::NOENT) => {
                    self.check_own(directory.as_fd())?;
                    mkdirat(&directory, name, Mode::from_raw_mode(0o755))?;
                    self.open(&so_far)?
                }
                result => result?,
            };
        }
        Ok(directory)
    }

    /// Refuses, with `EROFS`, directories that are not on the sandbox's own file system.
    fn check_own(&self, directory: BorrowedFd<'_>) -> Result<(), Errno> {
        if fstat(directory)?.st_dev == self.device { Ok(()) } else { Err(Errno::ROFS) }
    }
}

impl AsFd for NewRoot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Whether a mount point for what the descriptor refers to is a directory or a file.
pub(super) fn kind_of(descriptor: BorrowedFd<'_>) -> Result<Kind, Errno> {
    let status = rustix::fs::statat(descriptor, "", AtFlags::EMPTY_PATH)?;
    let directory = rustix::fs::FileType::from_raw_mode(status.st_mode).is_dir();
    Ok(if directory { Kind::Directory } else { Kind::File })
}
