//! Realisations of content-addressed outputs.

use kiln_narinfo::{Realisation, RealisationId};

use crate::describe::wire_as;
use crate::error::ReadError;
use crate::limits::{MAX_REALISATION, MAX_WORD};
use crate::shape::Shape;

wire_as!(
    RealisationId,
    Shape::Bytes { limit: MAX_WORD },
    |decoder| decoder.text()?.parse().map_err(ReadError::value),
    |value, encoder| encoder.bytes(value.to_string())
);

wire_as!(
    Realisation,
    Shape::Bytes { limit: MAX_REALISATION },
    |decoder| Realisation::parse_with_id(decoder.bytes()?).map_err(ReadError::value),
    |value, encoder| encoder.bytes(value.to_json())
);
