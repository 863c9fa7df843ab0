//! The table of all operations: number, request, reply, and what streams beside them.

use std::collections::{BTreeMap, BTreeSet};

use kiln_store_path::{OutputName, StorePath};

use crate::error::{ReadError, WriteError};
use crate::message_reader::MessageReader;
use crate::shape::{Case, Shape};
use crate::table::call_table;
use crate::value::SubstitutablePathInfo;
use crate::value::{Acknowledged, KeyedBuildResult, RealisedBuildResult, SubstitutableInfo};
use crate::version::{Dialect, Version};
use crate::wire::{self, Decoder, Encoder, Wire};
use crate::worker::{request, response};

call_table! {
    /// The operations of the worker protocol, by name and number.
    pub enum Operation, fn operation = "operation";
    /// Any request. A server reads it without knowing which one will come: it begins with the operation's number.
    pub enum Request;
    /// Any reply. It follows the log phase, unless that ended with an error.
    pub enum Response;
    /// A request of the worker protocol.
    pub trait WorkerRequest { const OPERATION }

    /// Whether a path is valid.
    1 IsValidPath -> bool,
    /// Whether a substituter has a path (clients up to 2.3).
    3 HasSubstitutes -> bool,
    /// The NAR hash of a path (clients up to 2.3).
    4 QueryPathHash -> kiln_hash::Sha256,
    /// What a path refers to (clients up to 2.3).
    5 QueryReferences -> BTreeSet<StorePath>,
    /// Which valid paths refer to a path.
    6 QueryReferrers -> BTreeSet<StorePath>,
    /// Adds what streams to the store, under the path that its content gives.
    7 AddToStore -> response::AddedPath,
    /// Adds a text to the store (clients before 1.25).
    8 AddTextToStore -> StorePath,
    /// Builds or substitutes; fails if anything fails.
    9 BuildPaths -> Acknowledged,
    /// Makes a path valid by substituting it.
    10 EnsurePath -> Acknowledged,
    /// Keeps a path from collection as long as this connection lives.
    11 AddTempRoot -> Acknowledged,
    /// Registers a link outside of the store as a root.
    12 AddIndirectRoot -> Acknowledged,
    /// Does nothing (clients up to 2.3).
    13 SyncWithGC -> Acknowledged,
    /// All roots.
    14 FindRoots -> Vec<(Vec<u8>, StorePath)>,
    /// A path in the form of `nix-store --export`, streamed in the log phase.
    16 ExportPath -> Acknowledged,
    /// The derivation that built a path.
    18 QueryDeriver -> Option<StorePath>,
    /// Sets what clients may set, for this connection.
    19 SetOptions -> (),
    /// Looks for or deletes what no root reaches.
    20 CollectGarbage -> response::CollectedGarbage,
    /// What substituters say of a path.
    21 QuerySubstitutablePathInfo -> Option<SubstitutableInfo>,
    /// The paths of a derivation's outputs.
    22 QueryDerivationOutputs -> BTreeSet<StorePath>,
    /// All valid paths.
    23 QueryAllValidPaths -> BTreeSet<StorePath>,
    /// What is known of a path.
    26 QueryPathInfo -> response::QueriedPathInfo,
    /// Adds paths in the form of `nix-store --export`, which the server pulls.
    27 ImportPaths -> Vec<StorePath>,
    /// The names of a derivation's outputs.
    28 QueryDerivationOutputNames -> BTreeSet<OutputName>,
    /// The valid path with a digest.
    29 QueryPathFromHashPart -> Option<StorePath>,
    /// What substituters say of several paths.
    30 QuerySubstitutablePathInfos -> Vec<SubstitutablePathInfo>,
    /// Which of several paths are valid.
    31 QueryValidPaths -> BTreeSet<StorePath>,
    /// Which of several paths substituters have.
    32 QuerySubstitutablePaths -> BTreeSet<StorePath>,
    /// The valid derivations that have a path as output.
    33 QueryValidDerivers -> BTreeSet<StorePath>,
    /// Links equal files.
    34 OptimiseStore -> Acknowledged,
    /// Compares the store with what is recorded; replies whether errors are left.
    35 VerifyStore -> bool,
    /// Builds a derivation that need not be in the store.
    36 BuildDerivation -> RealisedBuildResult,
    /// Adds signatures to a path.
    37 AddSignatures -> Acknowledged,
    /// A path's NAR, streamed after the log phase.
    38 NarFromPath -> (),
    /// Adds a path whose NAR streams.
    39 AddToStoreNar -> (),
    /// What building would build and fetch.
    40 QueryMissing -> response::MissingPaths,
    /// The outputs of a derivation, with their paths as far as they are known.
    41 QueryDerivationOutputMap -> BTreeMap<OutputName, Option<StorePath>>,
    /// Records the path of a content-addressed output.
    42 RegisterDrvOutput -> (),
    /// The path of a content-addressed output.
    43 QueryRealisation -> response::QueriedRealisation,
    /// Adds paths whose infos and NARs stream.
    44 AddMultipleToStore -> (),
    /// Stores a derivation's log, which streams.
    45 AddBuildLog -> Acknowledged,
    /// Builds or substitutes; failures are results.
    46 BuildPathsWithResults -> Vec<KeyedBuildResult>,
    /// Makes a link outside of the store that is a root.
    47 AddPermRoot -> Vec<u8>,
}

/// What streams from the client to the server after a request's fields, during the log phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestPayload {
    /// Nothing.
    None,
    /// Frames: read them with [`FrameReader`](crate::payload::FrameReader).
    Framed,
    /// A bare NAR, whose end only its own grammar tells: read it with [`NarReader`](crate::payload::NarReader).
    Nar,
    /// What the server asks for with [`LogMessage::Read`](crate::worker::LogMessage::Read), piece by piece: read each answer with
    /// [`PulledReader`](crate::payload::PulledReader). A client may fail when it is asked for more than it has, so the server
    /// has to find the end in what the answers hold: an export stream for ImportPaths
    /// ([`ExportStreamReader`](crate::payload::ExportStreamReader)), otherwise a NAR
    /// ([`NarReader`](crate::payload::NarReader)).
    Pulled,
}

impl Operation {
    /// What streams after the request. It does so even if a field of the request had a bad value: whoever answers with an
    /// error has to take the payload first, or the payload would be taken for requests.
    #[must_use]
    pub const fn payload(self, version: Version) -> RequestPayload {
        match self {
            Self::AddToStore if version.minor >= 25 => RequestPayload::Framed,
            Self::AddToStoreNar if version.minor >= 23 => RequestPayload::Framed,
            Self::AddToStoreNar if version.minor >= 21 => RequestPayload::Pulled,
            Self::AddToStore | Self::AddToStoreNar => RequestPayload::Nar,
            Self::AddMultipleToStore | Self::AddBuildLog => RequestPayload::Framed,
            Self::ImportPaths => RequestPayload::Pulled,
            _ => RequestPayload::None,
        }
    }

    /// Whether a bare NAR follows the reply.
    #[must_use]
    pub const fn replies_with_nar(self) -> bool {
        matches!(self, Self::NarFromPath)
    }
}
