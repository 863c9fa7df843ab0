//! An open directory: where everything that happens in it is reached through.

use crate::component::Component;
use crate::entries::for_each_entry;
use crate::error::{During as _, Result};
use crate::status::Status;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// How directories are opened for listing.
pub(crate) const OPEN_DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How files are opened for reading: never through a link, and not waiting for the writer of a pipe.
pub(crate) const OPEN_FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOCTTY);

/// Opens something for reading, without having the time of that noted where that is possible: it is of no interest in a store,
/// and to note it is to write to the disk. Root may ask for that; who is root only in a user namespace may for some files.
pub(crate) fn without_access_time<T>(
    flags: OFlags,
    open: impl Fn(OFlags) -> Result<T, Errno>,
) -> Result<T, Errno> {
    if rustix::process::geteuid().is_root() {
        match open(flags | OFlags::NOATIME) {
            Err(Errno::PERM) => {}
            result => return result,
        }
    }
    open(flags)
}

/// How files are opened to look at and change what the system says of them, whatever they are.
pub(crate) const OPEN_PLACE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// An open directory. Its path is for messages; it is never resolved again.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// Opens the directory at `path`, following links: only for places that nobody else can write.
    ///
    /// # Errors
    /// If it isn't there or isn't a directory.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, &path, flags, Mode::empty()).during("open directory", || &path)?;
        Ok(Self { fd, path })
    }

    /// Takes the descriptor of an open directory; `path` is for messages.
    #[must_use]
    pub fn from_fd(fd: OwnedFd, path: PathBuf) -> Self {
        Self { fd, path }
    }

    /// The path by which the directory was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of something in the directory, for messages.
    #[must_use]
    pub fn path_of(&self, name: &Component) -> PathBuf {
        self.path.join(name.as_path())
    }

    /// Another handle of the same directory.
    ///
    /// # Errors
    /// If there are no more descriptors.
    pub fn try_clone(&self) -> Result<Self> {
        let fd = self.fd.try_clone().during("duplicate the descriptor of", || &self.path)?;
        Ok(Self { fd, path: self.path.clone() })
    }

    /// Opens the directory `name` in this one.
    ///
    /// # Errors
    /// If it isn't there or isn't a directory; a link to one isn't.
    pub fn subdirectory(&self, name: &Component) -> Result<Self> {
        let fd = rustix::fs::openat(&self.fd, name.as_c_str(), OPEN_DIRECTORY, Mode::empty())
            .during("open directory", || self.path_of(name))?;
        Ok(Self { fd, path: self.path_of(name) })
    }

    /// Opens what is at `relative` below this directory for reading. No component of it may be a link, nor may it lead
    /// out of the directory.
    ///
    /// # Errors
    /// If it isn't there, or the way there has a link or `..` in it.
    pub fn open_beneath(&self, relative: &Path) -> Result<File> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        without_access_time(OPEN_FILE, |flags| {
            rustix::fs::openat2(&self.fd, relative, flags, Mode::empty(), resolve)
        })
        .map(File::from)
        .during("open", || self.path.join(relative))
    }

    /// What the system says of `name` in this directory; nothing if it isn't there. Links aren't followed.
    ///
    /// # Errors
    /// If the system doesn't say.
    pub fn status(&self, name: &Component) -> Result<Option<Status>> {
        match Status::at(self.as_fd(), name.as_c_str()) {
            Ok(status) => Ok(Some(status)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).during("look at", || self.path_of(name)),
        }
    }

    /// What the system says of this directory.
    ///
    /// # Errors
    /// If the system doesn't say.
    pub fn own_status(&self) -> Result<Status> {
        Status::of(self.as_fd()).during("look at", || &self.path)
    }

    /// Whether this directory is what has a name in another one: somebody may have deleted or renamed it since it was opened.
    ///
    /// # Errors
    /// If the system doesn't say.
    pub fn is_at(&self, parent: &Self, name: &Component) -> Result<bool> {
        let found = parent.status(name)?.map(|status| status.identity);
        Ok(found == Some(self.own_status()?.identity))
    }

    /// The names in this directory, in the file system's order.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn names(&self) -> Result<Vec<Component>> {
        let path = || &self.path;
        let again = rustix::fs::openat(&self.fd, c".", OPEN_DIRECTORY, Mode::empty());
        let again = again.during("open directory", path)?;
        let mut names = Vec::new();
        for_each_entry(again.as_fd(), |name, _| names.extend(Component::new(name.to_bytes()).ok()))
            .during("read directory", path)?;
        Ok(names)
    }

    /// Makes the directory `name` with the permissions `mode` (less the umask) and opens it.
    ///
    /// # Errors
    /// If there is something of that name.
    pub fn create_directory(&self, name: &Component, mode: u32) -> Result<Self> {
        rustix::fs::mkdirat(&self.fd, name.as_c_str(), Mode::from_raw_mode(mode))
            .during("create directory", || self.path_of(name))?;
        self.subdirectory(name)
    }

    /// Makes the file `name` with the permissions `mode` (less the umask) and opens it for writing.
    ///
    /// # Errors
    /// If there is something of that name.
    pub fn create_file(&self, name: &Component, mode: u32) -> Result<File> {
        create_file_at(self.as_fd(), name.as_c_str(), mode)
            .map(File::from)
            .during("create file", || self.path_of(name))
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// If there is something of that name.
    pub fn create_symlink(&self, name: &Component, target: impl AsRef<[u8]>) -> Result<()> {
        rustix::fs::symlinkat(target.as_ref(), &self.fd, name.as_c_str())
            .during("create symlink", || self.path_of(name))
    }

    /// Makes a symbolic link in place of whatever has the name `name`, unless that is a directory: at every moment there
    /// is either the old or the new one.
    ///
    /// # Errors
    /// If the link can't be made, or there is a directory of that name.
    pub fn replace_symlink(&self, name: &Component, target: impl AsRef<[u8]>) -> Result<()> {
        let path = || self.path_of(name);
        let scratch = loop {
            let scratch = scratch_name().during("create symlink", path)?;
            match rustix::fs::symlinkat(target.as_ref(), &self.fd, scratch.as_c_str()) {
                Ok(()) => break scratch,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error).during("create symlink", path),
            }
        };
        rustix::fs::renameat(&self.fd, scratch.as_c_str(), &self.fd, name.as_c_str())
            .inspect_err(|_| {
                let _ = rustix::fs::unlinkat(&self.fd, scratch.as_c_str(), AtFlags::empty());
            })
            .during("create symlink", path)
    }

    /// The target of the symbolic link `name`, as it is written.
    ///
    /// # Errors
    /// If it isn't a symbolic link.
    pub fn read_link(&self, name: &Component) -> Result<Vec<u8>> {
        rustix::fs::readlinkat(&self.fd, name.as_c_str(), Vec::new())
            .map(|target| target.into_bytes())
            .during("read symlink", || self.path_of(name))
    }

    /// Removes the file or link `name`; nothing happens if it isn't there.
    ///
    /// # Errors
    /// If it is a directory, or may not be removed.
    pub fn remove_file(&self, name: &Component) -> Result<()> {
        match rustix::fs::unlinkat(&self.fd, name.as_c_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error).during("remove", || self.path_of(name)),
        }
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub(crate) fn create_file_at(directory: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(mode))
}

/// A name that nobody can guess, for something that is renamed right after.
pub(crate) fn scratch_name() -> Result<Component, std::io::Error> {
    let mut random = [0_u8; 16];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    Component::new(format!(".tmp-link-{:032x}", u128::from_le_bytes(random))).map_err(std::io::Error::other)
}

/// Sets the permissions of a file that may not be opened for reading, and that the descriptor was opened for as a place
/// only. The way through `/proc` is the one that follows nothing on every kernel.
pub(crate) fn change_permissions_of_place(place: BorrowedFd<'_>, mode: u32) -> Result<(), Errno> {
    rustix::fs::chmod(path_of_descriptor(place).as_path(), Mode::from_raw_mode(mode))
}

/// The magic link in `/proc` that stands for an open file.
pub(crate) fn path_of_descriptor(file: BorrowedFd<'_>) -> PathBuf {
    use std::os::fd::AsRawFd as _;
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// A path for messages.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> PathBuf {
    Path::new(std::ffi::OsStr::from_bytes(directory)).join(std::ffi::OsStr::from_bytes(name))
}
