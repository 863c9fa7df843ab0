//! How much a client may cost. None of these is ever reached by a real client.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A client has so long to finish its handshake.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(30);

/// The longest silence in the middle of a request or of what streams after it. Between requests a client may be silent for
/// ever: evaluation takes its time.
pub(crate) const INACTIVITY: Duration = Duration::from_secs(900);

/// Bytes of messages that wait for a client; when there are more, lines of logs are dropped.
pub(crate) const QUEUED: usize = 4 << 20;

/// What a user other than the daemon's own may have that takes a thread: something that streams in.
pub(crate) const UPLOADS_OF_USER: usize = 64;

/// The share of all descriptors that the connections of one user may take: one in so many.
const SHARE_OF_USER: u64 = 8;

/// Descriptors that one connection takes.
const OF_CONNECTION: u64 = 2;

/// Lets this process have as many descriptors as it may, and answers how many connections one user may have.
pub(crate) fn connections_of_user() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Then there are fewer.
    let _ = setrlimit(Resource::Nofile, wanted);
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(1 << 16);
    let connections = descriptors / SHARE_OF_USER / OF_CONNECTION;
    usize::try_from(connections).unwrap_or(usize::MAX).clamp(32, 8192)
}
