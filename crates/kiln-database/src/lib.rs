//! The SQLite database of a Nix store: which paths are valid, and what is known about them.
//!
//! The file is shared with other Nix processes, so its schema, its locks and its pragmas are exactly Nix's (schema
//! version 10). What differs is how it is used:
//!
//! * [`Database::reader`] lends connections that read snapshots of the write-ahead log: readers never wait for the
//!   writer. Each query of [`ReadConnection`] is one statement, closures included.
//! * All changes go through one thread. [`Database::submit`] hands one over; whatever has gathered is committed in one
//!   transaction, each change in its own savepoint, so that one's failure is not another's.
//! * [`Graph`] is the whole store in memory, for work on all paths at once.
//! * Contention with other processes is waited out, with a deadline if wanted, and never becomes a user's error by
//!   itself. A damaged or missing database is reported with the way out and left alone.

mod big_lock;
mod connection;
mod cycle;
mod database;
mod error;
mod examine;
mod graph;
mod latencies;
mod read;
mod reader_pool;
mod reserved;
mod row;
mod schema;
mod write;
mod writer;

pub use connection::{Notice, OnNotice, OpenOptions};
pub use database::Database;
pub use error::{Error, Result, SCHEMA_VERSION};
pub use examine::{Examination, Integrity, examine};
pub use graph::{Graph, Node, NodeSet};
pub use latencies::Latencies;
pub use read::{Follow, ReadConnection};
pub use reader_pool::Reader;
pub use write::{Registration, WriteTransaction};
