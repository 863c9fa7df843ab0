//! Values as bytes: the trait of everything that can be sent, and the two ends of it.

use crate::error::{Fault, ReadError, WriteError};
use crate::scan::NUMBER;
use crate::shape::Shape;
use crate::version::{Dialect, Version};

/// A value that is sent in the worker protocol, the serve protocol or both.
///
/// The three parts say the same: whoever implements this by hand (most types are made by the crate's own macros, from
/// one description) keeps them in step. `read` is only ever given bytes in which the shape has been found.
pub trait Wire: Sized {
    /// What the value looks like.
    const SHAPE: Shape;

    /// Reads a value.
    ///
    /// # Errors
    /// The bytes may not be those of a value.
    fn read(decoder: &mut Decoder<'_>) -> Result<Self, ReadError>;

    /// Writes the value. What can't be said in the version that is spoken is noted with [`Encoder::refuse`].
    fn write(&self, encoder: &mut Encoder<'_>);
}

/// Takes values from the bytes of one message.
#[derive(Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
    dialect: &'a Dialect,
}

impl<'a> Decoder<'a> {
    /// Over the bytes of a message.
    #[must_use]
    pub fn new(message: &'a [u8], dialect: &'a Dialect) -> Self {
        Self { rest: message, dialect }
    }

    /// What both ends have agreed on.
    #[must_use]
    pub fn dialect(&self) -> &'a Dialect {
        self.dialect
    }

    /// The version that is spoken.
    #[must_use]
    pub fn version(&self) -> Version {
        self.dialect.version
    }

    /// The next number.
    ///
    /// # Errors
    /// There may be no more bytes.
    pub fn number(&mut self) -> Result<u64, ReadError> {
        let (number, rest) =
            self.rest.split_first_chunk::<NUMBER>().ok_or_else(|| ReadError::new(Fault::Truncated))?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*number))
    }

    /// The next number, which must fit 32 bits.
    ///
    /// # Errors
    /// It may not.
    pub fn small_number(&mut self) -> Result<u32, ReadError> {
        let number = self.number()?;
        number.try_into().map_err(|_| {
            ReadError::value(format_args!("serialised integer {number} is too large for 32 bits"))
        })
    }

    /// The next number as a Boolean: everything but 0 is true.
    ///
    /// # Errors
    /// There may be no more bytes.
    pub fn flag(&mut self) -> Result<bool, ReadError> {
        Ok(self.number()? != 0)
    }

    /// The next string.
    ///
    /// # Errors
    /// There may be too few bytes, or padding that isn't zero.
    pub fn bytes(&mut self) -> Result<&'a [u8], ReadError> {
        let truncated = || ReadError::new(Fault::Truncated);
        let length = usize::try_from(self.number()?).map_err(|_| truncated())?;
        let (string, rest) = self.rest.split_at_checked(length).ok_or_else(truncated)?;
        let padding_length = length.next_multiple_of(NUMBER).saturating_sub(length);
        let (padding, rest) = rest.split_at_checked(padding_length).ok_or_else(truncated)?;
        if padding.iter().any(|&byte| byte != 0) {
            return Err(ReadError::new(Fault::NonZeroPadding));
        }
        self.rest = rest;
        Ok(string)
    }

    /// The next string, as text.
    ///
    /// # Errors
    /// It may not be UTF-8.
    pub fn text(&mut self) -> Result<&'a str, ReadError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| ReadError::value("text is not UTF-8"))
    }

    /// The end of the message.
    ///
    /// # Errors
    /// There may be more.
    pub fn finish(self) -> Result<(), ReadError> {
        if self.rest.is_empty() { Ok(()) } else { Err(ReadError::new(Fault::Trailing(self.rest.len()))) }
    }
}

/// Appends values to a buffer.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    dialect: &'a Dialect,
    refused: Option<WriteError>,
}

impl<'a> Encoder<'a> {
    /// Appends to `out`.
    pub fn new(out: &'a mut Vec<u8>, dialect: &'a Dialect) -> Self {
        Self { out, dialect, refused: None }
    }

    /// What both ends have agreed on.
    #[must_use]
    pub fn dialect(&self) -> &'a Dialect {
        self.dialect
    }

    /// The version that is spoken.
    #[must_use]
    pub fn version(&self) -> Version {
        self.dialect.version
    }

    /// Appends a number.
    pub fn number(&mut self, number: u64) {
        self.out.extend_from_slice(&number.to_le_bytes());
    }

    /// Appends a count or length.
    pub fn count(&mut self, count: usize) {
        self.number(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// Appends a string.
    pub fn bytes(&mut self, string: impl AsRef<[u8]>) {
        let string = string.as_ref();
        self.count(string.len());
        self.out.extend_from_slice(string);
        let padding = self.padding_after(string.len());
        self.out.extend_from_slice(padding);
    }

    fn padding_after(&self, length: usize) -> &'static [u8] {
        const ZEROS: [u8; NUMBER] = [0; NUMBER];
        let padding = length.next_multiple_of(NUMBER).saturating_sub(length);
        ZEROS.get(..padding).unwrap_or_default()
    }

    /// Notes that something can't be said in this version; the message must not be sent then.
    pub fn refuse(&mut self, reason: impl Into<String>) {
        self.refused.get_or_insert(WriteError(reason.into()));
    }

    /// The end of the message.
    ///
    /// # Errors
    /// Something in it can't be said in this version.
    pub fn finish(self) -> Result<(), WriteError> {
        self.refused.map_or(Ok(()), Err)
    }
}

/// Reads a value that is the whole of `bytes`.
///
/// # Errors
/// The bytes may be something else, or not all or more than a value.
pub fn from_bytes<T: Wire>(bytes: &[u8], dialect: &Dialect) -> Result<T, ReadError> {
    let mut decoder = Decoder::new(bytes, dialect);
    let value = T::read(&mut decoder)?;
    decoder.finish()?;
    Ok(value)
}

/// Appends a value to `out`; if it can't be said in this version, `out` stays as it is.
///
/// # Errors
/// See [`WriteError`].
pub fn append<T: Wire>(out: &mut Vec<u8>, value: &T, dialect: &Dialect) -> Result<(), WriteError> {
    let length = out.len();
    let mut encoder = Encoder::new(out, dialect);
    value.write(&mut encoder);
    let written = encoder.finish();
    if written.is_err() {
        out.truncate(length);
    }
    written
}
