//! The pool of hard links (`.links` in the store directory): files with equal contents share one inode.
//!
//! An entry of the pool is named by the hash of the archive that the file alone would make, so files that differ in
//! the executable bit never share. A file becomes a link to the entry of its hash; if there is none, the file itself becomes
//! the entry.

use crate::canonical::canonical_times;
use crate::component::Component;
use crate::directory::{Directory, OPEN_DIRECTORY, scratch_name};
use crate::dump::FileHash;
use crate::error::{During as _, Error, Result};
use crate::status::{Kind, Status};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The pool's name in the store directory.
const NAME: &CStr = c".links";

/// What linking has brought.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Linked {
    /// Files that have become links to an entry that was there before.
    pub files: u64,
    /// Bytes saved by that.
    pub bytes: u64,
    /// Regular files that were left alone because their owner may write them: nothing canonical is like that.
    pub suspicious: Vec<PathBuf>,
}

/// The pool of a store.
#[derive(Debug)]
pub struct LinkPool {
    store: Directory,
    links: OwnedFd,
}

impl LinkPool {
    /// Opens the pool of the store directory `store`, and makes it if there is none.
    ///
    /// # Errors
    /// If it is no directory, or can't be made.
    pub fn open(store: &Directory) -> Result<Self> {
        let path = || store.path().join(".links");
        match rustix::fs::mkdirat(store, NAME, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).during("create directory", path),
        }
        let links =
            rustix::fs::openat(store, NAME, OPEN_DIRECTORY, Mode::empty()).during("open directory", path)?;
        Ok(Self { store: store.try_clone()?, links })
    }

    /// Links the files of the tree `name` in the store to the pool. `files` are their hashes, as
    /// [`scan_output`](crate::scan_output) gives them; the tree must be canonical, and nobody else may write it.
    ///
    /// # Errors
    /// If the system refuses something; the tree is whole all the same.
    pub fn link_tree(&self, name: &Component, files: &[FileHash]) -> Result<Linked> {
        let mut linked = Linked::default();
        for file in files {
            self.link_file(name, file, &mut linked)?;
        }
        Ok(linked)
    }

    fn link_file(&self, name: &Component, file: &FileHash, linked: &mut Linked) -> Result<()> {
        let path = || self.store.path_of(name).join(&file.path);
        let in_tree = file.path != Path::new("");
        let opened;
        let (parent, file_name) = if in_tree {
            let relative = name.as_path().join(file.path.parent().unwrap_or(Path::new("")));
            opened = self.open_parent(&relative)?;
            let last = file.path.file_name().map(std::ffi::OsStr::as_encoded_bytes).unwrap_or_default();
            (opened.as_fd(), Component::new(last)?)
        } else {
            (self.store.as_fd(), name.clone())
        };
        let status = Status::at(parent, file_name.as_c_str()).during("look at", path)?;
        match status.kind {
            Kind::Regular if status.permissions & 0o200 != 0 => {
                linked.suspicious.push(path());
                return Ok(());
            }
            Kind::Regular | Kind::Symlink => {}
            Kind::Directory | Kind::Other(_) => return Err(Error::Changed(path())),
        }
        let entry = Component::new(file.hash.nix32())?;
        let Some(existing) = self.entry(parent, &file_name, &entry, &status, &path)? else { return Ok(()) };
        if existing.identity == status.identity {
            return Ok(());
        }
        if self.replace(parent, &file_name, &entry, in_tree).during("replace by a hard link", path)? {
            linked.files += 1;
            linked.bytes += status.size;
        }
        Ok(())
    }

    /// The pool's entry; nothing if the file could not be made one because the pool's directory is full.
    fn entry(
        &self,
        parent: BorrowedFd<'_>,
        file: &Component,
        entry: &Component,
        status: &Status,
        path: &dyn Fn() -> PathBuf,
    ) -> Result<Option<Status>> {
        loop {
            match Status::at(self.links.as_fd(), entry.as_c_str()) {
                Ok(existing) if existing.size == status.size => return Ok(Some(existing)),
                Ok(_) => {
                    // Somebody has damaged it: what links to it stays as it is, but nothing new does.
                    match rustix::fs::unlinkat(&self.links, entry.as_c_str(), AtFlags::empty()) {
                        Ok(()) | Err(Errno::NOENT) => {}
                        Err(error) => return Err(error).during("remove the corrupt pool entry of", path),
                    }
                }
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error).during("look at the pool entry of", path),
            }
            match rustix::fs::linkat(parent, file.as_c_str(), &self.links, entry.as_c_str(), AtFlags::empty())
            {
                Ok(()) => return Ok(Some(*status)),
                // Another process was faster.
                Err(Errno::EXIST) => {}
                Err(Errno::NOSPC | Errno::MLINK) => return Ok(None),
                Err(error) => return Err(error).during("add to the pool", path),
            }
        }
    }

    /// Puts a link to the entry in place of the file; false if the entry has as many links as it can have.
    fn replace(
        &self,
        parent: BorrowedFd<'_>,
        file: &Component,
        entry: &Component,
        in_tree: bool,
    ) -> Result<bool, std::io::Error> {
        let scratch = scratch_name()?;
        match rustix::fs::linkat(
            &self.links,
            entry.as_c_str(),
            &self.store,
            scratch.as_c_str(),
            AtFlags::empty(),
        ) {
            Ok(()) => {}
            Err(Errno::MLINK) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let before = Status::of(parent)?;
        let mut result = Ok(());
        if in_tree {
            result = rustix::fs::fchmod(parent, Mode::from_raw_mode(before.permissions | 0o200));
        }
        result = result
            .and_then(|()| rustix::fs::renameat(&self.store, scratch.as_c_str(), parent, file.as_c_str()));
        if result.is_err() {
            let _ = rustix::fs::unlinkat(&self.store, scratch.as_c_str(), AtFlags::empty());
        }
        if in_tree {
            result = result
                .and(rustix::fs::fchmod(parent, Mode::from_raw_mode(before.permissions)))
                .and(rustix::fs::futimens(parent, &canonical_times()));
        }
        Ok(result.map(|()| true)?)
    }

    fn open_parent(&self, relative: &Path) -> Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.store, relative, flags, Mode::empty(), resolve)
            .during("open directory", || self.store.path().join(relative))
    }
}
