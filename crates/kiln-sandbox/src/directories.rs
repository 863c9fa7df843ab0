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

use kiln_fs::{Component, Directory, Trash, TreeSize, delete_tree, is_small};
use rustix::fs::{FlockOperation, Gid, Mode, Uid, fchmod, fchown, flock};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::{Credentials, SandboxError};

const PREFIX: &str = "nix-build-";
/// The mode of the outer part of a build directory. The sticky bit is of no consequence where only the engine may enter;
/// it tells Kiln's directories, which are locked while they are in use, from those that real Nix makes beside them. It is
/// set when the lock is held, so what has it and is not locked is a leftover.
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

/// `<derivation>.chroot` beside the store's paths: the builder's view of the store, where outputs appear, and its `/tmp`.
///
/// A garbage collection by real Nix on the same store spares it for its name, while the derivation is a temporary root.
/// Dropping it removes it; that walks trees, so do it on a worker thread.
#[derive(Debug)]
pub struct ChrootDirectory {
    scratch: Scratch,
}

impl ChrootDirectory {
    /// Creates it in `store`, the real store directory. `name` is `<base name of the derivation>.chroot`; what an earlier
    /// build has left under that name is removed first.
    pub fn create(store: &Path, name: &[u8], credentials: &Credentials) -> Result<Self, SandboxError> {
        let parent = Directory::open(store)?;
        let name = component(name)?;
        delete_tree(&parent, &name)?;
        let outer = parent.create_directory(&name, 0o700)?;
        let created = Self { scratch: Scratch { parent, name, armed: true } };
        set_mode(&outer, 0o700)?;
        // Sticky: the builder may make names there, but not rename or remove those of its inputs.
        let view = outer.create_directory(&component(b"store")?, 0o700)?;
        if let Credentials::BuildUser { gid, .. } = credentials {
            set_owner(&view, None, Some(*gid))?;
        }
        set_mode(&view, 0o1775)?;
        let temporary = outer.create_directory(&component(b"tmp")?, 0o700)?;
        set_mode(&temporary, 0o1777)?;
        Ok(created)
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
    trash: Arc<Trash>,
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
    fn open(&self) -> Result<(Directory, Arc<Trash>), SandboxError> {
        let mut guard = self.lock();
        let place = match guard.take() {
            Some(place) if place.directory.own_status()?.links > 0 => place,
            _ => Place::open(&self.path)?,
        };
        let place = guard.insert(place);
        Ok((place.directory.try_clone()?, Arc::clone(&place.trash)))
    }

    /// Deletes what discarded directories have left.
    pub fn empty_trash(&self) -> Result<(), SandboxError> {
        let trash = self.lock().as_ref().map(|place| Arc::clone(&place.trash));
        Ok(trash.map_or(Ok(()), |trash| trash.empty())?)
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
        let (parent, trash) = self.open()?;
        let (name, outer) = create_numbered(&parent, name)?;
        let scratch = Scratch { parent, name, armed: true };
        lock(&outer)?;
        set_mode(&outer, KILNS)?;
        let inner = outer.create_directory(&component(b"build")?, 0o700)?;
        if let Credentials::BuildUser { uid, gid, .. } = credentials {
            set_owner(&inner, Some(*uid), Some(*gid))?;
        }
        set_mode(&inner, 0o700)?;
        Ok(BuildDirectory { scratch, trash, _lock: outer })
    }

    /// Removes the build directories whose engine is gone; returns how many. To be called when an engine starts.
    ///
    /// Directories that are still in use, that have been kept, or that are not Kiln's stay.
    pub fn remove_leftovers(&self) -> Result<usize, SandboxError> {
        let look = |source| SandboxError::Look { path: self.path.clone(), source };
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            entries => entries.map_err(look)?,
        };
        let parent = Directory::open(&self.path)?;
        let mut removed = 0;
        for entry in entries {
            let name = entry.map_err(look)?.file_name();
            if !name.as_bytes().starts_with(PREFIX.as_bytes()) {
                continue;
            }
            let name = component(name.as_bytes())?;
            if is_left_over(&parent, &name) {
                delete_tree(&parent, &name)?;
                removed += 1;
            }
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
        Ok(Self { directory, trash })
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

/// Whether this is a build directory of Kiln's that no engine holds. What can't be looked at is not.
fn is_left_over(parent: &Directory, name: &Component) -> bool {
    let Ok(outer) = parent.subdirectory(name) else { return false };
    let kilns = outer.own_status().is_ok_and(|status| status.permissions == KILNS);
    kilns && lock(&outer).is_ok()
}

fn lock(outer: &Directory) -> Result<(), SandboxError> {
    flock(outer.as_fd(), FlockOperation::NonBlockingLockExclusive).map_err(|errno| failed(outer, errno))
}

/// Creates `nix-build-<name>-<n>` with the first `n` that is free.
fn create_numbered(parent: &Directory, name: &[u8]) -> Result<(Component, Directory), SandboxError> {
    let mut number: u64 = 0;
    loop {
        let full = [PREFIX.as_bytes(), name, format!("-{number}").as_bytes()].concat();
        let full = component(&full)?;
        match parent.create_directory(&full, 0o700) {
            Err(error) if error.already_exists() => number = number.saturating_add(1),
            result => return Ok((full, result?)),
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
