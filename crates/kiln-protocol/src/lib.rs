//! The worker protocol and the serve protocol: bytes in, values out.
//!
//! Real Nix clients speak to daemons in the *worker protocol* (also over `--stdio` and `ssh-ng://`), and to
//! `nix-store --serve` in the *serve protocol*. Both are streams of numbers and strings without any framing, whose messages
//! have gained and lost fields with each minor version.
//!
//! * Each message is described once, with the versions of each field; the description makes a struct ([`worker::request`],
//!   [`worker::response`]), reads it and writes it ([`Wire`]), and tells where it ends ([`Shape`]).
//! * [`MessageReader`] takes messages from bytes in pieces of any size: the end is found first, in linear time, then the
//!   message is decoded from one slice. So a bad value spoils one message, not the conversation.
//! * What streams (archives, logs) is not a message. Each framing of it is a machine of its own in [`payload`], which hands
//!   the bytes through.
//! * What a build [`hook`] is told are messages, too.
//! * [`worker::handshake`] and [`serve::handshake`] are machines too; they agree on a [`Dialect`].
//!
//! Nothing here does I/O. To connect it with a socket: read bytes into a buffer, offer them to whatever is to be read, keep what
//! it left, and read more when it says `None`.
//!
//! Both ends may be hostile to each other. Every string and list has a limit ([`limits`]), a reader has one for the whole
//! message, nothing is allocated before it has come, and nothing makes this crate panic.

mod describe;
pub mod error;
pub mod hook;
pub mod limits;
mod message_reader;
pub mod payload;
mod received;
mod scan;
pub mod serve;
mod shape;
mod table;
pub mod value;
mod version;
mod wire;
pub mod worker;

pub use error::{Fault, PayloadError, ReadError, WriteError};
pub use message_reader::MessageReader;
pub use received::Received;
pub use shape::{Case, Field, Shape};
pub use version::{Dialect, Protocol, Version, Versions};
pub use wire::{Decoder, Encoder, Wire, append, from_bytes};
