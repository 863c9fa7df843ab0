//! What can go wrong with the database of a store.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Schema version that this engine reads and writes.
pub const SCHEMA_VERSION: u32 = 10;

/// An error of the database, with the way out where there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file beside the database could not be used.
    #[error("{doing} '{}': {error}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
    /// The schema file does not hold a number.
    #[error(
        "'{}' is corrupt: expected the store's schema version as a decimal number, found {content:?}; \
         if the database beside it is intact, write '{SCHEMA_VERSION}' (no line feed) into it", path.display()
    )]
    SchemaFile {
        /// The schema file.
        path: PathBuf,
        /// Its first bytes.
        content: String,
    },
    /// A newer Nix or Kiln has been here.
    #[error(
        "the store's schema is version {found} ('{}'), but only {SCHEMA_VERSION} and older are supported; \
         use the newer version that made it", path.display()
    )]
    SchemaTooNew {
        /// The schema file.
        path: PathBuf,
        /// Version in the file.
        found: u32,
    },
    /// The store was last used by a very old Nix.
    #[error(
        "the store's schema is version {found} ('{}'), which is too old; \
         upgrade the store with Nix 1.11 first", path.display()
    )]
    SchemaTooOld {
        /// The schema file.
        path: PathBuf,
        /// Version in the file.
        found: u32,
    },
    /// An older schema, and no permission to migrate it.
    #[error(
        "the store's schema is version {found} ('{}') and the store is opened read-only; \
         open it once for writing, so that it can be upgraded to {SCHEMA_VERSION}", path.display()
    )]
    SchemaReadOnly {
        /// The schema file.
        path: PathBuf,
        /// Version in the file.
        found: u32,
    },
    /// The schema file says that there is a database, and there is none.
    #[error(
        "the store's database '{}' is missing although its schema file exists; nothing was created in its place, \
         as every path of the store would then be garbage: restore the database from a backup or with \
         'nix-store --load-db', or delete the schema file if the store is meant to be empty", path.display()
    )]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// There is no store, and none may be created.
    #[error("there is no store database in '{}'", path.display())]
    NoStore {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A change was asked for, and the store is opened read-only.
    #[error("the store is opened read-only")]
    ReadOnly,
    /// SQLite found the file damaged, or a table is missing.
    #[error(
        "the store's database '{}' is corrupt: {detail}; it is left as it is: copy it, recover what can be read with \
         'sqlite3 COPY .recover', and put the result in its place", path.display()
    )]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Another process kept the database locked for longer than allowed.
    #[error("the store's database '{}' is busy: another process has kept it locked for {} s", path.display(), waited.as_secs())]
    Busy {
        /// The database.
        path: PathBuf,
        /// How long this process waited.
        waited: Duration,
    },
    /// Any other failure of SQLite.
    #[error("{doing}: {error} (database '{}')", path.display())]
    Sqlite {
        /// What was being done.
        doing: &'static str,
        /// The database.
        path: PathBuf,
        /// SQLite's error.
        error: rusqlite::Error,
    },
    /// A value in the database that cannot be what it should be.
    #[error("the store's database has an invalid {column} for '{subject}': {detail}")]
    Value {
        /// Table and column.
        column: &'static str,
        /// The path whose row it is.
        subject: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A path that has to be valid is not.
    #[error("path '{path}' is not valid")]
    NotValid {
        /// The full store path.
        path: String,
    },
    /// A path cannot lose its validity because others refer to it.
    #[error("cannot delete path '{path}' because it is in use by {}", quoted(referrers))]
    InUse {
        /// The full store path.
        path: String,
        /// Full paths of (some of) its referrers.
        referrers: Vec<String>,
    },
    /// The paths to be registered refer to each other in a circle.
    #[error("cycle detected in the references of '{path}' from '{from}'")]
    Cycle {
        /// The path that is reached again.
        path: String,
        /// The path whose reference closes the circle.
        from: String,
    },
    /// An output is already realised as another path.
    #[error("'{id}' is already realised as '{existing}', refusing '{new}'")]
    RealisationConflict {
        /// Id of the realisation.
        id: String,
        /// The output path on record.
        existing: String,
        /// The output path that was to be recorded.
        new: String,
    },
    /// Realisations were to be recorded in a database that has no tables for them.
    #[error("the store's database has no tables for realisations; enable the feature 'ca-derivations'")]
    NoRealisations,
    /// The transaction in which this change stood, together with others, could not be committed.
    #[error("{0}")]
    Commit(Arc<Error>),
    /// The database was closed while the change waited for its turn.
    #[error("the store's database was closed")]
    Closed,
}

/// Shorthand of this crate.
pub type Result<T> = std::result::Result<T, Error>;

fn quoted(paths: &[String]) -> String {
    paths.iter().map(|path| format!("'{path}'")).collect::<Vec<_>>().join(", ")
}

impl Error {
    /// Whether trying again later may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Busy { .. } => true,
            Self::Commit(error) => error.is_transient(),
            _ => false,
        }
    }
}
