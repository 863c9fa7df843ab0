//! How much clients may cost.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Bytes of the head of a request, and of what is buffered of an answer for HTTP/1.1.
pub(crate) const HEAD_BYTES: usize = 32 << 10;

/// Lines of the head of a request.
pub(crate) const HEAD_LINES: usize = 64;

/// Requests at the same time on one connection of HTTP/2.
pub(crate) const REQUESTS_AT_ONCE: u32 = 64;

/// Bytes that wait to be sent for one request of HTTP/2.
pub(crate) const SEND_BUFFER: usize = 256 << 10;

/// Descriptors that are left for what answers, of the four that a connection is counted as.
const DESCRIPTORS_OF_CONNECTION: u64 = 4;

/// Bounds on what clients may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at the same time; more wait to be accepted.
    pub connections: usize,
    /// How long the head of a request may take to arrive.
    pub head: Duration,
    /// How long a connection may be without a request.
    pub idle: Duration,
    /// How long answers that are being sent may go on when the server ends.
    pub closing: Duration,
}

impl Limits {
    /// Lets this process have as many descriptors as it may, and answers how many connections there are then room for.
    pub(crate) fn room_for_connections(&self) -> usize {
        let maximum = getrlimit(Resource::Nofile).maximum;
        // If that is refused, there are fewer.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let room = usize::try_from(descriptors / DESCRIPTORS_OF_CONNECTION).unwrap_or(usize::MAX);
        self.connections.min(room).max(1)
    }
}
