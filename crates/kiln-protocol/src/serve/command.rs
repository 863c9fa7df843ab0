//! The table of all commands: number, request, reply, and what streams beside them.

use std::collections::BTreeSet;

use kiln_store_path::StorePath;

use crate::error::{ReadError, WriteError};
use crate::message_reader::MessageReader;
use crate::serve::{request, response};
use crate::shape::{Case, Shape};
use crate::table::call_table;
use crate::value::{Acknowledged, RealisedBuildResult};
use crate::version::Dialect;
use crate::wire::{self, Decoder, Encoder, Wire};

call_table! {
    /// The commands of the serve protocol, by name and number.
    pub enum Command, fn command = "serve command";
    /// Any request. A server reads it without knowing which one will come: it begins with the command's number.
    pub enum Request;
    /// Any reply.
    pub enum Response;
    /// A request of the serve protocol.
    pub trait ServeRequest { const COMMAND }

    /// Which of several paths are valid.
    1 QueryValidPaths -> BTreeSet<StorePath>,
    /// What is known of several paths.
    2 QueryPathInfos -> response::QueriedPathInfos,
    /// A path's NAR, which streams.
    3 DumpStorePath -> (),
    /// Adds what streams in the form of `nix-store --export`.
    4 ImportPaths -> Acknowledged,
    /// Several paths in the form of `nix-store --export`, which streams.
    5 ExportPaths -> (),
    /// Builds or substitutes.
    6 BuildPaths -> response::BuiltPaths,
    /// All that several paths refer to, directly or not.
    7 QueryClosure -> BTreeSet<StorePath>,
    /// Builds a derivation that need not be in the store.
    8 BuildDerivation -> RealisedBuildResult,
    /// Adds a path whose NAR streams.
    9 AddToStoreNar -> Acknowledged,
}

/// What streams beside a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandPayload {
    /// Nothing.
    None,
    /// After the request, exactly as many bytes as its info says the NAR has: read them with
    /// [`SizedReader`](crate::payload::SizedReader).
    SizedNar,
    /// After the request, a stream that [`kiln_nar::export::ExportReader`] reads.
    Import,
    /// Instead of a reply, a bare NAR: read it with [`NarReader`](crate::payload::NarReader).
    NarReply,
    /// Instead of a reply, a stream that [`kiln_nar::export::ExportReader`] reads.
    ExportReply,
}

impl Command {
    /// What streams.
    #[must_use]
    pub const fn payload(self) -> CommandPayload {
        match self {
            Self::AddToStoreNar => CommandPayload::SizedNar,
            Self::ImportPaths => CommandPayload::Import,
            Self::DumpStorePath => CommandPayload::NarReply,
            Self::ExportPaths => CommandPayload::ExportReply,
            _ => CommandPayload::None,
        }
    }
}
