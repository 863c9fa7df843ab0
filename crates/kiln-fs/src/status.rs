//! What the system says of a file.

use rustix::fs::{AtFlags, FileType, Stat, fstat, statat};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::BorrowedFd;

/// The kinds of files that a store has, and all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Anything else, with its name for messages.
    Other(&'static str),
}

impl Kind {
    pub(crate) fn of(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Self::Regular,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Other("pipe"),
            FileType::Socket => Self::Other("socket"),
            FileType::CharacterDevice => Self::Other("character device"),
            FileType::BlockDevice => Self::Other("block device"),
            FileType::Unknown => Self::Other("unknown"),
        }
    }
}

/// What the system says of a file: the part of `stat` that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with set-id and sticky bits.
    pub permissions: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Number of hard links.
    pub links: u64,
    /// Which file it is.
    pub identity: Identity,
    /// Time of the last modification: seconds since 1970 and nanoseconds.
    pub modified: (i64, i64),
}

/// Which file something is: device and inode number. Stays the same while the file is open, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The file system.
    pub device: u64,
    /// The file in it.
    pub inode: u64,
}

impl Status {
    /// Of the file that is open.
    pub(crate) fn of(file: BorrowedFd<'_>) -> Result<Self, Errno> {
        fstat(file).map(|stat| Self::from(&stat))
    }

    /// Of what has the name `name` in a directory, not of what a link there points to.
    pub(crate) fn at(directory: BorrowedFd<'_>, name: &CStr) -> Result<Self, Errno> {
        statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| Self::from(&stat))
    }
}

#[allow(clippy::unnecessary_cast, reason = "the types of the fields differ between processors")]
impl From<&Stat> for Status {
    fn from(stat: &Stat) -> Self {
        Self {
            kind: Kind::of(FileType::from_raw_mode(stat.st_mode)),
            permissions: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            links: stat.st_nlink as u64,
            identity: Identity { device: stat.st_dev as u64, inode: stat.st_ino as u64 },
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        }
    }
}
