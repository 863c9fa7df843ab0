//! What can go wrong with trees of files.

use crate::component::InvalidComponent;
use kiln_nar::{DecodeError, EncodeError};
use rustix::io::Errno;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The result of an operation on files.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An operation on files failed. Paths are full ones, as far as the caller gave them.
#[derive(Debug, Error)]
pub enum Error {
    /// The system refused something.
    #[error("cannot {action} '{}': {source}", .path.display())]
    System {
        /// What was being done, as a verb: "open".
        action: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A name isn't the name of something directly in a directory.
    #[error(transparent)]
    Component(#[from] InvalidComponent),
    /// A socket, pipe or device, which the store has no place for.
    #[error("file '{}' has an unsupported type: {kind}", .path.display())]
    UnsupportedKind {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// More levels of directories than an archive may have.
    #[error("directory nesting exceeds the maximum depth of {} at '{}'", kiln_nar::MAX_DEPTH, .0.display())]
    TooDeep(PathBuf),
    /// A file grew or shrank, or something took its place, while it was being read.
    #[error("'{}' changed while it was being read", .0.display())]
    Changed(PathBuf),
    /// The tree can't be written as an archive.
    #[error("cannot archive '{}': {source}", .path.display())]
    Encode {
        /// Where in the tree.
        path: PathBuf,
        /// Why.
        source: EncodeError,
    },
    /// The archive to restore is damaged.
    #[error("cannot restore '{}': {source}", .path.display())]
    Decode {
        /// The tree that was to be made.
        path: PathBuf,
        /// What is wrong with the archive.
        source: DecodeError,
    },
    /// Where the archive comes from failed.
    #[error("cannot read the archive of '{}': {source}", .path.display())]
    Source {
        /// The tree that was to be made.
        path: PathBuf,
        /// What the reader said.
        source: io::Error,
    },
    /// Where the archive goes to failed.
    #[error("cannot write the archive of '{}': {source}", .path.display())]
    Sink {
        /// The tree that is being archived.
        path: PathBuf,
        /// What the writer said.
        source: io::Error,
    },
    /// Two names of a directory that the case hack can't tell apart.
    #[error("'{}' collides with another entry when the case of letters is ignored", .0.display())]
    CaseCollision(PathBuf),
    /// A file in a build's output that isn't the build user's.
    #[error("invalid ownership on file '{}': it belongs to user {owner}, not to the build user", .path.display())]
    ForeignOwner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// A file in a build's output that can also be reached from elsewhere.
    #[error("file '{}' has hard links outside of the build's outputs ({found} of {links} links are inside)", .path.display())]
    LinkedOutside {
        /// The file.
        path: PathBuf,
        /// How many links to it the outputs have.
        found: u64,
        /// How many it has.
        links: u64,
    },
    /// An extended attribute that doesn't go away.
    #[error("cannot remove extended attribute '{}' from '{}'", .name.escape_ascii(), .path.display())]
    StubbornAttribute {
        /// The file.
        path: PathBuf,
        /// The attribute.
        name: Vec<u8>,
    },
    /// The root of a build's output can be written by others, or is someone else's.
    #[error("suspicious ownership or permission on '{}'; rejecting this build output", .0.display())]
    Suspicious(PathBuf),
    /// A directory was moved elsewhere while its tree was being deleted.
    #[error("'{}' was moved while it was being deleted", .0.display())]
    Moved(PathBuf),
    /// Entries keep appearing in a directory that is being deleted.
    #[error("cannot delete '{}': entries keep appearing in it", .0.display())]
    NeverEmpty(PathBuf),
    /// A tree takes more than it may; where that was noticed.
    #[error("'{}' is beyond what was allowed for its tree", .0.display())]
    TooLarge(PathBuf),
}

impl Error {
    /// The system's error number, if that was the cause.
    #[must_use]
    pub fn os_error(&self) -> Option<i32> {
        match self {
            Self::System { source, .. } | Self::Source { source, .. } | Self::Sink { source, .. } => {
                source.raw_os_error()
            }
            _ => None,
        }
    }

    /// Whether the cause is that something isn't there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.os_error() == Some(Errno::NOENT.raw_os_error())
    }

    /// Whether the cause is that something is there already.
    #[must_use]
    pub fn already_exists(&self) -> bool {
        self.os_error() == Some(Errno::EXIST.raw_os_error())
    }
}

/// Says what was being done to what when the system refused.
pub(crate) trait During<T> {
    /// `path` is called only on failure.
    fn during<P: AsRef<Path>>(self, action: &'static str, path: impl FnOnce() -> P) -> Result<T>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during<P: AsRef<Path>>(self, action: &'static str, path: impl FnOnce() -> P) -> Result<T> {
        self.map_err(|source| Error::System {
            action,
            path: path().as_ref().to_path_buf(),
            source: source.into(),
        })
    }
}
