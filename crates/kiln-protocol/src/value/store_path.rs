//! Store paths, names, hashes, content addresses, signatures: what is sent as one string.

use kiln_hash::{Algorithm, Hash, Sha256};
use kiln_narinfo::{Signature, SignatureSet};
use kiln_store_path::{ContentAddress, ContentAddressMethod, OutputName, StorePath, StorePathName};

use crate::describe::wire_as;
use crate::error::ReadError;
use crate::limits::{MAX_ELEMENTS, MAX_PATH, MAX_WORD};
use crate::shape::Shape;
use crate::wire::{Encoder, Wire};

fn write_path(path: &StorePath, encoder: &mut Encoder<'_>) {
    encoder.bytes(encoder.dialect().store_dir.print(path));
}

wire_as!(
    StorePath,
    Shape::Bytes { limit: MAX_PATH },
    |decoder| {
        let path = decoder.bytes()?;
        decoder.dialect().store_dir.parse(path).map_err(ReadError::value)
    },
    |value, encoder| write_path(value, encoder)
);

wire_as!(
    Option<StorePath>,
    Shape::Bytes { limit: MAX_PATH },
    |decoder| match decoder.bytes()? {
        b"" => Ok(None),
        path => decoder.dialect().store_dir.parse(path).map(Some).map_err(ReadError::value),
    },
    |value, encoder| match value {
        Some(path) => write_path(path, encoder),
        None => encoder.bytes(""),
    }
);

/// A store path that is sent without the store directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseName(pub StorePath);

wire_as!(
    BaseName,
    Shape::Bytes { limit: MAX_PATH },
    |decoder| StorePath::from_base_name(decoder.bytes()?).map(BaseName).map_err(ReadError::value),
    |value, encoder| encoder.bytes(value.0.base_name())
);

wire_as!(
    StorePathName,
    Shape::Bytes { limit: MAX_WORD },
    |decoder| StorePathName::new(decoder.bytes()?).map_err(ReadError::value),
    |value, encoder| encoder.bytes(value.as_str())
);

wire_as!(
    OutputName,
    Shape::Bytes { limit: MAX_WORD },
    |decoder| OutputName::new(decoder.bytes()?).map_err(ReadError::value),
    |value, encoder| encoder.bytes(value.as_str())
);

/// A NAR hash: digits in base 16. Read in any encoding.
impl Wire for Sha256 {
    const SHAPE: Shape = Shape::Bytes { limit: MAX_WORD };

    fn read(decoder: &mut crate::wire::Decoder<'_>) -> Result<Self, ReadError> {
        let hash = Hash::parse_any(decoder.text()?, Some(Algorithm::Sha256)).map_err(ReadError::value)?;
        hash.as_sha256().ok_or_else(|| ReadError::value("a NAR hash must be of type 'sha256'"))
    }

    fn write(&self, encoder: &mut Encoder<'_>) {
        encoder.bytes(self.base16());
    }
}

wire_as!(
    Algorithm,
    Shape::Bytes { limit: MAX_WORD },
    |decoder| decoder.text()?.parse().map_err(ReadError::value),
    |value, encoder| encoder.bytes(value.name())
);

wire_as!(
    Option<ContentAddress>,
    Shape::Bytes { limit: MAX_WORD },
    |decoder| match decoder.text()? {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(ReadError::value),
    },
    |value, encoder| match value {
        Some(address) => encoder.bytes(address.to_string()),
        None => encoder.bytes(""),
    }
);

/// How content is hashed, and with which algorithm: a content address without its hash, as AddToStore sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressingMethod {
    /// What of the content is hashed.
    pub method: ContentAddressMethod,
    /// With which algorithm.
    pub algorithm: Algorithm,
}

impl AddressingMethod {
    fn parse(text: &str) -> Result<Self, ReadError> {
        let (method, algorithm) = if let Some(algorithm) = text.strip_prefix("text:") {
            (ContentAddressMethod::Text, algorithm)
        } else if let Some(rest) = text.strip_prefix("fixed:") {
            if let Some(algorithm) = rest.strip_prefix("r:") {
                (ContentAddressMethod::Nar, algorithm)
            } else if let Some(algorithm) = rest.strip_prefix("git:") {
                (ContentAddressMethod::Git, algorithm)
            } else {
                (ContentAddressMethod::Flat, rest)
            }
        } else {
            let shown: String = text.chars().take(200).collect();
            return Err(ReadError::value(format_args!(
                "content address method '{shown}' must start with 'text:' or 'fixed:'"
            )));
        };
        let algorithm: Algorithm = algorithm.parse().map_err(ReadError::value)?;
        if method == ContentAddressMethod::Text && algorithm != Algorithm::Sha256 {
            return Err(ReadError::value(format_args!("texts are hashed with sha256, not with {algorithm}")));
        }
        Ok(Self { method, algorithm })
    }
}

wire_as!(
    AddressingMethod,
    Shape::Bytes { limit: MAX_WORD },
    |decoder| AddressingMethod::parse(decoder.text()?),
    |value, encoder| {
        let prefix = match value.method {
            ContentAddressMethod::Flat => "fixed:",
            ContentAddressMethod::Nar => "fixed:r:",
            ContentAddressMethod::Git => "fixed:git:",
            ContentAddressMethod::Text => "text:",
        };
        encoder.bytes(format!("{prefix}{}", value.algorithm));
    }
);

wire_as!(
    Signature,
    Shape::Bytes { limit: MAX_WORD },
    |decoder| decoder.text()?.parse().map_err(ReadError::value),
    |value, encoder| encoder.bytes(value.as_str())
);

/// The signatures of a path. What is no signature is left out, as it is when they are read from a database: Nix up to
/// 2.26 stored and sends any text.
impl Wire for SignatureSet {
    const SHAPE: Shape = Shape::List { limit: MAX_ELEMENTS, element: &Signature::SHAPE };

    fn read(decoder: &mut crate::wire::Decoder<'_>) -> Result<Self, ReadError> {
        let mut signatures = Self::new();
        for _ in 0..decoder.number()? {
            let signature = std::str::from_utf8(decoder.bytes()?).ok().and_then(|text| text.parse().ok());
            signatures.extend(signature);
        }
        Ok(signatures)
    }

    fn write(&self, encoder: &mut Encoder<'_>) {
        encoder.count(self.len());
        for signature in self {
            signature.write(encoder);
        }
    }
}
