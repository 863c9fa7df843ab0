//! AddToStore, whose request and reply changed as a whole with 1.25.

use std::collections::BTreeSet;

use kiln_hash::Algorithm;
use kiln_narinfo::PathInfo;
use kiln_store_path::{ContentAddressMethod, StorePath, StorePathName};

use crate::describe::wire_struct;
use crate::error::ReadError;
use crate::shape::{Field, Shape};
use crate::value::AddressingMethod;
use crate::version::{Version, Versions};
use crate::wire::{Decoder, Encoder, Wire};

/// The first version with the form of today.
const NEW_FORM: u8 = 25;

/// Operation 7. What is added streams: framed, and for [`ContentAddressMethod::Flat`] and [`ContentAddressMethod::Text`] the
/// bytes themselves; before 1.25 always a bare NAR, which for `Flat` is that of one regular file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddToStore {
    /// The name that the path shall have.
    pub name: StorePathName,
    /// How the content is hashed. Before 1.25 there are only `Flat` and `Nar`.
    pub method: AddressingMethod,
    /// The paths that it refers to. None before 1.25.
    pub references: BTreeSet<StorePath>,
    /// Whether to replace a path that is valid.
    pub repair: bool,
}

wire_struct! {
    /// The request since 1.25.
    struct NewForm {
        /// See [`AddToStore`].
        pub name: StorePathName,
        /// See [`AddToStore`].
        pub method: AddressingMethod,
        /// See [`AddToStore`].
        pub references: BTreeSet<StorePath>,
        /// See [`AddToStore`].
        pub repair: bool,
    }
}

wire_struct! {
    /// The request before 1.25.
    struct OldForm {
        /// See [`AddToStore`].
        pub name: StorePathName,
        /// Whether the two that follow count; otherwise it is the NAR's SHA-256.
        pub fixed: bool,
        /// Whether the NAR is hashed, rather than the one file's contents.
        pub recursive: bool,
        /// The algorithm.
        pub algorithm: Algorithm,
    }
}

const OLD_DEFAULT: AddressingMethod =
    AddressingMethod { method: ContentAddressMethod::Nar, algorithm: Algorithm::Sha256 };

fn is_new(version: Version) -> bool {
    version.minor >= NEW_FORM
}

impl Wire for AddToStore {
    const SHAPE: Shape = Shape::Fields {
        name: "AddToStore",
        fields: &[
            Field { name: "new", versions: Versions::worker_since(NEW_FORM), shape: NewForm::SHAPE },
            Field { name: "old", versions: Versions::worker_before(NEW_FORM), shape: OldForm::SHAPE },
        ],
    };

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, ReadError> {
        if is_new(decoder.version()) {
            let NewForm { name, method, references, repair } = NewForm::read(decoder)?;
            return Ok(Self { name, method, references, repair });
        }
        let OldForm { name, fixed, recursive, algorithm } = OldForm::read(decoder)?;
        let method = match (fixed, recursive) {
            (false, _) => OLD_DEFAULT,
            (true, true) => AddressingMethod { method: ContentAddressMethod::Nar, algorithm },
            (true, false) => AddressingMethod { method: ContentAddressMethod::Flat, algorithm },
        };
        Ok(Self { name, method, references: BTreeSet::new(), repair: false })
    }

    fn write(&self, encoder: &mut Encoder<'_>) {
        let Self { name, method, references, repair } = self.clone();
        if is_new(encoder.version()) {
            NewForm { name, method, references, repair }.write(encoder);
            return;
        }
        let recursive = match method.method {
            ContentAddressMethod::Nar => true,
            ContentAddressMethod::Flat => false,
            ContentAddressMethod::Text | ContentAddressMethod::Git => {
                encoder.refuse(format!(
                    "the other end is too old to add '{name}' by the method '{}'",
                    method.method
                ));
                return;
            }
        };
        if !references.is_empty() || repair {
            encoder
                .refuse(format!("the other end is too old to add '{name}' with references, or to repair it"));
        }
        OldForm { name, fixed: method != OLD_DEFAULT, recursive, algorithm: method.algorithm }.write(encoder);
    }
}

/// What AddToStore replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddedPath {
    /// All that is known of the new path.
    Info(PathInfo),
    /// The path alone: before 1.25.
    Path(StorePath),
}

impl AddedPath {
    /// The path that was added.
    #[must_use]
    pub const fn path(&self) -> &StorePath {
        match self {
            Self::Info(info) => &info.path,
            Self::Path(path) => path,
        }
    }
}

impl Wire for AddedPath {
    const SHAPE: Shape = Shape::Fields {
        name: "AddedPath",
        fields: &[
            Field { name: "info", versions: Versions::worker_since(NEW_FORM), shape: PathInfo::SHAPE },
            Field { name: "path", versions: Versions::worker_before(NEW_FORM), shape: StorePath::SHAPE },
        ],
    };

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, ReadError> {
        if is_new(decoder.version()) {
            PathInfo::read(decoder).map(Self::Info)
        } else {
            StorePath::read(decoder).map(Self::Path)
        }
    }

    fn write(&self, encoder: &mut Encoder<'_>) {
        match self {
            Self::Info(info) if is_new(encoder.version()) => info.write(encoder),
            Self::Path(path) if is_new(encoder.version()) => {
                encoder.refuse(format!(
                    "the other end expects all that is known of '{path}', not the path alone"
                ));
            }
            added => added.path().write(encoder),
        }
    }
}
