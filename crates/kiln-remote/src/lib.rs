//! Stores behind a daemon, from the client's side of the worker protocol.
//!
//! A [`RemoteStore`] is what a daemon ([`DaemonAddress`]), at a Unix socket or on a machine that ssh reaches, lets its clients
//! do: ask what is valid, read and add archives, build, keep roots. Its connections are a pool: an operation has one for
//! itself, and what has not ended as the protocol says is never used again. What the daemon tells while it works comes out as
//! events, under names of this side's.
//!
//! The daemon may be hostile, too, or broken. A handshake and every question have a deadline; messages have the limits of
//! `kiln-protocol`, and nothing is allocated before it has come. An archive ends where its grammar says, and is
//! never longer than was announced; whether it is what was announced is for whoever takes it to find out. Answers
//! are about what was asked, or they are errors.
//!
//! Nothing here encodes or decodes messages: that is `kiln-protocol`. Nothing blocks.

mod address;
mod channel;
mod connection;
mod error;
mod limits;
mod nar_stream;
mod payload;
mod pool;
mod process;
mod relay;
mod ssh;
mod store;

pub use address::{AddressError, DaemonAddress, DaemonPlace};
pub use error::{Error, Refusal, Result};
pub use nar_stream::NarStream;
pub use store::{Built, DaemonGreeting, NewObject, RemoteStore};
