//! Operations on trees of files, by descriptor.
//!
//! What a build leaves, what a client or another store sends, what is garbage: all of it are trees that someone hostile may
//! have made, and that the engine walks with the rights of root. So nothing here takes a path below a place that others
//! can write. An open [`Directory`] and one [`Component`] say where something is, each step down is taken from the
//! descriptor of the step before, and no link is ever followed. Walks don't recurse and hold a bounded number of
//! descriptors, whatever the tree looks like.
//!
//! * [`scan_output`] is what happens to the output of a build: in one pass that reads each file once, it is made
//!   canonical ([`Canonicaliser`]), hashed, and searched for references. [`hash_tree`] does it without changing anything,
//!   [`dump`] writes the archive, [`dump_part`] a part of it, and [`outline`] tells what it has where.
//! * [`Restorer`] makes a tree from an archive, [`copy_tree`] from another tree, without anything in common;
//!   [`rewrite_tree`] replaces digests in it on the way.
//! * [`delete_tree`], [`sync_tree`], [`tree_size`], [`rename_new`] are what their names say, for trees of any depth.
//! * [`PathLocks`] and [`TempRoots`] are the files by which processes that use the same store, real Nix's among them, keep
//!   out of each other's way.
//!   [`CollectorLock`] is the collector's, which [reads](for_each_temp_root) the temporary roots of all.
//! * [`Trash`] takes what is to be deleted when there is time; [`Disposal`] deletes much on several threads.
//! * [`LinkPool`] shares the contents of equal files by hard links.
//!
//! Everything is synchronous and may block: callers run it on worker threads.

mod abandoned_roots;
pub mod canonical;
mod clone;
mod collector_lock;
mod component;
mod copy;
mod delete;
mod directory;
mod disposal;
mod dump;
mod entries;
mod error;
mod fail_point;
mod leftover;
mod link_pool;
mod outline;
mod path_locks;
mod pipeline;
mod read_ahead;
mod rename;
mod restore;
mod rewrite;
mod scan;
mod size;
mod status;
mod sync;
mod temp_root_files;
mod temp_roots;
mod trash;
mod walk;

pub use abandoned_roots::AbandonedRoots;
pub use canonical::{Canonicaliser, HardLinks, Ownership, check_not_suspicious};
pub use clone::clone_tree;
pub use collector_lock::{Access, CollectorLock};
pub use component::{Component, InvalidComponent};
pub use copy::copy_tree;
pub use delete::delete_tree;
pub use directory::Directory;
pub use disposal::{Disposal, Disposed};
pub use dump::{FileHash, dump};
pub use error::{Error, Result};
pub use fail_point::{FailPoint, fail_point};
pub use leftover::remove_leftover;
pub use link_pool::{EntryCheck, LinkPool, Linked, PooledFiles, RemovedLinks};
pub use outline::{dump_part, outline};
pub use path_locks::PathLocks;
pub use rename::{rename_new, replace};
pub use restore::{CaseHack, RestoreOptions, Restorer, restore};
pub use rewrite::{Rewritten, rewrite_tree};
pub use scan::{TreeFacts, hash_tree, scan_output};
pub use size::{TreeSize, is_small, tree_size};
pub use status::{Identity, Kind, Status};
pub use sync::{sync_file_system, sync_tree};
pub use temp_root_files::{Stale, for_each_temp_root};
pub use temp_roots::TempRoots;
pub use trash::Trash;
