//! Stores as a service: asynchronous on the outside, blocking work on bounded threads on the inside.
//!
//! The traits [`QueryStore`], [`ReadStore`] and [`AddStore`] are what the engine wants of any store; [`LocalStore`] is the
//! one on this machine's disk, which has all of them and much more: registration, locks, temporary and permanent roots,
//! derivations, logs.
//!
//! A path becomes valid in one way only. Its files are written under its lock while it is a temporary root, made
//! canonical, hashed on the way, compared with what was announced, brought to the disk if that is asked for, and then
//! registered with all that belongs to it in one transaction of the database. Derivations are parsed and their outputs
//! checked on every way in, and the claim to be content-addressed is believed only after the content was hashed.
//!
//! [`blocking`] and [`waiting`] are the only ways to threads that may block.

mod blocking;
mod config;
mod directories;
mod error;
mod info_cache;
mod local;
mod store;
mod stream;
mod temp_roots;

pub use blocking::{blocking, waiting};
pub use config::{Automatic, Locations, Lookup, StoreConfig};
pub use error::{Error, Result};
pub use kiln_database::{Follow, Graph, Node, NodeSet, Notice};
pub use kiln_fs::PathLocks;
pub use local::{EntryKind, Filter, LocalStore, NewObject, OnNotice, StreamKind, Verdict};
pub use store::{AddStore, Added, CheckSignatures, QueryStore, ReadStore};
pub use stream::ByteStream;
