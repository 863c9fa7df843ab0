//! What is known about a store path, and the texts by which stores tell it to each other.
//!
//! [`PathInfo`] is the one type of a path's metadata: the database, binary caches, protocols and the engine all speak
//! of paths with it. Around it stand its texts and what gives them weight:
//!
//! * [`NarInfo`] is a binary cache's narinfo file: path info plus where and how the NAR is kept; [`CacheInfo`] is the
//!   cache's own `nix-cache-info`.
//! * [`SecretKey`], [`PublicKeys`] and [`Signature`] sign and verify a path's [fingerprint](PathInfo::fingerprint);
//!   [`PathInfo::trust`] is the one place that says why a path may be believed.
//! * [`Realisation`] says which path an output of a content-addressed derivation was built as.
//! * [`registration`] is the text of `--dump-db`, `--load-db`, `--register-validity` and `exportReferencesGraph`.
//!
//! All parsers are linear, bounded and free of panics; the crate does no I/O.

mod cache_info;
mod compression;
mod key;
mod narinfo;
mod path_info;
mod realisation;
pub mod registration;
mod signature;

pub use cache_info::{CacheInfo, CacheInfoError};
pub use compression::Compression;
pub use key::{ParseKeyError, PublicKey, PublicKeys, SecretKey};
pub use narinfo::{MAX_NARINFO_LENGTH, NarInfo, NarInfoError, NarInfoFault};
pub use path_info::{NoFingerprint, PathInfo, Trust};
pub use realisation::{ParseRealisationError, Realisation, RealisationId};
pub use signature::{ParseSignatureError, Signature, SignatureSet};
