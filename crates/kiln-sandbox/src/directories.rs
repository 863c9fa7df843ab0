//! The directories on disk that a build has for itself, made before it and removed after it.
//!
//! Of each, the outer directory is the engine's alone (0700), and what the builder may write lies one level below. They
//! must not be removed while a process of the build may live: the launcher says when there is none left.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kiln_fs::{Component, Directory, FailPoint, Trash, TreeSize, delete_tree, fail_point, is_small};
use rustix::fs::{FlockOperation, Gid, Mode, Uid, fchmod, fchown, flock};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::{Credentials, SandboxError};

mod spare;
use spare::Spares;

const PREFIX: &str = "nix-build-";
/// The mode of the outer part of a build directory. The sticky bit is of no consequence where only the engine may enter;
/// it tells Kiln's directories, which are locked while they are in use, from those that real Nix makes beside them. What
/// has it and is not locked is a leftover: whoever has just made one looks, once it is locked, whether it is still there.
const KILNS: u32 = 0o1700;
/// What is not worth being deleted at once.
const SMALL: TreeSize = TreeSize { bytes: 64 << 10, nodes: 64 };

/// A directory that is removed with all that is in it, unless it is let go of.
#[derive(Debug)]
struct Scratch {
    parent: Directory,
    name: Component,
    armed: bool,
}

impl Scratch {
    fn path(&self) -> PathBuf {
        self.parent.path_of(&self.name)
    }

    fn remove(&mut self) -> Result<(), SandboxError> {
        self.armed = false;
        delete_tree(&self.parent, &self.name)?;
        Ok(())
    }

    /// Removes it now if there is much in it, else later.
    fn discard(&mut self, trash: &Trash) -> Result<(), SandboxError> {
        if !is_small(&self.parent, &self.name, SMALL) {
            return self.remove();
        }
        self.armed = false;
        Ok(trash.put(&self.parent, &self.name)?)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.armed {
            // What is left is removed when the next engine starts, or the next build of this name.
            let _ = self.remove();
        }
    }
}

/// The places of builds beside the store's paths.
#[derive(Debug)]
pub struct ChrootDirectories {
    store: Directory,
    spares: Spares,
}

impl ChrootDirectories {
    /// Those in `store`, the real store directory, whose trash is `trash`.
    pub fn new(store: Directory, trash: Arc<Trash>) -> Self {
        Self { store, spares: Spares::new(trash, ChrootDirectory::furnish) }
    }

    /// Creates the directory of a build. `name` is `<base name of the derivation>.chroot`; what an earlier build has left
    /// under that name is removed first.
    pub fn create(&self, name: &[u8], credentials: &Credentials) -> Result<ChrootDirectory, SandboxError> {
        let parent = self.store.try_clone()?;
        let name = component(name)?;
        delete_tree(&parent, &name)?;
        let spare = self.spares.take(&parent, &name);
        let outer = match &spare {
            Some(_) => parent.subdirectory(&name)?,
            None => parent.create_directory(&name, 0o700)?,
        };
        fail_point(FailPoint::ChrootMade);
        let created = ChrootDirectory { scratch: Scratch { parent, name, armed: true } };
        if spare.is_none() {
            ChrootDirectory::furnish(&outer)?;
        }
        if let Credentials::BuildUser { gid, .. } = credentials {
            set_owner(&outer.subdirectory(&component(b"store")?)?, None, Some(*gid))?;
        }
        Ok(created)
    }

    /// Makes one before it is needed: the next that is created takes less time.
    pub fn make_spare(&self) -> Result<(), SandboxError> {
        self.spares.make()
    }

    /// Deletes what discarded directories have left, and what else is in the trash.
    pub fn empty_trash(&self) -> Result<(), SandboxError> {
        self.spares.empty_trash()
    }
}

/// `<derivation>.chroot` beside the store's paths: the builder's view of the store, where outputs appear, and its `/tmp`.
///
/// A garbage collection by real Nix on the same store spares it for its name, while the derivation is a temporary root.
/// Dropping it removes it; that walks trees, so do it on a worker thread.
#[derive(Debug)]
pub struct ChrootDirectory {
    scratch: Scratch,
}

impl ChrootDirectory {
    /// What all have in them. Nobody can reach it before the builder's group is given its part.
    fn furnish(outer: &Directory) -> Result<(), SandboxError> {
        set_mode(outer, 0o700)?;
        // Sticky: the builder may make names there, but not rename or remove those of its inputs.
        let view = outer.create_directory(&component(b"store")?, 0o700)?;
        set_mode(&view, 0o1775)?;
        let temporary = outer.create_directory(&component(b"tmp")?, 0o700)?;
        set_mode(&temporary, 0o1777)
    }

    /// The directory itself.
    pub fn path(&self) -> PathBuf {
        self.scratch.path()
    }

    /// The builder's store directory, where outputs appear.
    pub fn store(&self) -> PathBuf {
        self.path().join("store")
    }

    /// The builder's `/tmp`.
    pub fn temporary_directory(&self) -> PathBuf {
        self.path().join("tmp")
    }

    /// Removes it with all that is in it; if that isn't much, by way of the trash, which must be on the same file system.
    pub fn discard(mut self, trash: &Trash) -> Result<(), SandboxError> {
        self.scratch.discard(trash)
    }
}

/// The place where build directories are made (`build-dir`).
#[derive(Debug)]
pub struct BuildDirectories {
    path: PathBuf,
    place: Mutex<Option<Place>>,
}

/// The directory, once it has been found to be safe.
#[derive(Debug)]
struct Place {
    directory: Directory,
    spares: Arc<Spares>,
}

impl BuildDirectories {
    /// The place at `path`. Nothing is looked at before it is needed.
    pub fn new(path: PathBuf) -> Self {
        Self { path, place: Mutex::new(None) }
    }

    /// Where that is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the place, which is made if need be. Who could make it unsafe later is root, or was let by root: so it is looked
    /// at once, and again when the directory has gone.
    fn open(&self) -> Result<(Directory, Arc<Spares>), SandboxError> {
        let mut guard = self.lock();
        let place = match guard.take() {
            Some(place) if place.directory.own_status()?.links > 0 => place,
            _ => Place::open(&self.path)?,
        };
        let place = guard.insert(place);
        Ok((place.directory.try_clone()?, Arc::clone(&place.spares)))
    }

    /// Makes one before it is needed: the next that is created takes less time.
    pub fn make_spare(&self) -> Result<(), SandboxError> {
        let spares = self.lock().as_ref().map(|place| Arc::clone(&place.spares));
        spares.map_or(Ok(()), |spares| spares.make())
    }

    /// Deletes what discarded directories have left.
    pub fn empty_trash(&self) -> Result<(), SandboxError> {
        let spares = self.lock().as_ref().map(|place| Arc::clone(&place.spares));
        spares.map_or(Ok(()), |spares| spares.empty_trash())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Place>> {
        // It is whole at every moment at which a panic could strike.
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a build directory. `name` is the derivation's, such as `foo.drv`; `n` is the first number that is free.
    ///
    /// # Errors
    ///
    /// [`SandboxError::UnsafeDirectory`] where another user could put something else in its place.
    pub fn create(&self, name: &[u8], credentials: &Credentials) -> Result<BuildDirectory, SandboxError> {
        let (parent, spares) = self.open()?;
        let first = numbered(name, 0)?;
        let (name, outer, is_furnished) = match spares.take(&parent, &first) {
            Some(outer) => (first, outer, true),
            None => {
                let (name, outer) = create_numbered(&parent, name)?;
                (name, outer, false)
            }
        };
        let scratch = Scratch { parent, name, armed: true };
        fail_point(FailPoint::BuildDirectoryLocked);
        if !is_furnished {
            BuildDirectory::furnish(&outer)?;
        }
        let inner = outer.subdirectory(&component(b"build")?)?;
        if let Credentials::BuildUser { uid, gid, .. } = credentials {
            set_owner(&inner, Some(*uid), Some(*gid))?;
        }
        set_mode(&inner, 0o700)?;
        Ok(BuildDirectory { scratch, trash: Arc::clone(spares.trash()), _lock: outer })
    }

    /// Removes the build directories whose engine is gone, and its trash; returns how many. To be called when an engine
    /// starts.
    ///
    /// Directories that are still in use, that have been kept, or that are not Kiln's stay.
    pub fn remove_leftovers(&self) -> Result<usize, SandboxError> {
        let look = |source| SandboxError::Look { path: self.path.clone(), source };
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            entries => entries.map_err(look)?,
        };
        let parent = Directory::open(&self.path)?;
        let (mut removed, mut has_trash) = (0, false);
        for entry in entries {
            let name = entry.map_err(look)?.file_name();
            has_trash |= Trash::is_name(name.as_bytes());
            if !name.as_bytes().starts_with(PREFIX.as_bytes()) {
                continue;
            }
            let name = component(name.as_bytes())?;
            if let Some(_locked) = left_over(&parent, &name) {
                delete_tree(&parent, &name)?;
                removed += 1;
            }
        }
        if has_trash {
            removed += Trash::remove_leftovers(&parent)?;
        }
        Ok(removed)
    }
}

impl Place {
    fn open(path: &Path) -> Result<Self, SandboxError> {
        match fs::create_dir(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(SandboxError::Look { path: path.to_owned(), source: error });
            }
            _ => {}
        }
        check_safe(path)?;
        let directory = Directory::open(path)?;
        let trash = Arc::new(Trash::new(directory.try_clone()?));
        Ok(Self { directory, spares: Arc::new(Spares::new(trash, BuildDirectory::furnish_spare)) })
    }
}

/// The directory in which a builder starts: `<build-dir>/nix-build-<name>-<n>/build`.
///
/// Dropping it removes it; that walks trees, so do it on a worker thread.
#[derive(Debug)]
pub struct BuildDirectory {
    scratch: Scratch,
    trash: Arc<Trash>,
    /// The outer directory, locked as long as it is open.
    _lock: Directory,
}

impl BuildDirectory {
    /// What all are like.
    fn furnish(outer: &Directory) -> Result<(), SandboxError> {
        set_mode(outer, KILNS)?;
        outer.create_directory(&component(b"build")?, 0o700)?;
        Ok(())
    }

    /// One that nobody can see is locked before it has a name.
    fn furnish_spare(outer: &Directory) -> Result<(), SandboxError> {
        lock(outer)?;
        Self::furnish(outer)
    }

    /// The builder's directory.
    pub fn path(&self) -> PathBuf {
        self.outer().join("build")
    }

    /// The directory around it, which is the engine's.
    pub fn outer(&self) -> PathBuf {
        self.scratch.path()
    }

    /// Keeps it for whoever wants to know why the build failed (`keep-failed`), and lets everybody read it. The answer is
    /// the builder's directory.
    pub fn keep(mut self) -> Result<PathBuf, SandboxError> {
        let outer = self.scratch.parent.subdirectory(&self.scratch.name)?;
        set_mode(&outer.subdirectory(&component(b"build")?)?, 0o755)?;
        set_mode(&outer, 0o755)?;
        self.scratch.armed = false;
        Ok(self.path())
    }

    /// Removes it with all that is in it; if that isn't much, by way of the trash of the place.
    pub fn discard(mut self) -> Result<(), SandboxError> {
        self.scratch.discard(&self.trash)
    }
}

/// A build directory of Kiln's that no engine holds, locked so that none will. What can't be looked at is not.
fn left_over(parent: &Directory, name: &Component) -> Option<Directory> {
    let outer = parent.subdirectory(name).ok()?;
    let is_kilns = outer.own_status().is_ok_and(|status| status.permissions == KILNS);
    // Whoever held it may have deleted it just before, and somebody else may have made another one of that name.
    let is_left = is_kilns && lock(&outer).is_ok() && outer.is_at(parent, name).unwrap_or(false);
    is_left.then_some(outer)
}

fn lock(outer: &Directory) -> Result<(), SandboxError> {
    flock(outer.as_fd(), FlockOperation::NonBlockingLockExclusive).map_err(|errno| failed(outer, errno))
}

fn numbered(name: &[u8], number: u64) -> Result<Component, SandboxError> {
    component(&[PREFIX.as_bytes(), name, format!("-{number}").as_bytes()].concat())
}

/// Creates `nix-build-<name>-<n>` with the first `n` that is free, marked and locked.
fn create_numbered(parent: &Directory, name: &[u8]) -> Result<(Component, Directory), SandboxError> {
    let mut number: u64 = 0;
    loop {
        let full = numbered(name, number)?;
        match parent.create_directory(&full, KILNS) {
            Err(error) if error.already_exists() => number = number.saturating_add(1),
            // An engine that has just started took it for a leftover before it could even be opened.
            Err(error) if error.is_not_found() && parent.own_status()?.links > 0 => {
                number = number.saturating_add(1);
            }
            result => {
                let outer = result?;
                fail_point(FailPoint::BuildDirectoryMade);
                if lock(&outer).is_ok() && outer.is_at(parent, &full)? {
                    return Ok((full, outer));
                }
                // The same, a moment later.
                number = number.saturating_add(1);
            }
        }
    }
}

/// Nobody but root and the engine's user may be able to replace the directory or one that it is in.
fn check_safe(directory: &Path) -> Result<(), SandboxError> {
    let look = |path: &Path| {
        let path = path.to_owned();
        move |source| SandboxError::Look { path, source }
    };
    let real = fs::canonicalize(directory).map_err(look(directory))?;
    let own = geteuid();
    for ancestor in real.ancestors() {
        let metadata = fs::metadata(ancestor).map_err(look(ancestor))?;
        let open_to_all = metadata.mode() & 0o002 != 0 && metadata.mode() & 0o1000 == 0;
        let somebody_elses = own.is_root() && metadata.uid() != 0;
        if open_to_all || somebody_elses {
            return Err(SandboxError::UnsafeDirectory(ancestor.to_owned()));
        }
    }
    Ok(())
}

fn component(name: &[u8]) -> Result<Component, SandboxError> {
    Component::new(name).map_err(|invalid| SandboxError::Directory(invalid.into()))
}

fn set_mode(directory: &Directory, mode: u32) -> Result<(), SandboxError> {
    fchmod(directory.as_fd(), Mode::from_raw_mode(mode)).map_err(|errno| failed(directory, errno))
}

fn set_owner(directory: &Directory, uid: Option<u32>, gid: Option<u32>) -> Result<(), SandboxError> {
    fchown(directory.as_fd(), uid.map(Uid::from_raw), gid.map(Gid::from_raw))
        .map_err(|errno| failed(directory, errno))
}

fn failed(directory: &Directory, errno: Errno) -> SandboxError {
    SandboxError::Look { path: directory.path().to_owned(), source: errno.into() }
}

#[cfg(test)]
mod tests;
