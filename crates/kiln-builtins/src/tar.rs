//! Reading tar archives: the old format, POSIX's `ustar` and `pax`, and GNU's long names.
//!
//! An archive is whatever its author wants it to be, so nothing in it is believed: [`Entries`] holds one block and the
//! bounded names of one entry in memory, and [`unpack`] makes everything below one directory without following links.

mod entries;
mod header;
mod pax;
mod unpack;

pub(crate) use unpack::unpack;

use kiln_events::quoted;
use std::io;
use thiserror::Error;

/// A tar archive can't be unpacked.
#[derive(Debug, Error)]
pub enum TarError {
    /// It doesn't start like one.
    #[error("it is not a tar archive")]
    NotTar,
    /// It doesn't go on like one.
    #[error("the archive is damaged at byte {offset}: {reason}")]
    Damaged {
        /// Where in the uncompressed archive.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// It ends in the middle of an entry.
    #[error("the archive ends early, at byte {0}")]
    Truncated(u64),
    /// Something in it that a store has no place for.
    #[error("'{path}' is {kind}, which is not supported")]
    UnsupportedKind {
        /// The entry.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// A name that leads elsewhere, or is none.
    #[error("the archive has an entry with the invalid name '{path}': {reason}")]
    InvalidName {
        /// The entry.
        path: String,
        /// What is wrong with the name.
        reason: &'static str,
    },
    /// Reading or decompressing it failed.
    #[error("{0}")]
    Source(#[from] io::Error),
    /// The system refused to make a file, or a link or a file is in the way of a directory.
    #[error(transparent)]
    Files(#[from] kiln_fs::Error),
}

impl TarError {
    fn unsupported(path: &[u8], kind: &'static str) -> Self {
        Self::UnsupportedKind { path: quoted(path), kind }
    }

    fn invalid_name(path: &[u8], reason: &'static str) -> Self {
        Self::InvalidName { path: quoted(path), reason }
    }
}
