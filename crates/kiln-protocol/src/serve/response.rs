//! Replies of the serve protocol that are more than one value of a common type.

use std::collections::BTreeSet;

use kiln_events::Text;
use kiln_hash::{Algorithm, Hash, Sha256};
use kiln_narinfo::{PathInfo, SignatureSet};
use kiln_store_path::{ContentAddress, StorePath};

use crate::describe::{wire_as, wire_struct};
use crate::error::ReadError;
use crate::limits::{MAX_PATH, MAX_WORD};
use crate::shape::Shape;
use crate::version::Versions;
use crate::wire::{Decoder, Encoder, Wire};

/// A NAR hash as this protocol writes it: `sha256:NIX32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixedHash(pub Sha256);

impl Default for PrefixedHash {
    /// Not known.
    fn default() -> Self {
        Self(Sha256::UNKNOWN)
    }
}

wire_as!(
    PrefixedHash,
    Shape::Bytes { limit: MAX_WORD },
    |decoder| Hash::parse_any(decoder.text()?, Some(Algorithm::Sha256))
        .map_err(ReadError::value)?
        .as_sha256()
        .map(PrefixedHash)
        .ok_or_else(|| ReadError::value("a NAR hash must be of type 'sha256'")),
    |value, encoder| encoder.bytes(Hash::from(value.0).prefixed_nix32())
);

wire_struct! {
    /// What QueryPathInfos tells of a path.
    pub struct QueriedInfo {
        /// The derivation that built it.
        pub deriver: Option<StorePath>,
        /// The paths that it refers to.
        pub references: BTreeSet<StorePath>,
        /// Bytes to download: real servers tell the size of the NAR.
        pub download_size: u64,
        /// Bytes of its NAR.
        pub nar_size: u64,
        /// SHA-256 of its NAR.
        pub nar_hash: PrefixedHash [Versions::ALL.serve_since(4)],
        /// The claim that it was computed from its content.
        pub content_address: Option<ContentAddress> [Versions::ALL.serve_since(4)],
        /// Its signatures.
        pub signatures: SignatureSet [Versions::ALL.serve_since(4)],
    }
}

impl QueriedInfo {
    /// The same as path info of `path`. When it was registered, and by whom, isn't told.
    #[must_use]
    pub fn with_path(self, path: StorePath) -> PathInfo {
        PathInfo {
            references: self.references,
            deriver: self.deriver,
            signatures: self.signatures,
            content_address: self.content_address,
            ..PathInfo::new(path, self.nar_hash.0, self.nar_size)
        }
    }
}

impl From<PathInfo> for QueriedInfo {
    fn from(info: PathInfo) -> Self {
        Self {
            deriver: info.deriver,
            references: info.references,
            download_size: info.nar_size,
            nar_size: info.nar_size,
            nar_hash: PrefixedHash(info.nar_hash),
            content_address: info.content_address,
            signatures: info.signatures,
        }
    }
}

/// What QueryPathInfos replies: the valid ones of the paths asked about. They are ended by an empty string.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueriedPathInfos(pub Vec<(StorePath, QueriedInfo)>);

impl Wire for QueriedPathInfos {
    const SHAPE: Shape = Shape::Terminated { limit: MAX_PATH, rest: &QueriedInfo::SHAPE };

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, ReadError> {
        let mut infos = Vec::new();
        while let Some(path) = <Option<StorePath>>::read(decoder).map_err(|error| error.within("path"))? {
            let info = QueriedInfo::read(decoder)?;
            infos.push((path, info));
        }
        Ok(Self(infos))
    }

    fn write(&self, encoder: &mut Encoder<'_>) {
        for (path, info) in &self.0 {
            path.write(encoder);
            info.write(encoder);
        }
        encoder.bytes("");
    }
}

/// What BuildPaths replies: 0, or why it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuiltPaths {
    /// All is there.
    Success,
    /// Something failed.
    Failure {
        /// What clients end with, up to 2.26. Those of 2.34 take it for a number of a build's status. Never 0.
        exit_status: u64,
        /// Why.
        message: Text,
    },
}

wire_as!(
    BuiltPaths,
    Shape::Optional(&Text::SHAPE),
    |decoder| match decoder.number()? {
        0 => Ok(BuiltPaths::Success),
        exit_status => Ok(BuiltPaths::Failure { exit_status, message: Text::read(decoder)? }),
    },
    |value, encoder| match value {
        BuiltPaths::Success => encoder.number(0),
        BuiltPaths::Failure { exit_status, message } => {
            encoder.number((*exit_status).max(1));
            message.write(encoder);
        }
    }
);
