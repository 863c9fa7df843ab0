//! Messages whose one field is another kind of value in old versions.

use std::collections::{BTreeMap, BTreeSet};

use kiln_narinfo::{Realisation, RealisationId};
use kiln_store_path::{ContentAddress, StorePath};

use crate::error::ReadError;
use crate::shape::{Field, Shape};
use crate::value::{BaseName, UnkeyedPathInfo};
use crate::version::Versions;
use crate::wire::{Decoder, Encoder, Wire};

/// The first version that tells of content addresses.
const WITH_CONTENT_ADDRESSES: u8 = 22;

/// The first version in which realisations are JSON.
const REALISATIONS_AS_JSON: u8 = 31;

/// The first version in which the reply says whether the path is valid.
const WITH_VALIDITY: u8 = 17;

/// Operation 30.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuerySubstitutablePathInfos {
    /// The paths asked about, and what their content must hash to, if that is known. Before 1.22 it is not told.
    pub paths: BTreeMap<StorePath, Option<ContentAddress>>,
}

impl Wire for QuerySubstitutablePathInfos {
    const SHAPE: Shape = Shape::Fields {
        name: "QuerySubstitutablePathInfos",
        fields: &[
            Field {
                name: "paths",
                versions: Versions::worker_since(WITH_CONTENT_ADDRESSES),
                shape: <BTreeMap<StorePath, Option<ContentAddress>>>::SHAPE,
            },
            Field {
                name: "paths",
                versions: Versions::worker_before(WITH_CONTENT_ADDRESSES),
                shape: <BTreeSet<StorePath>>::SHAPE,
            },
        ],
    };

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, ReadError> {
        let paths = if decoder.version().minor >= WITH_CONTENT_ADDRESSES {
            Wire::read(decoder)
        } else {
            <BTreeSet<StorePath>>::read(decoder)
                .map(|paths| paths.into_iter().map(|path| (path, None)).collect())
        };
        paths.map(|paths| Self { paths }).map_err(|error| error.within("paths"))
    }

    fn write(&self, encoder: &mut Encoder<'_>) {
        if encoder.version().minor >= WITH_CONTENT_ADDRESSES {
            self.paths.write(encoder);
        } else {
            self.paths.keys().cloned().collect::<BTreeSet<_>>().write(encoder);
        }
    }
}

/// Operation 42.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterDrvOutput {
    /// What was realised as what. Before 1.31, signatures are not told.
    pub realisation: Realisation,
}

impl Wire for RegisterDrvOutput {
    const SHAPE: Shape = Shape::Fields {
        name: "RegisterDrvOutput",
        fields: &[
            Field {
                name: "realisation",
                versions: Versions::worker_since(REALISATIONS_AS_JSON),
                shape: Realisation::SHAPE,
            },
            Field {
                name: "id",
                versions: Versions::worker_before(REALISATIONS_AS_JSON),
                shape: RealisationId::SHAPE,
            },
            Field {
                name: "output_path",
                versions: Versions::worker_before(REALISATIONS_AS_JSON),
                shape: BaseName::SHAPE,
            },
        ],
    };

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, ReadError> {
        if decoder.version().minor >= REALISATIONS_AS_JSON {
            let realisation = Realisation::read(decoder).map_err(|error| error.within("realisation"))?;
            return Ok(Self { realisation });
        }
        let id = RealisationId::read(decoder).map_err(|error| error.within("id"))?;
        let BaseName(path) = BaseName::read(decoder).map_err(|error| error.within("output_path"))?;
        Ok(Self { realisation: Realisation::new(id, path) })
    }

    fn write(&self, encoder: &mut Encoder<'_>) {
        if encoder.version().minor >= REALISATIONS_AS_JSON {
            self.realisation.write(encoder);
        } else {
            self.realisation.id.write(encoder);
            BaseName(self.realisation.output_path.clone()).write(encoder);
        }
    }
}

/// What QueryRealisation replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueriedRealisation {
    /// The realisations: none or one.
    Realisations(Vec<Realisation>),
    /// Only their paths: before 1.31.
    Paths(BTreeSet<StorePath>),
}

impl Wire for QueriedRealisation {
    const SHAPE: Shape = Shape::Fields {
        name: "QueriedRealisation",
        fields: &[
            Field {
                name: "realisations",
                versions: Versions::worker_since(REALISATIONS_AS_JSON),
                shape: <Vec<Realisation>>::SHAPE,
            },
            Field {
                name: "paths",
                versions: Versions::worker_before(REALISATIONS_AS_JSON),
                shape: <BTreeSet<StorePath>>::SHAPE,
            },
        ],
    };

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, ReadError> {
        if decoder.version().minor >= REALISATIONS_AS_JSON {
            Wire::read(decoder).map(Self::Realisations).map_err(|error| error.within("realisations"))
        } else {
            Wire::read(decoder).map(Self::Paths).map_err(|error| error.within("paths"))
        }
    }

    fn write(&self, encoder: &mut Encoder<'_>) {
        match self {
            Self::Realisations(realisations) if encoder.version().minor >= REALISATIONS_AS_JSON => {
                realisations.write(encoder);
            }
            Self::Realisations(realisations) => {
                let paths = realisations.iter().map(|realisation| realisation.output_path.clone());
                paths.collect::<BTreeSet<_>>().write(encoder);
            }
            Self::Paths(paths) if encoder.version().minor < REALISATIONS_AS_JSON => paths.write(encoder),
            Self::Paths(_) => encoder.refuse("the other end expects realisations, not paths alone"),
        }
    }
}

/// What QueryPathInfo replies: nothing if the path isn't valid. Before 1.17 that is an error instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueriedPathInfo(pub Option<UnkeyedPathInfo>);

impl Wire for QueriedPathInfo {
    const SHAPE: Shape = Shape::Fields {
        name: "QueriedPathInfo",
        fields: &[
            Field {
                name: "info",
                versions: Versions::worker_since(WITH_VALIDITY),
                shape: <Option<UnkeyedPathInfo>>::SHAPE,
            },
            Field {
                name: "info",
                versions: Versions::worker_before(WITH_VALIDITY),
                shape: UnkeyedPathInfo::SHAPE,
            },
        ],
    };

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, ReadError> {
        let info = if decoder.version().minor >= WITH_VALIDITY {
            Wire::read(decoder)
        } else {
            UnkeyedPathInfo::read(decoder).map(Some)
        };
        info.map(Self).map_err(|error| error.within("info"))
    }

    fn write(&self, encoder: &mut Encoder<'_>) {
        match &self.0 {
            info if encoder.version().minor >= WITH_VALIDITY => info.write(encoder),
            Some(info) => info.write(encoder),
            None => encoder.refuse(
                "the other end is too old to be told that a path is not valid, other than by an error",
            ),
        }
    }
}
