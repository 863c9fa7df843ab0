//! The Nix archive format (NAR) as push state machines.
//!
//! An archive is the one text for a tree of files: names, contents, targets and the executable bit, and nothing else.
//! A store knows the contents of a path by the SHA-256 of its archive, finds references by searching it, and sends paths
//! to other stores as archives. So nearly everything that Kiln does with files passes through this crate, and it is
//! built so that the bytes pass once:
//!
//! * [`Encoder`] turns calls in the order of a tree into framing bytes. The contents of files never go through it.
//! * [`Decoder`] turns bytes, in pieces of any size, into [`Event`]s, and accepts exactly one text per tree.
//! * A [`Stage`] sees the bytes of a stream as they pass: [`NarHasher`] (hash and size), [`ReferenceScanner`], and pairs
//!   of stages. [`HashRewriter`] replaces digests in the stream, [`SelfHasher`] hashes it without regard to one.
//! * Stages over events rather than bytes: [`ListingWriter`] (the `.ls` file of a binary cache) and [`GitHasher`]
//!   (the id that Git would give the tree).
//! * [`export`] has the stream of `nix-store --export`: several archives, each with what the store knows of it.
//!
//! There is no I/O here, nothing recurses, and memory is bounded by the depth of a tree and the length of a name,
//! whatever the input says about itself.

pub mod decode;
mod digest_windows;
pub mod encode;
pub mod export;
pub mod git;
pub mod grammar;
pub mod listing;
pub mod references;
pub mod rewrite;
pub mod stage;
mod string_reader;

pub use decode::{DecodeError, DecodeProblem, Decoder, Event};
pub use digest_windows::{DIGEST_LENGTH, DigestText, InvalidDigestText};
pub use encode::{EncodeError, Encoder, file_framing};
pub use git::{GitError, GitHasher};
pub use grammar::{CASE_HACK_SUFFIX, MAX_DEPTH, MAX_NAME, MAX_TARGET, NameError, check_name};
pub use listing::{ListingError, ListingWriter};
pub use references::ReferenceScanner;
pub use rewrite::{HashRewriter, SelfHash, SelfHasher};
pub use stage::{NarDigest, NarHasher, Stage};
