//! How long a daemon may take, and how much it may say.

use std::time::Duration;

use kiln_protocol::limits::{MAX_RESPONSE, MAX_TEXT};
use kiln_protocol::serve::Command;
use kiln_protocol::worker::Operation;

/// How long a connection may take until its first request can be sent. A daemon is a local process, but may be started by the
/// connection, or wait for a store that another process is about to upgrade.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(60);

/// How long a question may take, with all that is told meanwhile.
pub(crate) const QUESTION: Duration = Duration::from_secs(300);

/// How long nothing may come, or nothing be taken, in the middle of a message or of an archive.
pub(crate) const SILENCE: Duration = Duration::from_secs(300);

/// The longest message of a log phase, in bytes: a text, and what is around it.
pub(crate) const LOG_MESSAGE: usize = MAX_TEXT + 4096;

/// The most activities that may be under way at once.
pub(crate) const ACTIVITIES: usize = 1 << 16;

/// The most bytes of an error's message that are kept.
pub(crate) const ERROR_MESSAGE: usize = 1 << 20;

/// The most traces of an error that are kept.
pub(crate) const ERROR_TRACES: usize = 64;

/// The most paths of a closure: more, and the daemon must be telling tales.
pub(crate) const CLOSURE: usize = 2_000_000;

/// Bytes that are read or written at once.
pub(crate) const CHUNK: usize = 64 << 10;

/// The longest reply, in bytes.
pub(crate) const fn reply(operation: Operation) -> usize {
    match operation {
        // As many paths as a store may have.
        Operation::QueryAllValidPaths
        | Operation::FindRoots
        | Operation::CollectGarbage
        | Operation::QueryReferrers
        | Operation::BuildPathsWithResults => MAX_RESPONSE,
        _ => USUAL_REPLY,
    }
}

/// The longest reply to a command of the serve protocol, in bytes.
pub(crate) const fn command_reply(command: Command) -> usize {
    match command {
        Command::QueryClosure => MAX_RESPONSE,
        _ => USUAL_REPLY,
    }
}

/// The longest of most replies, in bytes.
const USUAL_REPLY: usize = 128 << 20;

/// How long a daemon may take nothing of what is sent to it: it may wait for a lock, or for its disk.
pub(crate) const SENDING: Duration = Duration::from_secs(900);
