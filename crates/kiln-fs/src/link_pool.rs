//! The pool of hard links (`.links` in the store directory): files with equal contents share one inode.
//!
//! An entry of the pool is named by the hash of the archive that the file alone would make, so files that differ in
//! the executable bit never share. A file becomes a link to the entry of its hash; if there is none, the file itself becomes
//! the entry.

mod compare;
mod entries;
mod optimise;
mod replacing;

pub use entries::{EntryCheck, RemovedLinks};
pub use optimise::PooledFiles;

use self::compare::same_contents;
use crate::canonical::canonical_times;
use crate::component::Component;
use crate::directory::{Directory, OPEN_DIRECTORY, scratch_name};
use crate::dump::FileHash;
use crate::error::{During as _, Error, Result};
use crate::status::{Identity, Kind, Status};
use crate::walk::Place;
use kiln_hash::Sha256;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// How often a file is tried to be linked while others remove what is needed for it.
const ATTEMPTS: u32 = 5;

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

/// A file or link that may become a link to an entry.
struct Linkable<'a> {
    parent: BorrowedFd<'a>,
    name: &'a CStr,
    /// Whether the parent is a directory of a store path, which nobody may write, and not the store's.
    in_tree: bool,
    status: Status,
}

/// An entry of the pool with the contents of a file that is another inode.
struct Entry {
    name: Component,
    identity: Identity,
}

/// What became of an attempt to replace a file.
enum Replaced {
    Yes,
    /// The file system allows no more links to the entry.
    TooManyLinks,
    /// The entry, or the new link to it, was removed meanwhile.
    Vanished,
}

/// The pool of a store.
#[derive(Debug)]
pub struct LinkPool {
    store: Directory,
    links: OwnedFd,
    /// What a file is replaced by is brought to the disk first.
    syncs: bool,
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
        Ok(Self { store: store.try_clone()?, links, syncs: false })
    }

    /// Whether an entry is brought to the disk before a file is replaced by it: the file may be there for long, and its contents
    /// must not be lost in a loss of power for those of a newer one, which are the same but are not on the disk yet.
    #[must_use]
    pub fn syncing(self, syncs: bool) -> Self {
        Self { syncs, ..self }
    }

    /// Links the files of the tree `name` in the store to the pool. `files` are their hashes, as
    /// [`scan_output`](crate::scan_output) gives them; the tree must be canonical, and nobody else may write it.
    ///
    /// # Errors
    /// If the system refuses something; the tree is whole all the same.
    pub fn link_tree(&self, name: &Component, files: &[FileHash]) -> Result<Linked> {
        let (mut linked, pooled) = (Linked::default(), PooledFiles::default());
        for file in files {
            self.link_file(name, file, (&mut linked, &pooled))?;
        }
        Ok(linked)
    }

    fn link_file(
        &self,
        name: &Component,
        file: &FileHash,
        (linked, pooled): (&mut Linked, &PooledFiles),
    ) -> Result<()> {
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
        let place = Linkable { parent, name: file_name.as_c_str(), in_tree, status };
        self.link(&place, &file.hash, (linked, pooled), &path)
    }

    /// Makes a file, whose hash was just taken, a link to the entry of its hash. What others remove meanwhile is made again.
    fn link(
        &self,
        file: &Linkable<'_>,
        hash: &Sha256,
        (linked, pooled): (&mut Linked, &PooledFiles),
        path: &dyn Fn() -> PathBuf,
    ) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let Some(entry) = self.entry_for(file, hash, pooled, path)? else { return Ok(()) };
            if self.share(file, &entry, (linked, pooled), path)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Puts a link to an entry in place of the file; if the entry has gone meanwhile, as [`LinkPool::link`] does.
    fn share_or_link(
        &self,
        file: &Linkable<'_>,
        entry: &Entry,
        hash: &Sha256,
        (linked, pooled): (&mut Linked, &PooledFiles),
        path: &dyn Fn() -> PathBuf,
    ) -> Result<()> {
        if self.share(file, entry, (&mut *linked, pooled), path)? {
            return Ok(());
        }
        self.link(file, hash, (linked, pooled), path)
    }

    /// The entry that a file is to be replaced by a link to; nothing if it is to stay what it is.
    fn entry_for(
        &self,
        file: &Linkable<'_>,
        hash: &Sha256,
        pooled: &PooledFiles,
        path: &dyn Fn() -> PathBuf,
    ) -> Result<Option<Entry>> {
        let name = Component::new(hash.nix32())?;
        let Some(existing) = self.entry(file, &name, pooled, path)? else { return Ok(None) };
        if existing.identity == file.status.identity {
            pooled.insert_read(existing.identity);
            return Ok(None);
        }
        Ok(Some(Entry { name, identity: existing.identity }))
    }

    /// Puts a link to an entry in place of the file. `false` if the entry has gone meanwhile.
    fn share(
        &self,
        file: &Linkable<'_>,
        entry: &Entry,
        (linked, pooled): (&mut Linked, &PooledFiles),
        path: &dyn Fn() -> PathBuf,
    ) -> Result<bool> {
        match self.replace(file, &entry.name).during("replace by a hard link", path)? {
            Replaced::Yes => {
                linked.files += 1;
                linked.bytes += file.status.size;
                pooled.insert_read(entry.identity);
                Ok(true)
            }
            Replaced::TooManyLinks => Ok(true),
            Replaced::Vanished => Ok(false),
        }
    }

    /// The pool's entry; nothing if the file could not be made one because the pool's directory is full.
    fn entry(
        &self,
        file: &Linkable<'_>,
        entry: &Component,
        pooled: &PooledFiles,
        path: &dyn Fn() -> PathBuf,
    ) -> Result<Option<Status>> {
        loop {
            match Status::at(self.links.as_fd(), entry.as_c_str()) {
                Ok(existing)
                    if existing.identity == file.status.identity
                        || self.is_good(&existing, entry, file, pooled)? =>
                {
                    return Ok(Some(existing));
                }
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
            let flags = AtFlags::empty();
            match rustix::fs::linkat(file.parent, file.name, &self.links, entry.as_c_str(), flags) {
                Ok(()) => return Ok(Some(file.status)),
                // Another process was faster.
                Err(Errno::EXIST) => {}
                Err(Errno::NOSPC | Errno::MLINK) => return Ok(None),
                Err(error) => return Err(error).during("add to the pool", path),
            }
        }
    }

    /// Whether an entry is the same as a file that has its hash. What was written to one of the paths that share it, or went
    /// bad on the disk, must not get into others. Who writes to it changes its time, so that one that was read a while ago
    /// is as good as then.
    fn is_good(
        &self,
        existing: &Status,
        entry: &Component,
        file: &Linkable<'_>,
        pooled: &PooledFiles,
    ) -> Result<bool> {
        let is_alike = |a: &Status, b: &Status| {
            (a.kind, a.size, a.permissions & 0o777) == (b.kind, b.size, b.permissions & 0o777)
        };
        let was_read = existing.modified == file.status.modified && pooled.was_read(existing.identity);
        Ok(is_alike(existing, &file.status)
            && (was_read
                || same_contents(
                    &Place::new(self.links.as_fd(), entry.as_c_str(), b".links"),
                    &Place::new(file.parent, file.name, b""),
                    existing.kind,
                )?))
    }

    /// Puts a link to the entry in place of the file.
    fn replace(&self, file: &Linkable<'_>, entry: &Component) -> Result<Replaced, std::io::Error> {
        if self.syncs && file.status.kind == Kind::Regular {
            match self.sync_entry(entry) {
                Err(Errno::NOENT) => return Ok(Replaced::Vanished),
                synced => synced?,
            }
        }
        let scratch = scratch_name()?;
        let (from, to) = (entry.as_c_str(), scratch.as_c_str());
        match rustix::fs::linkat(&self.links, from, &self.store, to, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::MLINK) => return Ok(Replaced::TooManyLinks),
            // A collection has removed the entry, which nothing was linked to.
            Err(Errno::NOENT) => return Ok(Replaced::Vanished),
            Err(error) => return Err(error.into()),
        }
        let mut result = rustix::fs::renameat(&self.store, to, file.parent, file.name);
        if result == Err(Errno::ACCESS) && file.in_tree {
            let before = Status::of(file.parent)?.permissions;
            let chmod = |mode| rustix::fs::fchmod(file.parent, Mode::from_raw_mode(mode));
            result = chmod(before | 0o200)
                .and_then(|()| rustix::fs::renameat(&self.store, to, file.parent, file.name))
                .and(chmod(before));
        }
        // If somebody else has just linked the file, the system takes the renaming for done and leaves both names. To look first
        // does not keep others out of the directory.
        if Status::at(self.store.as_fd(), to).is_ok() {
            let _ = rustix::fs::unlinkat(&self.store, to, AtFlags::empty());
        }
        if file.in_tree {
            result = result.and(rustix::fs::futimens(file.parent, &canonical_times()));
        }
        match result {
            Ok(()) => Ok(Replaced::Yes),
            // A collection by real Nix takes the scratch link for garbage.
            Err(Errno::NOENT) => Ok(Replaced::Vanished),
            Err(error) => Err(error.into()),
        }
    }

    fn sync_entry(&self, entry: &Component) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::fsync(rustix::fs::openat(&self.links, entry.as_c_str(), flags, Mode::empty())?)
    }

    fn open_parent(&self, relative: &Path) -> Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.store, relative, flags, Mode::empty(), resolve)
            .during("open directory", || self.store.path().join(relative))
    }
}
