//! Stores as a service: asynchronous on the outside, blocking work on bounded threads on the inside.
//!
//! The traits [`QueryStore`], [`ReadStore`] and [`AddStore`] are what the engine wants of any store; [`LocalStore`] is the
//! one on this machine's disk, which has all of them and much more: registration, locks, temporary and permanent roots,
//! derivations, logs, collection of garbage, sharing of equal files, verification.
//!
//! A path becomes valid in one way only. Its files are written under its lock while it is a temporary root, made
//! canonical, hashed on the way, compared with what was announced, brought to the disk if that is asked for, and then
//! registered with all that belongs to it in one transaction of the database. Derivations are parsed and their outputs
//! checked on every way in, and the claim to be content-addressed is believed only after the content was hashed.
//!
//! [`blocking`], [`waiting`] and [`Helper`] are the only ways to threads that may block.

mod blocking;
mod cancel;
mod collection;
mod config;
mod directories;
mod error;
mod figures;
mod info_cache;
mod local;
mod parallel;
mod reference_order;
mod roots;
mod store;
mod stream;
mod temp_roots;

pub use blocking::{Helper, blocking, waiting};
pub use collection::{CollectOptions, Collected, FreeSpace, Garbage, Reason, Retention};
pub use config::{Automatic, Locations, Lookup, StoreConfig};
pub use error::{Error, Result};
pub use figures::StoreFigures;
pub use kiln_database::Error as DatabaseError;
pub use kiln_database::examine as examine_database;
pub use kiln_database::{Examination, Follow, Graph, Integrity, Latencies, Node, NodeSet, Notice};
pub use kiln_fs::{PathLocks, RemovedLinks};
pub use local::{
    AdoptedFiles, EntryKind, Filter, Finding, LocalStore, NewObject, OldGenerations, OnNotice, Optimised,
    Repair, StreamKind, Usage, Verdict, Verified, absolute_path, dump_filtered, replace_out_link,
};
pub use reference_order::references_first;
pub use roots::{Holder, Root};
pub use store::{AddStore, Added, CheckSignatures, QueryStore, ReadStore};
pub use stream::{ByteStream, written_by};
pub use temp_roots::leave_stores;
