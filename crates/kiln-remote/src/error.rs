//! What can go wrong with a daemon.

use std::io;
use std::time::Duration;

use kiln_events::{Colours, safe_text};
use kiln_protocol::worker::LogError;
use kiln_protocol::worker::handshake::HandshakeError;
use kiln_protocol::{PayloadError, ReadError, WriteError};

use crate::address::AddressError;
use crate::limits::{ERROR_MESSAGE, ERROR_TRACES};

/// An error of a store behind a daemon. The message names the daemon's address, except for what the daemon itself says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL says something that can't be.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Nobody listens there, or nobody may connect.
    #[error("cannot connect to the daemon at '{daemon}': {source}")]
    Connect {
        /// Its socket.
        daemon: String,
        /// Why.
        source: io::Error,
    },
    /// ssh does not get there, or can't start a daemon.
    #[error("cannot reach the daemon at '{daemon}' by ssh: {reason}")]
    Unreachable {
        /// Its URL.
        daemon: String,
        /// What ssh, or the shell there, says.
        reason: String,
    },
    /// There is something else, or one that speaks too old a version.
    #[error("the daemon at '{daemon}' cannot be talked to: {source}")]
    Handshake {
        /// Its socket.
        daemon: String,
        /// Why.
        source: HandshakeError,
    },
    /// The connection broke.
    #[error("lost the connection to the daemon at '{daemon}' during {operation}: {source}")]
    Lost {
        /// Its socket.
        daemon: String,
        /// What was being done: an operation's name, or "the handshake".
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It does not answer.
    #[error("the daemon at '{daemon}' has not answered {operation} for {} s", .waited.as_secs())]
    Silent {
        /// Its socket.
        daemon: String,
        /// What it was asked for.
        operation: &'static str,
        /// For so long.
        waited: Duration,
    },
    /// It says something that nobody can understand.
    #[error("the daemon at '{daemon}' gives an answer to {operation} that makes no sense: {reason}")]
    Nonsense {
        /// Its socket.
        daemon: String,
        /// What it was asked for.
        operation: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A path that others refer to is not valid there.
    #[error("path '{path}' is not valid in the store of the daemon at '{daemon}'")]
    NotValid {
        /// The full path.
        path: String,
        /// Its socket.
        daemon: String,
    },
    /// It is too old for what is wanted.
    #[error("the daemon at '{daemon}' is too old: {reason}")]
    TooOld {
        /// Its socket.
        daemon: String,
        /// What it can't do.
        reason: String,
    },
    /// It has refused to do something, or failed to.
    #[error(transparent)]
    Refused(Refusal),
    /// What was to be sent could not be read.
    #[error("cannot read what is to be sent to the daemon: {0}")]
    Source(io::Error),
}

/// Shorthand of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a daemon says when it has failed, made safe to show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Why, without `error:` before it; may have several lines.
    pub message: String,
    /// What the daemon was doing, outermost first.
    pub traces: Vec<String>,
    /// What old daemons wish clients to end with; 1 otherwise.
    pub exit_status: u64,
}

impl Refusal {
    pub(crate) fn new(error: &LogError) -> Self {
        let text = shown(error.message.as_bytes());
        let message = text.trim_start().strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned();
        let traces = error.traces.iter().take(ERROR_TRACES).map(|trace| shown(trace.as_bytes())).collect();
        Self { message, traces, exit_status: error.exit_status }
    }
}

/// A daemon's text without what terminals would obey.
fn shown(text: &[u8]) -> String {
    safe_text(text.get(..ERROR_MESSAGE).unwrap_or(text), Colours::Strip)
}

/// What may go wrong in a connection that doesn't know whose it is; [`Error::of`] says the rest.
#[derive(Debug)]
pub(crate) enum Fault {
    Io(io::Error),
    Silent(Duration),
    Nonsense(String),
    TooOld(String),
    Refused(Refusal),
    /// The same, before all of the request was sent: nobody knows where the next one would begin.
    RefusedEarly(Refusal),
    Source(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Self {
        Self::Nonsense(error.to_string())
    }
}

impl From<PayloadError> for Fault {
    fn from(error: PayloadError) -> Self {
        Self::Nonsense(error.to_string())
    }
}

impl From<WriteError> for Fault {
    fn from(error: WriteError) -> Self {
        Self::TooOld(error.to_string())
    }
}

impl Error {
    /// What went wrong, with whom and at what.
    pub(crate) fn of(fault: Fault, daemon: &str, operation: &'static str) -> Self {
        let daemon = daemon.to_owned();
        match fault {
            Fault::Io(source) => Self::Lost { daemon, operation, source },
            Fault::Silent(waited) => Self::Silent { daemon, operation, waited },
            Fault::Nonsense(reason) => Self::Nonsense { daemon, operation, reason },
            Fault::TooOld(reason) => Self::TooOld { daemon, reason },
            Fault::Refused(refusal) | Fault::RefusedEarly(refusal) => Self::Refused(refusal),
            Fault::Source(source) => Self::Source(source),
        }
    }

    /// What the daemon has said, if it was the daemon who failed.
    #[must_use]
    pub const fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_safe_to_show_and_without_prefix() {
        let old = LogError::new("\u{1b}[31;1merror:\u{1b}[0m no\u{1b}]0;title\u{7}\nway\n", 100);
        let refusal = Refusal::new(&old);
        assert_eq!((refusal.message.as_str(), refusal.exit_status), ("no\nway", 100));
        let long = LogError::new("x".repeat(ERROR_MESSAGE + 5), 1);
        assert_eq!(Refusal::new(&long).message.len(), ERROR_MESSAGE);
    }
}
