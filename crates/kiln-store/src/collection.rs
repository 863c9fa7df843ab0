//! Garbage collection: deleting what no root needs, while others work with the store.
//!
//! A collection goes through these steps.
//!
//! 1. It takes the collector's lock, and answers at the collector's socket from then on ([`socket`]). Who wants to use or make
//!    a path says so there, and the path is spared ([`announced`]).
//! 2. It reads the temporary roots that were written before, then the permanent ones and those of running processes. In
//!    this order a path that is made a permanent root by a process that ends then is seen in one of the two. Last it loads
//!    the graph of all paths, and marks what is alive ([`liveness`]).
//! 3. What is dead is deleted in batches, referrers first ([`collector`]). Each batch is looked at once more with what
//!    has been announced meanwhile; made invalid in transactions so small that nobody waits long for them, which are brought
//!    to the disk; renamed into a directory of trash, or deleted if it is a small file, while the next batch is made
//!    invalid; and from then on the names are free for whoever wants to make these paths again. The trash is deleted by
//!    several threads at the same time.
//! 4. What else is in the store directory, and belongs to nobody, goes the same way ([`entries`]).
//! 5. The socket is closed, and the lock shared with all but other collectors. The rest of the trash is deleted, and then
//!    the entries of the pool of hard links that nothing uses any more.
//!
//! Whatever is killed at whatever moment leaves a store in which what is valid is there: files without validity, and trash,
//! are found by the next collection.

mod announced;
mod at_work;
mod automatic;
mod collector;
mod entries;
mod garbage;
mod liveness;
mod realised;
mod scope;
mod socket;
mod why;

pub use automatic::FreeSpace;
pub use collector::{CollectOptions, Collected};
pub use garbage::Garbage;
pub use liveness::Retention;
pub use why::Reason;

pub(crate) use at_work::lock_collector;
pub(crate) use automatic::AutomaticCollections;
