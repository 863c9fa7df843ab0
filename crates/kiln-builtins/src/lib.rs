//! Builders that are part of the program.
//!
//! A derivation whose builder is `builtin:NAME` runs no program: [`run`] does its work, in the process that would have
//! become the builder, with the builder's rights and the builder's view of the files. So a builtin can do nothing that a
//! program in its place could not; what it knows beyond its environment (credentials, certificates, the settings of
//! transfers) is handed over in [`Inputs`] by whoever starts it.
//!
//! * `builtin:fetchurl` ([`fetchurl`]) downloads a file, or an archive that becomes a tree.
//! * `builtin:buildenv` ([`buildenv`]) makes one tree of links out of several packages, as profiles need it.
//! * `builtin:unpack-channel` ([`unpack_channel`]) unpacks a tarball.
//!
//! The caller sees synchronous functions; a transfer (`kiln-http`) has an event loop of its own on the calling thread.
//!
//! Downloads, archives and links come from whoever wrote the derivation or runs the server. Memory is bounded whatever
//! they say, and nothing is ever written through a link.

mod attributes;
mod buildenv;
mod builtin;
mod error;
mod fetchurl;
mod log;
mod tar;
mod unpack_channel;

pub use builtin::{Inputs, NAMES, run};
pub use error::BuiltinError;
pub use tar::TarError;
