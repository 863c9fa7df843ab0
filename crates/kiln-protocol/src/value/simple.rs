//! Numbers, flags, strings, and small enumerations.

use kiln_events::{Text, Verbosity};

use crate::describe::wire_as;
use crate::error::ReadError;
use crate::limits::{MAX_TEXT, MAX_WORD};
use crate::shape::Shape;

wire_as!(u64, Shape::Number, |decoder| decoder.number(), |value, encoder| encoder.number(*value));
wire_as!(bool, Shape::Number, |decoder| decoder.flag(), |value, encoder| encoder.number(u64::from(*value)));
wire_as!((), Shape::Fields { name: "nothing", fields: &[] }, |_decoder| Ok(()), |_value, _encoder| {});
wire_as!(
    String,
    Shape::Bytes { limit: MAX_WORD },
    |decoder| decoder.text().map(str::to_owned),
    |value, encoder| encoder.bytes(value)
);
wire_as!(
    Vec<u8>,
    Shape::Bytes { limit: MAX_TEXT },
    |decoder| decoder.bytes().map(<[u8]>::to_vec),
    |value, encoder| encoder.bytes(value)
);
wire_as!(
    Text,
    Shape::Bytes { limit: MAX_TEXT },
    |decoder| decoder.bytes().map(Text::from),
    |value, encoder| encoder.bytes(value.as_bytes())
);
wire_as!(
    Option<u64>,
    Shape::Optional(&Shape::Number),
    |decoder| match decoder.number()? {
        0 => Ok(None),
        1 => decoder.number().map(Some),
        tag => Err(ReadError::value(format_args!("invalid optional tag {tag}, expected 0 or 1"))),
    },
    |value, encoder| {
        encoder.number(u64::from(value.is_some()));
        if let Some(number) = value {
            encoder.number(*number);
        }
    }
);
wire_as!(
    Verbosity,
    Shape::Number,
    |decoder| decoder.small_number().map(|number| Verbosity::from_number(u64::from(number))),
    |value, encoder| encoder.number(u64::from(value.number()))
);

/// The reply of operations that can only succeed or fail: the number 1. Whatever number comes is taken for it, as real
/// clients do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged;

wire_as!(Acknowledged, Shape::Number, |decoder| decoder.number().map(|_| Acknowledged), |_value, encoder| {
    encoder.number(1)
});

/// What a build is to do with outputs that are there already (worker protocol: `BuildMode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BuildMode {
    /// 0: leave them alone.
    #[default]
    Normal,
    /// 1: replace what is damaged.
    Repair,
    /// 2: build again, and compare.
    Check,
}

wire_as!(
    BuildMode,
    Shape::Number,
    |decoder| match decoder.number()? {
        0 => Ok(BuildMode::Normal),
        1 => Ok(BuildMode::Repair),
        2 => Ok(BuildMode::Check),
        other => Err(ReadError::value(format_args!("invalid build mode {other}, expected 0, 1 or 2"))),
    },
    |value, encoder| encoder.number(*value as u64)
);

/// Whether the daemon trusts this client (worker protocol: `TrustedFlag`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trust {
    /// 0: it doesn't say.
    #[default]
    Unknown,
    /// 1: it does.
    Trusted,
    /// 2: it doesn't.
    NotTrusted,
}

wire_as!(
    Trust,
    Shape::Number,
    |decoder| match decoder.number()? {
        0 => Ok(Trust::Unknown),
        1 => Ok(Trust::Trusted),
        2 => Ok(Trust::NotTrusted),
        other => Err(ReadError::value(format_args!("invalid trust flag {other}, expected 0, 1 or 2"))),
    },
    |value, encoder| encoder.number(*value as u64)
);
