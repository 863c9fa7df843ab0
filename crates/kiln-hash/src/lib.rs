//! Digests, their text encodings and streaming hashers, exactly as Nix uses them.
//!
//! A [`Hash`] is an algorithm and its digest. [`Sha256`] is a digest that is known to be SHA-256, which is what every
//! NAR hash and every fingerprint is; the type saves the check and half the memory. Text forms live in [`encoding`]
//! (base 16, Nix's base 32, base 64), whole hash strings (`sha256:…`, `sha256-…`) in [`Hash`]'s parsers, and
//! [`Hasher`] digests a stream of any of the five algorithms.

mod algorithm;
pub mod encoding;
mod hash;
mod hasher;

pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use hash::{Hash, ParseHashError, Sha256, fold};
pub use hasher::{Hasher, Sha256Hasher};
