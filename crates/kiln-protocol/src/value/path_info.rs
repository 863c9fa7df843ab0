//! What is known of store paths.

use std::collections::BTreeSet;

use kiln_hash::Sha256;
use kiln_narinfo::{PathInfo, SignatureSet};
use kiln_store_path::{ContentAddress, StorePath};

use crate::describe::wire_struct;
use crate::error::ReadError;
use crate::shape::{Field, Shape};
use crate::version::Versions;
use crate::wire::{Decoder, Encoder, Wire};

wire_struct! {
    /// What is known of a path that both ends know (worker protocol: `UnkeyedValidPathInfo`).
    pub struct UnkeyedPathInfo {
        /// The derivation that built it.
        pub deriver: Option<StorePath>,
        /// SHA-256 of its NAR.
        pub nar_hash: Sha256,
        /// The paths that it refers to.
        pub references: BTreeSet<StorePath>,
        /// When it became valid, in seconds since the Unix epoch; 0 if not known.
        pub registration_time: u64,
        /// Bytes of its NAR; 0 if not known.
        pub nar_size: u64,
        /// Whether the store itself has built it.
        pub ultimate: bool [Versions::worker_since(16)],
        /// Its signatures.
        pub signatures: SignatureSet [Versions::worker_since(16)],
        /// The claim that it was computed from its content.
        pub content_address: Option<ContentAddress> [Versions::worker_since(16)],
    }
}

impl UnkeyedPathInfo {
    /// The same with the path that it is about.
    #[must_use]
    pub fn with_path(self, path: StorePath) -> PathInfo {
        PathInfo {
            path,
            nar_hash: self.nar_hash,
            nar_size: self.nar_size,
            references: self.references,
            deriver: self.deriver,
            registration_time: self.registration_time,
            ultimate: self.ultimate,
            signatures: self.signatures,
            content_address: self.content_address,
        }
    }
}

impl From<PathInfo> for UnkeyedPathInfo {
    fn from(info: PathInfo) -> Self {
        Self {
            deriver: info.deriver,
            nar_hash: info.nar_hash,
            references: info.references,
            registration_time: info.registration_time,
            nar_size: info.nar_size,
            ultimate: info.ultimate,
            signatures: info.signatures,
            content_address: info.content_address,
        }
    }
}

/// Worker protocol: `ValidPathInfo`, a path and what is known of it.
impl Wire for PathInfo {
    const SHAPE: Shape = Shape::Fields {
        name: "ValidPathInfo",
        fields: &[
            Field { name: "path", versions: Versions::ALL, shape: StorePath::SHAPE },
            Field { name: "unkeyed", versions: Versions::ALL, shape: UnkeyedPathInfo::SHAPE },
        ],
    };

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, ReadError> {
        let path = StorePath::read(decoder).map_err(|error| error.within("path"))?;
        let info = UnkeyedPathInfo::read(decoder).map_err(|error| error.within("unkeyed"))?;
        Ok(info.with_path(path))
    }

    fn write(&self, encoder: &mut Encoder<'_>) {
        self.path.write(encoder);
        UnkeyedPathInfo::from(self.clone()).write(encoder);
    }
}

wire_struct! {
    /// What a substituter says of a path (worker protocol: `SubstitutablePathInfo`).
    pub struct SubstitutableInfo {
        /// The derivation that built it.
        pub deriver: Option<StorePath>,
        /// The paths that it refers to.
        pub references: BTreeSet<StorePath>,
        /// Bytes to download; 0 if not known.
        pub download_size: u64,
        /// Bytes of its NAR; 0 if not known.
        pub nar_size: u64,
    }
}

wire_struct! {
    /// A path and what a substituter says of it.
    pub struct SubstitutablePathInfo {
        /// The path.
        pub path: StorePath,
        /// What is said of it.
        pub info: SubstitutableInfo,
    }
}

macro_rules! tagged_option {
    ($type:ty) => {
        /// A flag, and if it is set, the value.
        impl Wire for Option<$type> {
            const SHAPE: Shape = Shape::Optional(&<$type>::SHAPE);

            fn read(decoder: &mut Decoder<'_>) -> Result<Self, ReadError> {
                if decoder.flag()? { <$type>::read(decoder).map(Some) } else { Ok(None) }
            }

            fn write(&self, encoder: &mut Encoder<'_>) {
                self.is_some().write(encoder);
                if let Some(value) = self {
                    value.write(encoder);
                }
            }
        }
    };
}

tagged_option!(UnkeyedPathInfo);
tagged_option!(SubstitutableInfo);
