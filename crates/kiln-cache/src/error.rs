//! What can go wrong with writing caches and with copying.

use std::io;
use std::path::PathBuf;

use kiln_narinfo::{CacheInfoError, NarInfoError, NoFingerprint, ParseKeyError};
use kiln_settings::StoreUrlError;

/// An error of a cache that is written to, or of a copy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL of a cache does not read.
    #[error(transparent)]
    Url(#[from] StoreUrlError),
    /// A parameter of a cache's URL has a value that it can't have.
    #[error("binary cache '{cache}': parameter '{parameter}' has an invalid value: expected {expected}")]
    Parameter {
        /// The cache.
        cache: String,
        /// Name of the parameter.
        parameter: &'static str,
        /// What would be valid.
        expected: String,
    },
    /// A secret key can't be read.
    #[error("cannot read the secret key in '{}': {reason}", file.display())]
    SecretKey {
        /// The file that it should be in.
        file: PathBuf,
        /// Why.
        reason: KeyFault,
    },
    /// A file could not be used.
    #[error("cannot {action} '{}': {error}", path.display())]
    Io {
        /// What was being done, as a verb.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
    /// What a cache says about itself can't be used.
    #[error(transparent)]
    CacheInfo(#[from] CacheInfoError),
    /// A narinfo in a cache does not read.
    #[error("binary cache '{cache}': {error}")]
    NarInfo {
        /// The cache.
        cache: String,
        /// What is wrong.
        error: Box<NarInfoError>,
    },
    /// A path was to be added to a cache that does not have all of its references.
    #[error(
        "cannot add '{path}' to the binary cache '{cache}' because the reference '{reference}' is not valid there"
    )]
    MissingReference {
        /// The full path.
        path: String,
        /// The full path of the reference.
        reference: String,
        /// The cache.
        cache: String,
    },
    /// What arrived is not what was announced.
    #[error("{what} mismatch copying path '{path}';\n  specified: {specified}\n  got:       {got}")]
    Mismatch {
        /// `hash` or `size`.
        what: &'static str,
        /// The full path.
        path: String,
        /// What was announced.
        specified: String,
        /// What arrived.
        got: String,
    },
    /// The contents of a path could not be read or compressed.
    #[error("cannot pack path '{path}': {error}")]
    Pack {
        /// The full path.
        path: String,
        /// What was said.
        error: io::Error,
    },
    /// A path can't be signed.
    #[error(transparent)]
    NoFingerprint(#[from] NoFingerprint),
    /// A path that is to be copied is not where it should be copied from.
    #[error("path '{path}' is not valid in '{source_name}'")]
    NotAtSource {
        /// The full path.
        path: String,
        /// The store or cache.
        source_name: String,
    },
    /// A path whose content is known, and that is said to be something else.
    #[error("'{source_name}' does not say of path '{path}' {expected}: it says {found}")]
    Content {
        /// The full path.
        path: String,
        /// The store or cache.
        source_name: String,
        /// What it must be.
        expected: String,
        /// What it is said to be.
        found: String,
    },
    /// Paths refer to each other in a circle.
    #[error("'{0}' and other paths refer to each other in a circle")]
    Circle(String),
    /// The closure of what is to be copied has no end.
    #[error("what is to be copied refers to more than {0} paths")]
    Endless(usize),
    /// A source failed.
    #[error(transparent)]
    Source(#[from] kiln_substitute::Error),
    /// A server could not be written to.
    #[error(transparent)]
    Upload(#[from] kiln_http::UploadError),
    /// A server could not be asked what it is.
    #[error(transparent)]
    Download(#[from] kiln_http::DownloadError),
    /// Several were told the same.
    #[error("{0}")]
    Shared(std::sync::Arc<kiln_substitute::Error>),
    /// A daemon failed, or refused what was brought.
    #[error(transparent)]
    Daemon(#[from] kiln_remote::Error),
    /// A local store failed.
    #[error(transparent)]
    Store(#[from] kiln_store::Error),
}

/// Why there is no secret key in a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFault {
    /// The file can't be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// There is something else in it.
    #[error("{0}")]
    Parse(#[from] ParseKeyError),
    /// It isn't even text, or too long.
    #[error("it is not a key file")]
    NotAKey,
}

/// Shorthand of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says what was being done to what file when the system refused.
pub(crate) trait During<T> {
    fn during(self, action: &'static str, path: &std::path::Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> During<T> for std::result::Result<T, E> {
    fn during(self, action: &'static str, path: &std::path::Path) -> Result<T> {
        self.map_err(|error| Error::Io { action, path: path.to_owned(), error: error.into() })
    }
}
