//! An HTTP server whose clients cost little, for whatever has something to answer: the [`Site`].
//!
//! A [`Listener`] has addresses and sockets; each connection is a task that reads requests and sends answers, in HTTP/1.1 or
//! HTTP/2, whichever the client begins to speak. What a client may cost is bounded ([`Limits`]): heads are small, there are
//! so many connections and no more, and who asks nothing for a while, or does not get to the end of a head, loses theirs.
//! What is being answered when the server ends is answered.
//!
//! [`get`] is the other end: one request to such a server at a socket of the file system.

mod connection;
mod error;
mod get;
mod limits;
mod listener;
mod server;

pub use connection::{Activity, Busy, Site};
pub use error::Error;
pub use get::{GetError, get};
pub use limits::Limits;
pub use listener::{Listener, Origin};
pub use server::serve;
