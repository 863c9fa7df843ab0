//! Why nothing can be served.

use std::io;
use std::path::PathBuf;

use kiln_sys::listening::InvalidActivation;

/// An error of the server as a whole. What fails for one client is told to that client alone.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on the address '{address}': {source}")]
    Address {
        /// The address, as it was given.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The socket could not be made.
    #[error("cannot listen on the socket '{}': {source}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What systemd has passed on makes no sense.
    #[error(transparent)]
    Activation(#[from] InvalidActivation),
    /// What systemd has passed on cannot be listened on.
    #[error("cannot listen on a socket that systemd has passed on: {0}")]
    Passed(io::Error),
}
