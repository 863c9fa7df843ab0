//! The requests of the worker protocol, named as their operations.

use std::collections::BTreeSet;

use kiln_narinfo::{PathInfo, RealisationId, Signature};
use kiln_store_path::{DerivedPath, StorePath, StorePathName};

pub use super::add_to_store::AddToStore;
pub use super::options::SetOptions;
pub use super::versioned::{QuerySubstitutablePathInfos, RegisterDrvOutput};
use crate::describe::{wire_as, wire_struct};
use crate::error::ReadError;
use crate::shape::Shape;
use crate::value::{BaseName, BuildMode, DerivationToBuild};
use crate::version::Versions;

macro_rules! requests_about_one_path {
    ($( $(#[$meta:meta])* $name:ident ),* $(,)?) => {
        $( wire_struct! {
            $(#[$meta])*
            pub struct $name {
                /// The path asked about.
                pub path: StorePath,
            }
        } )*
    };
}

requests_about_one_path! {
    /// Operation 1.
    IsValidPath,
    /// Operation 3.
    HasSubstitutes,
    /// Operation 4.
    QueryPathHash,
    /// Operation 5.
    QueryReferences,
    /// Operation 6.
    QueryReferrers,
    /// Operation 10.
    EnsurePath,
    /// Operation 11. The path need not exist.
    AddTempRoot,
    /// Operation 18.
    QueryDeriver,
    /// Operation 21.
    QuerySubstitutablePathInfo,
    /// Operation 22. The path is that of a derivation.
    QueryDerivationOutputs,
    /// Operation 26.
    QueryPathInfo,
    /// Operation 28. The path is that of a derivation.
    QueryDerivationOutputNames,
    /// Operation 33.
    QueryValidDerivers,
    /// Operation 38.
    NarFromPath,
    /// Operation 41. The path is that of a derivation.
    QueryDerivationOutputMap,
}

macro_rules! requests_without_fields {
    ($( $(#[$meta:meta])* $name:ident ),* $(,)?) => {
        $( wire_struct! {
            $(#[$meta])*
            #[derive(Copy, Default)]
            pub struct $name {}
        } )*
    };
}

requests_without_fields! {
    /// Operation 13.
    SyncWithGC,
    /// Operation 14.
    FindRoots,
    /// Operation 23.
    QueryAllValidPaths,
    /// Operation 27.
    ImportPaths,
    /// Operation 34.
    OptimiseStore,
}

wire_struct! {
    /// Operation 8.
    pub struct AddTextToStore {
        /// The name that the path shall have.
        pub name: StorePathName,
        /// What the file shall contain.
        pub text: Vec<u8>,
        /// The paths that it refers to.
        pub references: BTreeSet<StorePath>,
    }
}

wire_struct! {
    /// Operation 9.
    pub struct BuildPaths {
        /// What to build or substitute.
        pub paths: Vec<DerivedPath>,
        /// What to do with outputs that are there.
        pub mode: BuildMode [Versions::worker_since(15)] required,
    }
}

wire_struct! {
    /// Operation 12.
    pub struct AddIndirectRoot {
        /// Absolute path of the link, which leads into the store.
        pub link: Vec<u8>,
    }
}

wire_struct! {
    /// Operation 16.
    pub struct ExportPath {
        /// The path to export.
        pub path: StorePath,
        /// Whether to sign it, long ago: ignored.
        pub sign: u64,
    }
}

/// What a collection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GarbageAction {
    /// 0: tell what roots reach.
    ReturnLive,
    /// 1: tell what no root reaches.
    ReturnDead,
    /// 2: delete what no root reaches.
    DeleteDead,
    /// 3: delete the paths of the request, if no root reaches them.
    DeleteSpecific,
}

wire_as!(
    GarbageAction,
    Shape::Number,
    |decoder| match decoder.number()? {
        0 => Ok(GarbageAction::ReturnLive),
        1 => Ok(GarbageAction::ReturnDead),
        2 => Ok(GarbageAction::DeleteDead),
        3 => Ok(GarbageAction::DeleteSpecific),
        other => Err(ReadError::value(format_args!("invalid action {other}, expected 0 to 3"))),
    },
    |value, encoder| encoder.number(*value as u64)
);

wire_struct! {
    /// Operation 20.
    pub struct CollectGarbage {
        /// What to do.
        pub action: GarbageAction,
        /// What to delete, with [`GarbageAction::DeleteSpecific`].
        pub paths: BTreeSet<StorePath>,
        /// Whether to delete what is alive. Daemons refuse it.
        pub ignore_liveness: bool,
        /// How many bytes to free at most; `u64::MAX` for no limit.
        pub max_freed: u64,
        /// 0.
        pub obsolete_1: u64,
        /// 0.
        pub obsolete_2: u64,
        /// 0.
        pub obsolete_3: u64,
    }
}

wire_struct! {
    /// Operation 29.
    pub struct QueryPathFromHashPart {
        /// The 32 digits at the beginning of the path's base name; not checked yet.
        pub digest: String,
    }
}

wire_struct! {
    /// Operation 31.
    pub struct QueryValidPaths {
        /// The paths asked about.
        pub paths: BTreeSet<StorePath>,
        /// Whether to substitute first what is not valid.
        pub substitute: bool [Versions::worker_since(27)],
    }
}

wire_struct! {
    /// Operation 32.
    pub struct QuerySubstitutablePaths {
        /// The paths asked about.
        pub paths: BTreeSet<StorePath>,
    }
}

wire_struct! {
    /// Operation 35.
    pub struct VerifyStore {
        /// Whether to read all contents.
        pub check_contents: bool,
        /// Whether to replace what is damaged.
        pub repair: bool,
    }
}

wire_struct! {
    /// Operation 36.
    pub struct BuildDerivation {
        /// What to build.
        pub derivation: DerivationToBuild,
        /// What to do with outputs that are there.
        pub mode: BuildMode,
    }
}

wire_struct! {
    /// Operation 37.
    pub struct AddSignatures {
        /// The path that they sign.
        pub path: StorePath,
        /// The signatures.
        pub signatures: BTreeSet<Signature>,
    }
}

wire_struct! {
    /// Operation 39. The NAR streams.
    pub struct AddToStoreNar {
        /// The path and what is claimed of it.
        pub info: PathInfo,
        /// Whether to replace a path that is valid.
        pub repair: bool,
        /// Whether to take it without a signature: for trusted clients.
        pub dont_check_signatures: bool,
    }
}

wire_struct! {
    /// Operation 40.
    pub struct QueryMissing {
        /// What would be built.
        pub paths: Vec<DerivedPath>,
    }
}

wire_struct! {
    /// Operation 43.
    pub struct QueryRealisation {
        /// The output asked about.
        pub output: RealisationId,
    }
}

wire_struct! {
    /// Operation 44. Infos and NARs stream, framed: see [`MultiplePathsReader`](crate::payload::MultiplePathsReader).
    pub struct AddMultipleToStore {
        /// Whether to replace paths that are valid.
        pub repair: bool,
        /// Whether to take them without signatures: for trusted clients.
        pub dont_check_signatures: bool,
    }
}

wire_struct! {
    /// Operation 45. The log streams.
    pub struct AddBuildLog {
        /// The derivation whose log it is.
        pub derivation: BaseName,
    }
}

wire_struct! {
    /// Operation 46.
    pub struct BuildPathsWithResults {
        /// What to build or substitute.
        pub paths: Vec<DerivedPath>,
        /// What to do with outputs that are there.
        pub mode: BuildMode,
    }
}

wire_struct! {
    /// Operation 47.
    pub struct AddPermRoot {
        /// The path that shall be kept.
        pub path: StorePath,
        /// Absolute path of the link to make.
        pub link: Vec<u8>,
    }
}
