//! What can go wrong with a store.

use std::io;
use std::path::PathBuf;

use kiln_derivation::{HashModuloError, OutputPathError, ParseError};
use kiln_nar::export::ExportError;
use kiln_store_path::{InvalidStorePath, MakePathError};

/// An error of a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database failed, or what was asked of it cannot be.
    #[error(transparent)]
    Database(#[from] kiln_database::Error),
    /// Files of the store failed, or are not what they should be.
    #[error(transparent)]
    Files(#[from] kiln_fs::Error),
    /// A file or directory beside the store could not be used.
    #[error("cannot {action} '{}': {error}", path.display())]
    Io {
        /// What was being done, as a verb.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
    /// The store directory is reached through a link.
    #[error(
        "the path '{}' is a symlink; this is not allowed for the Nix store and its parent directories \
         (unless the setting 'allow-symlinked-store' is on)", .0.display()
    )]
    SymlinkedStore(PathBuf),
    /// Where the store is cannot be told.
    #[error("{0}")]
    Configuration(String),
    /// A path that has to be valid is not.
    #[error("path '{0}' is not valid")]
    NotValid(String),
    /// The store is opened read-only.
    #[error("the store is opened read-only")]
    ReadOnly,
    /// What was received is not what was announced.
    #[error("{what} mismatch importing path '{path}';\n  specified: {specified}\n  got:       {got}")]
    Mismatch {
        /// `hash`, `size` or `ca hash`.
        what: &'static str,
        /// The full path.
        path: String,
        /// What was announced.
        specified: String,
        /// What arrived.
        got: String,
    },
    /// A path's claim to follow from its content is false.
    #[error("path '{path}' claims to be content-addressed but isn't (its content address is '{address}')")]
    NotContentAddressed {
        /// The full path.
        path: String,
        /// The claim.
        address: String,
    },
    /// The content of a path can't be hashed in the way that its content address says.
    #[error("cannot compute the content address of path '{path}' by method '{method}': {reason}")]
    ContentAddress {
        /// The full path, or its name if there is none yet.
        path: String,
        /// How it should be hashed.
        method: String,
        /// Why that can't be.
        reason: String,
    },
    /// Nothing vouches for a path.
    #[error("cannot add path '{0}' because it lacks a signature by a trusted key")]
    Untrusted(String),
    /// No store path can be computed.
    #[error(transparent)]
    MakePath(#[from] MakePathError),
    /// A path was to be read as a derivation whose name does not end in `.drv`.
    #[error("path '{0}' is not a derivation")]
    NotADerivation(String),
    /// A derivation file does not parse.
    #[error("derivation '{path}': {error}")]
    ParseDerivation {
        /// The full path.
        path: String,
        /// What is wrong with its text.
        error: Box<ParseError>,
    },
    /// A derivation states outputs that do not follow from it.
    #[error("derivation '{path}': {error}")]
    DerivationOutputs {
        /// The full path.
        path: String,
        /// What is wrong with them.
        error: Box<OutputPathError>,
    },
    /// A derivation's hash cannot be computed.
    #[error("derivation '{path}': {error}")]
    HashModulo {
        /// The full path.
        path: String,
        /// Why not.
        error: Box<HashModuloError>,
    },
    /// A stream of an archive or a file broke off.
    #[error("cannot read the contents for path '{path}': {error}")]
    Stream {
        /// The full path, or its name if there is none yet.
        path: String,
        /// What the stream said.
        error: io::Error,
    },
    /// An export stream cannot be read.
    #[error(transparent)]
    Import(#[from] ExportError),
    /// An export stream could not be had.
    #[error("cannot read the stream to import: {0}")]
    ImportSource(io::Error),
    /// A text in an export stream that should be a store path is none.
    #[error("the stream to import names a bad store path: {0}")]
    ImportedPath(#[from] InvalidStorePath),
    /// A file that a permanent root was to be made as is something else.
    #[error("cannot create symlink '{}'; already exists and is not a link into the store", .0.display())]
    RootOccupied(PathBuf),
    /// A direct root outside of the directory of roots.
    #[error("path '{}' is not a valid garbage collector root; it's not in the directory '{}'", path.display(), roots.display())]
    RootOutside {
        /// The link that was asked for.
        path: PathBuf,
        /// The directory of roots.
        roots: PathBuf,
    },
    /// A path that is to be deleted is needed.
    #[error("cannot delete path '{path}' since it is still alive: {reason}")]
    StillAlive {
        /// The full path.
        path: String,
        /// What keeps it.
        reason: String,
    },
    /// Nobody wanted the result any more.
    #[error("cancelled")]
    Cancelled,
    /// An error that several who wait for the same thing were told.
    #[error("{0}")]
    Shared(std::sync::Arc<Error>),
}

/// Shorthand of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the cause is that a path is not valid.
    pub fn is_not_valid(&self) -> bool {
        match self {
            Self::NotValid(_) | Self::Database(kiln_database::Error::NotValid { .. }) => true,
            Self::Shared(error) => error.is_not_valid(),
            _ => false,
        }
    }

    /// Whether trying again later may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Database(error) => error.is_transient(),
            Self::Shared(error) => error.is_transient(),
            _ => false,
        }
    }
}

/// Says what was being done to what file when the system refused.
pub(crate) trait During<T> {
    fn during(self, action: &'static str, path: &std::path::Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> During<T> for std::result::Result<T, E> {
    fn during(self, action: &'static str, path: &std::path::Path) -> Result<T> {
        self.map_err(|error| Error::Io { action, path: path.to_owned(), error: error.into() })
    }
}
