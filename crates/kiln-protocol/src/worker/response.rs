//! Replies of the worker protocol that are more than one value of a common type.

use std::collections::BTreeSet;

use kiln_store_path::StorePath;

pub use super::add_to_store::AddedPath;
pub use super::versioned::{QueriedPathInfo, QueriedRealisation};
use crate::describe::wire_struct;

wire_struct! {
    /// What CollectGarbage replies.
    pub struct CollectedGarbage {
        /// The paths that were found or deleted: full paths, some of which may be no store paths (`…-x.lock`).
        pub paths: Vec<Vec<u8>>,
        /// How many bytes were freed.
        pub bytes_freed: u64,
        /// 0.
        pub obsolete: u64,
    }
}

wire_struct! {
    /// What QueryMissing replies.
    pub struct MissingPaths {
        /// Derivations that would be built.
        pub will_build: BTreeSet<StorePath>,
        /// Paths that would be substituted.
        pub will_substitute: BTreeSet<StorePath>,
        /// Paths of which nobody knows how to get them.
        pub unknown: BTreeSet<StorePath>,
        /// Bytes to download.
        pub download_size: u64,
        /// Bytes of NARs.
        pub nar_size: u64,
    }
}
