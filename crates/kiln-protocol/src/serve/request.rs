//! The requests of the serve protocol, named as their commands.

use std::collections::BTreeSet;

use kiln_narinfo::PathInfo;
use kiln_store_path::{DerivedPath, StorePath};

use crate::describe::wire_struct;
use crate::value::DerivationToBuild;
use crate::version::Versions;

wire_struct! {
    /// Command 1.
    pub struct QueryValidPaths {
        /// Whether to keep the valid ones from collection as long as this connection lives. Needs `--write`.
        pub lock: bool,
        /// Whether to substitute first what is not valid. Needs `--write`.
        pub substitute: bool,
        /// The paths asked about.
        pub paths: BTreeSet<StorePath>,
    }
}

wire_struct! {
    /// Command 2.
    pub struct QueryPathInfos {
        /// The paths asked about.
        pub paths: BTreeSet<StorePath>,
    }
}

wire_struct! {
    /// Command 3.
    pub struct DumpStorePath {
        /// The path.
        pub path: StorePath,
    }
}

wire_struct! {
    /// Command 4.
    #[derive(Copy, Default)]
    pub struct ImportPaths {}
}

wire_struct! {
    /// Command 5.
    pub struct ExportPaths {
        /// Whether to sign them, long ago: ignored.
        pub sign: u64,
        /// The paths.
        pub paths: BTreeSet<StorePath>,
    }
}

wire_struct! {
    /// What the client wants for one build.
    #[derive(Default)]
    pub struct BuildOptions {
        /// `max-silent-time`, in seconds; 0 for none.
        pub max_silent_time: u64,
        /// `timeout`, in seconds; 0 for none.
        pub build_timeout: u64,
        /// `max-build-log-size`, in bytes; 0 for none.
        pub max_log_size: u64 [Versions::ALL.serve_since(2)],
        /// How often to build again. Real servers since 2.26 refuse everything but 0.
        pub repeats: u64 [Versions::ALL.serve_since(3)],
        /// Ignored.
        pub enforce_determinism: bool [Versions::ALL.serve_since(3)],
        /// `keep-failed`.
        pub keep_failed: bool [Versions::ALL.serve_since(7)],
    }
}

wire_struct! {
    /// Command 6.
    pub struct BuildPaths {
        /// What to build or substitute: the derivation's path alone stands for all of its outputs.
        pub paths: Vec<DerivedPath>,
        /// What the client wants.
        pub options: BuildOptions,
    }
}

wire_struct! {
    /// Command 7.
    pub struct QueryClosure {
        /// Whether derivations bring their outputs.
        pub include_outputs: bool,
        /// Where to begin.
        pub paths: BTreeSet<StorePath>,
    }
}

wire_struct! {
    /// Command 8.
    pub struct BuildDerivation {
        /// What to build.
        pub derivation: DerivationToBuild,
        /// What the client wants.
        pub options: BuildOptions,
    }
}

wire_struct! {
    /// Command 9. The NAR streams: as many bytes as the info says.
    pub struct AddToStoreNar {
        /// The path and what is claimed of it.
        pub info: PathInfo,
    }
}
