//! How much clients may cost.

use std::time::Duration;

/// Pages that are made at the same time: the closure of a path can be large.
pub(crate) const PAGES_AT_ONCE: usize = 4;

/// Bounds on what clients may cost. The defaults are never reached by real clients on a usual network.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at the same time; more wait to be accepted.
    pub connections: usize,
    /// Answers that are made while they are sent, at the same time; more wait.
    pub streams: usize,
    /// How long they wait before they are told to come back later.
    pub wait_for_stream: Duration,
    /// How long the head of a request may take to arrive.
    pub head: Duration,
    /// How long a connection may be without a request.
    pub idle: Duration,
    /// How long a client may take to accept 64 KiB of an answer.
    pub stalled: Duration,
    /// How long answers that are being sent may go on when the server ends.
    pub closing: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            // Each has a thread that waits, of which the store needs some for itself.
            streams: 128,
            wait_for_stream: Duration::from_secs(30),
            head: Duration::from_secs(20),
            idle: Duration::from_secs(60),
            stalled: Duration::from_secs(60),
            closing: Duration::from_secs(20),
        }
    }
}

impl Limits {
    /// Those that hold for connections, whatever is asked on them.
    pub(crate) fn of_connections(&self) -> kiln_web::Limits {
        let Self { connections, head, idle, closing, .. } = *self;
        kiln_web::Limits { connections, head, idle, closing }
    }
}
