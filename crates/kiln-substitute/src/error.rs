//! What can go wrong with substituters.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kiln_http::{DownloadError, UnknownCoding};
use kiln_narinfo::{CacheInfoError, NarInfoError, ParseRealisationError, RealisationId};
use kiln_settings::StoreUrlError;

use crate::trust::Objection;

/// An error that has to do with a substituter. The message names it, and the path if one was wanted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A URL of a substituter does not read.
    #[error(transparent)]
    Url(#[from] StoreUrlError),
    /// The URL of a daemon has a parameter that makes no sense.
    #[error(transparent)]
    Address(#[from] kiln_remote::AddressError),
    /// A URL is one of a store of which Kiln can't make a substituter.
    #[error(
        "'{0}' can't be a substituter: expected the URL of a binary cache (http, https, s3, file), a local store or a daemon (unix, ssh-ng, ssh)"
    )]
    UnsupportedUrl(String),
    /// A substituter can't be used at all.
    #[error("cannot use substituter '{substituter}': {fault}")]
    Substituter {
        /// Its URL.
        substituter: String,
        /// Why.
        fault: Box<SubstituterFault>,
    },
    /// A substituter could not be asked about a path.
    #[error("cannot ask substituter '{substituter}' about path '{path}': {fault}")]
    Lookup {
        /// Its URL.
        substituter: String,
        /// The full path.
        path: String,
        /// Why.
        fault: Box<LookupFault>,
    },
    /// A substituter could not be asked as what an output was made.
    #[error("cannot ask substituter '{substituter}' about derivation output '{id}': {fault}")]
    Realisation {
        /// Its URL.
        substituter: String,
        /// The hash of the derivation, and the name of the output.
        id: String,
        /// Why.
        fault: Box<LookupFault>,
    },
    /// A path was offered, but not to be had.
    #[error("cannot fetch path '{path}' from substituter '{substituter}': {fault}")]
    Fetch {
        /// Its URL.
        substituter: String,
        /// The full path.
        path: String,
        /// Why.
        fault: Box<FetchFault>,
    },
    /// The closure of what was asked for has no end.
    #[error("what was asked for refers to more than {0} paths")]
    EndlessClosure(usize),
    /// There is not even a place in memory for what servers have said.
    #[error("cannot remember what binary caches say: {0}")]
    LookupCache(#[from] rusqlite::Error),
    /// The store that is to get the paths failed.
    #[error(transparent)]
    Store(#[from] kiln_store::Error),
    /// An error that several who wait for the same thing were told.
    #[error("{0}")]
    Shared(Arc<Error>),
}

/// Shorthand of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A server failed before, and is left alone for a while.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has failed before and is asked again in {} s ({because})", .rest.as_secs().max(1))]
pub struct Resting {
    /// How long it is left alone from now on.
    pub rest: Duration,
    /// What happened before.
    pub because: String,
}

/// Why a substituter can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubstituterFault {
    /// There is nothing, or something else.
    #[error("it does not appear to be a binary cache: {0}")]
    NotACache(&'static str),
    /// What it says about itself does not read, or it is for another store directory.
    #[error(transparent)]
    CacheInfo(#[from] CacheInfoError),
    /// The parameter `store` of its URL is no store directory, or another one.
    #[error("it is for stores at '{found}', not '{expected}'")]
    OtherStore {
        /// As its URL says.
        found: String,
        /// The engine's.
        expected: String,
    },
    /// It failed before, and is left alone for a while.
    #[error(transparent)]
    Resting(#[from] Resting),
    /// It could not be asked.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// Its answer comes in a coding that isn't known.
    #[error(transparent)]
    Coding(#[from] UnknownCoding),
    /// A file could not be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is a daemon, which can't be talked to.
    #[error(transparent)]
    Daemon(#[from] kiln_remote::Error),
    /// It is a local store, which can't be opened.
    #[error(transparent)]
    Store(#[from] kiln_store::Error),
}

/// Why a substituter could not be asked about a path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookupFault {
    /// It failed before, and is left alone for a while.
    #[error(transparent)]
    Resting(#[from] Resting),
    /// There was no answer, or one that is none.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// The answer is a page for people.
    #[error("it answers with a web page instead of a narinfo")]
    WebPage,
    /// The answer comes in a coding that isn't known.
    #[error(transparent)]
    Coding(#[from] UnknownCoding),
    /// The answer does not read, or is about something else.
    #[error(transparent)]
    NarInfo(#[from] NarInfoError),
    /// The answer is no realisation, or one of something else.
    #[error(transparent)]
    Realisation(#[from] ParseRealisationError),
    /// A file could not be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A daemon failed.
    #[error(transparent)]
    Daemon(#[from] kiln_remote::Error),
    /// A local store failed.
    #[error(transparent)]
    Store(#[from] kiln_store::Error),
    /// Whoever asked it for several did not come to an end.
    #[error("the question was given up")]
    GivenUp,
}

/// Why a path that was offered was not to be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchFault {
    /// The file that the narinfo speaks of isn't there.
    #[error("its file is gone")]
    Gone,
    /// The substituter failed before, and is left alone for a while.
    #[error(transparent)]
    Resting(#[from] Resting),
    /// Nothing vouches for the path.
    #[error("{0}")]
    Untrusted(Objection),
    /// The narinfo says that the file is where it can't be.
    #[error("its narinfo has the URL '{url}', {reason}")]
    Url {
        /// As the narinfo has it.
        url: String,
        /// Why it can't be there.
        reason: &'static str,
    },
    /// The file could not be downloaded.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// The file comes in a coding that isn't known.
    #[error(transparent)]
    Coding(#[from] UnknownCoding),
    /// The file could not be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A daemon failed.
    #[error(transparent)]
    Daemon(#[from] kiln_remote::Error),
    /// Nobody here can decompress the file.
    #[error("it is compressed by the unknown method '{0}'")]
    Compression(String),
    /// The file does not decompress.
    #[error("its {compression} file is damaged: {reason}")]
    Damaged {
        /// How it is compressed.
        compression: String,
        /// What the decoder said.
        reason: String,
    },
    /// The compressed file has another hash than the narinfo says.
    #[error("its file has another hash than its narinfo says;\n  specified: {specified}\n  got:       {got}")]
    FileHash {
        /// What the narinfo says, in Nix's base 32 with the algorithm.
        specified: String,
        /// What came, likewise.
        got: String,
    },
    /// The compressed file has another size than the narinfo says.
    #[error("its file has {} bytes, but its narinfo says {specified}", got_bytes(*.got, *.specified))]
    FileSize {
        /// What the narinfo says.
        specified: u64,
        /// What came; if that is more, not all of it was counted.
        got: u64,
    },
    /// The narinfo says nothing of the size of the file, and it is larger than it could be for what is in it.
    #[error("its file has more than {0} bytes, too many for what should be in it")]
    Endless(u64),
    /// The contents are not what the narinfo says, or the store can't take them.
    #[error(transparent)]
    Store(#[from] kiln_store::Error),
}

fn got_bytes(got: u64, specified: u64) -> String {
    if got > specified { format!("more than {specified}") } else { got.to_string() }
}

impl Error {
    pub(crate) fn substituter(name: &str, fault: impl Into<SubstituterFault>) -> Self {
        Self::Substituter { substituter: name.to_owned(), fault: Box::new(fault.into()) }
    }

    pub(crate) fn lookup(substituter: &str, path: String, fault: impl Into<LookupFault>) -> Self {
        Self::Lookup { substituter: substituter.to_owned(), path, fault: Box::new(fault.into()) }
    }

    pub(crate) fn realisation(substituter: &str, id: &RealisationId, fault: impl Into<LookupFault>) -> Self {
        let (substituter, id) = (substituter.to_owned(), id.to_string());
        Self::Realisation { substituter, id, fault: Box::new(fault.into()) }
    }

    pub(crate) fn fetch(substituter: &str, path: String, fault: impl Into<FetchFault>) -> Self {
        Self::Fetch { substituter: substituter.to_owned(), path, fault: Box::new(fault.into()) }
    }

    /// Whether the path vanished from the substituter, so that it counts as not offered (G5).
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Fetch { fault, .. } => matches!(**fault, FetchFault::Gone),
            Self::Shared(error) => error.is_gone(),
            _ => false,
        }
    }

    /// What this is about, for those who are told once of each matter: a substituter that can't be asked at all is one, however
    /// many paths are wanted of it.
    #[must_use]
    pub fn matter(&self) -> String {
        match self {
            Self::Substituter { substituter, .. } => substituter.clone(),
            Self::Lookup { substituter, fault, .. } | Self::Realisation { substituter, fault, .. }
                if matches!(
                    **fault,
                    LookupFault::Resting(_) | LookupFault::Download(_) | LookupFault::Daemon(_)
                ) =>
            {
                substituter.clone()
            }
            Self::Fetch { substituter, fault, .. } if matches!(**fault, FetchFault::Resting(_)) => {
                substituter.clone()
            }
            Self::Shared(error) => error.matter(),
            error => error.to_string(),
        }
    }

    /// The URL of the substituter that has failed.
    #[must_use]
    pub fn failed_substituter(&self) -> Option<&str> {
        match self {
            Self::Substituter { substituter, .. }
            | Self::Lookup { substituter, .. }
            | Self::Realisation { substituter, .. }
            | Self::Fetch { substituter, .. } => Some(substituter),
            Self::Shared(error) => error.failed_substituter(),
            _ => None,
        }
    }
}
