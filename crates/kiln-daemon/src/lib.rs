//! The daemon: real Nix clients talk to it in the worker protocol, without noticing that it is not Nix.
//!
//! One process serves all connections with one store and one engine, so that what several clients want is built once. A
//! [`Listener`] accepts connections; who is at the other end, and how far it is trusted, is decided once, from what the
//! kernel says of it; then each connection is a *session*, one task that reads a request, does it, and answers.
//!
//! What a client may cost is bounded. It is a task and a small buffer while it is idle. What it is told while something is
//! done for it waits in a queue of bounded size: whoever does not read loses lines of logs, but holds up nobody. What it
//! held (temporary roots, slots, wishes that nobody else has) is gone the moment its connection is.
//!
//! [`ServedClient`] is the same for the one client of `nix-store --serve`, which speaks the serve protocol.
//!
//! Those who watch over it ([`WatchListener`]) are told over HTTP what it counts, whether it is well, and what it does right now
//! ([`status`]).
//!
//! Nothing here encodes or decodes messages: that is `kiln-protocol`.

mod daemon;
mod error;
mod limits;
mod listener;
mod peer;
mod served_store;
mod session;
pub mod status;
mod trust;
mod watch;

pub use daemon::{Daemon, DaemonConfig};
pub use error::{Error, ServeError};
pub use listener::Listener;
pub use session::{ServeWriter, ServedClient};
pub use trust::TrustRule;
pub use watch::WatchListener;
