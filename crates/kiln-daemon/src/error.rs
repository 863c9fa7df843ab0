//! Why a daemon cannot serve.

use std::io;
use std::path::PathBuf;

use kiln_build::EngineError;
use kiln_protocol::worker::handshake::HandshakeError;
use kiln_protocol::{ReadError, WriteError};
use kiln_sys::listening::InvalidActivation;

/// An error of the daemon as a whole. What fails for one client is told to that client alone.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store could not be opened.
    #[error(transparent)]
    Store(#[from] kiln_store::Error),
    /// The engine could not be started.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The socket could not be made.
    #[error("cannot listen on the socket '{}': {source}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// What systemd has passed on makes no sense.
    #[error(transparent)]
    Activation(#[from] InvalidActivation),
    /// What systemd has passed on cannot be listened on.
    #[error("cannot listen on a socket that systemd has passed on: {0}")]
    Passed(io::Error),
    /// Those who watch cannot be listened to.
    #[error("{0} (the setting 'kiln-metrics-listen')")]
    Watch(#[from] kiln_web::Error),
    /// A place where those are to connect who watch is none.
    #[error(
        "the setting 'kiln-metrics-listen' has '{0}', which is neither 'unix:' with an absolute path nor 'HOST:PORT'"
    )]
    WatchPlace(String),
    /// Standard input and output cannot be served.
    #[error("cannot serve standard input and output: {0}")]
    Stdio(io::Error),
}

/// Why the client of `nix-store --serve` cannot be served any longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// It wants what only `--write` allows.
    #[error("{0}")]
    NotAllowed(&'static str),
    /// It adds an archive and doesn't say how long that is.
    #[error("narInfo is too old and missing the narSize field")]
    NoSize,
    /// It wants builds to be repeated.
    #[error("client requested repeating builds, but this is not currently implemented")]
    Repeats,
    /// It speaks something else.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// It doesn't say what it speaks.
    #[error("the handshake took too long")]
    SlowHandshake,
    /// What it says cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What is to be answered cannot be said in its version.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The connection broke.
    #[error(transparent)]
    Connection(#[from] io::Error),
    /// It went away while something was built for it.
    #[error("the client has gone away")]
    HungUp,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] kiln_store::Error),
    /// Its wishes for builds cannot be met.
    #[error(transparent)]
    Engine(#[from] EngineError),
}
