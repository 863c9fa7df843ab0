//! Why a builtin has failed.

use crate::tar::TarError;
use kiln_http::DownloadError;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A builtin has failed. The message is one line, and names the file, URL or attribute concerned.
#[derive(Debug, Error)]
pub enum BuiltinError {
    /// There is no builtin of that name.
    #[error("unsupported builtin function '{0}'")]
    Unsupported(String),
    /// The derivation lacks an attribute.
    #[error("attribute '{0}' missing")]
    MissingAttribute(&'static str),
    /// An attribute of the derivation makes no sense.
    #[error("attribute '{name}' is '{value}', which can't be used: {reason}")]
    InvalidAttribute {
        /// The attribute.
        name: &'static str,
        /// Its value, made printable.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `builtin:fetchurl` in a derivation whose result nothing checks.
    #[error("'builtin:fetchurl' must be a fixed-output or impure derivation")]
    NotFixed,
    /// A download failed.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// An `.xz` file is damaged, or needs too much memory.
    #[error("cannot decompress the xz file: {0}")]
    Xz(String),
    /// What was to be unpacked is no archive, or a damaged one.
    #[error("cannot unpack the Nix archive: {0}")]
    Nar(#[from] kiln_nar::DecodeError),
    /// An operation on files failed.
    #[error(transparent)]
    Files(#[from] kiln_fs::Error),
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
    /// `builtin:buildenv`: two packages of the same priority have the same file.
    #[error(
        "packages '{}' and '{}' have the same priority {priority}; use 'nix-env --set-flag priority NUMBER \
         INSTALLED_PKGNAME' to change the priority of one of the conflicting packages (0 being the highest priority)",
        .file.display(), .present.display()
    )]
    SamePriority {
        /// The file that came second.
        file: PathBuf,
        /// The one that is there already.
        present: PathBuf,
        /// The priority of both.
        priority: i64,
    },
    /// `builtin:buildenv`: one package has a directory where another one has something else.
    #[error("collision between '{}' and non-directory '{}'", .directory.display(), .other.display())]
    DirectoryOverFile {
        /// The directory.
        directory: PathBuf,
        /// What is there already.
        other: PathBuf,
    },
    /// `builtin:buildenv`: one package has something else where others have a directory.
    #[error("collision between non-directory '{}' and directory '{}'", .file.display(), .directory.display())]
    FileOverDirectory {
        /// What isn't a directory.
        file: PathBuf,
        /// The directory of the environment.
        directory: PathBuf,
    },
    /// `builtin:unpack-channel`: the tarball is damaged, or has in it what may not be in a store.
    #[error("cannot unpack '{}': {source}", .archive.display())]
    Tar {
        /// The tarball.
        archive: PathBuf,
        /// Why.
        source: TarError,
    },
    /// `builtin:unpack-channel`: not one file or directory at the top of the tarball.
    #[error("channel tarball '{}' contains {}", .archive.display(), if *.empty { "no file" } else { "more than one file" })]
    NotOneEntry {
        /// The tarball.
        archive: PathBuf,
        /// Whether there is nothing at all in it.
        empty: bool,
    },
}

/// Says what was being done to what when the system refused.
pub(crate) trait During<T> {
    fn during(self, action: &'static str, path: &Path) -> Result<T, BuiltinError>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, action: &'static str, path: &Path) -> Result<T, BuiltinError> {
        self.map_err(|source| BuiltinError::System { action, path: path.to_path_buf(), source })
    }
}
