//! Binary caches as places that paths are copied to, and copying between stores and caches of every kind.
//!
//! [`CacheWriter`] adds paths to a binary cache in a directory or at a server: it compresses and hashes the archive, puts
//! the file where its hash says, then the listing if one is wanted, and the signed narinfo last. So a cache never has a
//! narinfo without its file, nor one whose references it does not have; whatever moment a copy ends at, the next one goes
//! on from there. How a cache is written is said by the parameters of its URL ([`WriteOptions`]).
//!
//! [`copy`] brings paths with all that they refer to from a [`Source`] to a [`Destination`], several at a time, references
//! before referrers. Sources are the substituters of `kiln-substitute`; what comes from one is decompressed and checked on
//! the way.
//!
//! [`collect`] deletes files that no narinfo names from a cache in a directory, and narinfos that have had their time.

mod collect;
mod compress;
mod copy;
mod daemon;
mod directory;
mod error;
mod options;
mod pack;
mod place;
mod server;
mod source;
mod spool;
mod writer;

pub use collect::{CacheGarbage, CollectOptions, collect};
pub use copy::{Copied, CopyRequest, Destination, Substitute, copy};
pub use daemon::DaemonWriter;
pub use error::{Error, Result};
pub use options::{PartSizes, WriteOptions, read_secret_key};
pub use source::Source;
pub use writer::{CacheWriter, Written};
